package verify_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestVerify makes images again, as they are and broken at one place each.
// Where that place is, e2fsprogs says, or the bytes that are there. What else a
// place can belong to, locatePlaces and the packages ext4 and fat test.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	archived := w.Image(c)
	rawConfig := c
	rawConfig.Format, rawConfig.Out = bake.Raw, filepath.Join(t.TempDir(), "raw")
	whole := w.Image(rawConfig)
	raw := newDisk(t, whole)

	t.Run("the same", func(t *testing.T) {
		baketest.WantSame(t, c, archived) // its digest is known
		baketest.WantSame(t, c, whole)
		baketest.WantSame(t, w.Config(), archived) // compressed again
		fresh := w.Config()
		fresh.Jobs = 1
		baketest.WantSame(t, fresh, whole)
	})

	t.Run("places", func(t *testing.T) {
		locatePlaces(t, raw, w.Package("linux-image-" + baketest.KernelVersion).Files[0].Content)
	})

	const size = 1 << 30
	root := raw.start["root"]
	version := raw.find("/usr/lib/bake/image.json", `"version": "0.5"`) + 13
	for _, test := range []struct {
		name    string
		at      int64
		want    verify.Difference
		changed string // is among the changes
	}{
		{"a file of a package", raw.content("/usr/bin/tool", 1_234_567),
			verify.Difference{Partition: "root", Path: "/usr/bin/tool", Offset: 1_234_567, What: "content"}, "file /usr/bin/tool"},
		{"the record", version,
			verify.Difference{Partition: "root", Path: "/usr/lib/bake/image.json", Offset: version - raw.content("/usr/lib/bake/image.json", 0), What: "content"}, "package shell"},
		{"the header of the partition table", 512 + 56, verify.Difference{Offset: 512 + 56, What: "partition table"}, ""},
		{"free space", size - 8<<20, verify.Difference{Partition: "root", Offset: size - 8<<20 - root, What: "free space"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after, undo := raw.flip(test.at)
			defer undo()
			result, err := baketest.Verify(t, c, raw.path)
			if err != nil {
				t.Fatal(err)
			}
			test.want.DiskOffset, test.want.Want, test.want.Got = test.at, hex.EncodeToString(before), hex.EncodeToString(after)
			if diff := cmp.Diff(&test.want, result.Difference); diff != "" || result.Identical || !result.Rebuilt {
				t.Errorf("Verify() = %+v; difference (-want +got):\n%s", result, diff)
			}
			if changes := fmt.Sprint(result.Changes); !strings.Contains(changes, test.changed) {
				t.Errorf("changes are %s; want %q among them", changes, test.changed)
			}
		})
	}
	t.Run("archives", func(t *testing.T) { verifyArchives(t, c, archived.Path, raw.path) })

	for _, test := range []struct {
		name   string
		damage func(d *disk)
		want   verify.Difference
	}{
		{"cut off", func(d *disk) {
			must.Do(os.Truncate(d.path, 900<<20))
		}, verify.Difference{Partition: "root", Offset: 900<<20 - root, DiskOffset: 900 << 20, Want: strings.Repeat("00", 16),
			What: "free space, and everything behind it, is missing: the disk has 943718400 bytes, want 1073741824"}},
		{"longer", func(d *disk) { d.write(size, make([]byte, 4096)) },
			verify.Difference{Offset: size, DiskOffset: size, Got: strings.Repeat("00", 16), What: "the disk has 1073745920 bytes, want 1073741824"}},
		{"an input that was altered", func(d *disk) { d.write(d.find("/usr/lib/bake/inputs/versions.yaml", "distribution"), []byte("D")) },
			verify.Difference{Partition: "root", Path: "/usr/lib/bake/inputs/versions.yaml", Offset: -1, DiskOffset: -1, What: "the file has sha256:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := raw.copied(t)
			test.damage(d)
			result, err := baketest.Verify(t, c, d.path)
			if err != nil {
				t.Fatal(err)
			}
			wantDifference(t, result, test.want)
		})
	}

	for _, test := range []struct {
		name   string
		damage func(d *disk)
		kind   string
		want   []string
	}{
		{"no record", func(d *disk) { d.debugfs("-w", "-R", "rm /usr/lib/bake/image.json") },
			"input", []string{" holds no /usr/lib/bake/image.json: without it nothing says what it was made from"}},
		{"no lock", func(d *disk) { d.debugfs("-w", "-R", "rm /usr/lib/bake/inputs/versions.lock") },
			"input", []string{" holds no /usr/lib/bake/inputs/versions.lock: "}},
		{"record that is broken", func(d *disk) { d.write(d.find("/usr/lib/bake/image.json", `"schema"`), []byte("!")) },
			"failed", []string{"reading /usr/lib/bake/image.json in "}},
		{"record of another form", func(d *disk) {
			d.write(d.find("/usr/lib/bake/image.json", `"schema": 1`), []byte(`"schema": 9`))
		}, "failed", []string{"schema 9, this bake knows 1 (use the bake that made it)"}},
		{"another firstboot", func(d *disk) {
			at := d.find("/usr/lib/bake/image.json", `"firstboot": "sha256:`) + 21
			d.write(at, []byte("0123456789abcdef"))
		}, "input", []string{": it was made with embedded program firstboot sha256:0123456789abcdef", ", this bake has sha256:", "(use the bake that made the image)"}},
		{"other units", func(d *disk) {
			d.write(d.find("/usr/lib/bake/image.json", `"units": "sha256:`)+17, []byte("0123456789abcdef"))
		}, "input", []string{": it was made with units sha256:0123456789abcdef"}},
		{"the way to the record is damaged", func(d *disk) {
			at, _ := d.inode("/usr/lib/bake")
			d.write(at+4, []byte{0xff, 0xff})
		}, "failed", []string{"reading /usr/lib/bake/image.json in ", "it is corrupt; nothing else says what it was made from"}},
		{"nothing but zeroes", func(d *disk) { d.write(0, make([]byte, 1<<20)) },
			"input", []string{"it is neither a tar.gz nor a disk with a partition table"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := raw.copied(t)
			test.damage(d)
			result, err := baketest.Verify(t, c, d.path)
			baketest.WantError(t, err, test.kind, test.want...)
			if result != nil {
				t.Errorf("Verify() = %+v; want nothing beside the error", result)
			}
		})
	}

	t.Run("another definition", func(t *testing.T) {
		restore := w.Snapshot()
		defer restore()
		w.Edit("definition/files/etc/tool.conf", "yes", "maybe")
		baketest.WantSame(t, c, whole) // the image has its own
	})
	t.Run("no image", func(t *testing.T) {
		_, err := baketest.Verify(t, c, filepath.Join(t.TempDir(), baketest.ImageName))
		baketest.WantError(t, err, "input", "no such file")
	})
	t.Run("parts that are unavailable", func(t *testing.T) {
		restore := w.Snapshot()
		defer restore()
		w.Remove(w.Package("tool").Pool())
		_, err := baketest.Verify(t, w.Config(), raw.path)
		baketest.WantError(t, err, "superseded", "tool 1.0 is unavailable")
	})
	t.Run("damaged store", func(t *testing.T) {
		for _, path := range baketest.PackData(t, c.Cache, w.PackKey("tool"), "release 1") {
			filetest.FlipAt(t, path, -1)
		}
		baketest.WantSame(t, c, whole)
	})
}

