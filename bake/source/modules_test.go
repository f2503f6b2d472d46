package source

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/test/filetest"
)

// TestModulesFromMirror mirrors the modules of a component and an image, and
// builds both from the mirror alone: from its directory and from a web server.
func TestModulesFromMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	connected := w.source(t, dir, w.env, nil, false)
	mirrorDir, paths := w.mirrored(t, connected)
	want := []string{
		"example.com/!word/@v/v0.1.0.mod: example.com/Word v0.1.0.mod",
		"example.com/!word/@v/v0.1.0.zip: example.com/Word v0.1.0.zip",
		"example.com/hello/@v/v1.0.0.info: example.com/hello v1.0.0.info",
		"example.com/hello/@v/v1.0.0.mod: example.com/hello v1.0.0.mod",
		"example.com/hello/@v/v1.0.0.zip: example.com/hello v1.0.0.zip",
		"example.com/pod/@v/v1.1.0.info: example.com/pod v1.1.0.info",
		"example.com/pod/@v/v1.1.0.mod: example.com/pod v1.1.0.mod",
		"example.com/pod/@v/v1.1.0.zip: example.com/pod v1.1.0.zip",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	said := strings.Join(connected.Progress.(*notes).lines, "\n")
	if !strings.Contains(said, "the toolchain "+runtime.Version()+" can't be verified with GOSUMDB=off and is left out") {
		t.Errorf("notes = %q; want that the toolchain is left out", said)
	}
	// What is built from one module is looked for at once, for each architecture.
	want = []string{"fetch modules of hello+again v1.0.0: done", "fetch modules of pod v1.1.0: done"}
	if diff := cmp.Diff([]string{want[0], want[0], want[1], want[1]}, connected.Progress.(*notes).tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	usual, err := w.build(t, connected)
	if err != nil {
		t.Fatal(err)
	}

	server := httptest.NewServer(http.FileServer(http.Dir(mirrorDir)))
	defer server.Close()
	for _, location := range []string{mirrorDir, server.URL} {
		store := t.TempDir()
		s := w.source(t, store, userEnv(t, "https://proxy.invalid"), openMirror(t, location), true)
		got, err := w.build(t, s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(usual, got); diff != "" {
			t.Errorf("from %s (-usual +got):\n%s", location, diff)
		}
	}

	// The second time nobody is asked, and no go command runs but to say that
	// the toolchain can't be verified: the files are in the store.
	again := w.source(t, dir, append(userEnv(t, "https://proxy.invalid"), "GOFLAGS=-nonsense"), nil, false)
	if _, more := w.mirrored(t, again); cmp.Diff(paths, more) != "" {
		t.Errorf("sources out of the store (-first +second):\n%s", cmp.Diff(paths, more))
	}
	if tasks := again.Progress.(*notes).tasks; len(tasks) > 0 {
		t.Errorf("tasks of the second time = %q; want none", tasks)
	}
	// What is not in it any more is found again.
	filetest.Remove(t, filepath.Join(dir, "files"))
	if _, more := w.mirrored(t, w.source(t, dir, w.env, nil, false)); cmp.Diff(paths, more) != "" {
		t.Errorf("sources found again (-first +second):\n%s", cmp.Diff(paths, more))
	}
}

// TestModulesFromBrokenMirror damages the one file that everything needs.
func TestModulesFromBrokenMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mirrorDir, _ := w.mirrored(t, w.source(t, t.TempDir(), w.env, nil, false))
	m := openMirror(t, mirrorDir)
	shared := m.Index().Find(mirror.Module, "example.com/!word/@v/v0.1.0.zip")[0]
	blob := filepath.Join(mirrorDir, "blobs", "sha256", shared.SHA256.Hex())
	content := filetest.Read(t, blob)
	bad := bytes.Clone(content)
	bad[len(bad)/2] ^= 1
	for _, test := range []struct {
		name   string
		damage func() error
	}{
		{"altered", func() error { return os.WriteFile(blob, bad, 0o644) }},
		{"cut off", func() error { return os.WriteFile(blob, content[:len(content)/2], 0o644) }},
		{"absent", func() error { return nil }},
	} {
		if err := errors.Join(os.Remove(blob), test.damage()); err != nil && test.name != "absent" {
			t.Fatal(err)
		}
		dir := t.TempDir()
		s := w.source(t, dir, userEnv(t, "https://proxy.invalid"), m, true)
		_, err := w.build(t, s)
		if err == nil || !strings.Contains(err.Error(), "example.com/Word v0.1.0.zip") || !strings.Contains(err.Error(), mirrorDir) {
			t.Errorf("%s: building offline = %v; want an error that names file and mirror", test.name, err)
		}
		if path, kept := s.Store.Path(shared.SHA256); kept {
			t.Errorf("%s: %s was kept", test.name, path)
		}
		// With a network the user's own GOPROXY has it.
		s = w.source(t, dir, w.env, m, false)
		if _, err := w.build(t, s); err != nil {
			t.Errorf("%s: building with a network = %v", test.name, err)
		}
		if said := strings.Join(s.Progress.(*notes).lines, "\n"); !strings.Contains(said, "example.com/Word v0.1.0.zip") {
			t.Errorf("%s: notes = %q; want the file in them", test.name, said)
		}
	}
}

// TestModulesOfNoMirror builds from a mirror without sources.
func TestModulesOfNoMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	none := *w
	none.versions = manifest.Versions{}
	mirrorDir, paths := none.mirrored(t, none.source(t, t.TempDir(), w.env, nil, false))
	if len(paths) > 0 {
		t.Errorf("sources of nothing = %v", paths)
	}
	_, err := w.build(t, w.source(t, t.TempDir(), userEnv(t, "https://proxy.invalid"), openMirror(t, mirrorDir), true))
	if _, ok := errors.AsType[*gobuild.NotMirroredError](err); !ok || !strings.Contains(err.Error(), "the mirror has no module example.com/hello@v1.0.0: make it with --sources") {
		t.Errorf("building offline = %v; want that the module is not in the mirror", err)
	}
}

// TestModulesProgress builds all at once from a mirror that answers late: as many
// tasks are announced as there are, though all want the same files.
func TestModulesProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.versions.Components = slices.DeleteFunc(w.versions.Components, func(c manifest.Component) bool { return c.Module == nil })
	mirrorDir, _ := w.mirrored(t, w.source(t, t.TempDir(), w.env, nil, false))
	files := http.FileServer(http.Dir(mirrorDir))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond) // so that others come to want the same
		files.ServeHTTP(rw, r)
	}))
	defer server.Close()
	s := w.source(t, t.TempDir(), userEnv(t, "https://proxy.invalid"), openMirror(t, server.URL), true)
	s.Config.Origin = FromSource
	for _, run := range []string{"first", "second"} {
		plan, err := s.Plan(t.Context(), &w.versions, &manifest.LockedArch{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Fetch(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		said := s.Progress.(*notes)
		// Eight files, and modules and build of three. The second time all is there.
		if want := 8 + 3*2; said.expected != want || said.started != want || len(said.tasks) != want {
			t.Errorf("%s: %d tasks were announced, %d started and %d ended; want %d:\n%s",
				run, said.expected, said.started, len(said.tasks), want, strings.Join(said.tasks, "\n"))
		}
	}
}
