package bake_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/verify"
)

// verifyImage verifies an image with c and fails where it leaves anything behind.
func verifyImage(t *testing.T, c bake.Config, image string) (*verify.Result, error) {
	t.Helper()
	tmp := t.TempDir()
	result, err := verify.Run(t.Context(), verify.Config{Image: image, TmpDir: tmp, TrustInputs: true, Options: c.Options, Units: c.Units, Definition: c.Definition})
	if left := list(t, tmp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %q", left)
	}
	wantClean(t, c)
	return result, err
}

// wantSame fails unless an image is found to be what its inputs make.
func wantSame(t *testing.T, c bake.Config, made *bake.Result) {
	t.Helper()
	got, err := verifyImage(t, c, made.Path)
	if err != nil {
		t.Fatalf("Verify(%s) = %v", made.Path, err)
	}
	want := &verify.Result{Image: made.Path, SHA256: made.SHA256, Size: made.Size, Rebuilt: true, Identical: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Verify(%s) (-want +got):\n%s", made.Path, diff)
	}
}

// inspected is what Verify needs of a configuration: nothing about inputs that
// the image itself has.
func inspected(c bake.Config) bake.Config {
	c.Versions, c.Lock, c.Arch, c.Out, c.Format, c.Origin = "", "", "", "", "", ""
	return c
}

// disk is a raw image that a test changes.
type disk struct {
	t     *testing.T
	path  string
	start map[string]int64 // of partitions
}

func newDisk(t *testing.T, path string, rec *record.Record) *disk {
	d := &disk{t, path, map[string]int64{}}
	for _, p := range rec.Disk.Partitions {
		d.start[p.Name] = p.Start
	}
	return d
}

// copied is another file with the same content, for a test of its own.
func (d *disk) copied(t *testing.T) *disk {
	t.Helper()
	c := *d
	c.t, c.path = t, filepath.Join(t.TempDir(), filepath.Base(d.path))
	if out, err := exec.Command("cp", "--sparse=always", d.path, c.path).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return &c
}

// debugfs asks e2fsprogs about the root filesystem.
func (d *disk) debugfs(args ...string) string {
	d.t.Helper()
	path, err := exec.LookPath("debugfs")
	if err != nil {
		if os.Getenv("CI") != "" {
			d.t.Fatal("debugfs is missing: apt-get install e2fsprogs")
		}
		d.t.Skip("debugfs is missing: apt-get install e2fsprogs")
	}
	cmd := exec.Command(path, append(args, fmt.Sprintf("%s?offset=%d", d.path, d.start["root"]))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("debugfs %q: %v: %s", args, err, out)
	}
	return string(out)
}

// content is the place on the disk of a byte of a file of the root.
func (d *disk) content(path string, offset int64) int64 {
	d.t.Helper()
	out := d.debugfs("-R", fmt.Sprintf("bmap %s %d", path, offset/4096))
	m := regexp.MustCompile(`(?m)^(\d+)$`).FindStringSubmatch(out)
	if m == nil {
		d.t.Fatalf("debugfs bmap %s: %s", path, out)
	}
	block, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.start["root"] + block*4096 + offset%4096
}

// inode is the place on the disk of a file's inode, and its number.
func (d *disk) inode(path string) (int64, string) {
	d.t.Helper()
	out := d.debugfs("-R", "imap "+path)
	m := regexp.MustCompile(`Inode (\d+) is part of block group \d+\s+located at block (\d+), offset 0x([0-9a-f]+)`).FindStringSubmatch(out)
	if m == nil {
		d.t.Fatalf("debugfs imap %s: %s", path, out)
	}
	block, _ := strconv.ParseInt(m[2], 10, 64)
	at, _ := strconv.ParseInt(m[3], 16, 64)
	return d.start["root"] + block*4096 + at, m[1]
}

func (d *disk) read(at int64, n int) []byte {
	d.t.Helper()
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if n, err = f.ReadAt(b, at); err != nil && err != io.EOF {
		d.t.Fatal(err)
	}
	return b[:n]
}

func (d *disk) write(at int64, b []byte) {
	d.t.Helper()
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		d.t.Fatal(err)
	}
}

// find returns the place on the disk of text in a file of the root.
func (d *disk) find(path, text string) int64 {
	d.t.Helper()
	at := d.content(path, 0) // these files lie in one piece
	i := bytes.Index(d.read(at, 1<<16), []byte(text))
	if i < 0 {
		d.t.Fatalf("%q is not in %s", text, path)
	}
	return at + int64(i)
}

