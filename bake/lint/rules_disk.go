package lint

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/gpt"
)

func diskRules() []Rule {
	return []Rule{{
		ID:   "archive",
		Must: "a tar.gz is one gzip member with one regular old-GNU tar member disk.raw, and nothing after it",
		Why:  "the importer takes nothing else " + fromImport,
		check: func(s *subject) []string {
			return wrong(s.faults.Archive)
		},
	}, {
		ID:    "image-name",
		Must:  "the file's name is an image name: a lower-case letter, then up to 62 of a-z, 0-9 and -, not - at the end",
		Why:   "images are named like this, and the file's name is what people name them after [Compute Engine: Naming resources; RFC 1035 section 2.3.1]",
		check: checkName,
	}, {
		ID:    "disk-size",
		Must:  "the disk is a whole number of GiB, at most 2048 GB",
		Why:   "Compute Engine refuses other sizes " + fromImport,
		needs: needsDisk,
		check: func(s *subject) []string {
			switch {
			case s.Size%gce.GiB != 0:
				return []string{fmt.Sprintf("the disk has %d bytes, which is no whole number of GiB", s.Size)}
			case s.Size > gce.MaxImageSize:
				return []string{fmt.Sprintf("the disk has %d GiB", s.Size/gce.GiB)}
			}
			return nil
		},
	}, {
		ID:    "partition-table",
		Must:  "there is a GPT with a protective MBR, and its backup, equal, in the disk's last sector",
		Why:   "firmware boots from a GPT; tools that grow the disk refuse a damaged one, and systemd-repart does not run then [UEFI 2.10, section 5.3]",
		needs: needsDisk,
		check: func(s *subject) []string {
			if s.faults.Table != nil {
				return wrong(s.faults.Table)
			}
			if want := s.Size - gpt.SectorSize; s.Table.Backup != want {
				return []string{fmt.Sprintf("the backup is at byte %d; the last sector is at %d", s.Table.Backup, want)}
			}
			return nil
		},
	}, {
		ID:    "esp",
		Must:  "there is exactly one EFI system partition, and it is FAT32 that can be read",
		Why:   "UEFI firmware boots from it; without one the image needs a BIOS boot loader, which this one has not [UEFI 2.10, section 13.3]",
		needs: needsTable,
		check: func(s *subject) []string { return wrong(s.faults.ESP) },
	}, {
		ID:    "root",
		Must:  "there is exactly one root partition, typed for its architecture, with an intact ext4 filesystem",
		Why:   "the initramfs finds the root by it, and systemd-repart grows it [Discoverable Partitions Specification, UAPI.2]",
		needs: needsTable,
		check: func(s *subject) []string {
			if s.faults.Root != nil {
				return wrong(s.faults.Root)
			}
			return wrong(s.Root.Verify())
		},
	}, {
		ID:    "root-grows",
		Must:  "the root is the disk's last partition, systemd-repart is told to grow it, and fstab to grow its filesystem",
		Why:   "instances have larger disks than their image; a root that stays small fills up with container images",
		needs: needsRoot,
		check: checkGrowth,
	}}
}

func checkName(s *subject) []string {
	name := filepath.Base(s.Path)
	for _, suffix := range []string{".tar.gz", ".raw"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if err := gce.CheckImageName(name); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func checkGrowth(s *subject) []string {
	var p problems
	for i := range s.Table.Partitions {
		part := &s.Table.Partitions[i]
		if root := s.rootPartition(); part.Start > root.Start {
			p.add("partition %d lies behind the root", part.Number)
		}
	}
	grows := false
	for _, path := range s.files.Fragments(".conf", "etc/repart.d", "run/repart.d", "usr/local/lib/repart.d", "usr/lib/repart.d") {
		options, err := s.files.options(path)
		p.err(err)
		kind := last(options, "Partition", "Type")
		grows = grows || kind == "root" || strings.HasPrefix(kind, "root-")
	}
	if !grows {
		p.add("no file in /etc/repart.d has Type=root")
	}
	if !s.files.Exists("usr/bin/systemd-repart") {
		p.add("there is no /usr/bin/systemd-repart")
	}
	mounts, err := s.files.fstab()
	p.err(err)
	for _, m := range mounts {
		if m.dir == "/" && !strings.Contains(","+m.options+",", ",x-systemd.growfs,") {
			p.add("/etc/fstab mounts / without x-systemd.growfs")
		}
	}
	if len(mounts) == 0 {
		p.add("/etc/fstab does not name /")
	}
	return p
}
