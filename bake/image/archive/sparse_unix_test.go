//go:build unix

package archive

import (
	"os"
	"syscall"
	"testing"
)

// allocated returns how many bytes f takes on its disk.
func allocated(t *testing.T, f *os.File) int64 {
	t.Helper()
	if err := f.Sync(); err != nil { // some filesystems allocate late
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestFilesAreSparse(t *testing.T) {
	l := mixedList()
	f := create(t)
	if err := WriteRaw(t.Context(), f, l, Options{}); err != nil {
		t.Fatal(err)
	}
	if got, limit := allocated(t, f), contentSize(l)+256<<10; got > limit {
		t.Errorf("WriteRaw takes %d bytes on the disk; want at most %d of %d", got, limit, l.Size)
	}

	out, _ := write(t, l, Options{})
	unpacked, _, err := unpackAll(t.Context(), t, out)
	if err != nil {
		t.Fatal(err)
	}
	// A mebibyte of the content is zeroes, which unpacking finds.
	if got, limit := allocated(t, unpacked), contentSize(l)-1<<20+256<<10; got > limit {
		t.Errorf("unpacking takes %d bytes on the disk; want at most %d of %d", got, limit, l.Size)
	}
}
