//go:build system

// Package gomod_test builds real components, and finds their modules, with
// downloads of hundreds of megabytes:
//
//	go test -tags system -v -timeout 1h ./test/gobuild -components runc,crictl
package gobuild_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

var (
	componentsFlag = flag.String("components", "crictl", "build these `components`, comma-separated, or \"all\"")
	versionsFlag   = flag.String("versions", "../../manifests/versions.yaml", "versions `file` of -components")
	storeFlag      = flag.String("store", "", "store `directory` of -components; empty: a new one")
	archFlag       = flag.String("arch", "amd64", "`architecture` of -components")
	coldFlag       = flag.Bool("cold", false, "with -components: use an empty build cache")
)

// TestComponents builds each of -components.
func TestComponents(t *testing.T) {
	dir := *storeFlag
	if dir == "" {
		dir = t.TempDir()
	}
	packs := must.Get(store.Open(dir))
	defer packs.Close()
	env := os.Environ()
	if *coldFlag {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	builder, err := gobuild.New(gobuild.Config{Packs: packs, Unpack: unpackDeb, Env: env, Dir: t.TempDir(), Progress: sink(t)})
	if err != nil {
		t.Fatal(err)
	}
	forComponents(t, func(t *testing.T, target gobuild.Target, modfiles fs.FS) {
		began := time.Now()
		pack, built, err := builder.Build(t.Context(), target, arch.Arch(*archFlag), modfiles)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s after %v\n%s", target.Name, time.Since(began).Round(time.Second/10), built.Key)
		for _, e := range pack.Entries {
			t.Logf("%s %9d %s", e.SHA256, e.Size, e.Path)
			if *archFlag == "amd64" && e.Perm&0o111 != 0 {
				showVersion(t, e)
			}
		}
	})
}

// forComponents runs test for each of -components.
func forComponents(t *testing.T, test func(t *testing.T, target gobuild.Target, modfiles fs.FS)) {
	data := filetest.Read(t, *versionsFlag)
	versions, err := manifest.ParseVersions(*versionsFlag, data)
	if err != nil {
		t.Fatal(err)
	}
	names, tested := strings.Split(*componentsFlag, ","), 0
	for _, c := range versions.Components {
		if c.Module == nil || *componentsFlag != "all" && !slices.Contains(names, c.Name) {
			continue
		}
		tested++
		t.Run(c.Name, func(t *testing.T) {
			target := gobuild.ForComponent(c)
			refs, err := c.ExtraPackages(arch.Arch(*archFlag))
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range refs {
				target.Packages = append(target.Packages, aptDeb(t, ref))
			}
			test(t, target, os.DirFS(filepath.Dir(*versionsFlag)))
		})
	}
	if *componentsFlag != "all" && tested != len(names) {
		t.Errorf("%s builds %d of the components %q", *versionsFlag, tested, names)
	}
}

// sink shows progress in the test's log.
func sink(t *testing.T) progress.Sink {
	d := progress.New(progress.Config{W: t.Output(), Now: time.Now})
	t.Cleanup(d.Close)
	return d
}

// showVersion runs the program of e and logs what it says of itself.
func showVersion(t *testing.T, e tree.Entry) {
	file := filepath.Join(t.TempDir(), filepath.Base(e.Path))
	content := filetest.ReadAll(t, e.Content())
	filetest.Script(t, file, string(content))
	args := []string{"--version"}
	if filepath.Base(file) == "kubectl" {
		args = []string{"version", "--client"}
	}
	cmd := exec.CommandContext(t.Context(), file, args...)
	cmd.Env = append(os.Environ(), "CNI_COMMAND=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s --version: %v\n%s", e.Path, err, out)
	}
	t.Logf("%s", strings.TrimSpace(string(out)))
}

// aptDeb stands in for the lock: it downloads a package with the host's apt.
func aptDeb(t *testing.T, ref manifest.PackageRef) manifest.LockedPackage {
	cmd := exec.Command("apt-get", "download", ref.Name+":"+*archFlag)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	found, _ := filepath.Glob(filepath.Join(cmd.Dir, ref.Name+"_*.deb"))
	if len(found) != 1 {
		t.Fatalf("%s left %q", cmd, found)
	}
	data := filetest.Read(t, found[0])
	part := strings.Split(strings.TrimSuffix(filepath.Base(found[0]), ".deb"), "_")
	return manifest.LockedPackage{
		Name: part[0], Version: part[1], Arch: part[2], Path: found[0],
		Size: int64(len(data)), SHA256: manifest.SHA256(sha256.Sum256(data)),
	}
}

// unpackDeb unpacks a package of aptDeb with dpkg-deb.
func unpackDeb(ctx context.Context, p manifest.LockedPackage) (*tree.Pack, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", p.Path)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pack, err := tarPack(p.Path+".blob", stdout)
	return pack, errors.Join(err, cmd.Wait())
}

func tarPack(blob string, r io.Reader) (*tree.Pack, error) {
	f, err := os.Create(blob)
	if err != nil {
		return nil, err
	}
	w := tree.NewPackWriter(f)
	types := map[byte]tree.Type{tar.TypeReg: tree.File, tar.TypeDir: tree.Dir, tar.TypeSymlink: tree.Symlink, tar.TypeLink: tree.Hardlink}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		e := tree.Entry{Path: filepath.Clean(h.Name), Type: types[h.Typeflag], Perm: uint16(h.Mode), Size: h.Size, Link: h.Linkname}
		if e.Type == tree.Hardlink {
			e.Link = filepath.Clean(e.Link)
		}
		if err := w.Add(e, tr); err != nil {
			return nil, err
		}
	}
	pack, err := w.Close()
	if err != nil {
		return nil, err
	}
	pack.Bind(filepath.Base(blob), "", f)
	return pack, nil
}
