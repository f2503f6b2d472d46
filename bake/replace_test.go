package bake_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/progress/progresstest"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/test/filetest"
)

const keepBoth = " (--force replaces it with all that is beside it; another --name or --output keeps both)"

// otherImage returns a world, a configuration whose output directory has its
// image, signed, and what the world is changed by: kubelet comes from its source,
// or the versions file is another.
func otherImage(t *testing.T) (w *baketest.World, c bake.Config, old manifest.Digest) {
	t.Helper()
	w, old = baketest.NewBaked(t)
	c = w.Config()
	c.Sign, _ = baketest.NewKey(t, "")
	w.Image(c)
	c.Sign = ""
	return w, c, old
}

// TestAnotherImageStays bakes what has another digest over an image, in ways in
// which that is known at once or only at the end. All files stay as they are,
// until force is allowed; then none is of the image that was.
func TestAnotherImageStays(t *testing.T) {
	t.Parallel()
	w, c, old := otherImage(t)
	restore := w.Snapshot()
	saved := filepath.Join(t.TempDir(), "out")
	filetest.Copy(t, c.Out, saved)
	gone := func(names ...string) func() {
		return func() {
			for _, name := range names {
				filetest.Remove(t, filepath.Join(c.Out, name))
			}
		}
	}
	fromSource := func() { c.Origins = kubeletFromSource() }
	newVersions := func() {
		w.Edit("versions.yaml", "os:\n", "# more\nos:\n")
		w.Lock()
	}
	for _, test := range []struct {
		name   string
		change func()
		there  func()
		want   string // of the error; DIR, OLD and NEW stand for what they say
		begins bool   // work may have begun by then
	}{
		{"other inputs", newVersions, func() {}, "writing DIR/" + baketest.ImageName + ": an image that was made from another versions file is there, OLD" + keepBoth, false},
		{"other inputs, the image was moved away", newVersions, gone(baketest.ImageName), "writing DIR/" + baketest.ImageName + ": an image that was made from another versions file is there, OLD" + keepBoth, false},
		{"other inputs, no record", newVersions, gone(baketest.RecordName), "writing DIR/" + baketest.ImageName + ": another image is there, OLD; the new one is NEW" + keepBoth, true},
		{"another origin", fromSource, func() {}, "writing DIR/" + baketest.ImageName + ": another image is there, OLD; the new one is NEW" + keepBoth, true},
		{"another origin, the image was moved away", fromSource, gone(baketest.ImageName), "writing DIR/" + baketest.ImageName + ": the record of another image is there, DIR/" + baketest.RecordName + " is of OLD; the new image is NEW" + keepBoth, true},
		{"another format", func() { c.Format = bake.Raw }, func() {}, "writing DIR/" + baketest.RawName + ": the record of another image is there, DIR/" + baketest.RecordName + " is of OLD; the new image is NEW" + keepBoth, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			was := c
			defer func() {
				c = was
				restore()
				filetest.Remove(t, c.Out)
				filetest.Copy(t, saved, c.Out)
			}()
			test.change()
			// What it would be: elsewhere there is room.
			free := c
			free.Out = filepath.Join(t.TempDir(), "out")
			made := w.Image(free).SHA256
			if made == old {
				t.Fatal("the image is the same; want another")
			}
			test.there()
			before := sums(t, c.Out)
			var sink progresstest.Recorder
			c.Progress = &sink
			_, err := baketest.Image(t.Context(), c)
			want := strings.NewReplacer("DIR", c.Out, "OLD", string(old), "NEW", string(made)).Replace(test.want)
			if err == nil || err.Error() != want {
				t.Errorf("Image() =\n     %v; want\n     %s", err, want)
			}
			if diff := cmp.Diff(before, sums(t, c.Out)); diff != "" {
				t.Errorf("output directory (-before +after):\n%s", diff)
			}
			baketest.WantClean(t, c.Cache)
			if lines := sink.Lines(); len(lines) > 0 && !test.begins {
				t.Errorf("before the error there was %q", lines)
			}

			c.Force = true
			result := w.Image(c)
			if result.SHA256 != made || result.Replaced != old {
				t.Errorf("with Force the image is %s and replaced %s; want %s and %s", result.SHA256, result.Replaced, made, old)
			}
			record := baketest.ReadRecord(t, c)
			if record.File.SHA256 != made || manifesttest.DigestFile(t, result.Path) != made {
				t.Errorf("with Force the record is of %s and the image %s; want %s", record.File.SHA256, manifesttest.DigestFile(t, result.Path), made)
			}
			if _, err := os.Stat(filepath.Join(c.Out, baketest.BundleName)); err == nil || !slices.Contains(sink.Lines(), baketest.BundleName+", the signature of the image that is replaced, was removed") {
				t.Errorf("the signature of the old image is there, or nothing was noted: %q", sink.Lines())
			}
			if again := w.Image(c); again.Replaced != "" {
				t.Errorf("the same image again replaced %s; want nothing", again.Replaced)
			}
		})
	}
}

func kubeletFromSource() source.Origins {
	return source.Origins{Components: map[string]source.Origin{"kubelet": source.FromSource}}
}

// sums are the digests of dir's files.
func sums(t *testing.T, dir string) map[string]manifest.Digest {
	t.Helper()
	out := map[string]manifest.Digest{}
	for _, name := range filetest.Names(t, dir) {
		out[name] = manifesttest.DigestFile(t, filepath.Join(dir, name))
	}
	return out
}

