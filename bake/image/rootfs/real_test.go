package rootfs_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/rootfs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
)

// unpackWithDpkg makes a pack of a .deb by dpkg-deb.
func unpackWithDpkg(t *testing.T, file string) rootfs.Package {
	t.Helper()
	var buf bytes.Buffer
	w := tree.NewPackWriter(&buf)
	read := func(prefix, option string) {
		out, err := exec.Command("dpkg-deb", option, file).Output()
		if err != nil {
			t.Fatalf("dpkg-deb %s %s: %v", option, file, err)
		}
		r := tar.NewReader(bytes.NewReader(out))
		for {
			h, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e := tree.Entry{Path: path.Clean(prefix + h.Name), Perm: uint16(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix(), Size: h.Size}
			switch h.Typeflag {
			case tar.TypeReg:
				e.Type = tree.File
			case tar.TypeDir:
				e.Type = tree.Dir
				if prefix != "" {
					continue
				}
			case tar.TypeSymlink:
				e.Type, e.Link, e.Perm = tree.Symlink, h.Linkname, 0o777
			case tar.TypeLink:
				e.Type, e.Link = tree.Hardlink, path.Clean(h.Linkname)
			default:
				t.Fatalf("%s: type %c", h.Name, h.Typeflag)
			}
			if err := w.Add(e, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	read("DEBIAN/", "--ctrl-tarfile")
	read("", "--fsys-tarfile")
	pack, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	pack.Bind(file, "", bytes.NewReader(buf.Bytes()))
	fields := strings.Fields(string(must(exec.Command("dpkg-deb", "-W", "--showformat", "${Package} ${Version} ${Architecture}", file).Output())))
	return rootfs.Package{LockedPackage: manifest.LockedPackage{Name: fields[0], Version: fields[1], Arch: fields[2]}, Pack: pack}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestReal(t *testing.T) {
	dir := os.Getenv("BAKE_TEST_DEBS")
	if dir == "" {
		t.Skip("no debs")
	}
	d, err := manifest.ParseDefinition(worker.FS())
	if err != nil {
		t.Fatal(err)
	}
	c := rootfs.Config{
		Arch: manifest.AMD64, Suite: "trixie", Definition: d, Units: units.FS(), ImageID: "k8s-worker", ImageVersion: "v1.36.3", Epoch: 1_763_800_000,
	}
	refs, err := d.PackagesFor(c.Arch, c.Suite)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refs {
		c.Requested = append(c.Requested, r.Name)
	}
	files, _ := filepath.Glob(dir + "/*.deb")
	for _, f := range files {
		c.Packages = append(c.Packages, unpackWithDpkg(t, f))
	}
	for _, p := range []string{"bin/containerd", "usr/local/bin/kubelet", "usr/local/bin/kube-proxy", rootfs.FirstbootPath} {
		c.Extra = append(c.Extra, tree.Entry{Path: p, Type: tree.File, Perm: 0o755})
	}
	root, err := rootfs.Compose(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries", len(root.Entries))
	if out := os.Getenv("BAKE_TEST_OUT"); out != "" {
		if err := write(out, root); err != nil {
			t.Fatal(err)
		}
	}
}

// write puts a tree into a directory, owners included.
func write(dir string, root *tree.Tree) error {
	for _, e := range root.Entries {
		p := filepath.Join(dir, e.Path)
		switch e.Type {
		case tree.Dir:
			if err := os.MkdirAll(p, 0o755); err != nil {
				return err
			}
		case tree.File:
			f, err := os.Create(p)
			if err != nil {
				return err
			}
			if _, err := io.Copy(f, e.Content()); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		case tree.Symlink:
			if err := os.Symlink(e.Link, p); err != nil {
				return err
			}
		case tree.Hardlink:
			continue
		default:
			return fmt.Errorf("%s: type %s", e.Path, e.Type)
		}
		if err := os.Lchown(p, int(e.UID), int(e.GID)); err != nil {
			return err
		}
		if e.Type == tree.Symlink {
			continue
		}
		mode := os.FileMode(e.Perm & 0o777)
		for bit, m := range map[uint16]os.FileMode{tree.SetUID: os.ModeSetuid, tree.SetGID: os.ModeSetgid, tree.Sticky: os.ModeSticky} {
			if e.Perm&bit != 0 {
				mode |= m
			}
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
	}
	for _, e := range root.Entries {
		if e.Type == tree.Hardlink {
			if err := os.Link(filepath.Join(dir, e.Link), filepath.Join(dir, e.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}
