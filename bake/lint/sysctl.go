package lint

import (
	"path"
	"slices"
	"strings"
)

// sysctlDirs are where systemd-sysctl looks for files, the first one first
// (sysctl.d(5)). A worker has no others: /run is empty in an image.
func sysctlDirs() []string {
	return []string{"etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"}
}

// sysctls are kernel settings in the order in which systemd-sysctl has them:
// by the last assignment to each name.
type sysctls []assignment

// assignment is a line of a file: a name or a pattern, "net.ipv4.conf.*.rp_filter",
// and its value. Without one, written "-NAME", patterns leave the name alone.
type assignment struct {
	name, value string
	excluded    bool
}

// sysctls reads all files of an image as systemd-sysctl does at boot.
func (f *files) sysctls() (sysctls, error) {
	var set sysctls
	for _, file := range f.Fragments(".conf", sysctlDirs()...) {
		lines, err := f.Lines(file)
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if a, ok := parseSysctl(line); ok {
				set = append(slices.DeleteFunc(set, func(b assignment) bool { return b.name == a.name }), a)
			}
		}
	}
	return set, nil
}

// parseSysctl reads a line that is neither empty nor a comment. It is false for
// one that systemd-sysctl passes over.
func parseSysctl(line string) (assignment, bool) {
	name, value, ok := strings.Cut(line, "=")
	name, optional := strings.CutPrefix(strings.TrimSpace(name), "-")
	if !ok && !optional {
		return assignment{}, false
	}
	// The first separator says which of the two it is; the other is then a
	// character of an interface's name.
	name = strings.TrimSpace(name)
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		name = slashes(name)
	}
	return assignment{name, strings.TrimSpace(value), !ok}, name != ""
}

// value returns what a setting gets, or "" where nothing sets it. A line of its
// own comes before all patterns, wherever they stand; of patterns the last counts.
func (s sysctls) value(name string) string {
	got := ""
	for _, a := range s {
		if a.name == name {
			return a.value
		}
		// A pattern's parts are those of a path below /proc/sys.
		if ok, err := path.Match(slashes(a.name), slashes(name)); err == nil && ok && !a.excluded {
			got = a.value
		}
	}
	return got
}

// slashes exchanges dots and slashes: a name becomes a path below /proc/sys, and
// a path a name.
func slashes(name string) string {
	return strings.NewReplacer(".", "/", "/", ".").Replace(name)
}
