package rootfs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// debSpec is a package as pkg takes it, that can be made a real one as well.
type debSpec struct {
	name, fields string
	files        []string
}

// TestLinksAsDpkg compares what becomes of files with several names, and of those
// below links, with what dpkg makes of the same packages.
func TestLinksAsDpkg(t *testing.T) {
	git := debSpec{"git", "", []string{"usr/", "", "usr/bin/", "", "usr/bin/git", "old", "usr/bin/git-a", "=> usr/bin/git", "usr/bin/git-b", "=> usr/bin/git"}}
	link := debSpec{"alink", "", []string{"opt/", "", "opt/data/", "", "opt/x", "-> data", "opt/data/one", "1"}}
	below := debSpec{"below", "", []string{"opt/", "", "opt/x/", "", "opt/x/two", "2", "opt/x/three", "=> opt/x/two"}}
	for _, test := range []struct {
		name       string
		configure  string // of package zz
		packages   []debSpec
		diversions string   // the same for dpkg
		override   []string // the same for dpkg-statoverride
		aliased    bool     // dpkg does not see that two packages have one file
		want       []string
	}{
		{name: "the file is replaced",
			packages: []debSpec{git, {"zz", "Replaces: git\n", []string{"usr/", "", "usr/bin/", "", "usr/bin/git", "new"}}},
			want:     []string{"/usr/bin/git-a /usr/bin/git-b: old 0644", "/usr/bin/git: new 0644"}},
		{name: "a link is replaced",
			packages: []debSpec{git, {"zz", "Replaces: git\n", []string{"usr/", "", "usr/bin/", "", "usr/bin/git-a", "new"}}},
			want:     []string{"/usr/bin/git /usr/bin/git-b: old 0644", "/usr/bin/git-a: new 0644"}},
		{name: "the file and a link are replaced",
			packages: []debSpec{git, {"zz", "Replaces: git\n", []string{"usr/", "", "usr/bin/", "", "usr/bin/git", "new", "usr/bin/git-a", "=> usr/bin/git"}}},
			want:     []string{"/usr/bin/git /usr/bin/git-a: new 0644", "/usr/bin/git-b: old 0644"}},
		{name: "the file is diverted",
			configure:  "zz:\n  diversions:\n  - {path: /usr/bin/git, to: /usr/bin/git.distrib}\n",
			diversions: "/usr/bin/git\n/usr/bin/git.distrib\nzz\n",
			packages:   []debSpec{git, {"zz", "", []string{"usr/", "", "usr/bin/", "", "usr/bin/git", "new"}}},
			want:       []string{"/usr/bin/git-a /usr/bin/git-b /usr/bin/git.distrib: old 0644", "/usr/bin/git: new 0644"}},
		{name: "a link is diverted",
			configure:  "zz:\n  diversions:\n  - {path: /usr/bin/git-a, to: /usr/bin/git.distrib}\n",
			diversions: "/usr/bin/git-a\n/usr/bin/git.distrib\nzz\n",
			packages:   []debSpec{git, {"zz", "", []string{"usr/", "", "usr/bin/", "", "usr/bin/git-a", "new"}}},
			want:       []string{"/usr/bin/git /usr/bin/git-b /usr/bin/git.distrib: old 0644", "/usr/bin/git-a: new 0644"}},
		{name: "the file has an override",
			configure: "zz:\n  overrides:\n  - {path: /usr/bin/git, mode: 2750}\n",
			override:  []string{"root", "root", "2750", "/usr/bin/git"},
			packages:  []debSpec{git, {"zz", "", nil}},
			want:      []string{"/usr/bin/git /usr/bin/git-a /usr/bin/git-b: old 2750"}},
		{name: "files below a link", packages: []debSpec{link, below},
			want: []string{"/opt/data/one: 1 0644", "/opt/data/three /opt/data/two: 2 0644", "/opt/x -> data"}},
		{name: "the same file below a link and at its target", aliased: true, packages: []debSpec{link, below, {"zz", "Replaces: below\n", []string{"opt/", "", "opt/data/", "", "opt/data/two", "new"}}},
			want: []string{"/opt/data/one: 1 0644", "/opt/data/three: 2 0644", "/opt/data/two: new 0644", "/opt/x -> data"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var packages []merge.Package
			for _, p := range test.packages {
				packages = append(packages, pkg(t, p.name, p.fields, p.files...))
			}
			root, err := Compose(config(t, map[string]string{"configure.yaml": "base-files: {}\n" + test.configure}, packages...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, namesIn(t, root)); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			need.Program(t, "dpkg-deb", "dpkg")
			dir := dpkgInstall(t, test.packages, test.diversions)
			if test.override != nil {
				if os.Geteuid() != 0 {
					t.Skip("only root can have dpkg-statoverride change an owner")
				}
				dpkg(t, append([]string{"dpkg-statoverride", "--root=" + dir, "--update", "--add"}, test.override...)...)
			}
			if diff := cmp.Diff(test.want, namesBelow(t, dir)); diff != "" {
				t.Errorf("names by dpkg (-want +got):\n%s", diff)
			}
			for _, p := range test.packages {
				if test.aliased {
					continue
				}
				list := "var/lib/dpkg/info/" + p.name + ".list"
				want := filetest.Read(t, filepath.Join(dir, list))
				if diff := cmp.Diff(sortLines(string(want)), sortLines(treetest.Text(t, root, list))); diff != "" {
					t.Errorf("/%s (-dpkg +ours):\n%s", list, diff)
				}
			}
		})
	}
}

// dpkgInstall has dpkg install packages into a new root, one after the other.
func dpkgInstall(t *testing.T, packages []debSpec, diversions string) string {
	t.Helper()
	dir := t.TempDir()
	install := []string{"dpkg", "--root=" + dir, "--force-not-root,bad-path,unsafe-io", "--log=/dev/null", "--install"}
	filetest.Write(t, filepath.Join(dir, "var/lib/dpkg/status"), "")
	filetest.Write(t, filepath.Join(dir, "var/lib/dpkg/diversions"), diversions)
	for _, sub := range []string{"info", "updates"} {
		filetest.Mkdir(t, filepath.Join(dir, "var/lib/dpkg", sub))
	}
	for _, p := range packages {
		built := filepath.Join(t.TempDir(), p.name)
		filetest.Write(t, filepath.Join(built, "DEBIAN/control"), "Package: "+p.name+"\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n"+p.fields)
		for i := 0; i+1 < len(p.files); i += 2 {
			file, text := filepath.Join(built, p.files[i]), p.files[i+1]
			var err error
			if strings.HasSuffix(p.files[i], "/") {
				err = os.MkdirAll(file, 0o755)
			} else if to, ok := strings.CutPrefix(text, "-> "); ok {
				err = os.Symlink(to, file)
			} else if to, ok := strings.CutPrefix(text, "=> "); ok {
				err = os.Link(filepath.Join(built, to), file)
			} else {
				filetest.Write(t, file, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		dpkg(t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", built)
		install = append(install, built+".deb")
	}
	dpkg(t, install...)
	return dir
}

func dpkg(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// namesIn says for each file below /usr/bin and /opt what it is, with all its names.
func namesIn(t *testing.T, root *tree.Tree) []string {
	t.Helper()
	names := map[string][]string{}
	var out []string
	for _, e := range root.Entries {
		file := e.Path
		switch {
		case !strings.HasPrefix(e.Path, "usr/bin/") && !strings.HasPrefix(e.Path, "opt/") || e.Type == tree.Dir:
			continue
		case e.Type == tree.Symlink:
			out = append(out, "/"+e.Path+" -> "+e.Link)
			continue
		case e.Type == tree.Hardlink:
			file = e.Link
		}
		names[file] = append(names[file], "/"+e.Path)
	}
	for file, all := range names {
		out = append(out, describeNames(all, treetest.Text(t, root, file), root.Lookup(file).Perm))
	}
	slices.Sort(out)
	return out
}

// namesBelow says the same of a directory.
func namesBelow(t *testing.T, dir string) []string {
	t.Helper()
	type file struct {
		names []string
		perm  uint16
		path  string
	}
	files := map[uint64]*file{}
	var out []string
	for _, top := range []string{"usr/bin", "opt"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if os.IsNotExist(err) {
					return nil
				}
				return err
			}
			name := strings.TrimPrefix(p, dir)
			if d.Type() == fs.ModeSymlink {
				to, err := os.Readlink(p)
				out = append(out, name+" -> "+to)
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			stat := info.Sys().(*syscall.Stat_t)
			f := files[stat.Ino]
			if f == nil {
				f = &file{perm: uint16(stat.Mode & 0o7777), path: p}
				files[stat.Ino] = f
			}
			f.names = append(f.names, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range slices.Collect(maps.Values(files)) {
		text := filetest.Read(t, f.path)
		out = append(out, describeNames(f.names, string(text), f.perm))
	}
	slices.Sort(out)
	return out
}

func describeNames(names []string, content string, perm uint16) string {
	slices.Sort(names)
	return fmt.Sprintf("%s: %s %04o", strings.Join(names, " "), content, perm)
}
