package rootfs

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// pkg makes a package of control fields and files: a path that ends in a slash
// is a directory, content that begins with "-> " a symbolic link, one with "=> " a
// hard one.
func pkg(t testing.TB, name, fields string, files ...string) merge.Package {
	t.Helper()
	control := "Package: " + name + "\nVersion: 1\nArchitecture: amd64\n" + fields
	pack := treetest.PackOf(t, name, append([]string{"DEBIAN/control", control, "./", ""}, files...)...)
	for i := range pack.Entries {
		pack.Entries[i].MTime = 1
	}
	return merge.Package{LockedPackage: manifest.LockedPackage{Name: name, Version: "1", Arch: "amd64"}, Pack: pack}
}

// base is what every root needs.
func base(t testing.TB) []merge.Package {
	return []merge.Package{
		pkg(t, "base-files", "", "usr/lib/os-release", "ID=debian\n", "etc/os-release", "-> ../usr/lib/os-release", "usr/bin/", "", "bin", "-> usr/bin", "var/run/", ""),
		pkg(t, "base-passwd", "",
			"usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
			"usr/share/base-passwd/group.master", "root:*:0:\nshadow:*:42:\nnogroup:*:65534:\n"),
	}
}

// config is a definition, given as files that replace those of an empty one,
// and packages beside the base.
func config(t testing.TB, files map[string]string, packages ...merge.Package) Config {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"image.yaml":       "name: node\npackages: []\nkernel: {arguments: [], modules: []}\nunits: {enable: {}, mask: {}}\n",
		"configure.yaml":   "base-files: {}\n",
		"differences.yaml": "differences: []\n",
	} {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	d, err := manifest.ParseDefinition("", fsys)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Arch: arch.AMD64, Suite: "trixie", Definition: d, Packages: append(base(t), packages...),
		ImageID: "node", ImageVersion: "v1", Epoch: 1_700_000_000,
	}
}

func TestComposeMergesUsr(t *testing.T) {
	root, err := Compose(config(t, nil, pkg(t, "old", "", "bin/", "", "bin/old", "x", "lib/x86_64-linux-gnu/libold.so", "y")))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]tree.Type{
		"bin": tree.Symlink, "lib": tree.Symlink, "usr/bin/old": tree.File, "usr/lib/x86_64-linux-gnu/libold.so": tree.File,
	} {
		if e := root.Lookup(p); e == nil || e.Type != want {
			t.Errorf("/%s is %v; want a %s", p, e, want)
		}
	}
	if got, want := treetest.Text(t, root, "var/lib/dpkg/info/old.list"), "/.\n/bin\n/bin/old\n/lib/x86_64-linux-gnu/libold.so\n"; got != want {
		t.Errorf("old.list = %q; want %q, as the package has it", got, want)
	}
}

func TestComposeRelease(t *testing.T) {
	root, err := Compose(config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"usr/lib/os-release":      "ID=debian\n",
		"etc/os-release":          "ID=debian\nIMAGE_ID=node\nIMAGE_VERSION=v1\n",
		"var/lib/dpkg/diversions": "/etc/os-release\n/etc/os-release.distrib\n:\n",
	} {
		if got := treetest.Text(t, root, p); got != want {
			t.Errorf("/%s = %q; want %q", p, got, want)
		}
	}
	if e := root.Lookup("etc/os-release.distrib"); e == nil || e.Link != "../usr/lib/os-release" {
		t.Errorf("/etc/os-release.distrib is %v; want base-files' link", e)
	}
}

