// Package accounts makes the users and groups of a root that no maintainer script
// configured: those that every Debian has, by base-passwd's masters, those that a
// definition declares, and those of sysusers.d with the numbers that
// systemd-sysusers gives. Nothing is executed.
package accounts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
)

// Accounts are the users and groups of a root. The zero value has none.
type Accounts struct {
	users  []user
	groups []group
}

// user is a line of passwd(5), with the two fields of shadow(5) that differ
// between users.
type user struct {
	name     string
	uid, gid uint32
	comment  string
	home     string
	shell    string
	password string // "*": Debian's own users; "!*": locked as systemd-sysusers does
	expired  bool   // a service's account, into which nobody logs in
}

// group is a line of group(5).
type group struct {
	name     string
	gid      uint32
	members  []string
	password string
}

const nologin = "/usr/sbin/nologin"

func (a *Accounts) user(name string) *user {
	return find(a.users, func(u user) bool { return u.name == name })
}

func (a *Accounts) userByID(id uint32) *user {
	return find(a.users, func(u user) bool { return u.uid == id })
}

func (a *Accounts) group(name string) *group {
	return find(a.groups, func(g group) bool { return g.name == name })
}

func (a *Accounts) groupByID(id uint32) *group {
	return find(a.groups, func(g group) bool { return g.gid == id })
}

func find[T any](list []T, match func(T) bool) *T {
	if i := slices.IndexFunc(list, match); i >= 0 {
		return &list[i]
	}
	return nil
}

// Owner resolves names to numbers.
func (a *Accounts) Owner(owner, group string) (uid, gid uint32, err error) {
	u, g := a.user(owner), a.group(group)
	switch {
	case u == nil:
		return 0, 0, fmt.Errorf("no user %q (declare it under users, or name the package whose sysusers.d makes it)", owner)
	case g == nil:
		return 0, 0, fmt.Errorf("no group %q (declare it under groups, or name the package whose sysusers.d makes it)", group)
	}
	return u.uid, g.gid, nil
}

// The masters, which package base-passwd has.
const (
	passwdMaster = "usr/share/base-passwd/passwd.master"
	groupMaster  = "usr/share/base-passwd/group.master"
)

// ReadMasters reads the users and groups with fixed numbers (Debian policy,
// section 9.2.2).
func (a *Accounts) ReadMasters(l *merge.Layout) error {
	passwd, err := l.Read(passwdMaster)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 {
			return fmt.Errorf("passwd.master: %q does not have 7 fields", line)
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("passwd.master: %q has no numbers for user and group", line)
		}
		a.users = append(a.users, user{
			name: f[0], uid: uint32(uid), gid: uint32(gid), comment: f[4], home: f[5], shell: f[6], password: f[1],
		})
	}
	groups, err := l.Read(groupMaster)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 4 {
			return fmt.Errorf("group.master: %q does not have 4 fields", line)
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return fmt.Errorf("group.master: %q has no number", line)
		}
		a.groups = append(a.groups, group{name: f[0], gid: uint32(gid), password: f[1]})
	}
	return nil
}

// Declare adds the users and groups that a package's script would have made.
func (a *Accounts) Declare(s manifest.PackageScripts) error {
	addGroup := func(name string, id uint32) error {
		if a.group(name) != nil || a.groupByID(id) != nil {
			return fmt.Errorf("%s: group %s with number %d: one of the two is taken", s.Pos, name, id)
		}
		a.groups = append(a.groups, group{name: name, gid: id, password: "!"})
		return nil
	}
	for _, g := range s.Groups {
		if err := addGroup(g.Name, g.ID); err != nil {
			return err
		}
	}
	for _, u := range s.Users {
		if u.Group == "" {
			if err := addGroup(u.Name, u.GroupID); err != nil {
				return err
			}
			u.Group = u.Name
		}
		g := a.group(u.Group)
		if g == nil {
			return fmt.Errorf("%s: user %s: no group %q", s.Pos, u.Name, u.Group)
		}
		if a.user(u.Name) != nil || a.userByID(u.ID) != nil {
			return fmt.Errorf("%s: user %s with number %d: one of the two is taken", s.Pos, u.Name, u.ID)
		}
		a.users = append(a.users, user{
			name: u.Name, uid: u.ID, gid: g.gid, comment: u.Comment, home: u.Home, shell: nologin, password: "!",
		})
	}
	return nil
}

// Files returns the content of passwd, group, shadow and gshadow. The date of
// the last password change is that of the epoch: 0 would ask for a change.
func (a *Accounts) Files(epoch int64) (passwd, group, shadow, gshadow []byte) {
	const day = 24 * 60 * 60
	for _, u := range a.users {
		passwd = fmt.Appendf(passwd, "%s:x:%d:%d:%s:%s:%s\n", u.name, u.uid, u.gid, u.comment, u.home, u.shell)
		aging, expires := "", ""
		if u.password == "*" {
			aging = "0:99999:7" // shadowconfig(8) takes these from login.defs
		} else {
			aging = "::"
		}
		if u.expired {
			expires = "1"
		}
		shadow = fmt.Appendf(shadow, "%s:%s:%d:%s::%s:\n", u.name, u.password, epoch/day, aging, expires)
	}
	for _, g := range a.groups {
		members := strings.Join(g.members, ",")
		group = fmt.Appendf(group, "%s:x:%d:%s\n", g.name, g.gid, members)
		gshadow = fmt.Appendf(gshadow, "%s:%s::%s\n", g.name, g.password, members)
	}
	return passwd, group, shadow, gshadow
}

// Unshadowed returns passwd and group of a root that has no shadow file. Nobody has a
// password, and the fields say so, as they do in the masters.
func (a *Accounts) Unshadowed() (passwd, group []byte) {
	for _, u := range a.users {
		passwd = fmt.Appendf(passwd, "%s:%s:%d:%d:%s:%s:%s\n", u.name, u.password, u.uid, u.gid, u.comment, u.home, u.shell)
	}
	for _, g := range a.groups {
		group = fmt.Appendf(group, "%s:%s:%d:%s\n", g.name, g.password, g.gid, strings.Join(g.members, ","))
	}
	return passwd, group
}
