//go:build system

// Package rootfs_test composes the worker's root from real packages, as the
// host's Debian mirrors have them today, and shows it to Debian's own programs.
// The tests share bake's cache, so that a package is fetched and unpacked once.
package rootfs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/rootfs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/deb"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
	"github.com/nodebake/bake/units"
)

// testEpoch is any time later than that of the packages.
const testEpoch = 1_800_000_000

// closure is the worker's packages of one suite.
type closure struct {
	config rootfs.Config
	files  map[string]string // .deb files by package
	err    error
}

var (
	trixie   = sync.OnceValue(func() closure { return fetchClosure("trixie") })
	bookworm = sync.OnceValue(func() closure { return fetchClosure("bookworm") })
)

var errNoMirrors = errors.New("the host's apt configuration has no Debian mirror")

// worker returns what to compose the worker's root of.
func workerClosure(t *testing.T, get func() closure) closure {
	t.Helper()
	c := get()
	switch {
	case errors.Is(c.err, errNoMirrors):
		need.Missing(t, "%v", c.err)
	case c.err != nil:
		t.Fatal(c.err)
	}
	return c
}

func fetchClosure(suite string) (c closure) {
	c.err = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		d, err := manifest.ParseDefinition("", worker.FS())
		if err != nil {
			return err
		}
		mirrors, err := debian.Mirrors(nil, os.DirFS("/"))
		if err != nil {
			return err
		}
		if _, err := mirrors.URLs("debian", ""); err != nil {
			return fmt.Errorf("%w: %w", errNoMirrors, err)
		}
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		s, err := store.Open(filepath.Join(cache, "bake"))
		if err != nil {
			return err
		}
		fetcher, err := fetch.New(fetch.Config{Store: s, Proxy: http.ProxyFromEnvironment})
		if err != nil {
			return err
		}
		refs, err := d.PackagesFor(arch.AMD64, suite)
		if err != nil {
			return err
		}
		locked, err := debian.Resolve(ctx, debian.Config{
			Suite: suite, Arch: arch.AMD64, Packages: refs, Mirrors: mirrors, Getter: fetcher, Now: time.Now(),
		})
		if err != nil {
			return err
		}
		requests, err := debian.Requests(mirrors, locked.Packages, false)
		if err != nil {
			return err
		}
		if err := fetcher.Fetch(ctx, requests); err != nil {
			return err
		}
		c.files = map[string]string{}
		c.config = rootfs.Config{
			Arch: arch.AMD64, Suite: suite, Definition: d, Units: units.FS(),
			ImageID: "k8s-worker", ImageVersion: "v1.36.3", Epoch: testEpoch,
			Derive: func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error) {
				return s.Pack(context.Background(), "derived "+key, "derived "+key, func(_ context.Context, w *tree.PackWriter) error { return make(w) })
			},
		}
		for _, r := range refs {
			c.config.Requested = append(c.config.Requested, r.Name)
		}
		for _, p := range locked.Packages {
			file, ok := s.Path(p.SHA256)
			if !ok {
				return fmt.Errorf("%s was not fetched", p.Name)
			}
			pack, err := s.Pack(ctx, debian.PackKey(p.SHA256), p.Name, func(_ context.Context, w *tree.PackWriter) error {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = deb.Unpack(f, p.Size, w)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			c.files[p.Name] = file
			c.config.Packages = append(c.config.Packages, merge.Package{LockedPackage: p, Pack: pack})
		}
		for _, program := range []string{"bin/containerd", "usr/local/bin/kubelet", "usr/local/bin/kube-proxy", record.FirstbootPath} {
			text := "#!/bin/true\n"
			c.config.Extra = append(c.config.Extra, tree.Entry{
				Path: program, Type: tree.File, Perm: 0o755, Size: int64(len(text)), Blob: tree.Bytes(program, []byte(text)), Owner: "test",
			})
		}
		return nil
	}()
	return c
}

