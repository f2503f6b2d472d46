package rootfs

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pamTypes are the stacks that pam-auth-update manages.
var pamTypes = [...]string{"auth", "account", "password", "session", "session-noninteractive"}

// pamProfile is a file of /usr/share/pam-configs.
type pamProfile struct {
	name   string
	fields map[string]string // values of several lines joined by line breaks
}

// addPAM makes /etc/pam.d/common-* from the templates of libpam-runtime and
// the profiles that packages ship, as pam-auth-update(8) does for a new
// system, and what it remembers of that.
func (l *layout) addPAM() error {
	if !l.Has("libpam-runtime") {
		return nil
	}
	profiles, seen, err := l.pamProfiles()
	if err != nil {
		return err
	}
	for _, kind := range pamTypes {
		template, err := l.Read("usr/share/pam/common-" + kind)
		if err != nil {
			return err
		}
		stack, err := pamStack(string(template), kind, profiles)
		if err != nil {
			return fmt.Errorf("/usr/share/pam/common-%s: %w", kind, err)
		}
		l.make("/etc/pam.d/common-"+kind, 0o644, []byte(stack))
		l.make("/var/lib/pam/"+kind, 0o644, []byte(pamState(kind, profiles)))
	}
	l.make("/var/lib/pam/seen", 0o644, []byte(seen))
	return nil
}

// pamProfiles returns the profiles that are on by default, the most important
// first, and the names of all.
func (l *layout) pamProfiles() (enabled []pamProfile, seen string, err error) {
	var all []pamProfile
	const dir = "usr/share/pam-configs"
	for _, p := range l.Below(dir) {
		if path.Dir(p) != dir {
			continue
		}
		text, err := l.Read(p)
		if err != nil {
			return nil, "", err
		}
		profile, err := parsePAMProfile(path.Base(p), string(text))
		if err != nil {
			return nil, "", fmt.Errorf("/%s: %w", p, err)
		}
		all = append(all, profile)
	}
	// As pam-auth-update sorts: of equal priority, the last name comes first.
	slices.SortFunc(all, func(a, b pamProfile) int {
		return cmp.Or(cmp.Compare(b.priority(), a.priority()), cmp.Compare(b.name, a.name))
	})
	for _, p := range all {
		seen += p.name + "\n"
		if p.fields["Default"] == "yes" {
			enabled = append(enabled, p)
		}
	}
	return enabled, seen, nil
}

func parsePAMProfile(name, text string) (pamProfile, error) {
	p := pamProfile{name, map[string]string{}}
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n")
		key, value, ok := strings.Cut(line, ":")
		switch {
		case ok && !strings.ContainsAny(key, " \t["):
			last = strings.TrimSuffix(key, "-Final")
			p.fields[last] = strings.TrimSpace(value)
		case last == "" && line != "":
			return p, fmt.Errorf("first line %q is not a field", line)
		case line != "":
			p.fields[last] = strings.TrimPrefix(p.fields[last]+"\n"+strings.TrimSpace(line), "\n")
		}
	}
	if p.fields["Session-Interactive-Only"] != "yes" {
		for _, suffix := range []string{"-Type", "", "-Initial"} {
			if value, ok := p.fields["Session"+suffix]; ok {
				p.fields["Session-noninteractive"+suffix] = value
			}
		}
	}
	return p, nil
}

func (p pamProfile) priority() int {
	n, _ := strconv.Atoi(p.fields["Priority"]) // none is 0
	return n
}

// lines returns the profile's lines of one kind, at its place in the block.
func (p pamProfile) lines(kind string, place int) []string {
	field := strings.ToUpper(kind[:1]) + kind[1:]
	value := p.fields[field]
	if initial := p.fields[field+"-Initial"]; place == 0 && initial != "" {
		value = initial
	}
	if value == "" {
		return nil
	}
	return strings.Split(value, "\n")
}

// block returns the profiles that have lines in the block "Primary" or
// "Additional" of a kind.
func block(profiles []pamProfile, kind, name string) []pamProfile {
	field := strings.ToUpper(kind[:1]) + kind[1:] + "-Type"
	return slices.DeleteFunc(slices.Clone(profiles), func(p pamProfile) bool { return p.fields[field] != name })
}

// Markers of the templates.
const (
	pamPrimary    = `# here are the per-package modules (the "Primary" block)`
	pamFallback   = `# here's the fallback if no module succeeds`
	pamAdditional = `# and here are more per-package modules (the "Additional" block)`
	pamEnd        = `# end of pam-auth-update config`
)

// pamStack fills a template in.
func pamStack(template, kind string, profiles []pamProfile) (string, error) {
	var out strings.Builder
	want := []string{pamPrimary, pamFallback, pamAdditional, pamEnd}
	copying := true
	for line := range strings.Lines(template) {
		marker := len(want) > 0 && strings.HasPrefix(line, want[0])
		if copying || marker {
			out.WriteString(line)
		}
		if !marker {
			continue
		}
		copying = want[0] == pamFallback || want[0] == pamEnd
		switch want[0] {
		case pamPrimary:
			out.WriteString(pamLines(kind, block(profiles, kind, "Primary"), true))
		case pamAdditional:
			out.WriteString(pamLines(kind, block(profiles, kind, "Additional"), false))
		}
		want = want[1:]
	}
	if len(want) > 0 {
		return "", fmt.Errorf("no line %q", want[0])
	}
	return out.String(), nil
}

var pamLine = regexp.MustCompile(`^(\[[^]]*\]|\w+)(\s+\S+)\s*(.*)$`)

// pamLines writes a block. "success=end" jumps over what remains of it.
func pamLines(kind string, profiles []pamProfile, primary bool) string {
	var lines []string
	for i, p := range profiles {
		lines = append(lines, p.lines(kind, i)...)
	}
	kind = strings.TrimSuffix(kind, "-noninteractive")
	if primary && len(lines) == 0 {
		return kind + "\t[default=1]\t\t\tpam_permit.so\n"
	}
	rest := len(lines)
	if !primary {
		rest--
	}
	var out strings.Builder
	for _, line := range lines {
		if m := pamLine.FindStringSubmatch(line); m != nil {
			line = strings.ReplaceAll(m[1], "=end", fmt.Sprintf("=%d", rest)) + m[2] + " " + m[3]
		}
		out.WriteString(kind + "\t" + line + "\n")
		rest--
	}
	return out.String()
}

// pamState is by what pam-auth-update later sees whether somebody edited a stack.
func pamState(kind string, profiles []pamProfile) string {
	var out strings.Builder
	write := func(profiles []pamProfile) int {
		i := 0
		for _, p := range profiles {
			if lines := p.lines(kind, i); lines != nil {
				out.WriteString("Module: " + p.name + "\n" + strings.Join(lines, "\n") + "\n")
			}
			i++
		}
		return i
	}
	if write(block(profiles, kind, "Primary")) == 0 {
		out.WriteString("Module: null\n[default=1]\t\t\tpam_permit.so\n")
	}
	write(block(profiles, kind, "Additional"))
	return out.String()
}
