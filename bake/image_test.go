package bake_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/ext4"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// nobody is a user without rights.
const nobody = 65534

// TestReproducible bakes in processes that differ in all that must not show.
func TestReproducible(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	open := func(mask int) *int { return &mask }
	for _, test := range []struct {
		name   string
		limits limits
		env    []string
		change func(*bake.Config)
	}{
		{"one job, a tight umask, far east", limits{Umask: open(0o077)}, []string{"TZ=Pacific/Kiritimati", "GOMAXPROCS=1"}, func(c *bake.Config) { c.Jobs = 1 }},
		{"many jobs, no umask, far west, another language", limits{Umask: open(0)}, []string{"TZ=Etc/GMT+12", "LC_ALL=tr_TR.UTF-8", "HOME=/nonexistent"}, func(c *bake.Config) { c.Jobs = 9 }},
		{"another user, relative paths", limits{UID: nobody}, nil, func(c *bake.Config) {
			allow(t, filepath.Dir(c.Out), 0o777)
			allow(t, w.Dir, 0o755)
			c.Versions = "versions.yaml"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.limits.UID > 0 && os.Getuid() != 0 {
				test.limits.UID = 0 // we are such a user
			}
			c := w.Config()
			test.change(&c)
			result, err := spawn(t.Context(), w, c, test.limits, test.env...)
			if err != nil {
				t.Fatal(err)
			}
			baketest.WantImage(t, c, result, want)
			for _, name := range filetest.Names(t, c.Out) {
				info := filetest.Stat(t, filepath.Join(c.Out, name))
				if info.Mode() != 0o644 {
					t.Errorf("%s has mode %v; want one that others can read", name, info.Mode())
				}
			}
		})
	}
}

// allow gives everybody the rights mode to dir, and to pass through what is
// above it.
func allow(t *testing.T, dir string, mode fs.FileMode) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir, mode = filepath.Dir(dir), 0o755 {
		must.Do(os.Chmod(dir, mode))
	}
}

// TestImageIsReadable reads an image back, layer by layer, and compares what it
// finds with what the record says and the world has.
func TestImageIsReadable(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	result := w.Image(c)
	rec := baketest.ReadRecord(t, c)

	f := filetest.Open(t, result.Path)
	r, err := archive.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Size(), int64(1<<30); got != want || rec.Disk.Size != want {
		t.Errorf("the disk has %d bytes, recorded are %d; want %d", got, rec.Disk.Size, want)
	}
	m := baketest.Open(t, result.Path)
	var partitions []record.Partition
	for _, p := range m.Table.Partitions {
		partitions = append(partitions, record.Partition{Name: p.Name, Type: p.Name, GUID: p.GUID.String(), Start: p.Start, Size: p.Length})
	}
	if diff := cmp.Diff(rec.Disk.Partitions, partitions); diff != "" || len(partitions) != 2 {
		t.Fatalf("partitions (-recorded +there):\n%s", diff)
	}
	checkESP(t, m.ESP.FS(), partitions[1].GUID)
	if err := m.Root.Verify(); err != nil {
		t.Error(err)
	}
	checkRoot(t, m, rec)
	if rec.Inputs.Lock != manifesttest.DigestFile(t, w.LockFile()) || rec.Inputs.Versions != manifesttest.DigestFile(t, w.Versions) {
		t.Errorf("inputs are %+v; want the digests of the files", rec.Inputs)
	}
}

func checkESP(t *testing.T, esp fs.FS, rootGUID string) {
	t.Helper()
	entry := "loader/entries/tiny-" + baketest.KernelVersion + ".conf"
	for name, want := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI": "shim",
		"EFI/BOOT/grubx64.efi": "systemd-boot",
		entry:                  "options    root=PARTUUID=" + rootGUID + " console=ttyS0,38400n8d panic=10\n",
		"tiny/" + baketest.KernelVersion + "/initrd.img": "virtio_scsi.ko\n",
	} {
		got, err := fs.ReadFile(esp, name)
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s on the ESP: %v, %d bytes; want %q in it", name, err, len(got), want)
		}
	}
}

