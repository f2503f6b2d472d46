package fat

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

const mib = 1 << 20

var epoch = time.Date(2026, 11, 1, 12, 0, 1, 0, time.UTC)

func options() Options {
	return Options{Size: 64 * mib, VolumeID: 0xbabe1234, Label: "BAKE ESP", Epoch: epoch}
}

// file makes an entry whose content sits in the middle of a blob, as a
// package's does.
func file(path string, size int) tree.Entry {
	blob := make([]byte, tree.Align+size)
	for i := range size {
		blob[tree.Align+i] = byte(i*7 + len(path) + i>>9)
	}
	return tree.Entry{Path: path, Type: tree.File, Perm: 0o644, Size: int64(size), Offset: tree.Align, Blob: tree.Bytes(path, blob), MTime: 1750000001}
}

// sample has the shapes that matter: names of all kinds, empty files, sizes
// around a cluster, a directory of more than one cluster.
func sample(t testing.TB) *tree.Tree {
	entries := []tree.Entry{
		treetest.Dir("EFI"), treetest.Dir("EFI/BOOT"), treetest.Dir("loader"), treetest.Dir("loader/entries"), treetest.Dir("many"), treetest.Dir("empty"),
		file("EFI/BOOT/BOOTX64.EFI", 100_000), file("EFI/BOOT/grubx64.efi", 4096), file("EFI/BOOT/mmx64.efi", 511),
		file("loader/loader.conf", 40), file("loader/entries/k8s-worker-v1-36-3.conf", 300),
		file("vmlinuz-6.12.117+deb13-cloud-amd64", 3*mib+1), file("initrd.img", 0), file("a long name with spaces.tar.gz", 1),
		file("ünïcode-日本.txt", 512), file("LONGFI~1.TXT", 5), file("longfilename.txt", 6), file("Longfilename2.txt", 7),
		file("thirteenunits", 8), file("NOEXT", 9), file(".hidden", 10), file("longfi~2.txt", 11),
	}
	for i := range 200 {
		entries = append(entries, file(fmt.Sprintf("many/file number %03d", i), i))
	}
	for i, size := range []int{510, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049} {
		entries = append(entries, file(fmt.Sprintf("empty/size-%d", i), size))
	}
	return treetest.New(t, append(entries, treetest.Dir("."))...)
}

func plan(t testing.TB, tr *tree.Tree, o Options) *extent.List {
	t.Helper()
	l, err := Plan(tr, o)
	if err != nil {
		t.Fatalf("Plan() = %v", err)
	}
	return &l
}

func fsck(t testing.TB, image string) (string, error) {
	out, err := exec.Command(need.Program(t, "fsck.vfat", "dosfstools"), "-n", "-v", image).CombinedOutput()
	return string(out), err
}

func TestFsck(t *testing.T) {
	for _, size := range []int64{minSize, 64 * mib, 256 * mib, 300*mib + 512} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			o := options()
			o.Size = size
			image := extenttest.WriteFile(t, plan(t, sample(t), o))
			if out, err := fsck(t, image); err != nil {
				t.Errorf("fsck.vfat: %v\n%s", err, out)
			}
		})
	}
}

// TestFsckRefusesBroken shows that the checker sees what it should.
func TestFsckRefusesBroken(t *testing.T) {
	l := plan(t, sample(t), options())
	g, err := newGeometry(options().Size)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		off  int64
		with byte
	}{
		{"the FATs differ", int64(g.reserved)*sectorSize + 40, 0x77},
		{"a file of another size", 0, 0}, // off is found below
		{"wrong free count", fsInfoSector*sectorSize + 488, 0x55},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := extenttest.WriteFile(t, l)
			f, err := os.OpenFile(image, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if tt.off == 0 {
				tt.off = recordOf(t, l, "ALONGN~1") + 30
				tt.with = 9
			}
			must.Get(f.WriteAt([]byte{tt.with}, tt.off))
			if out, err := fsck(t, image); err == nil {
				t.Errorf("fsck.vfat accepts a broken volume:\n%s", out)
			}
		})
	}
}

// recordOf returns where the directory record with a short name is.
func recordOf(t testing.TB, l *extent.List, short string) int64 {
	b := make([]byte, 2*mib)
	if _, err := l.Reader().ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	off := bytes.Index(b, []byte(short))
	if off < 0 {
		t.Fatalf("no record of %s in the first 2 MiB", short)
	}
	return int64(off)
}

