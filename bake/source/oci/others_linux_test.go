package oci_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// TestOthersReadFiles has skopeo and umoci, which are not ours, read an image of files
// and programs. Unpacked, it is what it was made of: the layer of the programs leaves
// the directories below it as they are.
func TestOthersReadFiles(t *testing.T) {
	t.Parallel()
	skopeo, umoci := need.Program(t, "skopeo", "skopeo"), need.Program(t, "umoci", "umoci")
	need.Root(t, "unpack an image with the owners of its files")
	r := filesRecipe(t, program("/var/tool", []byte("the tool")), program("/usr/lib/new/tool", []byte("another")))
	// CAP_NET_BIND_SERVICE, permitted and effective (struct vfs_cap_data, linux/capability.h).
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	r.Files.Lookup("usr/lib/b").Xattrs["security.capability"] = []byte(capability)
	image := assemble(t, r)
	_, layer := asLayout(t, image)
	dir := filepath.Join(filepath.Dir(layer), "../..")
	index := filepath.Join(dir, "index.json")
	text := strings.Replace(string(filetest.Read(t, index)), `"size":`, `"annotations":{"org.opencontainers.image.ref.name":"x"},"size":`, 1)
	filetest.Write(t, index, []byte(text))
	out, err := exec.Command(skopeo, "inspect", "oci:"+dir+":x").CombinedOutput()
	if want := fmt.Sprintf("%q", image.Layers[1].Digest); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("skopeo inspect: %v; want a layer %s\n%s", err, want, out)
	}
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command(umoci, "unpack", "--image", dir+":x", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci unpack: %v\n%s", err, out)
	}
	var got []string
	root := filepath.Join(bundle, "rootfs")
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d", strings.TrimPrefix(p, root), info.Mode(), stat.Uid, stat.Gid)
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			line += " -> " + must.Get(os.Readlink(p))
		case 0:
			line += fmt.Sprintf(" %q %d names", filetest.Read(t, p), stat.Nlink)
		}
		if stat.Mtim.Sec != 0 {
			line += " not of 1970"
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"/lib Lrwxrwxrwx 0:0 -> usr/lib",
		"/usr drwxr-xr-x 0:0",
		"/usr/lib drwxr-xr-x 0:0",
		`/usr/lib/a urwxr-xr-x 0:0 "the file" 2 names`,
		`/usr/lib/b urwxr-xr-x 0:0 "the file" 2 names`,
		"/usr/lib/new drwxr-xr-x 0:0",
		`/usr/lib/new/tool -rwxr-xr-x 0:0 "another" 1 names`,
		"/var dtrwxrwx--- 33:34",
		`/var/tool -rwxr-xr-x 0:0 "the tool" 1 names`,
	}, got); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	value := make([]byte, 64)
	if n, err := unix.Getxattr(filepath.Join(root, "usr/lib/a"), "security.capability", value); err != nil || string(value[:n]) != capability {
		t.Errorf("the capability of /usr/lib/a is %x, %v; want %x", value[:max(n, 0)], err, capability)
	}
	// A layer that was cut short is none for them.
	filetest.Write(t, layer, filetest.Read(t, layer)[:1024])
	if out, err := exec.Command(umoci, "unpack", "--image", dir+":x", filepath.Join(t.TempDir(), "bundle")).CombinedOutput(); err == nil {
		t.Errorf("umoci takes a layer that was cut short:\n%s", out)
	}
}
