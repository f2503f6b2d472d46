package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// addRelease names the image in os-release(5).
func (l *layout) addRelease() error {
	const p = "usr/lib/os-release"
	text, err := l.read(p)
	if err != nil {
		return err
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
	l.make(p, 0o644, text)
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
	var shells []string
	for _, p := range sortedKeys(l.entries) {
		if path.Dir(p) != "usr/share/debianutils/shells.d" {
			continue
		}
		text, err := l.read(p)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			shell := strings.TrimSpace(line)
			if !strings.HasPrefix(shell, "/") || slices.Contains(shells, shell) {
				continue
			}
			shells = append(shells, shell)
			if merged := "/" + canonical(shell[1:]); merged != shell {
				shells = append(shells, merged)
			}
		}
	}
	if len(shells) == 0 {
		return nil
	}
	header, err := l.read("usr/share/debianutils/shells")
	if err != nil {
		return err
	}
	list := strings.Join(shells, "\n") + "\n"
	l.make("/etc/shells", 0o644, append(slices.Clone(header), list...))
	l.make("/var/lib/shells.state", 0o644, []byte(list))
	return nil
}

// Names of files that other parts of the image refer to.
const (
	// FirstbootPath is where the program firstboot belongs, for Config.Extra.
	FirstbootPath = "usr/lib/bake/firstboot"
	unitDir       = "etc/systemd/system"
	vendorUnitDir = "usr/lib/systemd/system"
)
