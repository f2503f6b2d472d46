package accounts

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
)

// TestSysusersRefused has lines that systemd-sysusers refuses too, and some
// (only) that it reads or passes over.
func TestSysusersRefused(t *testing.T) {
	_, noSysusers := exec.LookPath("systemd-sysusers") // TestSysusers of package rootfs says so
	for _, test := range []struct {
		text, want string
		only       bool // by bake
	}{
		{text: "m bee", want: `"" is not the group of a membership (want m USER GROUP)`},
		{text: "m bee -", want: `"" is not the group of a membership (want m USER GROUP)`},
		{text: "u y 5:6\nm bee y", want: `no group "y" for bee to be a member of`, only: true},
		{text: "m bee\x01h! hive", want: `"bee\x01h!" is not a name for a user or group`},
		{text: "u 1bee", want: `"1bee" is not a name for a user or group`},
		{text: "u bee.x", want: `"bee.x" is not a name for a user or group`},
		{text: "u b:e", want: `"b:e" is not a name for a user or group`},
		{text: "u " + strings.Repeat("b", 32), want: "is not a name for a user or group"},
		{text: "g hive 5:6", want: `"5:6" is not the number of a group`},
		{text: "g hive x", want: `"x" is not a number`},
		{text: "g! hive 5", want: `"g! hive 5" is not a user, group or membership`},
		{text: "m! bee hive", want: `"m! bee hive" is not a user, group or membership`},
		{text: "g hive 5 comment", want: "only a user has a comment, a directory or a shell"},
		{text: "u bee 5:", want: `"" is not a group, by name or number`},
		{text: "u bee 5:6:7", want: `"6:7" is not a group, by name or number`},
		{text: "u bee :6", want: `"" is not a number`},
		{text: "u bee 65535", want: `"65535" is not a number`},
		{text: "u bee 4294967295", want: `"4294967295" is not a number`},
		{text: "u bee -:hive", want: `user bee: no group "hive"`, only: true},
		{text: "u bee - c rel", want: `"rel" is not a path from the root`},
		{text: "u bee - c /a/../b", want: `"/a/../b" is not a path from the root`},
		{text: "u bee - c / sh", want: `"sh" is not a path from the root`},
		{text: "u bee - a:b", want: `the comment "a:b" cannot stand in /etc/passwd`},
		{text: "u bee - 'a", want: "a ' is not closed"},
		{text: "u bee - %b", want: "specifiers such as %b are not supported", only: true},
		{text: `u bee - a\tb`, want: `escapes such as \t are not supported`, only: true},
		{text: "u bee /bin/sh", want: "a number taken from the owner of /bin/sh is not supported", only: true},
		{text: "r - 500-900", want: `"r - 500-900" is not a user, group or membership`, only: true},
	} {
		lines, err := parseSysusers("/x.conf", test.text+"\n")
		if err == nil {
			s := sysusers{Accounts: &Accounts{}, next: 999}
			err = s.apply(lines)
		}
		if err == nil || !strings.HasPrefix(err.Error(), "/x.conf: line ") || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%q: %v; want an error that ends with %q", test.text, err, test.want)
		}
		if test.only || noSysusers != nil {
			continue
		}
		dir := t.TempDir()
		filetest.Mkdir(t, filepath.Join(dir, "etc"))
		cmd := exec.Command("systemd-sysusers", "--root="+dir, "--inline", test.text)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("systemd-sysusers takes %q:\n%s", test.text, out)
		}
	}
}

func FuzzParseSysusers(f *testing.F) {
	f.Add("u bee - \"The bee\" /var/bee /bin/sh\ng hive 300\nm bee hive\n# x\nu! y 5:6\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseSysusers("x.conf", text)
		if err != nil {
			return
		}
		var a Accounts
		s := sysusers{Accounts: &a, next: 999}
		if s.apply(lines) != nil {
			return
		}
		passwd, _, _, _ := a.Files(0)
		if got := bytes.Count(passwd, []byte("\n")); got != len(a.users) {
			t.Errorf("%d users make %d lines", len(a.users), got)
		}
	})
}