func checkRoot(t *testing.T, m *inspect.Image, rec *record.Record) {
	t.Helper()
	var files []record.Entry
	err := m.Root.Walk(func(n *ext4.Element) error {
		one := record.Entries(&tree.Tree{Entries: []tree.Entry{n.Entry}})[0]
		one.SHA256 = ""
		if n.Type == tree.File {
			content, err := m.Root.Content(n)
			if err != nil {
				return err
			}
			h := sha256.New()
			if _, err := io.Copy(h, content); err != nil {
				return err
			}
			one.SHA256 = tree.Digest(h.Sum(nil)).String()
		}
		files = append(files, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	origins := map[string]string{}
	recorded := slices.DeleteFunc(slices.Clone(rec.Files), func(e record.Entry) bool { return e.Type == tree.Hardlink })
	for i := range recorded {
		origins[recorded[i].Path] = recorded[i].Owner
		recorded[i].Owner = ""
	}
	// The filesystem makes this one, and a hard link's name is like its file's.
	files = slices.DeleteFunc(files, func(e record.Entry) bool { return e.Path == "/lost+found" || e.Type == tree.Hardlink })
	if diff := cmp.Diff(recorded, files); diff != "" {
		t.Errorf("files (-recorded +there):\n%s", diff)
	}
	for path, want := range map[string]string{
		"/usr/bin/tool":             "package tool",
		"/usr/bin/containerd":       "component containerd",
		"/usr/local/bin/kubelet":    "component kubelet",
		"/usr/local/bin/kube-proxy": "component kube-proxy",
		"/usr/lib/bake/firstboot":   "bake",
		"/etc/tool.conf":            "definition",
		"/srv":                      "definition",
	} {
		if got := origins[path]; got != want {
			t.Errorf("%s comes from %q; want %q", path, got, want)
		}
	}
	got, err := record.Read("image.json", bytes.NewReader(baketest.ReadFile(t, m, "/"+record.Path)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rec.Components, got.Components); diff != "" || got.File != nil {
		t.Errorf("components (-beside +inside the image):\n%s", diff)
	}
	// What firstboot reads, beside the components.
	if diff := cmp.Diff(record.Node{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"}, got.Node); diff != "" {
		t.Errorf("node in the record inside (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(rec.Inputs, got.Inputs); diff != "" {
		t.Errorf("inputs (-beside +inside the image):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"console=ttyS0,38400n8d", "panic=10"}, got.KernelArguments); diff != "" {
		t.Errorf("kernel arguments in the record inside (-want +got):\n%s", diff)
	}
}

// TestImageAgain bakes what was baked: the content of the image is not read,
// whatever became of it, since its digest is known.
func TestImageAgain(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	c := w.Config()
	w.Image(c)
	before := filetest.Stat(t, filepath.Join(c.Out, baketest.ImageName))
	for _, path := range baketest.PackData(t, c.Cache, w.PackKey("tool"), "release 1") {
		filetest.FlipAt(t, path, -1)
	}
	w.Gets()
	var sink progresstest.Recorder
	c.Progress = &sink
	baketest.WantImage(t, c, w.Image(c), want)
	after := filetest.Stat(t, filepath.Join(c.Out, baketest.ImageName))
	if !os.SameFile(before, after) {
		t.Error("the image was written again; want it recognised")
	}
	if got := w.Gets(); len(got) > 0 {
		t.Errorf("the second bake fetched %q; want nothing", got)
	}
	if got, want := sink.Lines(), []string{filepath.Join(c.Out, baketest.ImageName) + " is there already, with the right digest"}; !slices.Equal(got, want) {
		t.Errorf("progress = %q; want %q", got, want)
	}

	// Into another directory it is put together from what was compressed.
	c.Out = filepath.Join(t.TempDir(), "elsewhere")
	baketest.WantImage(t, c, w.Image(c), want)
	if got, want := sink.Lines(), "compress disk.raw cached"; !slices.Contains(got, want) {
		t.Errorf("progress = %q; want %q", got, want)
	}
}

// TestRaw holds the raw disk to that of the archive.
func TestRaw(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	archived := w.Image(c)
	c.Format, c.Out = bake.Raw, filepath.Join(t.TempDir(), "raw")
	result := w.Image(c)
	in := filetest.Open(t, archived.Path)
	disk := filetest.Create(t, filepath.Join(t.TempDir(), "disk.raw"))
	size, err := archive.Unpack(t.Context(), in, disk)
	if err != nil {
		t.Fatal(err)
	}
	raw := filetest.Open(t, result.Path)
	h := sha256.New()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(a)) {
		readUnlessHole(t, disk, a, at)
		readUnlessHole(t, raw, b, at)
		if !bytes.Equal(a, b) {
			t.Fatalf("the raw disk differs from the archive's between %d and %d", at, at+int64(len(a)))
		}
		h.Write(b)
	}
	want := manifest.SHA256([sha256.Size]byte(h.Sum(nil)))
	if result.SHA256 != want || result.Size != size {
		t.Errorf("result is %+v; want %d bytes with digest %s", result, size, want)
	}
	if got := baketest.ReadRecord(t, c).File; got.Format != "raw" || got.Name != baketest.RawName || got.SHA256 != want {
		t.Errorf("record has %+v; want that of the raw disk", got)
	}
}

// readUnlessHole fills p from offset at of r. A hole it does not read.
func readUnlessHole(t *testing.T, f *os.File, p []byte, at int64) {
	t.Helper()
	const seekData = 3 // SEEK_DATA of lseek(2)
	if runtime.GOOS == "linux" {
		if data, err := f.Seek(at, seekData); errors.Is(err, syscall.ENXIO) || err == nil && data >= at+int64(len(p)) {
			clear(p)
			return
		}
	}
	must.Get(f.ReadAt(p, at))
}

// TestProgressLines holds the numbers of a log's lines together: all that will
// come is announced before the first line.
func TestProgressLines(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	var sink progresstest.Recorder
	c.Progress = &sink
	w.Image(c)
	fetched, unpacked := 0, 0
	for _, line := range sink.Lines() {
		switch {
		case strings.HasPrefix(line, "fetch "):
			fetched++
		case strings.HasPrefix(line, "unpack "):
			unpacked++
		}
	}
	parts := len(w.Packages) + 2 // releases
	if fetched != parts || unpacked != parts {
		t.Errorf("%d parts were fetched and %d unpacked; want %d", fetched, unpacked, parts)
	}
	if got, want := sink.Expected, 2*parts+1; got != want || sink.ExpectedFirst != want {
		t.Errorf("%d tasks were announced, %d of them before the first began; want %d", got, sink.ExpectedFirst, want)
	}
}
