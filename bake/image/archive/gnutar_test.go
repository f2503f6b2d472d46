package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// gnuTar returns what GNU tar makes of the file at path, which it is to call
// disk.raw, or at most limit bytes of it.
func gnuTar(t *testing.T, path string, limit int64) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, need.Program(t, "tar", "tar"), "--format=oldgnu", "--numeric-owner", "--owner=0", "--group=0",
		"--mode=0644", fmt.Sprintf("--mtime=@%d", epoch), "-C", filepath.Dir(path), "-cf", "-", filepath.Base(path))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := filetest.ReadAll(t, io.LimitReader(pipe, limit))
	cancel()
	_ = cmd.Wait() // killed where there was more
	return b
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := filetest.ReadAll(t, r)
	return out
}

func TestSameTarAsGNUTar(t *testing.T) {
	l := mixedList()
	path := filepath.Join(t.TempDir(), DiskName)
	if err := os.WriteFile(path, content(t, l), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := write(t, l, Options{})
	if want := gnuTar(t, path, 1<<40); !bytes.Equal(gunzip(t, out), want) {
		t.Error("the tar archive is not the one that GNU tar makes")
	}
}

func TestSameHeaderAsGNUTar(t *testing.T) {
	path := filepath.Join(t.TempDir(), DiskName)
	for _, size := range []int64{0, 1, 10 << 30, 1<<33 - 1, 1 << 33, 1<<33 + 1, gce.MaxImageSize} {
		f := filetest.Create(t, path)
		must.Do(f.Truncate(size))
		f.Close()
		got, err := header(DiskName, size, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if want := gnuTar(t, path, blockSize); !bytes.Equal(got, want) {
			t.Errorf("header of %d bytes:\n%q\nGNU tar has\n%q", size, got, want)
		}
		if back, err := parseHeader(got); err != nil || back != size {
			t.Errorf("parseHeader(header of %d bytes) = %d, %v", size, back, err)
		}
	}
}

func TestHeaderRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		epoch int64
		want  string
	}{
		{"", 0, `"" cannot be the member's name`},
		{"a/disk.raw", 0, "cannot be the member's name"},
		{strings.Repeat("d", 100), 0, "1 to 99 bytes"},
		{DiskName, -1, "epoch -1 cannot be the member's time"},
		{DiskName, 1 << 33, "epoch 8589934592 cannot be the member's time"},
	} {
		if _, err := header(tc.name, 0, tc.epoch); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("header(%q, 0, %d): %v; want an error with %q", tc.name, tc.epoch, err, tc.want)
		}
	}
	if _, err := header(strings.Repeat("d", 99), 0, 1<<33-1); err != nil {
		t.Error(err)
	}
}

func TestOutsideCheckers(t *testing.T) {
	l := mixedList()
	out, _ := write(t, l, Options{})
	tarPath, gzipPath := need.Program(t, "tar", "tar"), need.Program(t, "gzip", "gzip")
	run := func(b []byte, path string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		cmd.Stdin = bytes.NewReader(b)
		return cmd.Output()
	}

	if _, err := run(out, gzipPath, "-t"); err != nil {
		t.Errorf("gzip -t: %v", err)
	}
	listed, err := run(out, tarPath, "-tvzf", "-")
	if want := fmt.Sprintf("-rw-r--r-- 0/0 %15d 2023-11-14 22:13 %s\n", l.Size, DiskName); err != nil || string(listed) != want {
		t.Errorf("tar -tv: %q, %v; want %q", listed, err, want)
	}
	got, err := run(out, tarPath, "-xzOSf", "-")
	if err != nil || !bytes.Equal(got, content(t, l)) {
		t.Errorf("tar -xSO gives other content (%d bytes), %v", len(got), err)
	}

	// They see what is wrong.
	flipped := bytes.Clone(out)
	flipped[len(out)/2] ^= 1
	if _, err := run(flipped, gzipPath, "-t"); err == nil {
		t.Error("gzip -t accepts a flipped bit")
	}
	if _, err := run(out[:len(out)-4], gzipPath, "-t"); err == nil {
		t.Error("gzip -t accepts an archive without its end")
	}
	tarball := gunzip(t, out)
	tarball[0] = 'D'
	if _, err := run(tarball, tarPath, "-tf", "-"); err == nil {
		t.Error("tar -t accepts a header with a wrong checksum")
	}
}

// More than 8 GiB, where the size is base-256 and gzip's own length has
// wrapped around twice.
func TestLargeSparseDisk(t *testing.T) {
	l := &extent.List{Size: 1<<33 + 10<<20}
	first, last := tree.Bytes("first", text(1, 3<<20)), tree.Bytes("last", text(2, 2<<20))
	l.Append(0, first.Size, first, 0)
	l.Append(l.Size-last.Size, last.Size, last, 0)
	out, _ := write(t, l, Options{})
	if len(out) > 9<<20+int(first.Size+last.Size) {
		t.Errorf("%d bytes of archive; 8 GiB of zeroes need 8.3 MB", len(out))
	}
	listed, err := exec.CommandContext(t.Context(), "sh", "-c",
		`gzip -dc "$0" 2>/dev/null | head -c 512 | tar --numeric-owner -tvf - 2>/dev/null`, tempFile(t, out)).Output()
	if want := fmt.Sprint(l.Size); !bytes.Contains(listed, []byte(want)) {
		t.Errorf("tar -tv: %q, %v; want the size %s", listed, err, want)
	}
	r, err := NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != l.Size {
		t.Errorf("Size = %d; want %d", r.Size(), l.Size)
	}
	// Reading to the end compares gzip's checksum and length with ours.
	head := make([]byte, first.Size)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.Equal(head, text(1, 3<<20)) {
		t.Errorf("the first bytes differ, %v", err)
	}
	tail := make([]byte, last.Size)
	if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, l.Size-first.Size-last.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, tail); err != nil || !bytes.Equal(tail, text(2, 2<<20)) {
		t.Errorf("the last bytes differ, %v", err)
	}
	if n, err := r.Read(tail); n != 0 || err != io.EOF {
		t.Errorf("Read at the end = %d, %v; want 0, %v", n, err, io.EOF)
	}
}

func tempFile(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.tar.gz")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTwentyGiBOfZeroesAreQuick(t *testing.T) {
	const size = 20 << 30
	out, r := write(t, &extent.List{Size: size}, Options{})
	if want := int64(size / 1032); r.Size > want+want/1000 {
		t.Errorf("%d bytes of archive; want within 0.1%% of %d", r.Size, want)
	}
	if rd, err := NewReader(bytes.NewReader(out)); err != nil || rd.Size() != size {
		t.Errorf("NewReader: %v", err)
	}
}
