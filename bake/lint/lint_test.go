package lint

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/test/filetest"
)

func TestLintFiles(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	for _, p := range []string{inspecttest.New().WriteTarGz(t, dir), inspecttest.New().WriteRaw(t, dir)} {
		report, err := Check(t.Context(), p, tmp)
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK() {
			t.Errorf("Check(%s) = %v; want no violation", p, report.Violations)
		}
		if strings.HasSuffix(p, ".gz") && report.SHA256 != inspecttest.SumFile(t, p) {
			t.Errorf("Check(%s): digest %s; want %s", p, report.SHA256, inspecttest.SumFile(t, p))
		}
	}
	small := inspecttest.New() // what follows is found out before the size is
	small.Size, small.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	good := filetest.Read(t, small.WriteTarGz(t, dir))
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
		filetest.Write(t, p, test.data)
		report, err := Check(t.Context(), p, tmp)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if len(report.Violations) != 1 || report.Violations[0].Rule != "archive" || !strings.Contains(report.Violations[0].Problems[0], test.problem) {
			t.Errorf("%s: violations = %v; want one of archive with %q", test.name, report.Violations, test.problem)
		}
		if report.OK() || report.Checked+len(report.Unchecked) != len(Rules()) {
			t.Errorf("%s: %d rules checked, %d not; want all %d in one or the other", test.name, report.Checked, len(report.Unchecked), len(Rules()))
		}
		if _, err := inspect.Open(t.Context(), p, tmp); !isNotImage(err) {
			t.Errorf("%s: Open = %v; want a NotImageError", test.name, err)
		}
	}
	inspecttest.WantEmpty(t, tmp)
}

// TestNoImage has what is no image refused, and not reported on.
func TestNoImage(t *testing.T) {
	for _, p := range []string{filepath.Join(t.TempDir(), "missing"), t.TempDir(), os.Args[0]} {
		if _, err := Check(t.Context(), p, t.TempDir()); !isNotImage(err) {
			t.Errorf("Check(%s) = %v; want a NotImageError", p, err)
		}
	}
}

func isNotImage(err error) bool {
	_, ok := errors.AsType[*inspect.NotImageError](err)
	return ok
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