// run returns what a program prints, and fails the test where it fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestWorker has Debian's programs check the worker's root.
func TestWorker(t *testing.T) {
	t.Run("trixie", func(t *testing.T) { testWorker(t, workerClosure(t, trixie)) })
	t.Run("bookworm", func(t *testing.T) { testWorker(t, workerClosure(t, bookworm)) })
}

func testWorker(t *testing.T, c closure) {
	need.Root(t, "make files of other owners and change its root")
	need.Program(t, "dpkg", "dpkg")
	need.Program(t, "systemctl", "systemd")
	start := time.Now()
	root, err := rootfs.Compose(c.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("composed %d entries of %d packages in %v", len(root.Entries), len(c.config.Packages), time.Since(start))
	again, err := rootfs.Compose(c.config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(facts(root), facts(again)); diff != "" {
		t.Errorf("composed twice, the trees differ:\n%s", diff)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if e := root.Lookup(link); e == nil || e.Link != "usr/"+link {
			t.Errorf("/%s is not a link to usr/%s", link, link)
		}
	}
	dir := t.TempDir()
	if err := write(dir, root); err != nil {
		t.Fatal(err)
	}

	t.Run("dpkg --audit", func(t *testing.T) {
		if out := run(t, "dpkg", "--root="+dir, "--audit"); out != "" {
			t.Errorf("found:\n%s", out)
		}
	})
	t.Run("dpkg --verify", func(t *testing.T) {
		want := "??5?????? c /etc/nftables.conf\n??5?????? c /etc/default/instance_configs.cfg\n"
		if got := run(t, "dpkg", "--root="+dir, "--verify"); got != want {
			t.Errorf("dpkg --verify prints\n%s\nwant\n%s", got, want)
		}
		filetest.Script(t, filepath.Join(dir, "usr/bin/less"), "changed")
		if got := run(t, "dpkg", "--root="+dir, "--verify", "less"); !strings.Contains(got, "/usr/bin/less") {
			t.Errorf("dpkg --verify does not see a changed file: %q", got)
		}
	})
	t.Run("apt-get check", func(t *testing.T) { run(t, "chroot", dir, "apt-get", "check") })
	t.Run("apt-mark", func(t *testing.T) {
		for name := range strings.FieldsSeq(run(t, "chroot", dir, "apt-mark", "showmanual")) {
			essential := !strings.Contains(strings.Join(c.config.Requested, "\n"), name)
			if essential && !strings.Contains(run(t, "dpkg-query", "--root="+dir, "-W", "-f", "${Essential}", name), "yes") {
				t.Errorf("%s counts as asked for by somebody", name)
			}
		}
	})
	t.Run("sshd", func(t *testing.T) {
		key := filepath.Join(dir, "etc/ssh/ssh_host_ed25519_key")
		run(t, "chroot", dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key")
		filetest.Mkdir(t, filepath.Join(dir, "run/sshd"))
		settings := run(t, "chroot", dir, "/usr/sbin/sshd", "-T")
		for _, want := range []string{"permitrootlogin without-password", "passwordauthentication no", "kbdinteractiveauthentication no"} {
			if !strings.Contains(settings, want+"\n") {
				t.Errorf("sshd -T lacks %q", want)
			}
		}
		os.Remove(key)
	})
	t.Run("chronyd", func(t *testing.T) {
		if got := run(t, "chroot", dir, "chronyd", "-p"); !strings.Contains(got, "server metadata.google.internal") {
			t.Errorf("chronyd -p prints\n%s", got)
		}
	})
	t.Run("systemctl", func(t *testing.T) {
		for _, u := range c.config.Definition.Units.Enable {
			if got := strings.TrimSpace(run(t, "systemctl", "--root="+dir, "is-enabled", u.Name)); got != "enabled" {
				t.Errorf("systemctl is-enabled %s = %s; want enabled", u.Name, got)
			}
		}
	})
	// The host's systemd may be older than the image's: the image checks itself.
	t.Run("systemd-analyze verify", func(t *testing.T) {
		ours := must.Get(filepath.Glob(filepath.Join(dir, "etc/systemd/system/*.service")))
		for _, file := range ours {
			if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if out := analyze(t, dir, strings.TrimPrefix(file, dir)); out != "" {
				t.Errorf("%s:\n%s", filepath.Base(file), out)
			}
		}
		broken := filepath.Join(dir, "etc/systemd/system/broken.service")
		filetest.Write(t, broken, "[Service]\nExecStart=/no/such/program\nTypo=yes\n")
		if out := analyze(t, dir, "/etc/systemd/system/broken.service"); !strings.Contains(out, "Typo") {
			t.Errorf("systemd-analyze verify takes a broken unit: %q", out)
		}
	})
	t.Run("depmod", func(t *testing.T) { testDepmod(t, dir, root, c.config.Suite) })
	t.Run("certificates", func(t *testing.T) {
		out := run(t, "chroot", dir, "openssl", "rehash", "-n", "-v", "/etc/ssl/certs")
		for line := range strings.Lines(out) {
			// link NAME.pem -> 0179095f.0
			words := strings.Fields(line)
			if len(words) != 4 || words[0] != "link" {
				continue
			}
			if e := root.Lookup("etc/ssl/certs/" + words[3]); e == nil || e.Link != words[1] {
				t.Errorf("openssl would make %s; the image has %v", strings.TrimSpace(line), e)
			}
		}
		if n := strings.Count(out, "link "); n < 100 {
			t.Errorf("openssl rehash names %d certificates; want more than a hundred:\n%s", n, out)
		}
	})
	t.Run("accounts", func(t *testing.T) {
		for _, file := range []string{"passwd", "group"} {
			run(t, "chroot", dir, "sh", "-c", map[string]string{"passwd": "pwck -rq", "group": "grpck -r"}[file]+" || test $? = 2")
		}
		if out := run(t, "chroot", dir, "getent", "shadow", "root"); !strings.HasPrefix(out, "root:*:") {
			t.Errorf("root's password: %q", out)
		}
	})
	// Last, since it changes the root: apt's own way to repair a system runs
	// every maintainer script on it.
	if c.config.Suite != "trixie" {
		return
	}
	t.Run("base-files again", func(t *testing.T) { reinstallBaseFiles(t, c, dir) })
	t.Run("reinstall", func(t *testing.T) {
		debs := filepath.Join(dir, "debs")
		filetest.Mkdir(t, debs)
		for name, file := range c.files {
			content := filetest.Read(t, file)
			filetest.Write(t, filepath.Join(debs, name+".deb"), content)
		}
		run(t, "chroot", dir, "sh", "-c", "exec apt-get install --reinstall -y --allow-downgrades -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io -o APT::Sandbox::User=root /debs/*.deb </dev/null")
		if out := run(t, "dpkg", "--root="+dir, "--audit"); out != "" {
			t.Errorf("dpkg --audit found:\n%s", out)
		}
		for _, u := range c.config.Definition.Units.Mask {
			if _, err := os.Readlink(filepath.Join(dir, "etc/systemd/system", u.Name)); err != nil && !strings.HasSuffix(u.Name, "-generator") {
				t.Errorf("%s is no longer masked", u.Name)
			}
		}
	})
}

// reinstallBaseFiles has apt install base-files over itself: the image keeps its
// name, and os-release of Debian its content.
func reinstallBaseFiles(t *testing.T, c closure, dir string) {
	text := func(p string) string {
		t.Helper()
		data := filetest.Read(t, filepath.Join(dir, p))
		return string(data)
	}
	ours, debians := text("etc/os-release"), text("usr/lib/os-release")
	if want := debians + "IMAGE_ID=" + c.config.ImageID + "\nIMAGE_VERSION=" + c.config.ImageVersion + "\n"; ours != want {
		t.Errorf("/etc/os-release is\n%s\nwant\n%s", ours, want)
	}
	if got, want := run(t, "dpkg-divert", "--root="+dir, "--list", "/etc/os-release"), "local diversion of /etc/os-release to /etc/os-release.distrib\n"; got != want {
		t.Errorf("dpkg-divert --list prints %q; want %q", got, want)
	}
	deb, err := os.ReadFile(c.files["base-files"])
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "base-files.deb"), deb, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Join(dir, "base-files.deb"))
	run(t, "chroot", dir, "sh", "-c", "exec apt-get install --reinstall -y -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io -o APT::Sandbox::User=root /base-files.deb </dev/null")
	if got := text("etc/os-release"); got != ours {
		t.Errorf("after apt-get install --reinstall base-files, /etc/os-release is\n%s\nwant\n%s", got, ours)
	}
	if got := text("usr/lib/os-release"); got != debians {
		t.Errorf("after apt-get install --reinstall base-files, /usr/lib/os-release is\n%s\nwant\n%s", got, debians)
	}
	if got := run(t, "dpkg", "--root="+dir, "--verify", "base-files"); got != "" {
		t.Errorf("dpkg --verify base-files prints\n%s", got)
	}
}

// testDepmod has the image's own depmod write its files again.
func testDepmod(t *testing.T, dir string, root *tree.Tree, suite string) {
	made := map[string]tree.Digest{}
	version := ""
	for _, e := range root.Entries {
		if e.Owner == "depmod" {
			made[filepath.Base(e.Path)] = e.SHA256
			version = filepath.Base(filepath.Dir(e.Path))
			if err := os.Remove(filepath.Join(dir, e.Path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(made) < 10 {
		t.Fatalf("the image has %d files of depmod's: %v", len(made), made)
	}
	run(t, "chroot", dir, "depmod", version)
	for name, want := range made {
		content, err := os.ReadFile(filepath.Join(dir, "usr/lib/modules", version, name))
		if err != nil {
			t.Error(err)
			continue
		}
		// Before kmod 34 indexes have their nodes in another order.
		if strings.HasSuffix(name, ".bin") && suite == "bookworm" {
			continue
		}
		if got := tree.Digest(sha256.Sum256(content)); got != want {
			t.Errorf("%s differs from what depmod writes", name)
		}
	}
}

// analyze returns what systemd-analyze says about a unit of the root itself.
func analyze(t *testing.T, dir, unit string) string {
	t.Helper()
	command := exec.Command("chroot", dir, "systemd-analyze", "--man=no", "--recursive-errors=no", "verify", unit)
	out, _ := command.CombinedOutput()
	return string(out)
}

// write puts a tree into a directory, owners included.
func write(dir string, root *tree.Tree) error {
	var errs []error
	for _, e := range root.Entries {
		errs = append(errs, writeEntry(filepath.Join(dir, e.Path), e))
	}
	for _, e := range root.Entries {
		if e.Type == tree.Hardlink {
			errs = append(errs, os.Link(filepath.Join(dir, e.Link), filepath.Join(dir, e.Path)))
		}
	}
	return errors.Join(errs...)
}

func writeEntry(file string, e tree.Entry) error {
	switch e.Type {
	case tree.Dir:
		if err := os.MkdirAll(file, 0o755); err != nil {
			return err
		}
	case tree.File:
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, e.Content())
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	case tree.Symlink:
		return errors.Join(os.Symlink(e.Link, file), os.Lchown(file, int(e.UID), int(e.GID)))
	case tree.Hardlink:
		return nil
	default:
		return fmt.Errorf("%s: type %s", e.Path, e.Type)
	}
	if err := os.Lchown(file, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	return os.Chmod(file, fileMode(e.Perm))
}

func fileMode(perm uint16) os.FileMode {
	mode := os.FileMode(perm & 0o777)
	for bit, m := range map[uint16]os.FileMode{tree.SetUID: os.ModeSetuid, tree.SetGID: os.ModeSetgid, tree.Sticky: os.ModeSticky} {
		if perm&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// BenchmarkCompose composes from packages and derived content in the store.
func BenchmarkCompose(b *testing.B) {
	c := trixie()
	if c.err != nil {
		b.Skip(c.err)
	}
	for b.Loop() {
		if _, err := rootfs.Compose(c.config); err != nil {
			b.Fatal(err)
		}
	}
}
