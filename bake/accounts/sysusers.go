package accounts

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/merge"
)

// sysuser is a line of sysusers.d(5).
type sysuser struct {
	kind    byte // 'u', 'g' or 'm'
	expired bool // "u!"
	name    string
	id      string // "", "42", "42:65534", "-:nogroup"; for 'm' the group
	comment string
	home    string
	shell   string
	at      string // file and line
}

// ApplySysusers adds the accounts of every sysusers.d file, with the numbers
// that systemd-sysusers gives when it runs once over all of them (systemd,
// src/sysusers/sysusers.c): files by name, groups before users, unset numbers
// from 999 down.
func (a *Accounts) ApplySysusers(l *merge.Layout) error {
	files := map[string]string{} // by base name; /etc before /usr
	for _, dir := range []string{"usr/lib/sysusers.d", "etc/sysusers.d"} {
		for p := range l.Entries {
			if path.Dir(p) == dir && strings.HasSuffix(p, ".conf") {
				files[path.Base(p)] = p
			}
		}
	}
	var lines []sysuser
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if l.Entries[files[name]].Link == "/dev/null" {
			continue // masked
		}
		text, err := l.Read(files[name])
		if err != nil {
			return err
		}
		parsed, err := parseSysusers("/"+files[name], string(text))
		if err != nil {
			return err
		}
		lines = append(lines, parsed...)
	}
	s := sysusers{Accounts: a, next: 999}
	return s.apply(lines)
}

// parseSysusers reads a file of sysusers.d. Lines of type r, which limit the
// numbers that are handed out, are an error: no package of Debian has one.
func parseSysusers(file, text string) ([]sysuser, error) {
	var out []sysuser
	number := 0
	for line := range strings.Lines(text) {
		number++
		u, err := parseSysuser(line)
		at := fmt.Sprintf("%s: line %d", file, number)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", at, err)
		case u.kind != 0:
			u.at = at
			out = append(out, u)
		}
	}
	return out, nil
}

// parseSysuser reads a line; the result of one without words is empty.
func parseSysuser(line string) (sysuser, error) {
	if !utf8.ValidString(line) {
		return sysuser{}, errors.New("not UTF-8")
	}
	words, err := splitQuoted(line)
	if err != nil || len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return sysuser{}, err
	}
	kind := words[0]
	if kind == "u!" {
		kind = "u"
	}
	if len(kind) != 1 || !strings.Contains("ugm", kind) || len(words) < 2 || len(words) > 6 {
		return sysuser{}, fmt.Errorf("%q is not a user, group or membership", strings.TrimSpace(line))
	}
	field := func(i int) string {
		if i < len(words) && words[i] != "-" {
			return words[i]
		}
		return ""
	}
	u := sysuser{
		kind: kind[0], expired: words[0] == "u!", name: words[1],
		id: field(2), comment: field(3), home: field(4), shell: field(5),
	}
	return u, u.check()
}

