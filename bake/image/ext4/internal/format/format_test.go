package format

import (
	"encoding/binary"
	"testing"
)

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		name string
		v    any
		want int
	}{
		{"SuperBlock", SuperBlock{}, SuperBlockSize},
		{"GroupDesc", GroupDesc{}, GroupDescSize},
		{"Inode", Inode{}, InodeFixedSize},
		{"ExtentHeader", ExtentHeader{}, ExtentEntrySize},
		{"Extent", Extent{}, ExtentEntrySize},
		{"ExtentIndex", ExtentIndex{}, ExtentEntrySize},
		{"DirEntry", DirEntry{}, DirEntrySize},
		{"DirTail", DirTail{}, DirTailSize},
		{"XattrBlockHeader", XattrBlockHeader{}, XattrBlockHeaderSize},
		{"XattrEntry", XattrEntry{}, XattrEntrySize},
		{"JournalSuperBlock", JournalSuperBlock{}, 1024},
	} {
		if got := binary.Size(test.v); got != test.want {
			t.Errorf("binary.Size(%s) = %d; want %d", test.name, got, test.want)
		}
	}
}
