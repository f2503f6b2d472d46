//go:build system

package image

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
)

func TestArchiveIsWhatComputeEngineImports(t *testing.T) {
	s := theImage(t)
	run(t, "gzip", "-t", s.archive)
	listing := strings.TrimSpace(run(t, "tar", "-tvzf", s.archive))
	if strings.Count(listing, "\n") != 0 || !strings.HasSuffix(listing, " disk.raw") || !strings.HasPrefix(listing, "-rw-r--r--") {
		t.Errorf("tar -tvzf = %q; want one regular file disk.raw", listing)
	}
	info := filetest.Stat(t, s.disk)
	if info.Size() != s.record.Disk.Size || info.Size()%(1<<30) != 0 {
		t.Errorf("disk.raw has %d bytes, the record says %d; want equal and whole GiB", info.Size(), s.record.Disk.Size)
	}
	// magic and version of an old-GNU header, at offset 257
	magic := run(t, "bash", "-c", "gzip -dc '"+s.archive+"' 2>/dev/null | head -c 265 | tail -c 8")
	if magic != "ustar  \x00" {
		t.Errorf("the member's magic is %q; want old GNU's, ustar and two spaces", magic)
	}
	run(t, filepath.Join(root, "bin/bake"), "lint", s.archive)
}

func TestPartitionTable(t *testing.T) {
	s := theImage(t)
	if out := run(t, "sgdisk", "--verify", s.disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify:\n%s", out)
	}
}

func TestFileSystems(t *testing.T) {
	s := theImage(t)
	run(t, "e2fsck", "-fn", s.root)
	run(t, "fsck.vfat", "-n", s.esp)
	listing := run(t, "mdir", "-i", s.esp, "-/", "-b", "::")
	for _, want := range []string{"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/BOOT/grubx64.efi", "::/loader/loader.conf"} {
		if !strings.Contains(strings.ToLower(listing), strings.ToLower(want)) {
			t.Errorf("the ESP lacks %s:\n%s", want, listing)
		}
	}
}
