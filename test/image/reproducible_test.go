//go:build system

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/need"
)

// nobody is the user and group that bakes without privileges.
const nobody = 65534

// large are the components and container images whose builds are taken from the
// first store: each takes minutes. All others are built from scratch.
var large = map[string]bool{"kubelet": true, "kube-proxy": true, "kubectl": true, "containerd": true, "crictl": true, "coredns": true}

// TestAnotherUserBakesTheSameBytes bakes the image again as an unprivileged
// user, in another directory, into an empty store, with another time zone,
// locale, umask and number of processors, and expects the same digest.
func TestAnotherUserBakesTheSameBytes(t *testing.T) {
	need.Root(t, "become somebody else")
	s := theImage(t)
	versions, lock := usedInputs(t, s)

	dir, err := os.MkdirTemp("", "bake-again-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	if err := sh("cp %s %s/bake && cp -r %s %s/manifests && cp -r %s %s", filepath.Join(root, "bin/bake"), dir, filepath.Dir(versions), dir, filepath.Join(root, "images"), dir); err != nil {
		t.Fatal(err)
	}
	check(t, sh("cp %s %s/used.lock", lock, dir))
	home := filepath.Join(dir, "home")
	check(t, os.Mkdir(home, 0o755))
	cache := filepath.Join(home, "store")
	seedLarge(t, versions, lock, cache)
	check(t, sh("chown -R %d:%d %s", nobody, nobody, home))

	cmd := exec.Command("setpriv", fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups", "--no-new-privs",
		"bash", "-c", "umask 077; exec taskset 1 "+dir+"/bake image --quiet --json --build-missing --jobs 1 --versions "+
			dir+"/manifests/"+filepath.Base(versions)+" --lock "+dir+"/used.lock --cache "+cache+" --output "+home+"/out")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=Asia/Kathmandu", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8",
		"GOMAXPROCS=1", "GOPATH="+home+"/go", "GOMODCACHE="+home+"/mod", "GOCACHE="+home+"/build", "GOFLAGS=-modcacherw", "TMPDIR="+home)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("baking as user %d: %v\n%s", nobody, err, stderr.String())
	}
	var result struct {
		SHA256 manifest.Digest
		Path   string
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("decoding %q: %v", out, err)
	}
	if result.SHA256 != s.record.File.SHA256 {
		difference := run(t, filepath.Join(root, "bin/bake"), "inspect", s.archive, result.Path)
		t.Errorf("the image is %s; want %s; bake inspect says:\n%s", result.SHA256, s.record.File.SHA256, difference)
	}
}

// usedInputs returns the versions file and the lock that the image was made
// from: the committed lock, or the one that `make image` made.
func usedInputs(t *testing.T, s *subject) (versions, lock string) {
	t.Helper()
	versions = filepath.Join(root, "manifests", "versions.yaml")
	for _, lock := range []string{manifest.LockFile(versions), filepath.Join(filepath.Dir(s.archive), "versions.lock")} {
		data, err := os.ReadFile(lock)
		if err != nil {
			continue
		}
		l, err := manifest.ParseLock(lock, data)
		if err == nil && l.Sum == s.record.Inputs.Lock {
			return versions, lock
		}
	}
	t.Fatalf("no lock has the digest %s that %s was made from", s.record.Inputs.Lock, s.archive)
	return "", ""
}

// seedLarge copies the builds of what is large to a new store at to.
func seedLarge(t *testing.T, versionsFile, lockFile, to string) {
	t.Helper()
	ctx := context.Background()
	data, err := os.ReadFile(versionsFile)
	check(t, err)
	versions, err := manifest.ParseVersions(versionsFile, data)
	check(t, err)
	from, err := store.Open(cacheDir(t))
	check(t, err)
	defer from.Close()
	into, err := store.Open(to)
	check(t, err)
	defer into.Close()
	builder, err := gobuild.New(gobuild.Config{Packs: copier{from, into}, Dir: t.TempDir(), Env: os.Environ()})
	check(t, err)
	for _, target := range gobuild.Targets(versions) {
		if large[target.Name] {
			if _, _, err := builder.Build(ctx, target, arch.AMD64, os.DirFS(filepath.Dir(versionsFile))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// copier answers for packs by copying them from one store to another.
type copier struct{ from, to *store.Store }

func (c copier) HasPack(key string) bool { return c.from.HasPack(key) }

func (c copier) Pack(ctx context.Context, key, name string, _ func(context.Context, *tree.PackWriter) error) (*tree.Pack, error) {
	if !c.from.HasPack(key) {
		return nil, fmt.Errorf("the first store has no %s", name)
	}
	pack, err := c.from.Pack(ctx, key, name, nil)
	if err != nil {
		return nil, err
	}
	return c.to.Pack(ctx, key, name, func(_ context.Context, w *tree.PackWriter) error {
		for _, e := range pack.Entries {
			if err := w.Add(e, e.Content()); err != nil {
				return err
			}
		}
		return nil
	})
}

// cacheDir is the store that `make image` used.
func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("BAKE_TEST_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	check(t, err)
	return filepath.Join(dir, "bake")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
