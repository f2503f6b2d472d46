package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

func TestWriter(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "mirror")
	w := newWorld()
	w.write(t, dir)
	before := files(t, dir)
	wantNames := map[string]bool{".lock": true, "index.html": true, "index.json": true, "mirror.json": true, "oci-layout": true}
	for sum := range w.blobs {
		wantNames[blobPath(sum)] = true
	}
	gotNames := map[string]bool{}
	for name, sum := range before {
		gotNames[name] = true
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && sum.Hex() != hex {
			t.Errorf("%s has the digest %s", name, sum)
		}
	}
	if diff := cmp.Diff(wantNames, gotNames); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	m := must.Get(Create(dir))
	defer m.Close()
	want := w.index.clone()
	want.sort()
	if diff := cmp.Diff(want, m.Index()); diff != "" {
		t.Errorf("Index of what was written (-want +got):\n%s", diff)
	}
	m.Index().Entries[0].Name = "changed"
	m.Index().Entries[0].Sets[0] = "changed"
	if diff := cmp.Diff(want, m.Index()); diff != "" {
		t.Errorf("Index after its caller changed it (-want +got):\n%s", diff)
	}
	for _, e := range w.index.Entries {
		if !m.Has(e.SHA256, e.Size) || m.Has(e.SHA256, e.Size+1) {
			t.Errorf("Has(%s) = false, or true for another size", e.Name)
		}
	}
	if m.Has("sha256:../../index.html", 3) || m.Has(manifesttest.Digest([]byte("none")), 4) || m.Has(w.index.Entries[4].SHA512, 300_000) {
		t.Error("Has of what is no blob = true")
	}

	// Nothing is written once more that is there.
	stat := func() (times []time.Time) {
		for _, name := range []string{indexFile, pageFile, ociIndexFile, ociLayoutFile} {
			times = append(times, must.Get(os.Stat(filepath.Join(dir, name))).ModTime())
		}
		return times
	}
	times := stat()
	if err := m.Commit(t.Context(), w.index, w.images); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(times, stat()); diff != "" {
		t.Errorf("Commit of the same wrote files (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("Commit of the same changed files (-before +after):\n%s", diff)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := must.Get(Create(dir))
	defer m.Close()
	before := files(t, dir)
	content := filetest.Noise("1", 100_000)
	sum, size := manifesttest.Digest(content), int64(len(content))
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	for _, test := range []struct {
		name string
		ctx  context.Context
		sum  manifest.Digest
		size int64
		r    io.Reader
		want string
	}{
		{"altered", t.Context(), sum, size, bytes.NewReader(filetest.Noise("2", 100_000)), "digest is sha256:"},
		{"shorter", t.Context(), sum, size, bytes.NewReader(content[:99_999]), "ends after 99999 of 100000 bytes"},
		{"longer", t.Context(), sum, size, bytes.NewReader(append(bytes.Clone(content), 'x')), "more than 100000 bytes"},
		{"endless", t.Context(), sum, size, endless{}, "more than 100000 bytes"},
		{"failing", t.Context(), sum, size, io.MultiReader(bytes.NewReader(content[:5]), iotest.ErrReader(errors.New("the network is down"))), "the network is down"},
		{"cancelled", cancelled, sum, size, bytes.NewReader(content), "enough"},
		{"SHA-512", t.Context(), manifesttest.Digest512(content), size, bytes.NewReader(content), "is no sha256"},
		{"no digest", t.Context(), "sha256:../x", size, bytes.NewReader(content), "hexadecimal"},
	} {
		err := m.Add(test.ctx, test.sum, test.size, test.r)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "adding") {
			t.Errorf("%s: Add = %v; want an error with %q", test.name, err, test.want)
		}
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s: Add left something (-before +after):\n%s", test.name, diff)
		}
	}
	wrong := (*manifest.DigestError)(nil)
	if err := m.Add(t.Context(), sum, size, bytes.NewReader(filetest.Noise("2", 100_000))); !errors.As(err, &wrong) || wrong.Want != sum {
		t.Errorf("Add of other bytes = %v; want a SumError", err)
	}
	if err := m.Add(t.Context(), sum, size, bytes.NewReader(content)); err != nil || !m.Has(sum, size) {
		t.Errorf("Add = %v, Has = %v; want it there", err, m.Has(sum, size))
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestAddReplaces mends blobs that are damaged, whatever is in their place.
func TestAddReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	w.write(t, dir)
	e := w.entry(t, "bash 5.2 amd64")
	outside := filepath.Join(t.TempDir(), "outside")
	for name, damage := range map[string]func() error{
		"altered": func() error { return os.WriteFile(blobFile(dir, e), filetest.Noise("9", int(e.Size)), 0o644) },
		"cut off": func() error { return os.Truncate(blobFile(dir, e), 100) },
		"a link": func() error {
			return errors.Join(os.Remove(blobFile(dir, e)), os.WriteFile(outside, []byte("mine"), 0o644), os.Symlink(outside, blobFile(dir, e)))
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		m := must.Get(Create(dir))
		if name != "altered" && m.Has(e.SHA256, e.Size) {
			t.Errorf("%s: Has = true", name)
		}
		if err := errors.Join(m.Add(t.Context(), e.SHA256, e.Size, bytes.NewReader(w.blobs[e.SHA256])), m.Close()); err != nil {
			t.Errorf("%s: Add = %v", name, err)
		}
		if r := must.Get(Check(t.Context(), dir, 2, progress.Discard{})); r.Err() != nil {
			t.Errorf("%s: Check after Add = %v", name, r.Err())
		}
	}
	if got := must.Get(os.ReadFile(outside)); string(got) != "mine" {
		t.Errorf("a file outside of the mirror is %q now", got)
	}
}

// TestAddAtOnce has several goroutines add, the same blob among them.
func TestAddAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	m := must.Get(Create(dir))
	defer m.Close()
	var group sync.WaitGroup
	for range 4 {
		for _, e := range w.index.Entries {
			group.Go(func() {
				if err := m.Add(t.Context(), e.SHA256, e.Size, bytes.NewReader(w.blobs[e.SHA256])); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	if err := m.Commit(t.Context(), w.index, w.images); err != nil {
		t.Fatal(err)
	}
	wantNoTemps(t, dir)
	if r := must.Get(Check(t.Context(), dir, 0, progress.Discard{})); r.Err() != nil || len(r.Extra) > 0 {
		t.Errorf("Check = %v, extra %v", r.Err(), r.Extra)
	}
}

func TestCommitWantsBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	m := must.Get(Create(dir))
	defer m.Close()
	err := m.Commit(t.Context(), w.index, w.images)
	if err == nil || !strings.Contains(err.Error(), "13 files are not there") || !strings.Contains(err.Error(), "kubelet v1.36.3 amd64") || !strings.Contains(err.Error(), "and 3 more") {
		t.Errorf("Commit without blobs = %v; want an error that names them", err)
	}
	if diff := cmp.Diff(map[string]manifest.Digest{".lock": manifesttest.Digest("")}, files(t, dir)); diff != "" {
		t.Errorf("Commit left something (-want +got):\n%s", diff)
	}
	for _, e := range w.index.Entries {
		if err := m.Add(t.Context(), e.SHA256, e.Size, bytes.NewReader(w.blobs[e.SHA256])); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*Index, []OCIImage){
		"an image that is no entry":   func(_ *Index, images []OCIImage) { images[0].Digest = manifesttest.Digest("") },
		"an image of another size":    func(_ *Index, images []OCIImage) { images[0].Size++ },
		"an image that is none":       func(_ *Index, images []OCIImage) { images[0].MediaType = "text/html" },
		"an entry of an unknown set":  func(x *Index, _ []OCIImage) { x.Entries[0].Sets[0] = "x" },
		"a set without its lock":      func(x *Index, _ []OCIImage) { x.Sets[0].Lock = manifesttest.Digest([]byte("other")) },
		"an entry without its digest": func(x *Index, _ []OCIImage) { x.Entries[0].SHA256 = "" },
	} {
		x, images := w.index.clone(), append([]OCIImage(nil), w.images...)
		change(x, images)
		if err := m.Commit(t.Context(), x, images); err == nil || !strings.Contains(err.Error(), "BUG") {
			t.Errorf("%s: Commit = %v; want a BUG", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, indexFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is an index: %v", name, err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	write := func(name, content string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) }
	}
	elsewhere := t.TempDir()
	for name, test := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"somebody's files":       {write("letter.txt", "dear"), "it is no mirror, and has letter.txt in it"},
		"a broken index":         {write(indexFile, "{"), "remove it to begin a new index"},
		"an index of the future": {write(indexFile, `{"schema": 7}`), "a newer bake made it"},
		"blobs elsewhere":        {func(dir string) error { return os.Symlink(elsewhere, filepath.Join(dir, "blobs")) }, "blobs"},
		"an index elsewhere":     {func(dir string) error { return os.Symlink("/etc/hostname", filepath.Join(dir, indexFile)) }, "symbolic link"},
		"a lock elsewhere": {func(dir string) error {
			return os.Symlink(filepath.Join(elsewhere, "made"), filepath.Join(dir, lockFile))
		}, ".lock is no regular file"},
	} {
		dir := t.TempDir()
		if err := test.make(dir); err != nil {
			t.Fatal(err)
		}
		m, err := Create(dir)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: Create = %v; want an error with %q and the directory", name, err, test.want)
		}
	}
	if names := must.Get(os.ReadDir(elsewhere)); len(names) > 0 {
		t.Errorf("Create made %v outside of its directory", names)
	}
	if _, err := Create("mirror"); err == nil || !strings.Contains(err.Error(), "BUG") {
		t.Errorf("Create of a relative path = %v; want a BUG", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	filetest.Write(t, file, "")
	if _, err := Create(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Create of a file = %v; want an error that names it", err)
	}
}

func TestTwoWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := must.Get(Create(dir))
	busy := (*BusyError)(nil)
	if _, err := Create(dir); !errors.As(err, &busy) || busy.Dir != dir {
		t.Errorf("a second Create = %v; want a BusyError", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := Create(dir)
	if err != nil {
		t.Fatalf("Create after Close = %v", err)
	}
	m.Close()
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	half := must.Get(Create(dir))
	kubelet := w.entry(t, "kubelet v1.36.3 amd64")
	if err := half.Add(t.Context(), kubelet.SHA256, kubelet.Size, bytes.NewReader(w.blobs[kubelet.SHA256])); err != nil {
		t.Fatal(err)
	}
	if n, _, err := half.Prune(); n != 0 || err != nil || !half.Has(kubelet.SHA256, kubelet.Size) {
		t.Errorf("Prune of a mirror without an index = %d, %v; want nothing removed", n, err)
	}
	half.Close()
	w.write(t, dir)
	good := files(t, dir)

	old := []byte("a release of last year")
	m := must.Get(Create(dir))
	defer m.Close()
	if err := m.Add(t.Context(), manifesttest.Digest(old), int64(len(old)), bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	link := filepath.Join(dir, "blobs", "sha256", sumL)
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, ".tmp-77"), []byte("half"), 0o644),
		os.WriteFile(outside, []byte("mine"), 0o644),
		os.Symlink(outside, link),
		os.WriteFile(filepath.Join(dir, "blobs", "sha256", "README"), []byte("mine"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n, bytes, err := m.Prune()
	if want := int64(len(old) + len("half")); err != nil || n != 3 || bytes < want {
		t.Errorf("Prune = %d files, %d bytes, %v; want 3 files, %d bytes", n, bytes, err, want)
	}
	good["blobs/sha256/README"] = manifesttest.Digest([]byte("mine"))
	if diff := cmp.Diff(good, files(t, dir)); diff != "" {
		t.Errorf("after Prune (-want +got):\n%s", diff)
	}
	if n, _, err := m.Prune(); n != 0 || err != nil {
		t.Errorf("Prune again = %d, %v; want nothing", n, err)
	}
	if got := must.Get(os.ReadFile(outside)); string(got) != "mine" {
		t.Errorf("Prune followed a link: %q", got)
	}

	// A set less: what only it needs goes, what is shared stays.
	x := m.Index()
	x.Sets = x.Sets[1:] // kthw-1.21 is the first
	var entries []Entry
	for _, e := range x.Entries {
		sets := []string{}
		for _, s := range e.Sets {
			if s != "kthw-1.21" {
				sets = append(sets, s)
			}
		}
		if e.Sets = sets; len(sets) > 0 {
			entries = append(entries, e)
		}
	}
	x.Entries = entries
	if err := m.Commit(t.Context(), x, w.images); err != nil {
		t.Fatal(err)
	}
	if n, _, err := m.Prune(); n != 3 || err != nil {
		t.Errorf("Prune without a set = %d, %v; want its versions file, lock and release", n, err)
	}
	if r := must.Get(Check(t.Context(), dir, 2, progress.Discard{})); r.Err() != nil {
		t.Errorf("Check after Prune = %v", r.Err())
	}
}
