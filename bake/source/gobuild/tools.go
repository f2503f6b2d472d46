package gobuild

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Tool is a program of the host's that takes part in builds. Two hosts on which it
// calls itself the same may have different files, so it is no part of a build's
// identity.
type Tool struct {
	Name string // as in Built.Compiler, or "cmd/compile" and "cmd/link" of a toolchain, "golang.org/toolchain"
	Path string // the file; "" for a toolchain that came as a module
	Sum  string // of such a module, as the checksum database has it: "h1:..."
	// Version is of the toolchain, "1.26.8", or of its module, "v0.0.1-go1.26.8.linux-amd64".
	Version string
}

// goTools returns compiler and linker of the host's own Go where they are the
// toolchain's, or else the module that the toolchain came as. There is neither
// where another host, or a mirror, gave what was built.
func (b *Builder) goTools(toolchain string) []Tool {
	name := b.Go
	if name == "" {
		name = "go"
	}
	version := strings.TrimPrefix(toolchain, "go")
	host := runtime.GOOS + "_" + runtime.GOARCH
	if root := rootOf(name, b.Env); root != "" {
		text, _ := os.ReadFile(filepath.Join(root, "VERSION"))
		if first, _, _ := strings.Cut(string(text), "\n"); strings.TrimSpace(first) == toolchain {
			var tools []Tool
			for _, tool := range []string{"compile", "link"} {
				tools = append(tools, Tool{Name: "cmd/" + tool, Version: version, Path: filepath.Join(root, "pkg", "tool", host, tool)})
			}
			return tools
		}
	}
	moduleVersion := "v0.0.1-" + toolchain + "." + strings.Replace(host, "_", "-", 1)
	// golang.org/ref/mod#module-cache
	sum, err := os.ReadFile(filepath.Join(moduleCache(b.Env), "cache", "download", "golang.org", "toolchain", "@v", moduleVersion+".ziphash"))
	if err != nil {
		return nil
	}
	return []Tool{{Name: "golang.org/toolchain", Version: moduleVersion, Sum: strings.TrimSpace(string(sum))}}
}

// rootOf returns the GOROOT of a go command, "" where it can't be found.
func rootOf(name string, env []string) string {
	path, err := lookPath(name, env)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(path))
}

// moduleCache returns GOMODCACHE as the environment has it, or its default.
func moduleCache(env []string) string {
	value := func(name string) string {
		found := ""
		for _, kv := range pick(env, name) {
			_, found, _ = strings.Cut(kv, "=") // the last one counts
		}
		return found
	}
	if dir := value("GOMODCACHE"); dir != "" {
		return dir
	}
	if list := filepath.SplitList(value("GOPATH")); len(list) > 0 && list[0] != "" {
		return filepath.Join(list[0], "pkg", "mod")
	}
	home := value("HOME")
	if runtime.GOOS == "windows" {
		home = value("USERPROFILE")
	}
	return filepath.Join(home, "go", "pkg", "mod")
}
