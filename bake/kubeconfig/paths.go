package kubeconfig

import (
	"os"
	"path/filepath"
	"slices"
)

// Paths are the files that kubectl reads, in its order, and the one that it
// writes what is new to.
type Paths struct {
	Files  []string
	Target string
}

// FindPaths returns what kubectl goes by: an explicit file (--kubeconfig), or else
// list, the value of KUBECONFIG, or else .kube/config in the user's home. Of
// several files the first that is there is written to; where none is, the last. There
// is none at all where home is not known.
func FindPaths(explicit, list, home string) Paths {
	switch files := splitList(list); {
	case explicit != "":
		return Paths{[]string{explicit}, explicit}
	case len(files) > 0:
		for _, file := range files {
			if _, err := os.Stat(file); err == nil {
				return Paths{files, file}
			}
		}
		return Paths{files, files[len(files)-1]}
	case home == "":
		return Paths{}
	}
	file := filepath.Join(home, ".kube", "config")
	return Paths{[]string{file}, file}
}

// splitList returns each file of a list once.
func splitList(list string) []string {
	var files []string
	for _, file := range filepath.SplitList(list) {
		if file != "" && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// Home returns the directory that kubectl looks for .kube in, by a system's rules
// (k8s.io/client-go/util/homedir).
func Home(system string, getenv func(name string) string) string {
	if system != "windows" {
		return getenv("HOME")
	}
	home, drive, profile := getenv("HOME"), getenv("HOMEDRIVE")+getenv("HOMEPATH"), getenv("USERPROFILE")
	for _, dir := range []string{home, drive, profile} {
		if _, err := os.Stat(filepath.Join(dir, ".kube", "config")); dir != "" && err == nil {
			return dir
		}
	}
	for _, dir := range []string{home, profile, drive} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}
