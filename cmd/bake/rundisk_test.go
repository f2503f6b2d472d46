package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/manifest"
)

// rawImage is what a disk begins with.
func rawImage() []byte {
	image := make([]byte, 1024)
	copy(image[512:], "EFI PART")
	return image
}

func diskSession(t *testing.T, image, disk string) (*session, *bytes.Buffer) {
	t.Helper()
	var notes bytes.Buffer
	s := &session{runner: &runner{host: &host{stdout: io.Discard, stderr: &notes}, image: image, diskFile: disk}}
	t.Cleanup(s.close)
	return s, &notes
}

func TestKeptDisk(t *testing.T) {
	t.Parallel()
	for _, packed := range []bool{false, true} {
		dir := t.TempDir()
		image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk.raw")
		content := writeImage(t, image, packed)
		s, _ := diskSession(t, image, disk)
		s.size, s.host.shown.quiet = int64(len(content))+1<<20, packed // the unpacking is shown otherwise
		if err := s.keptDisk(t.Context(), packed); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(content)+1<<20 || !bytes.Equal(got[:len(content)], content) {
			t.Errorf("packed %v: the disk has %d bytes; want the image's %d and 1 MiB", packed, len(got), len(content))
		}
		info, err := os.Stat(disk)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode(); mode != 0o600 && runtime.GOOS != "windows" {
			t.Errorf("packed %v: the disk's mode is %v; want that of its owner alone", packed, mode)
		}
		if opened, err := s.disk.File.Stat(); err != nil || !os.SameFile(opened, info) || s.disk.Path != disk {
			t.Errorf("packed %v: QEMU is given %+v, %v; want the disk", packed, s.disk, err)
		}
		if diff := cmp.Diff([]string{"disk.raw", "image"}, names(t, dir)); diff != "" {
			t.Errorf("packed %v: the directory differs (-want +got):\n%s", packed, diff)
		}
		// The next run starts it as it is.
		if err := os.WriteFile(disk, append(content, "kept"...), 0o600); err != nil {
			t.Fatal(err)
		}
		s, notes := diskSession(t, image, disk)
		if err := s.keptDisk(t.Context(), packed); err != nil {
			t.Fatal(err)
		}
		if want := "bake: starting " + disk + " as it is; " + image + " is not used\n"; notes.String() != want {
			t.Errorf("packed %v: the next run says %q; want %q", packed, notes, want)
		}
		if info, err = os.Stat(disk); err != nil || info.Size() != int64(len(content))+4 {
			t.Errorf("packed %v: the kept disk has %d bytes, %v; want it as it was", packed, info.Size(), err)
		}
		s, _ = diskSession(t, image, disk)
		s.size, s.diskSize = 512, "512"
		var usage *usageError
		if err := s.keptDisk(t.Context(), packed); !errors.As(err, &usage) {
			t.Errorf("packed %v: a smaller size = %v; want wrong usage", packed, err)
		}
	}
}

// writeImage writes a small image and returns its disk.
func writeImage(t *testing.T, path string, packed bool) []byte {
	t.Helper()
	m := inspecttest.New()
	m.Size, m.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	list, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if packed {
		if _, err := archive.WriteTarGz(t.Context(), f, list, archive.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.Create(filepath.Join(t.TempDir(), "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := archive.WriteRaw(t.Context(), raw, list, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(raw.Name())
	if err == nil && !packed {
		err = os.WriteFile(path, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestKeptDiskIsAFile: what a stranger may have put where the disk is to be.
func TestKeptDiskIsAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image, packed := filepath.Join(dir, "image.raw"), filepath.Join(dir, "packed")
	victim, missing := filepath.Join(dir, "victim"), filepath.Join(dir, "missing")
	for path, content := range map[string][]byte{image: rawImage(), victim: rawImage(), packed: {0x1f, 0x8b, 8}, filepath.Join(dir, "text"): []byte("text")} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": victim, "dangling": missing} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"link":      "it is a symbolic link; want the file itself",
		"dangling":  "it is a symbolic link; want the file itself",
		"directory": "is a directory",
		"packed":    "it is a tar.gz; want a disk that an earlier run has made",
		"text":      "it is neither a tar.gz nor a disk with a partition table",
	} {
		disk := filepath.Join(dir, name)
		s, _ := diskSession(t, image, disk)
		s.size = 1 << 30
		err := s.keptDisk(t.Context(), false)
		if _, ok := errors.AsType[*manifest.ArgumentError](err); !ok || err.Error() != "--disk "+disk+": "+want {
			t.Errorf("--disk %s = %v; want %s", name, err, want)
		}
	}
	if got, err := os.ReadFile(victim); err != nil || !bytes.Equal(got, rawImage()) {
		t.Errorf("what the link leads to was changed, %v", err)
	}
	if _, err := os.Lstat(missing); err == nil {
		t.Error("what the link leads to was made")
	}
}

func TestDiskThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte{0x1f, 0x8b, 8, 0, 0}, 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ := diskSession(t, image, filepath.Join(dir, "disk.raw"))
	s.host.shown.quiet = true
	if err := s.keptDisk(t.Context(), true); err == nil || !strings.Contains(err.Error(), "unpacking") {
		t.Errorf("keptDisk from a broken image = %v; want an error", err)
	}
	if diff := cmp.Diff([]string{"image"}, names(t, dir)); diff != "" {
		t.Errorf("the directory differs (-want +got):\n%s", diff)
	}
}
