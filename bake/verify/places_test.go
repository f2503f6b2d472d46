package verify_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/test/filetest"
)

// locatePlaces asks what bytes of raw belong to.
func locatePlaces(t *testing.T, raw *disk, kernelContent string) {
	f := filetest.Open(t, raw.path)
	const size = 1 << 30
	esp, root := raw.start["esp"], raw.start["root"]
	kernel := bytes.Index(raw.read(esp, 32<<20), []byte(kernelContent))
	if kernel < 0 {
		t.Fatal("the kernel is not on the ESP")
	}
	inode, number := raw.inode("/etc/tool.conf")
	for _, test := range []struct {
		at   int64
		want inspect.Place
	}{
		{raw.content("/usr/bin/tool", 1_499_999), inspect.Place{Partition: "root", Path: "/usr/bin/tool", Offset: 1_499_999, What: "content"}},
		{raw.content("/usr/bin/tool", 1_499_999) + 1, inspect.Place{Partition: "root", Path: "/usr/bin/tool", Offset: 1_500_000, What: "behind the end of the content"}},
		{esp + int64(kernel) + 4711, inspect.Place{Partition: "esp", Path: "/tiny/" + baketest.KernelVersion + "/linux", Offset: 4711, What: "content"}},
		{512 + 56, inspect.Place{Offset: 512 + 56, What: "partition table"}},
		{size - 1, inspect.Place{Offset: size - 1, What: "partition table"}},
		{512 << 10, inspect.Place{Offset: 512 << 10, What: "between partitions"}},
		{inode + 4, inspect.Place{Partition: "root", Path: "/etc/tool.conf", Offset: inode + 4 - root, What: "inode " + number}},
		{size, inspect.Place{Offset: size, What: "behind the end of the disk"}},
	} {
		got, err := inspect.Locate(f, size, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Locate(%d) (-want +got):\n%s", test.at, diff)
		}
	}
}