// TestVerify makes images again, as they are and broken at one place each.
// Where that place is, e2fsprogs says, or the bytes that are there. What else a
// place can belong to, locatePlaces and the packages ext4 and fat test.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	c := w.Config()
	archived := w.Image(c)
	rawConfig := c
	rawConfig.Format, rawConfig.Out = bake.Raw, filepath.Join(t.TempDir(), "raw")
	whole := w.Image(rawConfig)
	raw := newDisk(t, whole.Path, readRecord(t, rawConfig))
	c = inspected(c)

	t.Run("the same", func(t *testing.T) {
		wantSame(t, c, archived) // its digest is known
		wantSame(t, c, whole)
		fresh := inspected(w.Config())
		wantSame(t, fresh, archived) // compressed again
		fresh = inspected(w.Config())
		fresh.Jobs = 1
		wantSame(t, fresh, whole)
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
			before := raw.read(test.at, 16)
			after := bytes.Clone(before)
			after[0] ^= 1
			raw.write(test.at, after)
			defer raw.write(test.at, before)
			result, err := verifyImage(t, c, raw.path)
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
			if err := os.Truncate(d.path, 900<<20); err != nil {
				t.Fatal(err)
			}
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
			result, err := verifyImage(t, c, d.path)
			if err != nil {
				t.Fatal(err)
			}
			got := *result.Difference
			if !strings.HasPrefix(got.What, test.want.What) {
				t.Errorf("difference is %q; want %q", got.What, test.want.What)
			}
			got.What = test.want.What
			if diff := cmp.Diff(test.want, got); diff != "" || result.Identical {
				t.Errorf("Verify() = %+v; difference (-want +got):\n%s", result, diff)
			}
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
			result, err := verifyImage(t, c, d.path)
			wantError(t, err, test.kind, test.want...)
			if result != nil {
				t.Errorf("Verify() = %+v; want nothing beside the error", result)
			}
		})
	}

	t.Run("another definition", func(t *testing.T) {
		restore := w.Snapshot()
		defer restore()
		w.Edit("definition/files/etc/tool.conf", "yes", "maybe")
		wantSame(t, c, whole) // the image has its own
	})
	t.Run("no image", func(t *testing.T) {
		_, err := verifyImage(t, c, filepath.Join(t.TempDir(), imageName))
		wantError(t, err, "input", "no such file")
	})
	t.Run("parts that are unavailable", func(t *testing.T) {
		restore := w.Snapshot()
		defer restore()
		w.Remove(w.Package("tool").Pool())
		_, err := verifyImage(t, inspected(w.Config()), raw.path)
		wantError(t, err, "superseded", "tool 1.0 is unavailable")
	})
	t.Run("damaged store", func(t *testing.T) {
		for _, path := range packData(t, c.Cache, packKey(w, "tool"), "release 1") {
			flipLast(t, path)
		}
		wantSame(t, c, whole)
	})
}

