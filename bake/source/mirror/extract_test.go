package mirror

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/filetest"
)

// extracted is what the world's inputs are.
func (w *world) extracted(written bool) []Extracted {
	var out []Extracted
	for _, name := range []string{"kthw-1.21", "kubernetes-1.36"} {
		for _, file := range []struct{ path, content string }{
			{"/versions.lock.yaml", "lock: " + name + "\n"},
			{"/versions.yaml", "versions: " + name + "\n"},
		} {
			out = append(out, Extracted{Set: name, Path: name + file.path, SHA256: manifesttest.Digest([]byte(file.content)), Size: int64(len(file.content)), Written: written})
		}
	}
	return out
}

func extract(t *testing.T, dir, to string) ([]Extracted, error) {
	t.Helper()
	x, err := ReadInputs(t.Context(), dir)
	if err != nil {
		return nil, err
	}
	return x.Write(t.Context(), to)
}

func TestExtract(t *testing.T) {
	t.Parallel()
	w := newWorld()
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "a", "b")
	w.write(t, dir)
	for _, written := range []bool{true, false} {
		got, err := extract(t, dir, to)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w.extracted(written), got); diff != "" {
			t.Errorf("Write, written %t (-want +got):\n%s", written, diff)
		}
		want := map[string]manifest.Digest{}
		for _, e := range got {
			want[filepath.FromSlash(e.Path)] = e.SHA256
		}
		if diff := cmp.Diff(want, files(t, to)); diff != "" {
			t.Errorf("the directory, written %t (-want +got):\n%s", written, diff)
		}
	}
	// What a run that was killed left is in nobody's way.
	if err := os.Remove(filepath.Join(to, "kthw-1.21", "versions.yaml")); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(to, "kthw-1.21", tmpPrefix+w.extracted(true)[1].SHA256.Hex()[:16])
	filetest.Write(t, left, "ver")
	if _, err := extract(t, dir, to); err != nil {
		t.Fatal(err)
	}
	if got := files(t, to); len(got) != 4 {
		t.Errorf("the directory has %v; want 4 files", got)
	}
}

// TestExtractRefuses puts something into the way of a file. Nothing is written,
// and nothing outside changes.
func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld()
	dir := t.TempDir()
	w.write(t, dir)
	for _, test := range []struct {
		name  string
		there func(to, outside string) error
		path  string
		want  string
	}{
		{"other bytes", func(to, _ string) error {
			return os.WriteFile(filepath.Join(to, "kubernetes-1.36", "versions.yaml"), []byte("versions: kubernetes-1.37\n"), 0o644)
		}, "kubernetes-1.36/versions.yaml", "has other bytes than the mirror's"},
		{"more bytes", func(to, _ string) error {
			return os.WriteFile(filepath.Join(to, "kubernetes-1.36", "versions.yaml"), []byte("versions: kubernetes-1.36\n#\n"), 0o644)
		}, "kubernetes-1.36/versions.yaml", "has other bytes than the mirror's"},
		{"link to a file", func(to, outside string) error {
			return os.Symlink(filepath.Join(outside, "file"), filepath.Join(to, "kubernetes-1.36", "versions.yaml"))
		}, "kubernetes-1.36/versions.yaml", "is a symbolic link, which is not followed"},
		{"link to nothing", func(to, outside string) error {
			return os.Symlink(filepath.Join(outside, "new"), filepath.Join(to, "kubernetes-1.36", "versions.yaml"))
		}, "kubernetes-1.36/versions.yaml", "is a symbolic link, which is not followed"},
		{"link to the same bytes", func(to, outside string) error {
			same := filepath.Join(to, "same")
			return errors.Join(os.WriteFile(same, []byte("versions: kubernetes-1.36\n"), 0o644),
				os.Symlink("../same", filepath.Join(to, "kubernetes-1.36", "versions.yaml")))
		}, "kubernetes-1.36/versions.yaml", "is a symbolic link, which is not followed"},
		{"directory", func(to, _ string) error {
			return os.Mkdir(filepath.Join(to, "kubernetes-1.36", "versions.yaml"), 0o755)
		}, "kubernetes-1.36/versions.yaml", "is no file"},
		{"link for the set's directory", func(to, outside string) error { return os.Symlink(outside, filepath.Join(to, "kthw-1.21")) },
			"kthw-1.21", "is a symbolic link, which is not followed"},
		{"link for it that stays below", func(to, _ string) error { return os.Symlink("kubernetes-1.36", filepath.Join(to, "kthw-1.21")) },
			"kthw-1.21", "is a symbolic link, which is not followed"},
		{"file for the set's directory", func(to, _ string) error { return os.WriteFile(filepath.Join(to, "kthw-1.21"), nil, 0o644) },
			"kthw-1.21", "is no directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			to, outside := t.TempDir(), t.TempDir()
			err := errors.Join(os.Mkdir(filepath.Join(to, "kubernetes-1.36"), 0o755),
				os.WriteFile(filepath.Join(outside, "file"), []byte("precious"), 0o644), test.there(to, outside))
			if err != nil {
				t.Fatal(err)
			}
			before, beforeOutside := names(t, to), files(t, outside)
			_, err = extract(t, dir, to)
			want := filepath.Join(to, filepath.FromSlash(test.path)) + " " + test.want + "; remove it, or give another directory by --output"
			if differs, ok := errors.AsType[*DiffersError](err); !ok || differs.Error() != want {
				t.Errorf("Write = %v; want %s", err, want)
			}
			if diff := cmp.Diff(before, names(t, to)); diff != "" {
				t.Errorf("the directory changed (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(beforeOutside, files(t, outside)); diff != "" {
				t.Errorf("what is outside changed (-before +after):\n%s", diff)
			}
		})
	}
}

// names lists all files and directories below dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestExtractAltered verifies what it reads, and follows no link to it.
func TestExtractAltered(t *testing.T) {
	t.Parallel()
	w := newWorld()
	e := w.entry(t, "kthw-1.21 lock")
	for _, test := range []struct {
		name  string
		spoil func(file string) error
		want  string
	}{
		{"altered", func(file string) error { return os.WriteFile(file, []byte("lock: kthw-1.22\n"), 0o644) }, blobPath(e.SHA256) + " is altered or cut off"},
		{"longer", func(file string) error { return os.WriteFile(file, []byte("lock: kthw-1.21\n#"), 0o644) }, blobPath(e.SHA256) + " is altered or cut off"},
		{"missing", os.Remove, "no such file"},
		{"a link", func(file string) error { return errors.Join(os.Rename(file, file+"x"), os.Symlink(file+"x", file)) }, "it is a symbolic link"},
	} {
		dir, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
		w.write(t, dir)
		if err := test.spoil(blobFile(dir, e)); err != nil {
			t.Fatal(err)
		}
		if _, err := extract(t, dir, to); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "kthw-1.21 lock: ") {
			t.Errorf("%s: ReadInputs = %v; want an error with %q", test.name, err, test.want)
		}
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", test.name, err)
		}
	}
}
