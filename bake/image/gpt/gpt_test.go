package gpt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/image/extent/extenttest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

const (
	mib      = 1 << 20
	diskSize = 8 * mib
)

var seed = []byte("a plan")

func rootAMD64() GUID { g, _ := RootType("amd64"); return g }

func sample() []Partition {
	return []Partition{
		{Type: ESPType(), GUID: Derive(seed, "esp"), Start: mib, Length: 2 * mib, Name: "esp"},
		{Type: rootAMD64(), GUID: Derive(seed, "root"), Start: 3 * mib, Length: 4 * mib, Name: "root 日本", Attributes: GrowFileSystem},
	}
}

func plan(t testing.TB) extent.List {
	t.Helper()
	l, err := Plan(diskSize, Derive(seed, "disk"), sample())
	if err != nil {
		t.Fatalf("Plan() = %v", err)
	}
	return l
}

func content(t testing.TB, l extent.List) []byte {
	t.Helper()
	b := make([]byte, l.Size)
	if _, err := io.ReadFull(io.NewSectionReader(l.Reader(), 0, l.Size), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// places are offsets that a checker must notice when they change.
func places(size int64) map[string]int64 {
	return map[string]int64{
		"primary header":  SectorSize + 56,
		"primary entries": 2*SectorSize + 32,
		"backup header":   size - SectorSize + 24,
		"backup entries":  size - TailSize + 16,
	}
}

func TestSgdisk(t *testing.T) {
	sgdisk := need.Program(t, "sgdisk", "gdisk")
	l := plan(t)
	// sgdisk says "No problems found" and exits with 0 also where it had to take
	// the backup: what counts is that it complains of nothing.
	verify := func(image string) (string, bool) {
		out, err := exec.Command(sgdisk, "--verify", image).CombinedOutput()
		text := string(out)
		return text, err == nil && strings.Contains(text, "No problems found") &&
			!strings.Contains(text, "Warning") && !strings.Contains(text, "Caution") && !strings.Contains(text, "ERROR")
	}
	if out, ok := verify(extenttest.WriteFile(t, &l)); !ok {
		t.Errorf("sgdisk --verify finds fault:\n%s", out)
	}
	for name, off := range places(l.Size) {
		t.Run("refuses/"+name, func(t *testing.T) {
			image := extenttest.WriteFile(t, &l)
			filetest.FlipAt(t, image, off)
			if out, ok := verify(image); ok {
				t.Errorf("sgdisk --verify accepts a changed byte at %d:\n%s", off, out)
			}
		})
	}
}

func TestSfdisk(t *testing.T) {
	sfdisk := need.Program(t, "sfdisk", "fdisk")
	type part struct {
		Start, Size             int64
		Type, UUID, Name, Attrs string
	}
	var got struct {
		PartitionTable struct {
			Label, ID                   string
			FirstLBA, LastLBA, Sectorsz int64
			Partitions                  []part `json:"partitions"`
		} `json:"partitiontable"`
	}
	l := plan(t)
	cmd := exec.Command(sfdisk, "--json", extenttest.WriteFile(t, &l))
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sfdisk --json: %v", err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("sfdisk --json: %v\n%s", err, out)
	}
	table := got.PartitionTable
	if table.Label != "gpt" || !strings.EqualFold(table.ID, Derive(seed, "disk").String()) || table.FirstLBA != 34 || table.LastLBA != diskSize/512-34 {
		t.Errorf("sfdisk sees %+v", table)
	}
	var want []part
	for _, p := range sample() {
		attr := ""
		if p.Attributes == GrowFileSystem {
			attr = "GUID:59"
		}
		want = append(want, part{p.Start / 512, p.Length / 512, strings.ToUpper(p.Type.String()), strings.ToUpper(p.GUID.String()), p.Name, attr})
	}
	if !strings.Contains(string(out), "日本") {
		want[1].Name = table.Partitions[1].Name // sfdisk without a UTF-8 locale escapes it
	}
	if diff := cmp.Diff(want, table.Partitions); diff != "" {
		t.Errorf("sfdisk sees other partitions (-want +got):\n%s", diff)
	}
}

func TestReadBack(t *testing.T) {
	l := plan(t)
	want := sample()
	for i := range want {
		want[i].Number = i + 1
	}
	for name, read := range map[string]func(io.ReaderAt, int64) (*Table, error){"Read": Read, "ReadAny": ReadAny} {
		got, err := read(l.Reader(), l.Size)
		if err != nil {
			t.Fatalf("%s() = %v", name, err)
		}
		if diff := cmp.Diff(want, got.Partitions); diff != "" {
			t.Errorf("%s() gives other partitions (-want +got):\n%s", name, diff)
		}
		if got.Disk != Derive(seed, "disk") || got.Backup != l.Size-SectorSize || got.FirstUsable != HeadSize || got.LastUsable != l.Size-TailSize {
			t.Errorf("%s() = %+v", name, got)
		}
	}
	if !bytes.Equal(content(t, l), content(t, plan(t))) {
		t.Error("two plans of the same partitions differ")
	}
}

func TestReadRefuses(t *testing.T) {
	l := plan(t)
	good := content(t, l)
	for name, off := range places(l.Size) {
		t.Run(name, func(t *testing.T) {
			good[off] ^= 1
			defer func() { good[off] ^= 1 }()
			if _, err := Read(bytes.NewReader(good), l.Size); err == nil || !strings.Contains(err.Error(), "checksum") {
				t.Errorf("Read() = %v; want an error about a checksum", err)
			}
			if table, err := ReadAny(bytes.NewReader(good), l.Size); err != nil || len(table.Partitions) != 2 {
				t.Errorf("ReadAny() = %v, %v; want the other copy", table, err)
			}
		})
	}
	if _, err := ReadAny(bytes.NewReader(make([]byte, mib)), mib); err == nil {
		t.Error("ReadAny() of zeroes succeeds")
	}
}

// TestGrownDisk reads the table of a disk that became larger than its image.
func TestGrownDisk(t *testing.T) {
	l := plan(t)
	grown := extent.List{Size: 10 << 30, Extents: l.Extents}
	table, err := Read(grown.Reader(), grown.Size)
	if err != nil {
		t.Fatalf("Read() = %v", err)
	}
	if table.Backup != l.Size-SectorSize {
		t.Errorf("Backup = %d; want %d", table.Backup, l.Size-SectorSize)
	}
}

func TestPlanSizes(t *testing.T) {
	one := func(start, length int64) []Partition {
		return []Partition{{Type: ESPType(), GUID: Derive(seed, "p"), Start: start, Length: length}}
	}
	const least = HeadSize + TailSize + SectorSize
	many := make([]Partition, 129)
	for i := range many {
		many[i] = Partition{Type: ESPType(), GUID: Derive(seed, fmt.Sprint(i)), Start: HeadSize + int64(i)*SectorSize, Length: SectorSize}
	}
	twin := sample()
	twin[1].GUID = twin[0].GUID
	long := one(mib, mib)
	long[0].Name = strings.Repeat("x", 37)
	for _, tt := range []struct {
		name  string
		size  int64
		parts []Partition
		want  string // "": planned
	}{
		{"least disk", least, one(HeadSize, SectorSize), ""},
		{"too small", least - SectorSize, nil, "a disk of"},
		{"not whole sectors", least + 1, nil, "a disk of"},
		{"up to the backup", mib, one(HeadSize, mib-HeadSize-TailSize), ""},
		{"into the backup", mib, one(HeadSize, mib-HeadSize-TailSize+SectorSize), "backup table"},
		{"into the head", mib, one(HeadSize-SectorSize, SectorSize), "starts at"},
		{"half a sector", mib, one(HeadSize, 256), "whole sectors"},
		{"128 partitions", mib, many[:128], ""},
		{"129 partitions", mib, many, "holds 128"},
		{"same GUID", diskSize, twin, "same GUID"},
		{"long name", diskSize, long, "36"},
		{"3 TiB", 3 << 40, one(mib, 3<<40-2*mib), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Plan(tt.size, Derive(seed, "disk"), tt.parts)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Plan() = %v; want an error with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("Plan() = %v", err)
			}
			if table, err := Read(l.Reader(), l.Size); err != nil || len(table.Partitions) != len(tt.parts) {
				t.Errorf("Read() = %v, %v", table, err)
			}
		})
	}
}

