package deb

import "fmt"

// fixedUsers and fixedGroups are the numbers that are the same on every Debian
// system, because base-passwd assigns them (Policy 9.2.2): its passwd.master and
// group.master of trixie, and what older releases had beside them.
//
// dpkg gives a file to whom the archive names, and to the archive's number only
// where the root knows no such name. With a fixed name both are the same; any
// other would depend on the node's passwd, so it is refused. Packages whose
// files belong to such users set them in a script, which the image definition
// replaces.
func fixedUsers() map[string]uint32 {
	return map[string]uint32{
		"root": 0, "daemon": 1, "bin": 2, "sys": 3, "sync": 4, "games": 5, "man": 6, "lp": 7, "mail": 8, "news": 9,
		"uucp": 10, "proxy": 13, "www-data": 33, "backup": 34, "list": 38, "irc": 39, "gnats": 41, "_apt": 42, "nobody": 65534,
	}
}

// fixedGroups: see fixedUsers.
func fixedGroups() map[string]uint32 {
	return map[string]uint32{
		"root": 0, "daemon": 1, "bin": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "lp": 7, "mail": 8, "news": 9,
		"uucp": 10, "man": 12, "proxy": 13, "kmem": 15, "dialout": 20, "fax": 21, "voice": 22, "cdrom": 24, "floppy": 25,
		"tape": 26, "sudo": 27, "audio": 29, "dip": 30, "www-data": 33, "backup": 34, "operator": 37, "list": 38, "irc": 39,
		"src": 40, "gnats": 41, "shadow": 42, "utmp": 43, "video": 44, "sasl": 45, "plugdev": 46, "staff": 50, "games": 60,
		"users": 100, "nogroup": 65534,
	}
}

// owner returns the number of a file's user or group.
func owner(name string, id int, table func() map[string]uint32) (uint32, error) {
	if name == "" && id == 0 || name == "root" {
		return 0, nil // nearly always
	}
	fixed := table()
	if name != "" {
		if n, ok := fixed[name]; ok {
			return n, nil
		}
		return 0, fmt.Errorf("%q (%d) is not one of base-passwd's, so its number may differ on the node", name, id)
	}
	for _, n := range fixed {
		if int64(n) == int64(id) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%d is not one of base-passwd's, so it may be anybody on the node", id)
}
