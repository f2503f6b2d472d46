package initramfs

import (
	"fmt"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/image/gpt"
)

// Times of the search. Drivers find disks on their own time; polling sysfs
// costs nothing beside that and needs no netlink socket.
const (
	deadline = 60 * time.Second // until the search is given up

	// Before a disk is taken that is not known to be the one that was booted,
	// no new one must have come for so long: another may fit as well.
	quietUnmatched = 5 * time.Second        // the firmware names one that is not there
	quietUnknown   = 500 * time.Millisecond // the firmware names none
)

// Want is the partition that is looked for.
type Want struct {
	GUID *gpt.GUID // nil: any with Type
	Type gpt.GUID  // of a root partition of this architecture
}

// Search is what there is to decide from.
type Search struct {
	Want     Want
	Firmware Firmware
	Disks    []Disk        // as ScanDisks sorts them, with their tables
	Elapsed  time.Duration // since the search began
	Quiet    time.Duration // since the last new disk came
}

// Choice is the decision for a partition.
type Choice struct {
	Device string   // "sda2"
	Notes  []string // lines that say how it was chosen
}

// Decide chooses the root partition. It returns neither a choice nor an error
// where the search should go on. The error, if there is one, is final and has
// several lines.
func Decide(s Search) (*Choice, error) {
	giveUp := s.Elapsed >= deadline
	booted, notes := s.bootedDisk(giveUp)
	if booted != nil {
		if device, ok := s.rootOn(booted); ok {
			return &Choice{device, notes}, nil
		}
		// It is the disk that was booted. A partition elsewhere with the same
		// GUID is another machine's root.
		if giveUp {
			return nil, s.failure(fmt.Sprintf("the disk that was booted, %s, does not have it", booted.Name))
		}
		return nil, nil
	}
	if notes == nil {
		return nil, nil // wait
	}
	return s.anyDisk(notes, giveUp)
}

// bootedDisk returns the disk that was booted and a note how that is known. No
// disk but notes say why it is not known and will not be; neither, that it is
// too early to tell.
func (s *Search) bootedDisk(giveUp bool) (*Disk, []string) {
	var notes []string
	fw := &s.Firmware
	if fw.Hardware != nil {
		var found []*Disk
		for i := range s.Disks {
			if s.Disks[i].matches(fw.Hardware) {
				found = append(found, &s.Disks[i])
			}
		}
		switch {
		case len(found) == 1:
			return found[0], []string{fmt.Sprintf("the firmware booted %s, which is %s", fw.describe(), found[0].Name)}
		case len(found) > 1:
			notes = append(notes, fmt.Sprintf("the firmware booted %s, which is any of %s", fw.describe(), diskNames(found)))
		case s.Quiet < quietUnmatched && !giveUp || len(s.Disks) == 0 && !giveUp:
			return nil, nil
		default:
			notes = append(notes, fmt.Sprintf("the firmware booted %s, but no disk is there", fw.describe()))
		}
	} else {
		if s.Quiet < quietUnknown && !giveUp || len(s.Disks) == 0 && !giveUp {
			return nil, nil
		}
		notes = append(notes, fmt.Sprintf("the firmware does not say which disk it booted: %v", fw.HardwareErr))
	}
	if fw.LoaderPartition == nil {
		return nil, append(notes, fmt.Sprintf("the boot loader does not say where it was started from: %v", fw.LoaderErr))
	}
	var found []*Disk
	for i := range s.Disks {
		if t := s.Disks[i].Table; t != nil && t.Lookup(*fw.LoaderPartition) != nil {
			found = append(found, &s.Disks[i])
		}
	}
	if len(found) == 1 {
		return found[0], append(notes, fmt.Sprintf("the boot loader was started from partition %s, which is on %s", *fw.LoaderPartition, found[0].Name))
	}
	return nil, append(notes, fmt.Sprintf("the boot loader was started from partition %s, which is on %s", *fw.LoaderPartition, diskNames(found)))
}

// anyDisk takes the root partition from any disk: the only one that has it, or
// the first by place.
func (s *Search) anyDisk(notes []string, giveUp bool) (*Choice, error) {
	var devices, on []string
	for i := range s.Disks {
		if device, ok := s.rootOn(&s.Disks[i]); ok {
			devices = append(devices, device)
			on = append(on, s.Disks[i].Name)
		}
	}
	switch {
	case len(devices) == 1:
		return &Choice{devices[0], append(notes, fmt.Sprintf("only %s has the root partition", on[0]))}, nil
	case len(devices) > 1:
		return &Choice{devices[0], append(notes, fmt.Sprintf("%s have the root partition, and it may be the wrong one: taking that of %s, the first by place",
			strings.Join(on, ", "), on[0]))}, nil
	case giveUp:
		return nil, s.failure(notes...)
	}
	return nil, nil
}

// rootOn returns the device of the partition that is wanted on d, once the
// kernel shows it.
func (s *Search) rootOn(d *Disk) (string, bool) {
	if d.Table == nil {
		return "", false
	}
	for _, p := range d.Table.Partitions {
		if s.Want.GUID != nil && p.GUID == *s.Want.GUID || s.Want.GUID == nil && p.Type == s.Want.Type {
			device, ok := d.Partitions[p.Number]
			return device, ok
		}
	}
	return "", false
}

// failure says at length what was looked for and what there is.
func (s *Search) failure(why ...string) error {
	lines := []string{"the root partition was not found"}
	if s.Want.GUID != nil {
		lines = append(lines, fmt.Sprintf("looked for: partition GUID %s (kernel argument root=)", *s.Want.GUID))
	} else {
		lines = append(lines, fmt.Sprintf("looked for: partition type %s (%s; no kernel argument root=)", s.Want.Type, gpt.TypeName(s.Want.Type)))
	}
	lines = append(lines, fmt.Sprintf("for: %d s", int(s.Elapsed.Seconds())))
	lines = append(lines, "booted from: "+s.Firmware.describe())
	for _, w := range why {
		lines = append(lines, "because: "+w)
	}
	if len(s.Disks) == 0 {
		lines = append(lines, "seen: no disk at all; is the driver of its controller among the modules of the initramfs?")
	}
	for i := range s.Disks {
		lines = append(lines, s.Disks[i].describe()...)
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}

// describe lists a disk and its partitions, a line each.
func (d *Disk) describe() []string {
	head := fmt.Sprintf("seen: %s, %d MiB, %s", d.Name, d.Size>>20, d.Path)
	if d.Table == nil {
		if d.TableErr != nil {
			return []string{head, fmt.Sprintf("seen: %s has no partition table that can be read: %v", d.Name, d.TableErr)}
		}
		return []string{head}
	}
	lines := []string{head}
	for _, p := range d.Table.Partitions {
		device, ok := d.Partitions[p.Number]
		if !ok {
			device = fmt.Sprintf("%s partition %d, which the kernel does not show", d.Name, p.Number)
		}
		lines = append(lines, fmt.Sprintf("seen: %s, GUID %s, type %s, name %q", device, p.GUID, gpt.TypeName(p.Type), p.Name))
	}
	return lines
}

func diskNames(disks []*Disk) string {
	if len(disks) == 0 {
		return "no disk"
	}
	names := make([]string, len(disks))
	for i, d := range disks {
		names[i] = d.Name
	}
	return strings.Join(names, ", ")
}
