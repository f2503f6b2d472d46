package check

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/check/checktest"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
)

const imageName0 = "k8s-worker-v1-36-3-amd64"

// writeTarGz writes a good image to dir and returns its path.
func writeTarGz(t testing.TB, w *checktest.Image, dir string) string {
	t.Helper()
	p := filepath.Join(dir, imageName0+".tar.gz")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.WriteTarGz(t.Context(), f, listOf(t, w), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func writeRaw(t testing.TB, w *checktest.Image, dir string) string {
	t.Helper()
	p := filepath.Join(dir, imageName0+".raw")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.WriteRaw(t.Context(), f, listOf(t, w), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLintFiles(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	for _, p := range []string{writeTarGz(t, checktest.New(), dir), writeRaw(t, checktest.New(), dir)} {
		report, err := Lint(t.Context(), p, tmp)
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK() {
			t.Errorf("Lint(%s) = %v; want no violation", p, report.Violations)
		}
		if strings.HasSuffix(p, ".gz") && report.SHA256 != sumFile(t, p) {
			t.Errorf("Lint(%s): digest %s; want %s", p, report.SHA256, sumFile(t, p))
		}
	}
	small := checktest.New() // what follows is found out before the size is
	small.Size, small.Parts[1].Length = 160*checktest.MiB, 90*checktest.MiB
	good, err := os.ReadFile(writeTarGz(t, small, dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		data    []byte
		problem string
	}{
		{"garbage behind", append(bytes.Clone(good), "garbage"...), "garbage follows"},
		{"second gzip member", append(bytes.Clone(good), tarGz(t, tar.FormatGNU, "more")...), "second gzip member"},
		{"cut short", good[:len(good)/2], "unexpected EOF"},
		{"flipped bit", flip(good, len(good)-6), "gzip"}, // in the checksum
		{"POSIX header", tarGz(t, tar.FormatPAX, "disk.raw"), "GNU"},
		{"other name", tarGz(t, tar.FormatGNU, "image.raw"), "image.raw"},
	} {
		p := filepath.Join(dir, "broken.tar.gz")
		if err := os.WriteFile(p, test.data, 0o666); err != nil {
			t.Fatal(err)
		}
		report, err := Lint(t.Context(), p, tmp)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if len(report.Violations) != 1 || report.Violations[0].Rule != "archive" || !strings.Contains(report.Violations[0].Problems[0], test.problem) {
			t.Errorf("%s: violations = %v; want one of archive with %q", test.name, report.Violations, test.problem)
		}
		if report.OK() || report.Checked+len(report.Unchecked) != len(Rules()) {
			t.Errorf("%s: %d rules checked, %d not; want all %d in one or the other", test.name, report.Checked, len(report.Unchecked), len(Rules()))
		}
		if _, err := Open(t.Context(), p, tmp); !isNotImage(err) {
			t.Errorf("%s: Open = %v; want a NotImageError", test.name, err)
		}
	}
	wantEmpty(t, tmp)
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// tarGz is what Go's own writer makes of one small member.
func tarGz(t *testing.T, format tar.Format, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	h := &tar.Header{Name: name, Mode: 0o644, Size: 3, Format: format}
	if format == tar.FormatPAX {
		h.PAXRecords = map[string]string{"comment": "x"}
	}
	_, err := w.Write(nil)
	err = errors.Join(err, w.WriteHeader(h))
	_, err2 := w.Write([]byte("abc"))
	if err := errors.Join(err, err2, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func isNotImage(err error) bool {
	var e *NotImageError
	return errors.As(err, &e)
}

func sumFile(t *testing.T, p string) manifest.Sum {
	t.Helper()
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.SHA256(sha256.Sum256(data))
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left in the directory for temporary files", e.Name())
	}
}

func TestOpenRefusesWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"text": "hello", "empty": "", "zeroes": strings.Repeat("\x00", 1<<16)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"text", "empty", "zeroes", "missing", "."} {
		p := filepath.Join(dir, name)
		if _, err := Open(t.Context(), p, dir); !isNotImage(err) || !strings.Contains(err.Error(), p) {
			t.Errorf("Open(%s) = %v; want a NotImageError that names it", name, err)
		}
		if _, err := Lint(t.Context(), p, dir); !isNotImage(err) {
			t.Errorf("Lint(%s) = %v; want a NotImageError", name, err)
		}
	}
}

func TestOpenBlamesTheMachineWhereItIsAtFault(t *testing.T) {
	p := writeTarGz(t, checktest.New(), t.TempDir())
	if _, err := Open(t.Context(), p, filepath.Join(t.TempDir(), "missing")); err == nil || isNotImage(err) {
		t.Errorf("Open without a directory for the disk = %v; want an error that does not blame the image", err)
	}
	tmp := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, p, tmp); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context = %v; want context.Canceled", err)
	}
	wantEmpty(t, tmp)
}

func TestRecordReadsWhatIsThere(t *testing.T) {
	w := checktest.New()
	w.Root["etc/hosts2"] = tree.Entry{Path: "etc/hosts2", Type: tree.Hardlink, Perm: 0o644, Link: "etc/hosts"}
	w.Root["dev/null"] = tree.Entry{Path: "dev/null", Type: tree.Char, Perm: 0o666, Major: 1, Minor: 3}
	p := writeTarGz(t, w, t.TempDir())
	m, err := Open(t.Context(), p, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := m.Record(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	want := w.Record()
	want.File = &record.File{Name: imageName0 + ".tar.gz", Format: "tar.gz", Size: info.Size(), SHA256: sumFile(t, p)}
	want.Disk = record.Disk{Size: gib, Partitions: []record.Partition{
		{Name: "esp", Type: "esp", GUID: w.Parts[0].GUID.String(), Start: checktest.MiB, Size: 64 * checktest.MiB},
		{Name: "root", Type: "root", GUID: checktest.RootGUID().String(), Start: 65 * checktest.MiB, Size: 512 * checktest.MiB},
	}}
	want.KernelArguments = append([]string{"root=PARTUUID=" + checktest.RootGUID().String()}, want.KernelArguments...)
	want.Files = record.Entries(treeOf(t, w.Root))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Record (-want +got):\n%s", diff)
	}
	if wrong, err := m.Contradictions(got); err != nil || len(wrong) > 0 {
		t.Errorf("Contradictions = %v, %v; want none", wrong, err)
	}
}

func TestReadFile(t *testing.T) {
	w := checktest.New()
	w.Link("etc/loop", "loop")
	m := subjectOf(t, w).Image
	for _, test := range []struct{ name, want string }{
		{"/etc/os-release", readEntry(w.Root["usr/lib/os-release"])}, // through a relative link
		{"bin/containerd", readEntry(w.Root["usr/bin/containerd"])},
		{"/bin/../etc/hosts", readEntry(w.Root["etc/hosts"])}, // where the link leads, ".." is usr
		{"esp:/EFI/BOOT/BOOTX64.EFI", readEntry(w.ESP["EFI/BOOT/BOOTX64.EFI"])},
		{"esp:efi/boot/bootx64.efi", readEntry(w.ESP["EFI/BOOT/BOOTX64.EFI"])},
	} {
		if test.name == "/bin/../etc/hosts" {
			if _, err := m.ReadFile(test.name); err == nil {
				t.Errorf("ReadFile(%s): want no such file", test.name)
			}
			continue
		}
		r, err := m.ReadFile(test.name)
		if err != nil {
			t.Errorf("ReadFile(%s): %v", test.name, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != test.want {
			t.Errorf("ReadFile(%s) = %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	for _, name := range []string{"/etc/missing", "/etc", "/etc/loop", "esp:/missing", "/etc/hosts/below"} {
		r, err := m.ReadFile(name)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("ReadFile(%s): want an error", name)
		}
	}
}

func TestCheckBeside(t *testing.T) {
	dir := t.TempDir()
	p := writeTarGz(t, checktest.New(), dir)
	rec := filepath.Join(dir, imageName0+".json")
	m, err := Open(t.Context(), p, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, err := m.CheckBeside(t.Context()); got != "" || err != nil {
		t.Errorf("CheckBeside without a record = %q, %v; want nothing", got, err)
	}
	file, err := m.File(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path string
		change     func(f *record.File)
		fails      bool
	}{
		{"equal", rec, func(*record.File) {}, false},
		{"another format's", "", func(f *record.File) { f.Name = imageName0 + ".raw" }, false},
		{"another digest", rec, func(f *record.File) { f.SHA256 = "sha256:" + manifest.Sum(strings.Repeat("0", 64)) }, true},
	} {
		described := *file
		test.change(&described)
		var b bytes.Buffer
		if err := (&record.Image{Schema: record.Schema, File: &described}).Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(rec, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		if got, err := m.CheckBeside(t.Context()); got != test.path || (err != nil) != test.fails {
			t.Errorf("%s: CheckBeside = %q, %v; want %q, error %v", test.name, got, err, test.path, test.fails)
		}
	}
	if err := os.WriteFile(rec, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CheckBeside(t.Context()); err == nil {
		t.Error("CheckBeside of a broken record: want an error")
	}
}