// wantDifference compares the difference; What begins as want's does.
func wantDifference(t *testing.T, result *verify.Result, want verify.Difference) {
	t.Helper()
	got := *result.Difference
	if !strings.HasPrefix(got.What, want.What) {
		t.Errorf("difference is %q; want %q", got.What, want.What)
	}
	got.What = want.What
	if diff := cmp.Diff(want, got); diff != "" || result.Identical {
		t.Errorf("Verify() = %+v; difference (-want +got):\n%s", result, diff)
	}
}

// verifyArchives breaks what is around the disk, which raw is.
func verifyArchives(t *testing.T, c bake.Config, archived, raw string) {
	whole := filetest.Read(t, archived)
	for _, test := range []struct {
		name string
		make func(out string)
		want verify.Difference // What begins so; Want and Got are not compared
	}{
		{"packed by tar", func(out string) { // and another gzip at another level
			dir := t.TempDir()
			filetest.Link(t, raw, filepath.Join(dir, "disk.raw"))
			f := filetest.Create(t, out)
			z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
			if err != nil {
				t.Fatal(err)
			}
			z.ModTime = time.Unix(0, 0) // what gzip writes of a pipe
			cmd := exec.Command("tar", "--format=oldgnu", "--dereference", "-C", dir, "-cf", "-", "disk.raw")
			cmd.Stdout = z
			if err := errors.Join(cmd.Run(), z.Close(), f.Close()); err != nil {
				t.Fatal(err)
			}
		}, verify.Difference{Partition: "archive", DiskOffset: -1, Offset: 8, What: "the disk is the same, byte by byte; the archive around it was made by something else"}},
		{"bytes behind the archive", func(out string) { filetest.Write(t, out, append(bytes.Clone(whole), "more"...)) },
			verify.Difference{Partition: "archive", DiskOffset: -1, Offset: int64(len(whole)), What: "the disk is the same, byte by byte; the archive around it is damaged: garbage follows the gzip member"}},
		{"end of the archive cut off", func(out string) { filetest.Write(t, out, whole[:len(whole)-9]) },
			verify.Difference{Partition: "archive", DiskOffset: -1, Offset: int64(len(whole) - 9), What: "the disk is the same, byte by byte; the archive around it is damaged: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), baketest.ImageName)
			test.make(out)
			result, err := baketest.Verify(t, c, out)
			if err != nil {
				t.Fatal(err)
			}
			result.Difference.Want, result.Difference.Got = "", ""
			wantDifference(t, result, test.want)
			if len(result.Changes) > 0 {
				t.Errorf("changes are %v; want none", result.Changes)
			}
			if result.SHA256 != manifesttest.DigestFile(t, out) {
				t.Errorf("digest is %s; want that of the file", result.SHA256)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		// The whole root filesystem but its last, empty, part.
		for _, cut := range []int{len(whole) * 99 / 100, len(whole) / 2} {
			out := filepath.Join(t.TempDir(), baketest.ImageName)
			filetest.Write(t, out, whole[:cut])
			result, err := baketest.Verify(t, c, out)
			if err != nil {
				baketest.WantError(t, err, "failed", "nothing else says what it was made from", "unexpected EOF")
				continue
			}
			if d := result.Difference; d == nil || !strings.Contains(d.What, "is missing: reading disk.raw at ") || d.Got != "" {
				t.Errorf("cut at %d of %d: difference is %+v; want that the rest is missing", cut, len(whole), d)
			}
		}
	})
	t.Run("no tar", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), baketest.ImageName)
		filetest.Write(t, out, archivetest.Gzip([]byte("no image\n")))
		_, err := baketest.Verify(t, c, out)
		baketest.WantError(t, err, "input", "reading the tar header: ")
	})
}