func TestComposeTimes(t *testing.T) {
	root, err := Compose(config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := root.Lookup("usr/share/base-passwd/passwd.master").MTime; got != 1 {
		t.Errorf("a package's file has the time %d; want its own", got)
	}
	for _, p := range []string{"usr", "etc/.updated", "var/.updated", "etc/passwd"} {
		if got := root.Lookup(p).MTime; got != 1_700_000_000 {
			t.Errorf("/%s has the time %d; want the epoch", p, got)
		}
	}
}

func TestComposeConflicts(t *testing.T) {
	one := pkg(t, "one", "", "usr/bin/tool", "1")
	for _, test := range []struct {
		name   string
		config Config
		want   []string // parts of the error; none: what the tool then is
		tool   string
	}{
		{"two packages", config(t, nil, one, pkg(t, "two", "", "usr/bin/tool", "2")), []string{"/usr/bin/tool", "package one", "package two"}, ""},
		{"through the link", config(t, nil, one, pkg(t, "two", "", "bin/tool", "2")), []string{"/usr/bin/tool", "package one", "package two"}, ""},
		{"replaces", config(t, nil, one, pkg(t, "two", "Replaces: one (<< 2)\n", "usr/bin/tool", "2")), nil, "2"},
		{"replaces, without blanks", config(t, nil, one, pkg(t, "two", "Replaces: none,one(<<2)\n", "usr/bin/tool", "2")), nil, "2"},
		{"replaced", config(t, nil, pkg(t, "one", "Replaces: two\n", "usr/bin/tool", "1"), pkg(t, "two", "", "usr/bin/tool", "2")), nil, "1"},
		{"replaces another version", config(t, nil, one, pkg(t, "two", "Replaces: one (>> 2)\n", "usr/bin/tool", "2")), []string{"/usr/bin/tool"}, ""},
		{"diversion", config(t, map[string]string{"configure.yaml": "two:\n  diversions:\n  - {path: /usr/bin/tool, to: /usr/bin/tool.one}\n"},
			one, pkg(t, "two", "", "usr/bin/tool", "2")), nil, "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, err := Compose(test.config)
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if got := treetest.Text(t, root, "usr/bin/tool"); got != test.tool {
					t.Errorf("tool is %q; want %q", got, test.tool)
				}
				return
			}
			if _, ok := errors.AsType[*merge.ConflictError](err); !ok {
				t.Fatalf("Compose = %v; want a ConflictError", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not name %s", err, part)
				}
			}
		})
	}
}

// TestComposeLinks has files that are read under names that are links.
func TestComposeLinks(t *testing.T) {
	const at = "usr/lib/sysusers.d/"
	users := pkg(t, "users", "",
		"etc/one.conf", "one\n", "etc/two.conf", "=> etc/one.conf",
		"usr/share/bee.conf", "u bee 300\n", at+"bee.conf", "-> ../../share/bee.conf", at+"ant.conf", "u ant 301\n", at+"wasp.conf", "=> "+at+"ant.conf",
		at+"masked.conf", "u fly 302\n", "etc/sysusers.d/masked.conf", "-> /dev/null",
		"usr/bin/tool", "tool", "usr/bin/tool-too", "=> usr/bin/tool", "usr/bin/tool-link", "-> tool", "opt/store/", "", "opt/link", "-> store")
	conffiles := treetest.PackOf(t, "conffiles", "DEBIAN/conffiles", "/etc/one.conf\n/etc/two.conf\n")
	users.Pack.Entries = append(users.Pack.Entries, conffiles.Entries...)
	c := config(t, map[string]string{
		"configure.yaml":     "users:\n  copies:\n  - {from: /usr/bin/tool-too, to: /opt/link/copy}\n",
		"files/etc/one.conf": "changed\n",
	}, users)
	c.Components = []Component{{Name: "x", Pack: &tree.Pack{Entries: []tree.Entry{{Path: "opt/link/bin/x", Type: tree.File, Perm: 0o755}}}}}
	root, err := Compose(c)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"etc/one.conf": "changed\n", "etc/two.conf": "one\n", "opt/store/copy": "tool", "opt/store/bin/x": "",
	} {
		if got := treetest.Text(t, root, p); got != want {
			t.Errorf("/%s is %q; want %q", p, got, want)
		}
	}
	passwd := treetest.Text(t, root, "etc/passwd")
	for name, want := range map[string]bool{"bee:x:300:": true, "ant:x:301:": true, "fly:": false} {
		if got := strings.Contains(passwd, "\n"+name); got != want {
			t.Errorf("/etc/passwd has %s: %t; want %t\n%s", name, got, want, passwd)
		}
	}
	const sum = "5bbf5a52328e7439ae6e719dfe712200" // of "one\n"
	if status, want := treetest.Text(t, root, "var/lib/dpkg/status"), "Conffiles:\n /etc/one.conf "+sum+"\n /etc/two.conf "+sum+"\n"; !strings.Contains(status, want) {
		t.Errorf("the status is\n%s; want in it\n%s", status, want)
	}
}