// verifyArchives breaks what is around the disk, which raw is.
func verifyArchives(t *testing.T, c bake.Config, archived, raw string) {
	whole, err := os.ReadFile(archived)
	if err != nil {
		t.Fatal(err)
	}
	shell := func(script, in, out string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script, "sh", in, out)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, text)
		}
	}
	for _, test := range []struct {
		name string
		make func(out string)
		want verify.Difference // What begins so; Want and Got are not compared
	}{
		{"packed by tar", func(out string) { // and another gzip at another level
			dir := t.TempDir()
			if err := os.Symlink(raw, filepath.Join(dir, "disk.raw")); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(out)
			if err != nil {
				t.Fatal(err)
			}
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
		{"bytes behind the archive", func(out string) { writeFile(t, out, append(bytes.Clone(whole), "more"...)) },
			verify.Difference{Partition: "archive", DiskOffset: -1, Offset: int64(len(whole)), What: "the disk is the same, byte by byte; the archive around it is damaged: garbage follows the gzip member"}},
		{"end of the archive cut off", func(out string) { writeFile(t, out, whole[:len(whole)-9]) },
			verify.Difference{Partition: "archive", DiskOffset: -1, Offset: int64(len(whole) - 9), What: "the disk is the same, byte by byte; the archive around it is damaged: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), imageName)
			test.make(out)
			result, err := verifyImage(t, c, out)
			if err != nil {
				t.Fatal(err)
			}
			got := *result.Difference
			if !strings.HasPrefix(got.What, test.want.What) {
				t.Errorf("difference is %q; want %q", got.What, test.want.What)
			}
			got.What, got.Want, got.Got = test.want.What, "", ""
			if diff := cmp.Diff(test.want, got); diff != "" || result.Identical || len(result.Changes) > 0 {
				t.Errorf("Verify() = %+v; difference (-want +got):\n%s", result, diff)
			}
			if result.SHA256 != sumFile(t, out) {
				t.Errorf("digest is %s; want that of the file", result.SHA256)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		// The whole root filesystem but its last, empty, part.
		for _, cut := range []int{len(whole) * 99 / 100, len(whole) / 2} {
			out := filepath.Join(t.TempDir(), imageName)
			writeFile(t, out, whole[:cut])
			result, err := verifyImage(t, c, out)
			if err != nil {
				wantError(t, err, "failed", "nothing else says what it was made from", "unexpected EOF")
				continue
			}
			if d := result.Difference; d == nil || !strings.Contains(d.What, "is missing: reading disk.raw at ") || d.Got != "" {
				t.Errorf("cut at %d of %d: difference is %+v; want that the rest is missing", cut, len(whole), d)
			}
		}
	})
	t.Run("no tar", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), imageName)
		shell(`echo no image | gzip >"$2"`, "", out)
		_, err := verifyImage(t, c, out)
		wantError(t, err, "input", "reading the tar header: ")
	})
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyOrigins makes again what was built from source, whether or not its
// release is available by now, and what was taken from the release.
func TestVerifyOrigins(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	restore := w.Snapshot()
	w.Remove(baketest.KubeletRelease)
	c := w.Config()
	c.BuildMissing = true
	built := w.Image(c)
	rec := readRecord(t, c)
	for _, name := range []string{"modules/kubelet/go.mod", "modules/kubelet/go.sum"} {
		if got, want := rec.Inputs.Modules[name], sumFile(t, filepath.Join(w.Dir, name)); got != want {
			t.Errorf("the record has %s with %s; want %s", name, got, want)
		}
	}
	restore()

	fresh := inspected(w.Config())
	w.Gets()
	wantSame(t, fresh, built)
	if got := w.Gets(); strings.Contains(strings.Join(got, " "), baketest.KubeletRelease) {
		t.Error("the release of kubelet was asked for; want it built")
	}

	c = w.Config()
	released := w.Image(c)
	if rec := readRecord(t, c); len(rec.Inputs.Modules) > 0 {
		t.Errorf("the record has modules %v; want none where nothing was built", rec.Inputs.Modules)
	}
	fresh = inspected(w.Config())
	fresh.Origin = source.FromSource // of no concern
	wantSame(t, fresh, released)
	w.Remove(baketest.KubeletRelease)
	fresh = inspected(w.Config())
	fresh.BuildMissing = true
	_, err := verifyImage(t, fresh, released.Path)
	wantError(t, err, "failed", "component kubelet v1.30.0: its release is unavailable at ")
}

// TestVerifyCancel cancels at many places.
func TestVerifyCancel(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	image := w.Image(w.Config())
	var all recorder
	c := inspected(w.Config())
	c.Progress = &all
	wantSame(t, c, image)
	const points = 4
	for i := range points {
		at := 1 + i*(all.events-1)/(points-1)
		c := inspected(w.Config())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var cancelled time.Time
		c.Progress = &recorder{on: func(event int) {
			if event == at {
				cancelled = time.Now()
				cancel()
			}
		}}
		tmp := t.TempDir()
		_, err := verify.Run(ctx, verify.Config{Image: image.Path, TmpDir: tmp, TrustInputs: true, Options: c.Options, Units: c.Units, Definition: c.Definition})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at event %d: Verify() = %v; want that it was cancelled", at, err)
		}
		if took := time.Since(cancelled); !cancelled.IsZero() && took > prompt {
			t.Errorf("cancelled at event %d: it returned after %v", at, took)
		}
		if left := list(t, tmp); len(left) > 0 {
			t.Errorf("cancelled at event %d: left in the temporary directory: %q", at, left)
		}
		c.Progress = nil
		if i == points/2 {
			wantSame(t, c, image)
		}
	}
}
