//go:build linux

package bake_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/test/filetest"
)

// TestFullDisk bakes where there is too little room, then where there is
// enough.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	for _, test := range []struct {
		name string
		dir  func(c bake.Config) string // that is too small
		size int                        // bytes
		want []string
	}{
		{"store, foreseen", func(c bake.Config) string { return c.Cache }, 1 << 20,
			[]string{"the filesystem of the store %s is full: ", " bytes are needed, ", "; make room, or give another directory with --cache (run: bake cache prune --cache "}},
		{"store", func(c bake.Config) string { return c.Cache }, 6 << 20,
			[]string{"the filesystem of the store %s is full: ", "no space left on device"}},
		{"output", func(c bake.Config) string { return c.Out }, 4 << 20,
			[]string{"writing %s/" + baketest.ImageName + ": writing the archive: ", "no space left on device (make room, or give another directory by --output)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Config()
			dir := test.dir(c)
			grow, ok := smallDisk(t, dir, test.size)
			if !ok {
				t.Log("mounting a tmpfs is not permitted; TestFileSizeLimit does what can be done")
				return
			}
			_, err := baketest.Image(t.Context(), c)
			for i := range test.want {
				if i == 0 {
					test.want[i] = fmt.Sprintf(test.want[i], dir)
				}
			}
			baketest.WantError(t, err, "failed", test.want...)
			baketest.WantNothing(t, c)
			grow()
			baketest.WantImage(t, c, w.Image(c), want)
		})
	}
}

// smallDisk mounts a filesystem of so many bytes on dir, and returns what makes
// it large.
func smallDisk(t *testing.T, dir string, size int) (grow func(), ok bool) {
	t.Helper()
	filetest.Mkdir(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return func() {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=100m"); err != nil {
			t.Fatal(err)
		}
	}, true
}

// TestFileSizeLimit bakes where no file may be larger than some, which needs no
// rights to arrange.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	for _, test := range []struct {
		name  string
		limit uint64
		want  string
	}{
		{"store", 1 << 20, "the filesystem of the store %[1]s is full: "},
		{"output", 4 << 20, "writing %[2]s: writing the archive: write "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.Config()
			_, err := spawn(t.Context(), w, c, limits{FileSize: test.limit})
			baketest.WantError(t, err, "failed", fmt.Sprintf(test.want, c.Cache, filepath.Join(c.Out, baketest.ImageName))[:len(test.want)], "file too large")
			baketest.WantNothing(t, c)
			result, err := spawn(t.Context(), w, c, limits{})
			if err != nil {
				t.Fatal(err)
			}
			baketest.WantImage(t, c, result, want)
		})
	}
}
