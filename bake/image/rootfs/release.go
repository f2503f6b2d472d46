package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// releasePath is where systemd and others look for os-release(5) first. What
// base-files has there is diverted, so that a new base-files leaves ours.
const releasePath = "/etc/os-release"

// addRelease names the image in os-release(5), beside Debian's own.
func (l *layout) addRelease() error {
	text, err := l.Read("usr/lib/os-release")
	if err != nil {
		return err
	}
	text = slices.Clone(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	for _, f := range []struct{ key, value string }{
		{"IMAGE_ID", l.ImageID}, {"IMAGE_VERSION", l.ImageVersion},
	} {
		if f.value == "" || strings.ContainsFunc(f.value, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-+~", r)
		}) {
			return fmt.Errorf("%s %q may have lower-case letters, digits and . _ - + ~ only", f.key, f.value)
		}
		text = fmt.Appendf(text, "%s=%s\n", f.key, f.value)
	}
	if old, ok := l.At(releasePath); ok {
		return fmt.Errorf("%s is there already, from %s", releasePath, old.Owner)
	}
	l.make(releasePath, 0o644, text)
	return nil
}

// addUpdated tells systemd that /etc and /var belong to this /usr, so that it
// rebuilds nothing at the first boot: ConditionNeedsUpdate= compares the times
// of these files with /usr's (systemd.unit(5)), and all have the epoch.
func (l *layout) addUpdated() error {
	for _, p := range []string{"/etc/.updated", "/var/.updated"} {
		l.make(p, 0o644, nil)
	}
	return nil
}

// addShells lists the login shells that packages announce, by both names that
// they have in a merged /usr, as update-shells(8) does.
func (l *layout) addShells() error {
	const master = "usr/share/debianutils/shells"
	if !l.Has("debianutils") {
		return nil
	}
	sources := []string{master}
	for _, p := range l.Below(master + ".d") {
		if path.Dir(p) == master+".d" {
			sources = append(sources, p)
		}
	}
	var known, listed []string // listed in the master already
	list, err := l.Read(master)
	if err != nil {
		return err
	}
	for _, p := range sources {
		text, err := l.Read(p)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			shell := strings.TrimSpace(line)
			if !strings.HasPrefix(shell, "/") {
				continue
			}
			if p == master {
				listed = append(listed, shell)
			}
			for _, name := range []string{shell, "/" + l.Place(shell)} {
				if !slices.Contains(known, name) {
					known = append(known, name)
				}
			}
		}
	}
	list = slices.Clone(list)
	for _, shell := range known {
		if !slices.Contains(listed, shell) {
			list = fmt.Appendln(list, shell)
		}
	}
	l.make("/etc/shells", 0o644, list)
	l.make("/var/lib/shells.state", 0o644, []byte(strings.Join(known, "\n")+"\n"))
	return nil
}

// Names of files that other parts of the image refer to.
const (
	unitDir       = "etc/systemd/system"
	vendorUnitDir = "usr/lib/systemd/system"
)
