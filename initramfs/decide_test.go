package initramfs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/gpt"
)

var (
	espGUID  = gpt.Derive([]byte("image"), "esp")
	rootGUID = gpt.Derive([]byte("image"), "root")
)

func rootType() gpt.GUID { g, _ := gpt.RootType("amd64"); return g }

// imageDisk is a disk made from our image, at target of the SCSI controller in
// PCI slot.
func imageDisk(name string, slot uint8, target uint32) Disk {
	return Disk{
		Name: name, Path: "devices/" + name, Size: 10 << 30,
		Places:     []Hardware{{PCI: []Function{{slot, 0}}, Bus: BusSCSI, Unit: target}},
		Partitions: map[int]string{1: name + "1", 2: name + "2"},
		Table: &gpt.Table{Partitions: []gpt.Partition{
			{Number: 1, Type: gpt.ESPType(), GUID: espGUID, Name: "esp"},
			{Number: 2, Type: rootType(), GUID: rootGUID, Name: "root"},
		}},
	}
}

// foreign is a disk of another system.
func foreign(name string) Disk {
	return Disk{Name: name, Path: "devices/" + name, Size: 1 << 30, TableErr: errors.New("no partition table header"), Partitions: map[int]string{}}
}

// firmware that booted target of the controller in slot 3.
func booted(target uint32) Firmware {
	path := DevicePath{
		{typeACPI, subACPI, []byte{0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0}},
		{typeHardware, subPCI, []byte{0, 3}},
		{typeMessaging, subSCSI, []byte{byte(target), 0, 0, 0}},
	}
	h, err := path.Hardware()
	return Firmware{Option: &LoadOption{Description: "UEFI disk", Path: path}, Hardware: h, HardwareErr: err, LoaderPartition: &espGUID}
}

// silent is firmware that says nothing.
func silent() Firmware {
	err := errors.New("there is no EFI variable BootCurrent")
	return Firmware{HardwareErr: err, LoaderErr: errors.New("there is no EFI variable LoaderDevicePartUUID")}
}

func TestDecide(t *testing.T) {
	loaderOnly := silent()
	loaderOnly.LoaderPartition = &espGUID
	otherGUID := gpt.Derive([]byte("another image"), "root")
	other := imageDisk("sdo", 3, 5)
	other.Table = &gpt.Table{Partitions: []gpt.Partition{
		{Number: 1, Type: gpt.ESPType(), GUID: gpt.Derive([]byte("another image"), "esp")},
		{Number: 2, Type: rootType(), GUID: otherGUID},
	}}
	noRoot := imageDisk("sdb", 3, 2)
	noRoot.Table = &gpt.Table{Partitions: noRoot.Table.Partitions[:1]}
	unseen := imageDisk("sdb", 3, 2)
	delete(unseen.Partitions, 2)
	byGUID, byType := Want{GUID: &rootGUID, Type: rootType()}, Want{Type: rootType()}

	for _, tt := range []struct {
		name     string
		want     Want
		firmware Firmware
		disks    []Disk
		elapsed  time.Duration
		quiet    time.Duration
		device   string   // "": wait, unless fails
		fails    []string // what the error says
		notes    string   // that the notes contain
	}{
		{"the only disk", byGUID, booted(1), []Disk{imageDisk("sda", 3, 1)}, 0, 0, "sda2", nil, "which is sda"},
		{"second of two equal disks", byGUID, booted(2), []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 2)}, 0, 0, "sdb2", nil, "which is sdb"},
		{"first of two equal disks", byGUID, booted(1), []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 2)}, 0, 0, "sda2", nil, "which is sda"},
		{"by type", byType, booted(2), []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 2)}, 0, 0, "sdb2", nil, ""},
		{"the equal disk came first", byGUID, booted(2), []Disk{imageDisk("sda", 3, 1)}, time.Second, time.Second, "", nil, ""},
		{"partition not shown yet", byGUID, booted(2), []Disk{imageDisk("sda", 3, 1), unseen}, 30 * time.Second, 30 * time.Second, "", nil, ""},
		{"booted disk has no such root", byGUID, booted(2), []Disk{imageDisk("sda", 3, 1), noRoot}, deadline, deadline, "", []string{
			"the root partition was not found", "looked for: partition GUID " + rootGUID.String(), "for: 60 s", "booted from: \"UEFI disk\" at PciRoot(0x0)/Pci(0x3,0x0)/Scsi(0x2,0x0)",
			"because: the disk that was booted, sdb, does not have it", "seen: sda, 10240 MiB, devices/sda", `seen: sda2, GUID ` + rootGUID.String() + `, type root-x86-64, name "root"`,
		}, ""},
		{"firmware's disk is not there: too early", byGUID, booted(9), []Disk{imageDisk("sda", 3, 1)}, 4 * time.Second, 4 * time.Second, "", nil, ""},
		{"firmware's disk is not there: loader decides", byGUID, booted(9), []Disk{imageDisk("sda", 3, 1), foreign("sdb")}, 6 * time.Second, 6 * time.Second, "sda2", nil, "boot loader was started from partition"},
		{"two at the same place", byGUID, booted(1), []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 1)}, 0, 0, "sda2", nil, "any of sda, sdb"},
		{"loader decides", byType, loaderOnly, []Disk{other, imageDisk("sda", 3, 1)}, time.Second, time.Second, "sda2", nil, "which is on sda"},
		{"loader's disk has no such root", byGUID, loaderOnly, []Disk{other, noRoot}, deadline, deadline, "", []string{"sdb, does not have it"}, ""},
		{"loader cannot tell", byGUID, loaderOnly, []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 2)}, time.Second, time.Second, "sda2", nil, "it may be the wrong one: taking that of sda"},
		{"nothing said, one disk", byGUID, silent(), []Disk{imageDisk("sda", 3, 1), foreign("sdb")}, time.Second, time.Second, "sda2", nil, "only sda has the root partition"},
		{"nothing said, too early", byGUID, silent(), []Disk{imageDisk("sda", 3, 1)}, 0, 100 * time.Millisecond, "", nil, ""},
		{"nothing said, two disks", byGUID, silent(), []Disk{imageDisk("sda", 3, 1), imageDisk("sdb", 3, 2)}, time.Second, time.Second, "sda2", nil, "sda, sdb have the root partition"},
		{"nothing said, other image", byGUID, silent(), []Disk{other}, time.Second, time.Second, "", nil, ""},
		{"no disk yet", byGUID, booted(1), nil, 59 * time.Second, 59 * time.Second, "", nil, ""},
		{"no disk", byGUID, booted(1), nil, deadline, deadline, "", []string{"no disk at all", "but no disk is there"}, ""},
		{"no disk, no firmware", byType, silent(), nil, deadline, deadline, "", []string{"looked for: partition type " + rootType().String() + " (root-x86-64;", "no EFI variable BootCurrent"}, ""},
		{"no table", byGUID, silent(), []Disk{foreign("sda")}, deadline, deadline, "", []string{"sda has no partition table that can be read: no partition table header"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decide(Search{Want: tt.want, Firmware: tt.firmware, Disks: tt.disks, Elapsed: tt.elapsed, Quiet: tt.quiet})
			switch {
			case tt.fails != nil:
				if err == nil || got != nil {
					t.Fatalf("Decide() = %+v, %v; want an error", got, err)
				}
				for _, want := range tt.fails {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Decide() does not say %q:\n%v", want, err)
					}
				}
			case err != nil:
				t.Errorf("Decide() = %v", err)
			case tt.device == "":
				if got != nil {
					t.Errorf("Decide() = %+v; want to wait", got)
				}
			case got == nil || got.Device != tt.device || !strings.Contains(strings.Join(got.Notes, "\n"), tt.notes):
				t.Errorf("Decide() = %+v; want %s and a note with %q", got, tt.device, tt.notes)
			}
		})
	}
}

