package initramfs

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// fakeSys is a /sys made of MapFS.
type fakeSys fstest.MapFS

func (s fakeSys) file(name, content string) {
	s[name] = &fstest.MapFile{Data: []byte(content + "\n")}
}

func (s fakeSys) link(name, to string) {
	s[name] = &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink}
}

// disk adds a disk at dir, below devices, with partitions of those numbers.
func (s fakeSys) disk(dir string, partitions ...int) {
	name := path.Base(dir)
	s.link("class/block/"+name, "../../"+dir)
	s.file(dir+"/size", "20971520")
	for _, n := range partitions {
		sep := ""
		if strings.HasPrefix(name, "nvme") {
			sep = "p"
		}
		part := fmt.Sprintf("%s%s%d", name, sep, n)
		s.file(dir+"/"+part+"/partition", fmt.Sprint(n))
		s.file(dir+"/"+part+"/size", "2048")
		s.link("class/block/"+part, "../../"+dir+"/"+part)
	}
}

const root0 = "devices/pci0000:00"

func TestScanDisks(t *testing.T) {
	s := fakeSys{}
	s.file(root0+"/firmware_node/uid", "0")
	s.file("devices/pci0000:80/firmware_node/uid", "7")
	// virtio-scsi, on a host bridge and behind a PCI bridge
	s.disk(root0+"/0000:00:03.0/virtio1/host0/target0:0:1/0:0:1:0/block/sda", 1, 2)
	s.disk(root0 + "/0000:00:1c.4/0000:05:00.0/virtio2/host1/target1:0:2/1:0:2:300/block/sdb")
	// NVMe, and NVMe with multipath, whose head is virtual
	s.disk("devices/pci0000:80/0000:80:01.0/nvme/nvme0/nvme0n1", 1)
	s.file("devices/pci0000:80/0000:80:01.0/nvme/nvme0/nvme0n1/nsid", "1")
	s.disk("devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n2", 2)
	s.file("devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n2/nsid", "2")
	s.link("devices/virtual/nvme-subsystem/nvme-subsys1/nvme1", "../../../pci0000:00/0000:00:05.0/nvme/nvme1")
	s.file(root0+"/0000:00:05.0/nvme/nvme1/model", "x")
	s.disk(root0 + "/0000:00:05.0/nvme/nvme1/nvme1c1n2")
	s.file(root0+"/0000:00:05.0/nvme/nvme1/nvme1c1n2/hidden", "1")
	// SATA, virtio-blk, a bus that is not PCI
	s.disk(root0 + "/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sdc")
	s.file(root0+"/0000:00:1f.2/ata3/ata_port/ata3/port_no", "3")
	s.disk(root0+"/0000:00:06.0/virtio3/block/vda", 1)
	s.disk("devices/platform/a000000.virtio_mmio/virtio4/block/vdb")
	// not disks
	s.disk("devices/virtual/block/loop0")
	s.disk(root0 + "/0000:00:1f.2/ata4/host3/target3:0:0/3:0:0:0/block/sr0")
	s.disk(root0 + "/0000:00:07.0/virtio5/block/vdc")
	s.file(root0+"/0000:00:07.0/virtio5/block/vdc/size", "0")
	s.link("class/block/gone", "../../devices/pci0000:00/0000:00:08.0/virtio6/block/gone")

	disks, err := ScanDisks(fstest.MapFS(s))
	if err != nil {
		t.Fatalf("ScanDisks() = %v", err)
	}
	got := map[string]Disk{}
	var order []string
	for _, d := range disks {
		order = append(order, d.Name)
		if d.Size != 10<<30 {
			t.Errorf("%s: size %d; want 10 GiB", d.Name, d.Size)
		}
		d.Size, d.Path, d.Name = 0, "", ""
		got[order[len(order)-1]] = d
	}
	none := map[int]string{}
	want := map[string]Disk{
		"sda":     {Places: []Hardware{{0, []Function{{3, 0}}, BusSCSI, 1, 0}}, Partitions: map[int]string{1: "sda1", 2: "sda2"}},
		"sdb":     {Places: []Hardware{{0, []Function{{0x1c, 4}, {0, 0}}, BusSCSI, 2, 300}}, Partitions: none},
		"nvme0n1": {Places: []Hardware{{7, []Function{{1, 0}}, BusNVMe, 1, 0}}, Partitions: map[int]string{1: "nvme0n1p1"}},
		"nvme1n2": {Places: []Hardware{{0, []Function{{5, 0}}, BusNVMe, 2, 0}}, Partitions: map[int]string{2: "nvme1n2p2"}},
		"sdc":     {Places: []Hardware{{0, []Function{{0x1f, 2}}, BusSATA, 2, 0}}, Partitions: none},
		"vda":     {Places: []Hardware{{0, []Function{{6, 0}}, BusNone, 0, 0}}, Partitions: map[int]string{1: "vda1"}},
		"vdb":     {Partitions: none},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ScanDisks() (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"sda", "nvme1n2", "vda", "sdb", "sdc", "nvme0n1", "vdb"}, order); diff != "" {
		t.Errorf("order of the disks (-want +got):\n%s", diff)
	}
}

func TestScanDisksEmpty(t *testing.T) {
	if disks, err := ScanDisks(fstest.MapFS{}); err != nil || len(disks) != 0 {
		t.Errorf("ScanDisks() of an empty /sys = %v, %v", disks, err)
	}
}

// TestPlaceWithoutUID: a host bridge whose ACPI object has no _UID.
func TestPlaceWithoutUID(t *testing.T) {
	h, ok := place(fstest.MapFS{}, "devices/platform/pcie/pci0001:40/0001:40:02.0/virtio0/block/vda")
	if diff := cmp.Diff(Hardware{Root: 0x40, PCI: []Function{{2, 0}}}, h); !ok || diff != "" {
		t.Errorf("place() = %v (-want +got):\n%s", ok, diff)
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(root0 + "/0000:00:03.0/virtio1/host0/target0:0:1/0:0:1:0/block/sda")
	f.Add("devices/pci:/::./:::")
	f.Fuzz(func(t *testing.T, dir string) { place(fstest.MapFS{}, dir) })
}