// TestAnotherImageComesMeanwhile puts another image where none was when the bake
// began.
func TestAnotherImageComesMeanwhile(t *testing.T) {
	t.Parallel()
	_, c, old := otherImage(t)
	there := c.Out
	c.Out, c.Origins = filepath.Join(t.TempDir(), "out"), kubeletFromSource()
	c.Progress = &progresstest.Recorder{OnStart: func(verb string) {
		if verb == "compress" {
			filetest.Write(t, filepath.Join(c.Out, baketest.ImageName), filetest.Read(t, filepath.Join(there, baketest.ImageName)))
		}
	}}
	_, err := baketest.Image(t.Context(), c)
	if want := ": another image is there, " + string(old) + "; the new one is "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Image() = %v; want an error with %q", err, want)
	}
	if diff := cmp.Diff(map[string]manifest.Digest{baketest.ImageName: old}, sums(t, c.Out)); diff != "" {
		t.Errorf("output directory (-want +got):\n%s", diff)
	}
}

// TestNamedImage gives names, and makes the images again from what they hold.
func TestNamedImage(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	restore := w.Snapshot()
	for _, test := range []struct {
		name, versions, given, want string
		parameter                   string // of the provenance
	}{
		{"versions file", "name: mine-{version}-{lock}\n", "", "mine-v1-30-0-LOCK", ""},
		{"flag", "", "other-{arch}", "other-amd64", "other-amd64"},
		{"both", "name: mine\n", "yours-{lock}", "yours-LOCK", "yours-LOCK"},
		{"flag that says what is so", "", "tiny-v1-30-0-{arch}", "tiny-v1-30-0-amd64", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			if test.versions != "" {
				w.Edit("versions.yaml", "os:\n", test.versions+"os:\n")
				w.Lock()
			}
			c := w.Config()
			c.Name = test.given
			result := w.Image(c)
			digits := strings.TrimPrefix(string(manifesttest.DigestFile(t, w.LockFile())), "sha256:")[:8]
			want := strings.ReplaceAll(test.want, "LOCK", digits)
			if got := filepath.Base(result.Path); got != want+".tar.gz" {
				t.Errorf("the image is %s; want %s.tar.gz", got, want)
			}
			record := baketest.RecordAt(t, result.Record)
			if record.Name != want || record.File.Name != want+".tar.gz" {
				t.Errorf("the record is of %s in %s; want %s", record.Name, record.File.Name, want)
			}
			var statement struct {
				Predicate struct {
					BuildDefinition struct {
						ExternalParameters struct{ Name string }
						InternalParameters struct{ Name string }
					}
				}
			}
			if err := json.Unmarshal(filetest.Read(t, result.Provenance), &statement); err != nil {
				t.Fatal(err)
			}
			parameters := statement.Predicate.BuildDefinition
			if got, given := parameters.ExternalParameters.Name, strings.ReplaceAll(test.parameter, "LOCK", digits); got != given || parameters.InternalParameters.Name != want {
				t.Errorf("the provenance has names %q and %q; want %q and %q", got, parameters.InternalParameters.Name, given, want)
			}
			baketest.WantSame(t, c, result)
		})
	}
	// The same lock, and yet another name.
	inputs := func(edit func()) string {
		defer restore()
		edit()
		c := w.Config()
		c.Name = "tiny-{inputs}"
		return filepath.Base(w.Image(c).Path)
	}
	names := []string{
		inputs(func() {}),
		inputs(func() { w.Edit("versions.yaml", "os:\n", "# more\nos:\n") }),
		inputs(func() { w.Edit("definition/files/etc/tool.conf", "yes", "maybe") }),
	}
	for _, name := range names {
		if !regexp.MustCompile(`^tiny-[0-9a-f]{8}\.tar\.gz$`).MatchString(name) {
			t.Errorf("the image is %s; want eight digits in its name", name)
		}
	}
	if again := inputs(func() {}); again != names[0] || names[1] == names[0] || names[2] == names[0] || names[2] == names[1] {
		t.Errorf("names are %q, and %s with the inputs of the first; want three", names, again)
	}
	for given, want := range map[string]string{
		"K8s":                    `--name: image name "K8s" begins with 'K' (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)`,
		"x-{arhc}":               "--name: image name: unknown placeholder {arhc} (did you mean {arch}?)",
		strings.Repeat("a", 64):  `--name: image name "` + strings.Repeat("a", 64) + `" has 64 characters (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)`,
		"../tiny-v1-30-0-{arch}": `--name: image name "../tiny-v1-30-0-amd64" begins with '.' (want at most 63 lower-case letters, digits and hyphens, a letter first and no hyphen last)`,
	} {
		c := w.Config()
		c.Name = given
		_, err := baketest.Image(t.Context(), c)
		baketest.WantError(t, err, "input", want)
		baketest.WantNothing(t, c)
	}
	w.Edit("definition/image.yaml", "name: tiny", "name: "+strings.Repeat("a", 60))
	w.Lock()
	_, err := baketest.Image(t.Context(), w.Config())
	baketest.WantError(t, err, "input", `-v1-30-0-amd64" has 74 characters `, "; it begins with the definition's name (give another by name: in "+w.Versions+", or by --name)")
}