func TestParseCommandLine(t *testing.T) {
	g := rootGUID
	for _, tt := range []struct {
		text string
		want CommandLine
		err  string
	}{
		{"", CommandLine{Panic: defaultPanic}, ""},
		{"root=PARTUUID=" + g.String() + " console=ttyS0,38400n8d\n", CommandLine{Root: &g, Panic: defaultPanic}, ""},
		{"root=partuuid=" + strings.ToUpper(g.String()), CommandLine{Root: &g, Panic: defaultPanic}, ""},
		{"root=/dev/sda1", CommandLine{Panic: defaultPanic}, "root=/dev/sda1"},
		{"root=/dev/sda1 root=PARTUUID=" + g.String(), CommandLine{Root: &g, Panic: defaultPanic}, ""},
		{"panic=0 init=/bin/bash", CommandLine{Init: "/bin/bash", Forever: true}, ""},
		{"panic=-1", CommandLine{}, ""},
		{"panic=5", CommandLine{Panic: 5 * time.Second}, ""},
		{"panic=x", CommandLine{Panic: defaultPanic}, ""},
		{`note="init=/a b" -- init=/c`, CommandLine{Panic: defaultPanic}, ""},
	} {
		got, err := ParseCommandLine(tt.text)
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
			t.Errorf("ParseCommandLine(%q) = %v; want %q", tt.text, err, tt.err)
		}
		got.parameters = nil
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(CommandLine{})); diff != "" {
			t.Errorf("ParseCommandLine(%q) (-want +got):\n%s", tt.text, diff)
		}
	}
	c, err := ParseCommandLine(`scsi_mod.scan=sync scsi-mod.max_luns=1 sd_mod.flag virtio_scsi.x="a b" nodots`)
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{"scsi_mod": "scan=sync max_luns=1", "sd_mod": "flag", "virtio_scsi": `x="a b"`, "ext4": ""} {
		if got := c.ModuleParameters(module); got != want {
			t.Errorf("ModuleParameters(%q) = %q; want %q", module, got, want)
		}
	}
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add(`root=PARTUUID=1813eac9-c56e-81c0-a5c6-2bd98e903104 panic=3 a.b="c d" -- x`)
	f.Fuzz(func(t *testing.T, text string) { _, _ = ParseCommandLine(text) })
}
