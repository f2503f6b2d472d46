package initramfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nodebake/bake/bake/image/gpt"
)

// Disk is a whole disk that the kernel shows.
type Disk struct {
	Name       string         // "sda"
	Path       string         // below /sys: "devices/pci0000:00/..."
	Size       int64          // bytes
	Places     []Hardware     // where it is: several for an NVMe namespace with several controllers, none for what is not on PCI
	Partitions map[int]string // number -> name of the device that the kernel shows: 2 -> "sda2"

	Table    *gpt.Table // filled in by the caller
	TableErr error
}

// ScanDisks lists the disks below the root of sys, which is /sys, sorted by
// where they are and not by the order in which drivers found them.
// Loop devices, RAM disks, optical drives and the like are left out, and disks
// that vanish meanwhile.
func ScanDisks(sys fs.FS) ([]Disk, error) {
	entries, err := fs.ReadDir(sys, "class/block")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // before the first disk's driver is there
	}
	if err != nil {
		return nil, fmt.Errorf("listing disks: %w", err)
	}
	var disks []Disk
	for _, e := range entries {
		if d, ok := scanDisk(sys, e.Name()); ok {
			disks = append(disks, d)
		}
	}
	slices.SortFunc(disks, comparePlaces)
	return disks, nil
}

// comparePlaces orders disks by where they are. Those that are not on PCI come
// last.
func comparePlaces(a, b Disk) int {
	switch {
	case len(a.Places) > 0 && len(b.Places) > 0:
		p, q := a.Places[0], b.Places[0]
		return cmp.Or(
			cmp.Compare(p.Root, q.Root),
			slices.CompareFunc(p.PCI, q.PCI, func(f, g Function) int {
				return cmp.Or(cmp.Compare(f.Device, g.Device), cmp.Compare(f.Function, g.Function))
			}),
			cmp.Compare(p.Unit, q.Unit), cmp.Compare(p.LUN, q.LUN),
			strings.Compare(a.Path, b.Path),
		)
	case len(a.Places) != len(b.Places):
		return cmp.Compare(len(b.Places), len(a.Places))
	}
	return strings.Compare(a.Path, b.Path)
}

func scanDisk(sys fs.FS, name string) (Disk, bool) {
	link, err := fs.ReadLink(sys, "class/block/"+name)
	if err != nil {
		return Disk{}, false
	}
	d := Disk{Name: name, Path: path.Join("class/block", link), Partitions: map[int]string{}}
	if exists(sys, d.Path+"/partition") || strings.HasPrefix(name, "sr") {
		return d, false
	}
	// Virtual devices are no disks, but for NVMe's heads of several paths.
	virtual := strings.HasPrefix(d.Path, "devices/virtual/")
	if virtual && !strings.HasPrefix(d.Path, "devices/virtual/nvme-subsystem/") {
		return d, false
	}
	sectors, ok := readNumber(sys, d.Path+"/size")
	if !ok || sectors == 0 || readText(sys, d.Path+"/hidden") == "1" {
		return d, false
	}
	d.Size = int64(sectors) * gpt.SectorSize // sysfs counts 512 bytes whatever the disk's sectors are
	children, err := fs.ReadDir(sys, d.Path)
	if err != nil {
		return d, false
	}
	for _, c := range children {
		if n, ok := readNumber(sys, d.Path+"/"+c.Name()+"/partition"); ok {
			d.Partitions[int(n)] = c.Name()
		}
	}
	d.Places = places(sys, d.Path)
	return d, true
}

// places returns where a disk is.
func places(sys fs.FS, disk string) []Hardware {
	dirs := []string{disk}
	if strings.HasPrefix(disk, "devices/virtual/nvme-subsystem/") {
		// devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1; beside it are links
		// to the subsystem's controllers.
		dirs = nil
		subsystem := path.Dir(disk)
		entries, err := fs.ReadDir(sys, subsystem)
		if err != nil {
			return nil
		}
		for _, e := range entries {
			if link, err := fs.ReadLink(sys, subsystem+"/"+e.Name()); err == nil && strings.HasPrefix(e.Name(), "nvme") {
				dirs = append(dirs, path.Join(subsystem, link))
			}
		}
	}
	var found []Hardware
	for _, dir := range dirs {
		if h, ok := place(sys, dir); ok {
			if nsid, ok := readNumber(sys, disk+"/nsid"); ok {
				h.Bus, h.Unit = BusNVMe, uint32(nsid)
			}
			found = append(found, h)
		}
	}
	return found
}

// place reads a place off a directory of sysfs: its path goes through every
// device from the host bridge on, such as
// pci0000:00/0000:00:02.0/0000:01:00.0/virtio1/host0/target0:0:1/0:0:1:0.
func place(sys fs.FS, dir string) (Hardware, bool) {
	h := Hardware{}
	rooted := false
	at := ""
	for part := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, part)
		if bus, ok := strings.CutPrefix(part, "pci"); ok && !rooted {
			if n, ok := numbers(bus, ":", 16); ok {
				rooted = true
				// The ACPI _UID of the bridge. Without one its bus number stands
				// in, which is what most firmware uses.
				h.Root = uint32(n[1])
				if uid, ok := readNumber(sys, at+"/firmware_node/uid"); ok {
					h.Root = uint32(uid)
				}
			}
		} else if n, ok := numbers(part, "::.", 16); ok && rooted { // domain:bus:device.function
			h.PCI = append(h.PCI, Function{Device: uint8(n[2]), Function: uint8(n[3])})
		} else if n, ok := numbers(part, ":::", 10); ok && h.Bus == BusNone { // host:channel:target:lun
			h.Bus, h.Unit, h.LUN = BusSCSI, uint32(n[2]), n[3]
		} else if strings.HasPrefix(part, "ata") {
			if port, ok := readNumber(sys, at+"/ata_port/"+part+"/port_no"); ok && port > 0 {
				h.Bus, h.Unit = BusSATA, uint32(port-1) // sysfs counts from 1
			}
		}
	}
	return h, rooted && len(h.PCI) > 0
}

// numbers splits s at each of separators in turn and reads what is between them.
func numbers(s, separators string, base int) ([]uint64, bool) {
	var n []uint64
	for i := range len(separators) + 1 {
		part := s
		if i < len(separators) {
			var found bool
			if part, s, found = strings.Cut(s, separators[i:i+1]); !found {
				return nil, false
			}
		}
		v, err := strconv.ParseUint(part, base, 63)
		if err != nil {
			return nil, false
		}
		n = append(n, v)
	}
	return n, true
}

// matches reports whether a disk is at the place that firmware names.
func (d *Disk) matches(h *Hardware) bool {
	for _, p := range d.Places {
		if p.Root == h.Root && p.Bus == h.Bus && p.Unit == h.Unit && p.LUN == h.LUN && slices.Equal(p.PCI, h.PCI) {
			return true
		}
	}
	return false
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}

func readText(fsys fs.FS, name string) string {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func readNumber(fsys fs.FS, name string) (uint64, bool) {
	n, err := strconv.ParseUint(readText(fsys, name), 10, 63)
	return n, err == nil
}
