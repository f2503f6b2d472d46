//go:build system

// Package smoke_test lays out the images of packages that the smoke test runs, of real
// packages, and starts them: what a pod of them must do, they do here.
package smoke_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/deb"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/layers"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// layout makes the files of an image of the set below a directory.
func layout(t *testing.T, name string) string {
	t.Helper()
	need.Root(t, "change its root")
	v := must.Get(manifest.ParseVersions("versions.yaml", filetest.Read(t, "versions.yaml")))
	lock := must.Get(manifest.ParseLock("versions.lock", filetest.Read(t, "versions.lock")))
	mirrors := must.Get(debian.Mirrors(nil, os.DirFS("/")))
	if _, err := mirrors.URLs("debian", ""); err != nil {
		need.Missing(t, "%v", err)
	}
	s := must.Get(store.Open(filepath.Join(must.Get(os.UserCacheDir()), "bake")))
	t.Cleanup(func() { s.Close() })
	fetcher := must.Get(fetch.New(fetch.Config{Store: s, Proxy: http.ProxyFromEnvironment}))
	locked := lock.Archs[arch.AMD64].Images[name]
	if err := fetcher.Fetch(t.Context(), must.Get(debian.Requests(mirrors, locked, false))); err != nil {
		t.Fatal(err)
	}
	config := layers.Config{}
	for _, image := range v.Images {
		if image.Name == name {
			config.Image = image
		}
	}
	for _, p := range locked {
		file, ok := s.Path(p.SHA256)
		if !ok {
			t.Fatalf("%s was not fetched", p.Name)
		}
		pack, err := s.Pack(t.Context(), debian.PackKey(p.SHA256), p.Name, func(_ context.Context, w *tree.PackWriter) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = deb.Unpack(f, p.Size, w)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		config.Packages = append(config.Packages, merge.Package{LockedPackage: p, Pack: pack})
	}
	files, err := layers.Compose(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, e := range files.Tree.Entries {
		if err := write(filepath.Join(dir, e.Path), e); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range []string{"dev", "proc"} { // as a container has them
		filetest.Mkdir(t, filepath.Join(dir, mount))
	}
	return dir
}

// write makes one file. None of these images has hard links.
func write(file string, e tree.Entry) error {
	var err error
	switch e.Type {
	case tree.Dir:
		err = os.MkdirAll(file, 0o755)
	case tree.Symlink:
		return os.Symlink(e.Link, file)
	case tree.File:
		var f *os.File
		if f, err = os.Create(file); err == nil {
			_, err = io.Copy(f, e.Content())
			err = errors.Join(err, f.Close())
		}
	default:
		err = fmt.Errorf("%s is a %s", e.Path, e.Type)
	}
	mode := fs.FileMode(e.Perm & 0o777)
	if e.Perm&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return errors.Join(err, os.Lchown(file, int(e.UID), int(e.GID)), os.Chmod(file, mode))
}

// inside runs a script on a network and with mounts of its own. root DIR changes to
// the root of an image, with the environment that bake gives it.
func inside(t *testing.T, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script = `set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
for dir; do mount -t proc proc "$dir/proc"; mount --rbind /dev "$dir/dev"; done
root() { env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/chroot "$@"; }
` + script
	cmd := exec.CommandContext(ctx, need.Program(t, "unshare", "util-linux"), append([]string{"-n", "-m", "-p", "-f", "--kill-child", "sh", "-c", script, "sh"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestImages has the programs of the images do what bake smoke asks of them: nginx
// gives a page and logs to its standard output, and busybox serves, asks, and runs a
// CGI program that its shell runs.
func TestImages(t *testing.T) {
	nginx, busybox := layout(t, "nginx"), layout(t, "busybox")
	got := inside(t, `
root "$1" /usr/sbin/nginx -g 'daemon off;' &
root "$2" busybox sh -c 'set -e
busybox mkdir -p /tmp/www/cgi-bin
cd /tmp/www
printf "#!%s sh\\necho Content-Type: text/plain; echo; echo seen as \$REMOTE_ADDR\\n" "$(busybox readlink /proc/self/exe)" >cgi-bin/source
busybox chmod +x cgi-bin/source
busybox yes bake-smoke | busybox head -c 1048576 >mebibyte
exec busybox httpd -f -p 8080' &
for try in 1 2 3 4 5 6 7 8 9 10; do
	root "$2" busybox wget -q -O /dev/null http://127.0.0.1/ && root "$2" busybox wget -q -O /dev/null http://127.0.0.1:8080/mebibyte && break
	sleep 1
done 2>/dev/null
root "$1" nginx -v
root "$2" sh -c '
busybox timeout 8 busybox wget -q -O - http://127.0.0.1/
busybox wget -q -O - http://127.0.0.1:8080/cgi-bin/source
busybox wget -q -O - http://127.0.0.1:8080/mebibyte | busybox wc -c
busybox ip -4 route add 10.9.0.0/16 dev lo
busybox ip -4 route'
`, nginx, busybox)
	for _, want := range []string{
		"nginx version: nginx/1.26", "<h1>Welcome to nginx!</h1>", `"GET / HTTP/1.1" 200`, "seen as [::ffff:127.0.0.1]\n", "1048576\n", "10.9.0.0/16 dev lo",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in:\n%s", want, got)
		}
	}
}
