package layers

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
)

// pkg makes a package of control fields and files, as treetest.PackOf has them.
func pkg(t *testing.T, name, fields string, files ...string) merge.Package {
	t.Helper()
	control := "Package: " + name + "\nVersion: 1\nArchitecture: amd64\n" + fields
	pack := treetest.PackOf(t, name, append([]string{"DEBIAN/control", control, "./", ""}, files...)...)
	for i := range pack.Entries {
		pack.Entries[i].MTime = 1_700_000_000
		if strings.Contains(pack.Entries[i].Path, "bin/") {
			pack.Entries[i].Perm = 0o755
		}
	}
	return merge.Package{LockedPackage: manifest.LockedPackage{Name: name, Version: "1", Arch: "amd64"}, Pack: pack}
}

// web is a package as nginx is.
func web(t *testing.T) merge.Package {
	return pkg(t, "web", "", "DEBIAN/md5sums", "0  usr/sbin/web\n", "DEBIAN/postinst", "#!/bin/sh\n",
		"sbin/web", "x", "usr/share/doc/web/copyright", "it is free", "usr/share/doc/web/README", "read me", "usr/share/doc/web-module", "-> web",
		"usr/share/man/man8/web.8", "a page", "usr/share/doc/web/examples", "=> usr/share/doc/web/README", "usr/lib/web/conf", "=> usr/share/doc/web/README",
		"var/log/web/", "")
}

func passwd(t *testing.T) merge.Package {
	return pkg(t, "base-passwd", "", "usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n", "usr/share/base-passwd/group.master", "root:*:0:\n")
}

// list says what a tree has, without directories that are as all are.
func list(files *tree.Tree) []string {
	var out []string
	for _, e := range files.Entries {
		switch {
		case e.Type == tree.Symlink:
			out = append(out, e.Path+" -> "+e.Link)
		case e.Type == tree.Hardlink:
			out = append(out, e.Path+" => "+e.Link)
		case e.Type == tree.File:
			out = append(out, e.Path)
		case e.Perm != 0o755 || e.UID != 0:
			out = append(out, e.Path+"/")
		}
	}
	return out
}

