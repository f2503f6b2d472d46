package fat

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/tree/treetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

func TestReadBack(t *testing.T) {
	tr := sample(t)
	l := plan(t, tr, options())
	v, err := Open(l.Reader(), l.Size)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	if v.Label != "BAKE ESP" || v.VolumeID != 0xbabe1234 || v.Size != l.Size {
		t.Errorf("Open() = label %q, id %#x, size %d", v.Label, v.VolumeID, v.Size)
	}
	got := map[string]string{}
	var paths []string
	err = fs.WalkDir(v.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			got[path] = "dir"
			return nil
		}
		paths = append(paths, path)
		data, err := fs.ReadFile(v.FS(), path)
		got[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(treetest.Digests(t, tr), got); diff != "" {
		t.Errorf("the volume holds other files than the tree (-want +got):\n%s", diff)
	}
	if err := fstest.TestFS(v.FS(), paths...); err != nil {
		t.Error(err)
	}
	info, err := fs.Stat(v.FS(), "EFI/BOOT/grubx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1750000000, 0).UTC(); !info.ModTime().Equal(want) {
		t.Errorf("ModTime() = %v; want %v", info.ModTime(), want)
	}
}

// TestForeignVolume reads what mkfs.vfat and mtools made.
func TestForeignVolume(t *testing.T) {
	mkfs, mcopy, mmd := need.Program(t, "mkfs.vfat", "dosfstools"), need.Program(t, "mcopy", "mtools"), need.Program(t, "mmd", "mtools")
	dir := t.TempDir()
	image := filepath.Join(dir, "fat.img")
	files := map[string]string{"UPPER.TXT": "1", "lower.txt": "22", "Mixed.txt": "333", "a name with spaces": "4444", "d/lower": strings.Repeat("x", 5000)}
	for name, content := range files {
		path := filepath.Join(dir, "in", name)
		filetest.Write(t, path, content)
	}
	in := filepath.Join(dir, "in")
	for _, args := range [][]string{
		{mkfs, "-F", "32", "-n", "FOREIGN", "-C", image, "40000"},
		{mmd, "-i", image, "::d"},
		{mcopy, "-i", image, in + "/UPPER.TXT", in + "/lower.txt", in + "/Mixed.txt", in + "/a name with spaces", "::"},
		{mcopy, "-i", image, in + "/d/lower", "::d"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	f := filetest.Open(t, image)
	v, err := Open(f, 40000*1024)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	if v.Label != "FOREIGN" {
		t.Errorf("Label = %q; want FOREIGN", v.Label)
	}
	got := map[string]string{}
	err = fs.WalkDir(v.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var data []byte
			data, err = fs.ReadFile(v.FS(), path)
			got[path] = string(data)
		}
		return err
	})
	if diff := cmp.Diff(files, got); err != nil || diff != "" {
		t.Errorf("files of a foreign volume (-want +got): %v\n%s", err, diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	l := plan(t, sample(t), options())
	good := make([]byte, 2*mib)
	if _, err := l.Reader().ReadAt(good, 0); err != nil {
		t.Fatal(err)
	}
	g, _ := newGeometry(options().Size)
	root := g.offset(rootCluster)
	for _, tt := range []struct {
		name string
		hurt func([]byte)
		want string
	}{
		{"signature", func(b []byte) { b[510] = 0 }, "signature"},
		{"FAT16", func(b []byte) { b[22] = 9 }, "FAT16"},
		{"sector size", func(b []byte) { b[12] = 8 }, "2048"},
		{"too many sectors", func(b []byte) { b[35] = 0x7f }, "do not fit"},
		{"FSInfo", func(b []byte) { b[512] = 0 }, "signatures"},
		{"root outside", func(b []byte) { b[47] = 0x0f }, "outside"},
		{"loop in the root's chain", func(b []byte) {
			binary.LittleEndian.PutUint32(b[int64(g.reserved)*sectorSize+8:], rootCluster)
		}, "longer than"},
		{"directory that is its own parent", func(b []byte) {
			for off := root; ; off += entrySize {
				if b[off+11] == attrDir {
					binary.LittleEndian.PutUint16(b[off+26:], rootCluster)
					return
				}
			}
		}, "already belongs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := bytes.Clone(good)
			tt.hurt(bad)
			if _, err := Open(bytes.NewReader(bad), options().Size); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open() = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// patches is a volume of zeroes but for some ranges.
type patches struct {
	at   []int64
	data [][]byte
}

func (p patches) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for i, data := range p.data {
		if from := p.at[i] - off; from < int64(len(b)) && from+int64(len(data)) > 0 {
			copy(b[max(from, 0):], data[max(-from, 0):])
		}
	}
	return len(b), nil
}

func FuzzOpen(f *testing.F) {
	o := options()
	o.Size = minSize
	l := plan(f, treetest.New(f, treetest.Dir("."), treetest.Dir("EFI"), file("EFI/name", 700), file("another long name", 5)), o)
	g, _ := newGeometry(o.Size)
	// The fuzzer changes the sectors that say something.
	at := []int64{0, sectorSize, int64(g.reserved) * sectorSize, g.offset(rootCluster), g.offset(rootCluster + 1)}
	seed := make([][]byte, len(at))
	for i := range at {
		seed[i] = make([]byte, sectorSize)
		if _, err := l.Reader().ReadAt(seed[i], at[i]); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(seed[0][:90], seed[1][484:], seed[2][:64], seed[3][:160], seed[4][:160])
	f.Fuzz(func(t *testing.T, boot, info, table, root, sub []byte) {
		p := patches{at: at}
		for i, part := range [][]byte{boot, info, table, root, sub} {
			sector := bytes.Clone(seed[i])
			if i == 1 {
				copy(sector[484:], part)
			} else {
				copy(sector, part)
			}
			p.data = append(p.data, sector)
		}
		v, err := Open(p, minSize)
		if err != nil {
			return
		}
		_ = fs.WalkDir(v.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				if file, err := v.FS().Open(path); err == nil {
					_, _ = io.Copy(io.Discard, io.LimitReader(file, mib))
				}
			}
			return nil
		})
	})
}