func TestComposeBelowLinks(t *testing.T) {
	for _, test := range []struct{ name, link, want string }{
		{"nowhere", "none", "package two has /opt/x/f below /opt/x, a symbolic link of package one to none, which is not a directory of the image"},
		{"a file", "file", "package two has /opt/x/f below /opt/x, a symbolic link of package one to file, which is not a directory of the image"},
		{"itself", "x", "package two has /opt/x/f below /opt/x, a symbolic link of package one to x, which is not a directory of the image"},
	} {
		_, err := Compose(config(t, nil, pkg(t, "one", "", "opt/x", "-> "+test.link, "opt/file", "x"), pkg(t, "two", "", "opt/x/f", "1", "opt/x/g", "2")))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: Compose = %v; want %s", test.name, err, test.want)
		}
	}
}

func TestComposeNames(t *testing.T) {
	_, err := Compose(config(t, nil, pkg(t, "one", "", "opt/a\xff", "1", "opt/b", "-> \xfe", "opt/ä", "2")))
	want := `package one has a file with the name "/opt/a\xff", which is not UTF-8 and so can't be recorded (leave it out)` + "\n" +
		`package one has /opt/b as a symbolic link to "\xfe", which is not UTF-8 and so can't be recorded (leave it out)`
	if err == nil || err.Error() != want {
		t.Errorf("Compose = %v; want %s", err, want)
	}
}

func TestComposeDefinitionErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"overlay of a program", map[string]string{"files/usr/bin/tool": "x"}, "files/usr/bin/tool: the file of package one is not a configuration file"},
		{"unknown owner", map[string]string{"configure.yaml": "one:\n  directories:\n  - {path: /x, owner: who}\n"}, `configure.yaml:3:5: no user "who"`},
		{"existing directory", map[string]string{"configure.yaml": "one:\n  directories:\n  - {path: /var/run}\n"}, "configure.yaml:3:5: /var/run exists already"},
		{"link over files", map[string]string{"configure.yaml": "one:\n  symlinks:\n  - {path: /usr/bin, to: /bin}\n"}, "/usr/bin is a directory of package base-files that holds /usr/bin/tool"},
		{"missing source", map[string]string{"configure.yaml": "one:\n  copies:\n  - {from: /none, to: /x}\n"}, "/none is not a file of the image"},
		{"mode of a link", map[string]string{"configure.yaml": "one:\n  permissions:\n  - {path: /bin, mode: 0700}\n"}, "configure.yaml:3:5: /bin is a symbolic link to usr/bin and has no permissions of its own (declare those of what it leads to)"},
		{"missing alternative", map[string]string{"configure.yaml": "one:\n  alternatives:\n  - {name: a, link: /usr/bin/a, path: /none, priority: 1}\n"}, "/none is not in the image"},
		{"number taken", map[string]string{"configure.yaml": "one:\n  users:\n  - {name: x, id: 0, group: root}\n"}, "user x with number 0"},
		{"no such unit", map[string]string{"image.yaml": "name: n\npackages: []\nkernel: {arguments: [], modules: []}\nunits:\n  enable:\n    none.service: x\n  mask: {}\n"}, "image.yaml:6:5: no unit none.service in the image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Compose(config(t, test.files, pkg(t, "one", "", "usr/bin/tool", "1")))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Compose = %v; want an error with %q", err, test.want)
			}
		})
	}
}