// accountName is a name that every program of a Debian takes for a user or a
// group (systemd, docs/USER_NAMES.md, strict mode).
var accountName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_-]{0,30}$`)

// check refuses what systemd-sysusers refuses, and specifiers, escapes and
// numbers that come from files.
func (u sysuser) check() error {
	text := u.name + u.id + u.comment + u.home + u.shell
	if strings.Contains(text, "%") {
		return errors.New("specifiers such as %b are not supported")
	}
	if strings.Contains(text, `\`) {
		return errors.New(`escapes such as \t are not supported`)
	}
	if strings.HasPrefix(u.id, "/") {
		return fmt.Errorf("a number taken from the owner of %s is not supported", u.id)
	}
	if !accountName.MatchString(u.name) {
		return fmt.Errorf("%q is not a name for a user or group", u.name)
	}
	if u.kind != 'u' && u.comment+u.home+u.shell != "" {
		return errors.New("only a user has a comment, a directory or a shell")
	}
	if strings.Contains(u.comment, ":") || strings.ContainsFunc(u.comment, unicode.IsControl) {
		return fmt.Errorf("the comment %q cannot stand in /etc/passwd", u.comment)
	}
	for _, p := range []string{u.home, u.shell} {
		if p != "" && (!path.IsAbs(p) || path.Clean(p) != p || strings.Contains(p, ":") || strings.ContainsFunc(p, unicode.IsControl)) {
			return fmt.Errorf("%q is not a path from the root", p)
		}
	}
	return u.checkID()
}

// checkID checks the third field by the kind of the line.
func (u sysuser) checkID() error {
	if u.kind == 'm' {
		if !accountName.MatchString(u.id) {
			return fmt.Errorf("%q is not the group of a membership (want m USER GROUP)", u.id)
		}
		return nil
	}
	number, group, hasGroup := strings.Cut(u.id, ":")
	if hasGroup && u.kind == 'g' {
		return fmt.Errorf("%q is not the number of a group", u.id)
	}
	if hasGroup && !validID(group) && !accountName.MatchString(group) {
		return fmt.Errorf("%q is not a group, by name or number", group)
	}
	if !validID(number) && (hasGroup && number != "-" || !hasGroup && number != "") {
		return fmt.Errorf("%q is not a number", number)
	}
	return nil
}

// validID is false for what is no number and for the numbers that mean none:
// the largest of 16 and of 32 bits.
func validID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && n != 1<<16-1 && n != 1<<32-1
}

// splitQuoted splits a line at blanks; double and single quotes keep them.
func splitQuoted(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, r := range strings.TrimRight(line, "\n") {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inWord = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// sysusers allocates.
type sysusers struct {
	*Accounts
	next uint32 // the highest number that was not tried
}

func (s *sysusers) apply(lines []sysuser) error {
	seen := map[string]bool{} // the first line for a name counts
	var groups, users []sysuser
	for _, line := range lines {
		if key := string(line.kind) + line.name; line.kind != 'm' && !seen[key] {
			seen[key] = true
			if line.kind == 'g' {
				groups = append(groups, line)
			} else {
				users = append(users, line)
			}
		}
	}
	// A membership makes a user or group that nothing else makes.
	for _, line := range lines {
		if line.kind == 'm' && !seen["u"+line.name] {
			seen["u"+line.name] = true
			users = append(users, sysuser{kind: 'u', name: line.name, at: line.at})
		}
		if line.kind == 'm' && !seen["u"+line.id] && !seen["g"+line.id] {
			seen["g"+line.id] = true
			groups = append(groups, sysuser{kind: 'g', name: line.id, at: line.at})
		}
	}
	for _, g := range groups {
		if _, err := s.addGroup(g.name, g.id); err != nil {
			return fmt.Errorf("%s: group %s: %w", g.at, g.name, err)
		}
	}
	for _, u := range users {
		if err := s.addUser(u); err != nil {
			return fmt.Errorf("%s: user %s: %w", u.at, u.name, err)
		}
	}
	for _, line := range lines {
		if line.kind == 'm' {
			g := s.group(line.id)
			if g == nil { // a user of that name has another group
				return fmt.Errorf("%s: no group %q for %s to be a member of", line.at, line.id, line.name)
			}
			if !slices.Contains(g.members, line.name) {
				g.members = append(g.members, line.name)
			}
		}
	}
	return nil
}

// addGroup returns the number of a group, which it makes unless it exists. A
// wanted number that is taken gives way to another, as in systemd.
func (s *sysusers) addGroup(name, want string) (uint32, error) {
	if g := s.group(name); g != nil {
		return g.gid, nil
	}
	gid, err := s.pick(want, func(id uint32) bool {
		u := s.userByID(id)
		return s.groupByID(id) == nil && (u == nil || u.name == name)
	})
	if err != nil {
		return 0, err
	}
	s.groups = append(s.groups, group{name: name, gid: gid, password: "!*"})
	return gid, nil
}

func (s *sysusers) addUser(line sysuser) error {
	if s.user(line.name) != nil {
		return nil
	}
	wantUser, wantGroup, hasGroup := strings.Cut(line.id, ":")
	if wantUser == "-" {
		wantUser = ""
	}
	gid, err := uint32(0), error(nil)
	if hasGroup {
		gid, err = s.existing(wantGroup)
	} else {
		gid, err = s.addGroup(line.name, wantUser)
	}
	if err != nil {
		return err
	}
	free := func(id uint32) bool {
		g := s.groupByID(id)
		return s.userByID(id) == nil && (g == nil || g.name == line.name)
	}
	// The number of the user's own group is the second choice.
	uid, err := s.pick(wantUser, free, gid)
	if err != nil {
		return err
	}
	u := user{
		name: line.name, uid: uid, gid: gid, comment: line.comment, home: line.home, shell: line.shell,
		password: "!*", expired: line.expired,
	}
	if u.home == "" {
		u.home = "/"
	}
	if u.shell == "" {
		u.shell = nologin
	}
	s.users = append(s.users, u)
	return nil
}

// existing returns the number of a group given by number or name.
func (s *sysusers) existing(nameOrNumber string) (uint32, error) {
	if n, err := strconv.ParseUint(nameOrNumber, 10, 32); err == nil {
		return uint32(n), nil
	}
	g := s.group(nameOrNumber)
	if g == nil {
		return 0, fmt.Errorf("no group %q", nameOrNumber)
	}
	return g.gid, nil
}

// lowestID is where the search for a number ends. Below are those that Debian
// hands out by itself.
const lowestID = 100

// pick returns the first free number of: the wanted one, the others given, and
// those from 999 down.
func (s *sysusers) pick(want string, free func(uint32) bool, others ...uint32) (uint32, error) {
	if want != "" {
		n, err := strconv.ParseUint(want, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", want)
		}
		if free(uint32(n)) {
			return uint32(n), nil
		}
	}
	for _, id := range others {
		if free(id) {
			return id, nil
		}
	}
	for ; s.next >= lowestID; s.next-- {
		if free(s.next) {
			id := s.next
			s.next--
			return id, nil
		}
	}
	return 0, fmt.Errorf("no number from 999 down to %d is free", lowestID)
}