func TestMtools(t *testing.T) {
	mcopy, mdir := need.Program(t, "mcopy", "mtools"), need.Program(t, "mdir", "mtools")
	tr := sample(t)
	image := extenttest.WriteFile(t, plan(t, tr, options()))
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := run(mdir, "-i", image, "::"); !strings.Contains(out, "Volume in drive : is BAKE ESP") || !strings.Contains(out, "Serial Number is BABE-1234") {
		t.Errorf("mdir shows neither label nor serial number:\n%s", out)
	}
	if out := run(mdir, "-i", image, "::EFI/BOOT"); !strings.Contains(out, "2025-06-15  15:06") {
		t.Errorf("mdir does not show the files' time, 2025-06-15 15:06:\n%s", out)
	}
	to := t.TempDir()
	run(mcopy, "-s", "-n", "-i", image, "::*", to)
	got := map[string]string{}
	err := fs.WalkDir(os.DirFS(to), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		sum := "dir"
		if !d.IsDir() {
			data, err := os.ReadFile(filepath.Join(to, path))
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		got[path] = sum
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(treetest.Digests(t, tr), got); diff != "" {
		t.Errorf("mcopy gives other files than the tree (-want +got):\n%s", diff)
	}
}

func TestDeterminism(t *testing.T) {
	digest := func() [32]byte {
		return extenttest.Digest(t, plan(t, sample(t), options()))
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("two plans of one tree give %x and %x", a, b)
	}
}

// TestContentIsOneExtent keeps the promise that a file is read in one piece.
func TestContentIsOneExtent(t *testing.T) {
	tr := sample(t)
	l := plan(t, tr, options())
	n := map[*tree.Blob]int{}
	for _, e := range l.Extents {
		n[e.Blob]++
	}
	for _, e := range tr.Entries {
		if e.Type == tree.File && e.Size > 0 && n[e.Blob] != 1 {
			t.Errorf("%s: %d extents; want 1", e.Path, n[e.Blob])
		}
	}
}

// minSize is the smallest volume that is FAT32: 65525 clusters of 512 bytes,
// two FATs of 521 sectors, and 38 reserved sectors, which end them at 4 KiB.
const minSize = (65525 + 2*521 + 38) * sectorSize

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		size       int64
		perCluster uint32 // 0: refused
	}{
		{0, 0},
		{mib, 0},
		{minSize - sectorSize, 0},
		{minSize, 1},
		{64 * mib, 1},
		{66 * mib, 2},
		{128 * mib, 2},
		{129 * mib, 4},
		{256 * mib, 4},
		{257 * mib, 8},
		{100 << 30, 8},
		{64*mib + 1, 0},
	} {
		g, err := newGeometry(tt.size)
		if tt.perCluster == 0 {
			if err == nil {
				t.Errorf("newGeometry(%d) = %+v; want an error", tt.size, g)
			}
			continue
		}
		if err != nil || g.perCluster != tt.perCluster || g.clusters < minClusters || g.dataStart()%4096 != 0 {
			t.Errorf("newGeometry(%d) = %+v, %v; want %d sectors in a cluster", tt.size, g, err, tt.perCluster)
		}
	}
}

func TestFull(t *testing.T) {
	o := options()
	g, err := newGeometry(o.Size)
	if err != nil {
		t.Fatal(err)
	}
	room := int(g.clusters-1) * int(g.clusterBytes()) // without the root directory
	l := plan(t, treetest.New(t, treetest.Dir("."), file("BIG", room)), o)
	v, err := Open(l.Reader(), l.Size)
	if err != nil {
		t.Fatal(err)
	}
	if v.Free != 0 {
		t.Errorf("Free = %d; want 0", v.Free)
	}
	if out, err := fsck(t, extenttest.WriteFile(t, l)); err != nil {
		t.Errorf("fsck.vfat: %v\n%s", err, out)
	}
	if _, err := Plan(treetest.New(t, treetest.Dir("."), file("BIG", room+1)), o); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("Plan of a file too large = %v; want an error that says full", err)
	}
}

func TestPlanRefuses(t *testing.T) {
	huge := tree.Entry{Path: "huge", Type: tree.File, Size: 1 << 32, Blob: &tree.Blob{Size: 1 << 33}}
	for _, tt := range []struct {
		name    string
		entries []tree.Entry
		change  func(*Options)
		want    string
	}{
		{"symlink", []tree.Entry{{Path: "l", Type: tree.Symlink, Link: "x"}}, nil, "cannot hold a symlink"},
		{"names that differ in case", []tree.Entry{file("Readme", 1), file("README", 1)}, nil, "README"},
		{"colon", []tree.Entry{file("a:b", 1)}, nil, "character"},
		{"trailing dot", []tree.Entry{file("a.", 1)}, nil, "dot"},
		{"name of 256 units", []tree.Entry{file(strings.Repeat("x", 256), 1)}, nil, "longer than 255"},
		{"file of 4 GiB", []tree.Entry{huge}, nil, "4294967296 bytes"},
		{"lower-case label", nil, func(o *Options) { o.Label = "esp" }, "label"},
		{"long label", nil, func(o *Options) { o.Label = "TWELVE CHARS" }, "label"},
		{"epoch", nil, func(o *Options) { o.Epoch = time.Unix(0, 0) }, "1980"},
		{"size", nil, func(o *Options) { o.Size = 1000 }, "1000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			if tt.change != nil {
				tt.change(&o)
			}
			_, err := Plan(treetest.New(t, append(tt.entries, treetest.Dir("."))...), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Plan() = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

func TestAliases(t *testing.T) {
	tr := sample(t)
	l := plan(t, tr, options())
	v, err := Open(l.Reader(), l.Size)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI":               "BOOTX64.EFI",
		"EFI/BOOT/grubx64.efi":               "GRUBX6~1.EFI",
		"LONGFI~1.TXT":                       "LONGFI~1.TXT",
		"Longfilename2.txt":                  "LONGFI~3.TXT", // ~2 is another file's long name
		"longfilename.txt":                   "LONGFI~4.TXT",
		"longfi~2.txt":                       "LONGFI~5.TXT",
		".hidden":                            "HIDDEN~1",
		"vmlinuz-6.12.117+deb13-cloud-amd64": "VMLINU~1.117",
		"a long name with spaces.tar.gz":     "ALONGN~1.GZ",
	} {
		if got, err := v.ShortName(path); got != want {
			t.Errorf("ShortName(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
}