// TestCompose has two packages: documentation goes, but for copyright files, what
// is another name of documentation stays, and no script is there.
func TestCompose(t *testing.T) {
	composed, err := Compose(Config{
		Packages: []merge.Package{web(t), passwd(t)},
		Image: manifest.ContainerImage{Name: "web", Entrypoint: []string{"/usr/sbin/web"}, Paths: []manifest.ImagePath{
			{Path: "/tmp", Mode: 0o1777}, {Path: "/var/lib/web", Mode: 0o700, UID: 33, GID: 33},
			{Path: "/var/log/web/access.log", Link: "/dev/stdout"}, {Path: "/sbin/other", Link: "web"},
			{Path: "/var/log/web", Mode: 0o750},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := composed.Tree
	if composed.Start != "usr/sbin/web" {
		t.Errorf("it starts %q; want usr/sbin/web", composed.Start)
	}
	want := []string{
		"etc/group", "etc/passwd", "lib -> usr/lib", "sbin -> usr/sbin", "tmp/", "usr/lib/web/conf", "usr/sbin/other -> web", "usr/sbin/web",
		"usr/share/base-passwd/group.master", "usr/share/base-passwd/passwd.master",
		"usr/share/doc/web/copyright", "usr/share/doc/web-module -> web",
		"var/lib/dpkg/status.d/base-passwd", "var/lib/dpkg/status.d/web", "var/lib/dpkg/status.d/web.md5sums", "var/lib/web/",
		"var/log/web/", "var/log/web/access.log -> /dev/stdout",
	}
	if diff := cmp.Diff(want, list(files)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for p, want := range map[string]string{
		"etc/passwd":                        "root:*:0:0:root:/root:/bin/bash\n",
		"usr/lib/web/conf":                  "read me",
		"var/lib/dpkg/status.d/web":         "Package: web\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n",
		"var/lib/dpkg/status.d/web.md5sums": "0  usr/sbin/web\n",
	} {
		if got := treetest.Text(t, files, p); got != want {
			t.Errorf("/%s = %q; want %q", p, got, want)
		}
	}
	if e := files.Lookup("var/lib/web"); e.Perm != 0o700 || e.UID != 33 || e.GID != 33 {
		t.Errorf("/var/lib/web is %o of %d:%d; want 700 of 33:33", e.Perm, e.UID, e.GID)
	}
	for _, e := range files.Entries {
		if e.MTime != 0 {
			t.Errorf("/%s is of %d; want 1970", e.Path, e.MTime)
		}
	}
}

// TestComposeRefuses has images that can't be, and what is said of each.
func TestComposeRefuses(t *testing.T) {
	at := manifest.Pos{File: "versions.yaml", Line: 7, Column: 9}
	for name, test := range map[string]struct {
		image    manifest.ContainerImage
		packages []merge.Package
		want     string
	}{
		"two packages with one file": {
			packages: []merge.Package{pkg(t, "other", "", "usr/sbin/web", "y")},
			image:    manifest.ContainerImage{Name: "web", PackagesPos: at},
			want:     "versions.yaml:7:9: images.web.packages: /usr/sbin/web comes from both package other and package web (name other packages)",
		},
		"a device": {
			image:    manifest.ContainerImage{Name: "web", PackagesPos: at},
			packages: []merge.Package{device(t)},
			want:     "versions.yaml:7:9: images.web.packages: package evil has /dev/mem, a char, which an image of packages can't have (name other packages)",
		},
		"a whiteout": {
			image:    manifest.ContainerImage{Name: "web", PackagesPos: at},
			packages: []merge.Package{pkg(t, "evil", "", "etc/.wh.passwd", "")},
			want:     "versions.yaml:7:9: images.web.packages: package evil has /etc/.wh.passwd: in an image that name deletes another file (name other packages)",
		},
		"a whiteout that no package has as a directory": {
			image:    manifest.ContainerImage{Name: "web", PackagesPos: at},
			packages: []merge.Package{pkg(t, "evil", "", "etc/.wh.ssl/x", "")},
			want:     "versions.yaml:7:9: images.web.packages: package evil has /etc/.wh.ssl: in an image that name deletes another file (name other packages)",
		},
		"a user that can't be": {
			image:    manifest.ContainerImage{Name: "web", PackagesPos: at},
			packages: []merge.Package{passwd(t), pkg(t, "evil", "", "usr/lib/sysusers.d/evil.conf", "u a:b 0\n")},
			want:     `versions.yaml:7:9: images.web.packages: /usr/lib/sysusers.d/evil.conf: line 1: "a:b" is not a name for a user or group (name other packages)`,
		},
		"a directory where a file is": {
			image: manifest.ContainerImage{Paths: []manifest.ImagePath{{Path: "/usr/sbin/web", Mode: 0o755, Pos: at, Key: "images.web.paths[0]"}}},
			want:  "versions.yaml:7:9: images.web.paths[0]: package web has a file at /usr/sbin/web (remove this entry, or the package)",
		},
		"a link where a directory is": {
			image: manifest.ContainerImage{Paths: []manifest.ImagePath{{Path: "/var/log/web", Link: "/tmp", Pos: at, Key: "images.web.paths[0]"}}},
			want:  "versions.yaml:7:9: images.web.paths[0]: package web has a dir at /var/log/web (remove this entry, or the package)",
		},
		"a path below a file": {
			image: manifest.ContainerImage{Paths: []manifest.ImagePath{{Path: "/usr/sbin/web/log", Mode: 0o755, Pos: at, Key: "images.web.paths[0]"}}},
			want:  "versions.yaml:7:9: images.web.paths[0]: /usr/sbin/web above it is a file of package web (choose another path)",
		},
		"a program that is not there": {
			image: manifest.ContainerImage{Name: "web", Entrypoint: []string{"/usr/bin/web"}, StartPos: at},
			want:  "versions.yaml:7:9: images.web.entrypoint: /usr/bin/web is no program of the image (name one of its packages' by its path, or add the package that has it)",
		},
		"a program in no directory of PATH": {
			image: manifest.ContainerImage{Name: "web", Command: []string{"web"}, Environment: []string{"PATH=/usr/bin"}, StartPos: at},
			want:  "versions.yaml:7:9: images.web.command: web is no program of the image (name one of its packages' by its path, or add the package that has it)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compose(Config{Image: test.image, Packages: append([]merge.Package{web(t)}, test.packages...)})
			if err == nil || err.Error() != test.want {
				t.Errorf("Compose: %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestComposePrograms has programs for a layer above: they belong where the links of the
// packages lead, and nothing of a package may be there.
func TestComposePrograms(t *testing.T) {
	at := manifest.Pos{File: "versions.yaml", Line: 9, Column: 3}
	compose := func(programs ...string) ([]string, error) {
		image := manifest.ContainerImage{Name: "web", Module: &manifest.Module{Pos: at}, Paths: []manifest.ImagePath{{Path: "/opt/web", Link: "../usr/lib/web"}}}
		for _, p := range programs {
			image.Module.Programs = append(image.Module.Programs, manifest.Program{Path: p, Pos: at})
		}
		composed, err := Compose(Config{Image: image, Packages: []merge.Package{web(t)}, Programs: programs})
		if err != nil {
			return nil, err
		}
		return composed.Programs, nil
	}
	got, err := compose("/sbin/tool", "/lib/one", "/opt/web/two", "/new/three")
	if want := []string{"/usr/sbin/tool", "/usr/lib/one", "/usr/lib/web/two", "/new/three"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("programs are at %q, %v; want %q", got, err, want)
	}
	for want, programs := range map[string][]string{
		"/sbin/web: package web has a file there":                          {"/sbin/web"},
		"/usr/sbin/a: another program is there by a link":                  {"/sbin/a", "/usr/sbin/a"},
		"/usr/sbin/web/a: /usr/sbin/web above it is a file of package web": {"/usr/sbin/web/a"},
		"/opt/web: versions file has a symlink there":                      {"/opt/web"},
		"/var/log/web: package web has a dir there":                        {"/var/log/web"},
	} {
		want = "versions.yaml:9:3: images.web.module.programs: " + want + " (choose another path)"
		if _, err := compose(programs...); err == nil || err.Error() != want {
			t.Errorf("%q: Compose: %v\nwant %s", programs, err, want)
		}
	}
}

// TestComposeAccounts has a package that declares a user: it is there beside those that
// every Debian has, unless nothing lists these.
func TestComposeAccounts(t *testing.T) {
	service := pkg(t, "service", "", "usr/lib/sysusers.d/service.conf", "u service - \"A service\" /var/lib/service\nm service adm\n")
	files := func(packages ...merge.Package) *tree.Tree {
		t.Helper()
		composed, err := Compose(Config{Image: manifest.ContainerImage{Name: "web"}, Packages: packages})
		if err != nil {
			t.Fatal(err)
		}
		return composed.Tree
	}
	with := files(passwd(t), service)
	for p, want := range map[string]string{
		"etc/passwd": "root:*:0:0:root:/root:/bin/bash\nservice:!*:998:998:A service:/var/lib/service:/usr/sbin/nologin\n",
		"etc/group":  "root:*:0:\nadm:!*:999:service\nservice:!*:998:\n",
	} {
		if got := treetest.Text(t, with, p); got != want {
			t.Errorf("/%s = %q; want %q", p, got, want)
		}
	}
	if e := files(service).Lookup("etc/passwd"); e != nil {
		t.Error("/etc/passwd is there without base-passwd")
	}
	own := pkg(t, "own", "", "etc/passwd", "root::0:0::/:\n")
	if got, want := treetest.Text(t, files(passwd(t), own), "etc/passwd"), "root::0:0::/:\n"; got != want {
		t.Errorf("/etc/passwd of a package = %q; want %q", got, want)
	}
}

// TestComposeStarts has programs that are there.
func TestComposeStarts(t *testing.T) {
	for name, image := range map[string]manifest.ContainerImage{
		"by its name":         {Command: []string{"web"}},
		"by a link":           {Entrypoint: []string{"/sbin/web"}},
		"of the module":       {Entrypoint: []string{"/tool"}},
		"an argument for one": {Module: &manifest.Module{}, Command: []string{"-v"}},
		"none":                {},
	} {
		if _, err := Compose(Config{Image: image, Packages: []merge.Package{web(t)}, Programs: []string{"/tool"}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// device is a package with a character device.
func device(t *testing.T) merge.Package {
	t.Helper()
	p := pkg(t, "evil", "", "dev/mem", "")
	i := slices.IndexFunc(p.Pack.Entries, func(e tree.Entry) bool { return e.Path == "dev/mem" })
	p.Pack.Entries[i] = tree.Entry{Path: "dev/mem", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 1}
	return p
}

// TestRemove takes away each name of a file with three, in every order: the others
// have its content.
func TestRemove(t *testing.T) {
	names := []string{"usr/lib/web/conf", "usr/share/doc/web/README", "usr/share/doc/web/examples"}
	for _, first := range names {
		for _, second := range names {
			l, err := merge.New([]merge.Package{web(t)}, owner, nil)
			if err == nil {
				err = l.AddPackages(nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			l.Remove(first)
			l.Remove(second)
			l.AddParents()
			if _, err := tree.New(slices.Collect(maps.Values(l.Entries))); err != nil {
				t.Fatalf("without %s and %s: %v", first, second, err)
			}
			for _, name := range names {
				e, err := l.Resolve(name)
				if gone := name == first || name == second; gone != (err != nil) {
					t.Errorf("without %s and %s, %s: %v", first, second, name, err)
				} else if !gone && strings.TrimSpace(string(treetest.Content(t, &e))) != "read me" {
					t.Errorf("without %s and %s, %s has another content", first, second, name)
				}
			}
		}
	}
}