func TestDerive(t *testing.T) {
	// printf 'a plan\0disk' | sha256sum, with version 8 and variant 10.
	if got, want := Derive(seed, "disk").String(), "03c04d67-5be9-8902-8b75-af8e32aef919"; got != want {
		t.Errorf("Derive() = %s; want %s", got, want)
	}
	if Derive(seed, "disk") == Derive(seed, "root") || Derive(seed, "disk") == Derive([]byte("another"), "disk") {
		t.Error("Derive gives one GUID to two things")
	}
}

func TestParseGUID(t *testing.T) {
	for _, s := range []string{"", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "c12a7328-f81f-11d2-ba4b-00a0c93ec9zz", "c12a7328xf81f-11d2-ba4b-00a0c93ec93b"} {
		if g, err := ParseGUID(s); err == nil {
			t.Errorf("ParseGUID(%q) = %v; want an error", s, g)
		}
	}
	g, err := ParseGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	if err != nil || g != ESPType() || FromDisk(g.swapped()) != g || TypeName(g) != "esp" {
		t.Errorf("ParseGUID() = %v, %v", g, err)
	}
}

// FuzzRead changes header and entries of the primary copy. Their checksums are
// made right, without which the fuzzer would not get past them.
func FuzzRead(f *testing.F) {
	const size = 64 * 1024
	l, err := Plan(size, Derive(seed, "disk"), []Partition{{Type: ESPType(), GUID: Derive(seed, "esp"), Start: HeadSize, Length: 1024, Name: "esp"}})
	if err != nil {
		f.Fatal(err)
	}
	good := content(f, l)
	f.Add(good[SectorSize:SectorSize+headerSize], good[2*SectorSize:2*SectorSize+2*entrySize])
	f.Fuzz(func(t *testing.T, head, entries []byte) {
		disk := bytes.Clone(good)
		copy(disk[SectorSize:SectorSize+headerSize], head)
		copy(disk[2*SectorSize:HeadSize], entries)
		h := disk[SectorSize : SectorSize+headerSize]
		n := int64(binary.LittleEndian.Uint32(h[80:])) * int64(binary.LittleEndian.Uint32(h[84:]))
		if at := int64(binary.LittleEndian.Uint32(h[72:])) * SectorSize; n >= 0 && n <= size && at <= size-n {
			binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(disk[at:at+n]))
		}
		clear(h[16:20])
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		for _, read := range []func(io.ReaderAt, int64) (*Table, error){Read, ReadAny} {
			table, err := read(bytes.NewReader(disk), size)
			if err != nil {
				continue
			}
			for _, p := range table.Partitions {
				if p.Start < 0 || p.Length <= 0 || p.Start+p.Length > size {
					t.Errorf("partition %d is outside of the disk: %+v", p.Number, p)
				}
			}
		}
	})
}