func TestComposeUnits(t *testing.T) {
	good := "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/tool --flag \\\n  more\n[Install]\nWantedBy=multi-user.target\nAlias=other.service\n"
	enable := map[string]string{"image.yaml": "name: n\npackages: []\nkernel: {arguments: [], modules: []}\nunits:\n  enable: {x.service: y}\n  mask: {z.timer: y, a-generator: y}\n"}
	c := config(t, enable)
	c.Units = fstest.MapFS{"x.service": {Data: []byte(good)}, "units.go": {}}
	c.Extra = []tree.Entry{{Path: "bin/tool", Type: tree.File, Perm: 0o755}}
	root, err := Compose(c)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"etc/systemd/system/multi-user.target.wants/x.service": "/etc/systemd/system/x.service",
		"etc/systemd/system/other.service":                     "/etc/systemd/system/x.service",
		"etc/systemd/system/z.timer":                           "/dev/null",
		"etc/systemd/system-generators/a-generator":            "/dev/null",
	} {
		if e := root.Lookup(p); e == nil || e.Link != want {
			t.Errorf("/%s is %v; want a link to %s", p, e, want)
		}
	}
	for _, test := range []struct{ name, unit, want string }{
		{"garbage", "[Unit]\nDescription=x\n[Service] x\nExecStart=/bin/tool\n", "x.service:3: "},
		{"unknown section", "[Service]\nExecStart=/bin/tool\n[Instal]\nWantedBy=x.target\n", "x.service:3: unknown section [Instal]"},
		{"missing program", "[Service]\n\nExecStart=/bin/none\n", "x.service:3: ExecStart: /bin/none is not an executable file"},
		{"relative program", "[Service]\nExecStart=tool\n", "x.service:2: ExecStart: want the absolute path"},
		{"nothing to start", "[Unit]\nDescription=x\n", "x.service:1: no ExecStart="},
		{"not to be enabled", "[Service]\nExecStart=/bin/tool\n", "has no [Install] section"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.Units = fstest.MapFS{"x.service": {Data: []byte(test.unit)}}
			if _, err := Compose(c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Compose = %v; want an error with %q", err, test.want)
			}
		})
	}
}

// TestSysusers compares numbers with those that systemd-sysusers gives.
func TestSysusers(t *testing.T) {
	need.Program(t, "systemd-sysusers", "systemd")
	files := map[string]string{
		"b.conf": "u bee - \"The bee\" /var/bee /bin/sh\ng hive -\nu fixed 77\nu pair 78:hive\n",
		"a.conf": "# comment\nu ant -:nogroup 'An ant'\ng hive 300\nm bee hive\nm wasp nest\n",
		"c.conf": "g taken 0\nu clash 77 - -\n",
	}
	var paths []string
	for name, text := range files {
		paths = append(paths, "usr/lib/sysusers.d/"+name, text)
	}
	root, err := Compose(config(t, nil, pkg(t, "users", "", paths...)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for p, text := range map[string]string{
		"etc/passwd": treetest.Text(t, root, "usr/share/base-passwd/passwd.master"), "etc/group": treetest.Text(t, root, "usr/share/base-passwd/group.master"),
	} {
		paths = append(paths, p, strings.ReplaceAll(text, ":*:", ":x:"))
	}
	for i := 0; i < len(paths); i += 2 {
		file := filepath.Join(dir, paths[i])
		filetest.Write(t, file, paths[i+1])
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+dir).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	for _, name := range []string{"passwd", "group"} {
		want := filetest.Read(t, filepath.Join(dir, "etc", name))
		if diff := cmp.Diff(sortLines(string(want)), sortLines(treetest.Text(t, root, "etc/"+name))); diff != "" {
			t.Errorf("/etc/%s (-systemd-sysusers +ours):\n%s", name, diff)
		}
	}
}

func sortLines(s string) []string {
	return slices.Sorted(strings.Lines(s))
}

func FuzzPAM(f *testing.F) {
	f.Add("Name: x\nDefault: yes\nPriority: 3\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_x.so y\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePAMProfile("x", text)
		if err != nil {
			return
		}
		template := pamPrimary + "\n$x\n" + pamFallback + "\n" + pamAdditional + "\n$y\n" + pamEnd + "\n"
		if _, err := pamStack(template, "auth", []pamProfile{p}); err != nil {
			t.Errorf("pamStack: %v", err)
		}
	})
}

func FuzzSubjectHash(f *testing.F) {
	f.Add([]byte{0x30, 0x0b, 0x31, 0x09, 0x30, 0x07, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x00})
	f.Fuzz(func(t *testing.T, name []byte) {
		canonicalName(name)
		subjectHash(name)
	})
}

func FuzzCheckUnit(f *testing.F) {
	f.Add([]byte("[Unit]\nDescription=x\n[Service]\nExecStart=-/bin/x\n[Service] y\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		checkUnit("x.service", text, func(string) bool { return true })
	})
}