// TestVerifyOrigins makes again what was built from source, whether or not its
// release is available by now, and what was taken from the release.
func TestVerifyOrigins(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	restore := w.Snapshot()
	w.Remove(baketest.KubeletRelease)
	c := w.Config()
	c.BuildMissing = true
	built := w.Image(c)
	rec := baketest.ReadRecord(t, c)
	for _, name := range []string{"modules/kubelet/go.mod", "modules/kubelet/go.sum"} {
		if got, want := rec.Inputs.Modules[name], manifesttest.DigestFile(t, filepath.Join(w.Dir, name)); got != want {
			t.Errorf("the record has %s with %s; want %s", name, got, want)
		}
	}
	restore()

	w.Gets()
	baketest.WantSame(t, w.Config(), built)
	if got := w.Gets(); strings.Contains(strings.Join(got, " "), baketest.KubeletRelease) {
		t.Error("the release of kubelet was asked for; want it built")
	}

	c = w.Config()
	released := w.Image(c)
	if rec := baketest.ReadRecord(t, c); len(rec.Inputs.Modules) > 0 {
		t.Errorf("the record has modules %v; want none where nothing was built", rec.Inputs.Modules)
	}
	baketest.WantSame(t, w.Config(), released)
	w.Remove(baketest.KubeletRelease)
	_, err := baketest.Verify(t, w.Config(), released.Path)
	baketest.WantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at ")
}

// TestVerifyCancel cancels at many places.
func TestVerifyCancel(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	image := w.Image(w.Config())
	var all progresstest.Recorder
	c := w.Config()
	c.Progress = &all
	baketest.WantSame(t, c, image)
	const points = 4
	for i := range points {
		at := 1 + i*(all.Events-1)/(points-1)
		c := w.Config()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var cancelled time.Time
		c.Progress = &progresstest.Recorder{On: func(event int) {
			if event == at {
				cancelled = time.Now()
				cancel()
			}
		}}
		v := baketest.VerifyConfig(t, c, image.Path)
		_, err := verify.Run(ctx, v)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at event %d: Verify() = %v; want that it was cancelled", at, err)
		}
		if took := time.Since(cancelled); !cancelled.IsZero() && took > progresstest.Prompt {
			t.Errorf("cancelled at event %d: it returned after %v", at, took)
		}
		filetest.WantEmpty(t, v.TmpDir)
		c.Progress = nil
		if i == points/2 {
			baketest.WantSame(t, c, image)
		}
	}
}
