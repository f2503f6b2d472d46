package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/record"
)

// image writes an image to the file path.
func image(t *testing.T, path string, change func(*inspecttest.Image)) string {
	t.Helper()
	m := inspecttest.New()
	m.Size, m.Parts[1].Length = 160*inspecttest.MiB, 90*inspecttest.MiB
	change(m)
	list, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if strings.HasSuffix(path, ".raw") {
		err = archive.WriteRaw(t.Context(), f, list, archive.Options{})
	} else {
		_, err = archive.WriteTarGz(t.Context(), f, list, archive.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := func(*inspecttest.Image) {}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := image(t, filepath.Join(dir, "cut.tar.gz"), none)
	if err := os.Truncate(cut, 1<<16); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{image(t, filepath.Join(dir, "worker.tar.gz"), none), ""},
		{image(t, filepath.Join(dir, "worker.raw"), none), ""},
		{image(t, filepath.Join(dir, "other.raw"), func(m *inspecttest.Image) {
			m.Tamper = func(r *record.Record) { r.Components = r.Components[:1] }
		}), "other.raw is no worker image: it has no kubelet, as /usr/lib/bake/image.json in it says"},
		{filepath.Join(dir, "absent.raw"), "opening the image " + filepath.Join(dir, "absent.raw")},
		{text, "it is neither a tar.gz nor a disk with a partition table"},
		{cut, "unpacking " + cut},
		{dir, "it is not a regular file"},
	} {
		disk, err := openDisk(t.Context(), test.path, filepath.Join(t.TempDir(), "disk.raw"), progress.Discard{})
		var rec *record.Record
		if err == nil {
			rec, err = readRecord(t.Context(), test.path, disk)
		}
		var input *manifest.ArgumentError
		switch {
		case test.want == "" && (err != nil || component(rec, "kubelet") != "v1"):
			t.Errorf("%s: its record is %+v, %v; want a worker's", test.path, rec, err)
		case test.want != "" && (!errors.As(err, &input) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v; want an input error with %q", test.path, err, test.want)
		}
		if m, openErr := inspect.OpenFile(test.path); openErr == nil {
			if raw := m.Format == inspect.Raw; err == nil && raw != (disk == test.path) {
				t.Errorf("the disk of %s is %s", test.path, disk)
			}
			m.Close()
		}
	}
}

func TestCheckSkew(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ kubelet, apiServer, want string }{
		{"v1.36.3", "v1.36.3", ""},
		{"v1.36.9", "v1.36.3", ""},
		{"v1.33.0", "v1.36.3", ""},
		{"v1.21.0", "v1.24.17", ""},
		{"v1.32.0", "v1.36.3", "is more than 3 minor versions older than the API server v1.36.3"},
		{"v1.37.0", "v1.36.3", "its kubelet v1.37.0 is newer than the API server v1.36.3"},
		{"v1", "v1.36.3", ""},
	} {
		if got := errorText(checkSkew(test.kubelet, test.apiServer)); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("checkSkew(%s, %s) = %q; want %q", test.kubelet, test.apiServer, got, test.want)
		}
	}
}
