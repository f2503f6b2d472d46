package disk

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/bake/image/fat"
	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

func TestNewLayout(t *testing.T) {
	const overhead = alignment + espSize + mib // before the root, and the last MiB with the backup table
	for _, tt := range []struct {
		minRoot, size int64 // 0: refused
	}{
		{1, gce.GiB},
		{gce.GiB - overhead, gce.GiB},
		{gce.GiB - overhead + 1, 2 * gce.GiB},
		{2*gce.GiB - overhead, 2 * gce.GiB},
		{3 * gce.GiB, 4 * gce.GiB},
		{maxSize - overhead, maxSize},
		{maxSize - overhead + 1, 0},
		{1 << 62, 0},
		{0, 0},
		{-1, 0},
	} {
		l, err := NewLayout(tt.minRoot)
		if tt.size == 0 {
			if err == nil {
				t.Errorf("NewLayout(%d) = %+v; want an error", tt.minRoot, l)
			}
			continue
		}
		if err != nil || l.Size != tt.size {
			t.Errorf("NewLayout(%d) = %+v, %v; want a disk of %d", tt.minRoot, l, err, tt.size)
			continue
		}
		if l.Root.Length < tt.minRoot || l.ESP.Start%mib+l.Root.Start%mib+l.Root.Length%mib != 0 {
			t.Errorf("NewLayout(%d) = %+v; want a root of at least that, aligned to a MiB", tt.minRoot, l)
		}
		if l.ESP.Start+l.ESP.Length != l.Root.Start || l.Size-l.Root.Start-l.Root.Length != mib {
			t.Errorf("NewLayout(%d) = %+v; want the root between the ESP and the last MiB", tt.minRoot, l)
		}
	}
}

// config is a disk with an ESP and a few bytes as its root.
func config(t testing.TB) Config {
	t.Helper()
	layout, err := NewLayout(100 * mib)
	if err != nil {
		t.Fatal(err)
	}
	files, err := tree.New([]tree.Entry{{Path: ".", Type: tree.Dir}})
	if err != nil {
		t.Fatal(err)
	}
	esp, err := fat.Plan(files, fat.Options{Size: layout.ESP.Length, VolumeID: 1, Epoch: time.Unix(1761998400, 0)})
	if err != nil {
		t.Fatal(err)
	}
	root := extent.List{Size: layout.Root.Length}
	root.Append(4096, 5, tree.Bytes("root", []byte("a root")), 0)
	return Config{Layout: layout, GUIDs: NewGUIDs([]byte("seed")), Arch: "amd64", ESPList: esp, RootList: root}
}

func TestPlan(t *testing.T) {
	c := config(t)
	l, err := Plan(c)
	if err != nil {
		t.Fatalf("Plan() = %v", err)
	}
	table, err := gpt.Read(l.Reader(), l.Size)
	if err != nil {
		t.Fatalf("Read() = %v", err)
	}
	if len(table.Partitions) != 2 || table.Disk != c.GUIDs.Disk || table.Backup != l.Size-gpt.SectorSize {
		t.Fatalf("Read() = %+v", table)
	}
	for i, want := range []struct {
		typ  string
		guid gpt.GUID
		at   Range
	}{{"esp", c.GUIDs.ESP, c.Layout.ESP}, {"root-x86-64", c.GUIDs.Root, c.Layout.Root}} {
		p := table.Partitions[i]
		if gpt.TypeName(p.Type) != want.typ || p.GUID != want.guid || (Range{p.Start, p.Length}) != want.at {
			t.Errorf("partition %d = %+v; want %+v", i+1, p, want)
		}
	}
	if _, err := fat.Open(io.NewSectionReader(l.Reader(), c.Layout.ESP.Start, c.Layout.ESP.Length), c.Layout.ESP.Length); err != nil {
		t.Errorf("the ESP: %v", err)
	}
	got := make([]byte, 7)
	if _, err := l.Reader().ReadAt(got, c.Layout.Root.Start+4095); err != nil || !bytes.Equal(got, []byte("\x00a roo\x00")) {
		t.Errorf("the root has %q, %v", got, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"architecture": func(c *Config) { c.Arch = "vax" },
		"ESP's size":   func(c *Config) { c.ESPList.Size-- },
		"root's size":  func(c *Config) { c.RootList.Size += 4096 },
	} {
		c := config(t)
		change(&c)
		if _, err := Plan(c); err == nil {
			t.Errorf("%s: Plan() succeeds", name)
		}
	}
}

func TestDeterminism(t *testing.T) {
	digest := func() [32]byte {
		l, err := Plan(config(t))
		if err != nil {
			t.Fatal(err)
		}
		return extenttest.Digest(t, &l)
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("two plans of one disk give %x and %x", a, b)
	}
}

// TestSgdisk has the finished disk checked, also after it was put on a larger one.
func TestSgdisk(t *testing.T) {
	sgdisk := need.Program(t, "sgdisk", "gdisk")
	l, err := Plan(config(t))
	if err != nil {
		t.Fatal(err)
	}
	path := extenttest.WriteFile(t, &l)
	out, err := exec.Command(sgdisk, "--verify", path).CombinedOutput()
	if err != nil || !strings.HasPrefix(strings.TrimSpace(string(out)), "No problems found") {
		t.Errorf("sgdisk --verify: %v\n%s", err, out)
	}
	must.Do(os.Truncate(path, 10*gce.GiB))
	if out, err := exec.Command(sgdisk, "--verify", path).CombinedOutput(); err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "No problems found") {
		t.Errorf("sgdisk --verify accepts a backup table in the middle of the disk:\n%s", out)
	}
}
