package bake_test

import (
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// inputsInside returns the files that an image was made from, by their paths
// below /usr/lib/bake/inputs.
func inputsInside(t *testing.T, image string) map[string]string {
	t.Helper()
	r, err := baketest.Open(t, image).Record(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/usr/lib/bake/inputs/"
	out := map[string]string{}
	for _, e := range r.Files {
		if name := e.Path; e.SHA256 != "" && len(name) > len(dir) && name[:len(dir)] == dir {
			out[name[len(dir):]] = e.SHA256
		}
	}
	return out
}

// TestDefinition bakes with the definition that the versions file names, and
// with the built-in one, which are the same: so are the images, but for what they
// say of it. Either has the definition's files.
func TestDefinition(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewBaked(t)
	c := w.Config()
	named := w.Image(c)
	record := baketest.ReadRecord(t, c)
	if got := record.Inputs.DefinitionFrom; got != "definition" {
		t.Errorf("the record says that the definition is from %q; want %q", got, "definition")
	}
	// Neither the one for tests nor what is for people is an input.
	filetest.Write(t, filepath.Join(w.Definition(), "README.md"), []byte("x"))
	want := []string{"configure.yaml", "files/etc/tiny.secret", "files/etc/tool.conf", "image.yaml"}
	inside := inputsInside(t, named.Path)
	for _, name := range want {
		file := manifesttest.DigestFile(t, filepath.Join(w.Definition(), filepath.FromSlash(name)))
		if got := record.Inputs.DefinitionFiles[name]; got != file {
			t.Errorf("the record says that %s is %q; want %s", name, got, file)
		}
		if got := inside[path.Join("definition", name)]; "sha256:"+got != string(file) {
			t.Errorf("the image's %s is %q; want %s", name, got, file)
		}
	}
	if got := len(record.Inputs.DefinitionFiles); got != len(want) || len(inside) != 2+len(want) {
		t.Errorf("the record has %d files of the definition, the image %d inputs; want %d, and versions file and lock too", got, len(inside), len(want))
	}

	restore := w.Snapshot()
	w.Edit("versions.yaml", "definition: definition\n", "")
	built := filepath.Join(t.TempDir(), "built")
	must.Do(os.Rename(w.Definition(), built))
	c = w.Config()
	c.Definition = os.DirFS(built)
	w.LockWith(w.LockConfig(c))
	embedded := w.Image(c)
	record = baketest.ReadRecord(t, c)
	if got := record.Inputs.DefinitionFrom; got != "embedded" {
		t.Errorf("the record says that the definition is from %q; want %q", got, "embedded")
	}
	delete(inside, "versions.yaml")
	delete(inside, "versions.lock")
	again := inputsInside(t, embedded.Path)
	delete(again, "versions.yaml")
	delete(again, "versions.lock")
	if diff := cmp.Diff(inside, again); diff != "" {
		t.Errorf("the definition in the image (-named +built in):\n%s", diff)
	}

	// A bake with another one built in makes both again; only for a versions file
	// that names none is its own the user's.
	v := w.Config()
	baketest.WantSame(t, v, named)
	baketest.WantSame(t, v, embedded)
	check := verify.Config{Image: embedded.Path, TmpDir: t.TempDir(), Versions: w.Versions, Options: v.Options, Units: v.Units, Definition: v.Definition}
	other, err := verify.Run(t.Context(), check)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := manifest.ParseDefinition("", v.Definition)
	if err != nil {
		t.Fatal(err)
	}
	if want := "this bake's built-in image definition is " + string(sum.Sum) + ", and the image was made from " + string(record.Inputs.Definition); other.NotVouched != want {
		t.Errorf("Verify with a versions file = %+v; want %q", other, want)
	}
	check.Definition = os.DirFS(built)
	if same, err := verify.Run(t.Context(), check); err != nil || !same.Identical {
		t.Errorf("Verify with the bake that made it = %+v, %v; want the same", same, err)
	}
	restore()
	w.Edit("definition/files/etc/tool.conf", "yes", "maybe")
	check.Image = named.Path
	changed, err := verify.Run(t.Context(), check)
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := manifest.ParseDefinition("", os.DirFS(w.Definition())); changed.NotVouched != w.Definition()+" is "+string(d.Sum)+", and the image was made from "+string(record.Inputs.Definition) {
		t.Errorf("Verify with another definition = %+v", changed)
	}
}

// TestDefinitionErrors names a definition that can't be.
func TestDefinitionErrors(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewBaked(t)
	restore := w.Snapshot()
	const remedy = " (correct the path, or remove the key: without it the built-in definition is used)"
	key := w.Versions + ":59:1: definition: "
	for _, test := range []struct {
		name   string
		change func()
		want   string
	}{
		{"no directory", func() { w.Edit("versions.yaml", "definition: definition", "definition: definiton") },
			key + "there is no directory " + filepath.Join(w.Dir, "definiton") + remedy},
		{"a file", func() { w.Edit("versions.yaml", "definition: definition", "definition: definition/image.yaml") },
			key + filepath.Join(w.Definition(), "image.yaml") + " is no directory" + remedy},
		{"below a file", func() { w.Edit("versions.yaml", "definition: definition", "definition: definition/image.yaml/x") },
			key + "stat " + filepath.Join(w.Definition(), "image.yaml", "x") + ": not a directory" + remedy},
		{"another directory", func() { w.Edit("versions.yaml", "definition: definition", "definition: modules") },
			"reading the image definition " + filepath.Join(w.Dir, "modules") + ": unexpected file kubelet/go.mod (files for the image go below files/)"},
		{"a mistake", func() { w.Edit("definition/image.yaml", "modes:", "mode:") },
			filepath.Join(w.Definition(), "image.yaml") + `:17:1: mode: unknown key (did you mean "modes"?)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			test.change()
			_, err := bake.New(w.Config())
			baketest.WantError(t, err, "input")
			if err == nil || err.Error() != test.want {
				t.Errorf("New() = %v; want %s", err, test.want)
			}
		})
	}
}

// TestEdit goes the way of README's "What you edit" in a checkout: edit, lock,
// bake, and the edit is in the image.
func TestEdit(t *testing.T) {
	t.Parallel()
	w, _ := baketest.NewBaked(t)
	w.Checkout()
	w.Lock()
	tool := func(c bake.Config) string {
		return string(baketest.ReadFile(t, baketest.Open(t, w.Image(c).Path), "/etc/tool.conf"))
	}
	if got, want := tool(w.Config()), "changed = yes\n"; got != want {
		t.Fatalf("/etc/tool.conf is %q; want %q", got, want)
	}
	w.Edit("images/worker/files/etc/tool.conf", "yes", "by me")
	w.Lock()
	if got, want := tool(w.Config()), "changed = by me\n"; got != want {
		t.Errorf("/etc/tool.conf is %q; want %q", got, want)
	}
}
