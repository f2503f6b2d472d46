package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/filetest"
)

// TestVerifyNotVouched looks at images whose inputs nobody vouches for, and whose
// inputs a versions file vouches for.
func TestVerifyNotVouched(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	c := w.Config()
	c.Format = bake.Raw
	image := w.Image(c)
	record := baketest.ReadRecord(t, c)
	raw := newDisk(t, image)
	w.Gets()
	const nobody = "nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)"
	lone := filepath.Join(t.TempDir(), "mine.yaml")
	filetest.Write(t, lone, filetest.Read(t, w.Versions))
	other := filepath.Join(t.TempDir(), "versions.yaml")
	filetest.Write(t, other, append(filetest.Read(t, w.Versions), "# more\n"...))
	at := raw.content("/etc/systemd/system/kubelet.service", 5)
	for _, test := range []struct {
		name     string
		versions string
		damage   int64 // flips what is there; 0: nothing
		want     verify.Result
	}{
		{"nobody", "", 0, verify.Result{NotVouched: nobody}},
		{"his inputs", w.Versions, 0, verify.Result{Rebuilt: true, Identical: true}},
		{"his versions file alone", lone, 0, verify.Result{Rebuilt: true, Identical: true}},
		{"another versions file", other, 0, verify.Result{NotVouched: other + " is " + string(manifesttest.DigestFile(t, other)) + ", and the image was made from " + string(record.Inputs.Versions)}},
		{"another program", "", raw.content("/usr/local/bin/kubelet", 0), verify.Result{NotVouched: nobody, Contradictions: []string{"component kubelet: /usr/local/bin/kubelet has sha256:"}}},
		{"another unit", "", at, verify.Result{NotVouched: nobody, Contradictions: []string{"/etc/systemd/system/kubelet.service is not this bake's"}}},
		{"a partition table that is damaged", "", 512 + 56, verify.Result{NotVouched: nobody, Contradictions: []string{"opening the image " + image.Path + ": "}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			want.Image, want.SHA256, want.Size = image.Path, image.SHA256, image.Size
			config := baketest.VerifyConfig(t, c, image.Path)
			config.TrustInputs, config.Versions = false, test.versions
			if !want.Rebuilt {
				config.Cache = filepath.Join(t.TempDir(), "cache")
			}
			if test.damage > 0 {
				_, _, undo := raw.flip(test.damage)
				defer undo()
			}
			got, err := verify.Run(t.Context(), config)
			if err != nil {
				t.Fatalf("Verify = %v", err)
			}
			if test.damage > 0 {
				if got.SHA256 == image.SHA256 {
					t.Errorf("Verify says %s; want the digest of the image as it is now", got.SHA256)
				}
				want.SHA256 = got.SHA256
			}
			if len(got.Contradictions) == 1 && len(want.Contradictions) == 1 && strings.HasPrefix(got.Contradictions[0], want.Contradictions[0]) {
				got.Contradictions = want.Contradictions
			}
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Errorf("Verify (-want +got):\n%s", diff)
			}
			filetest.WantEmpty(t, config.TmpDir)
			if !want.Rebuilt {
				wantNothingFetched(t, w, config)
			}
		})
	}
}

// wantNothingFetched fails where c has a store or the world was asked for anything.
func wantNothingFetched(t *testing.T, w *baketest.World, c verify.Config) {
	t.Helper()
	if asked := w.Gets(); len(asked) > 0 {
		t.Errorf("asked for %q; want nothing", asked)
	}
	if _, err := os.Stat(c.Cache); err == nil {
		t.Error("there is a store; want nothing fetched")
	}
}

// TestVerifyHostile has versions files inside images say what is to be run.
// Whoever vouches for them, they are refused before anything is asked for.
func TestVerifyHostile(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	ran := filepath.Join(t.TempDir(), "ran")
	room := "      #" + strings.Repeat("x", 200) + "\n"
	w.Edit("versions.yaml", "      stamp:\n", room+"      stamp:\n")
	w.Lock()
	c := w.Config()
	c.Format = bake.Raw
	image := w.Image(c)
	raw := newDisk(t, image)
	w.Gets()
	for _, test := range []struct{ name, line, want string }{
		{"a linker flag", `cgo: {ldflags: ["-wrapper,touch,` + ran + `"]}`, `cgo.ldflags[0]: "-wrapper,touch,` + ran + `" is not allowed (want -static or -static-pie, nothing else)`},
		{"a tag", `tags: ["x -toolexec=` + ran + `"]`, ` is not a build tag (letters, digits, _ and .)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := raw.copied(t)
			line := fmt.Sprintf("      %-*s\n", len(room)-7, test.line)
			replaceInside(d, w.Versions, w.LockFile(), room, line)
			for _, trust := range []bool{false, true} {
				config := baketest.VerifyConfig(t, w.Config(), d.path)
				config.TrustInputs = trust
				result, err := verify.Run(t.Context(), config)
				baketest.WantError(t, err, "input", test.want)
				if result != nil {
					t.Errorf("Verify = %+v; want nothing beside the error", result)
				}
				wantNothingFetched(t, w, config)
				if _, err := os.Stat(ran); err == nil {
					t.Fatal("the image had its command run")
				}
			}
		})
	}
}

// replaceInside replaces text of one length in the versions file that d holds,
// and adapts the digests in lock and record.
func replaceInside(d *disk, versions, lock, old, text string) {
	d.t.Helper()
	if len(old) != len(text) {
		d.t.Fatalf("%q is longer than %q", text, old)
	}
	digest := func(content string) string { return manifesttest.Digest(content).Hex() }
	oldVersions, oldLock := string(filetest.Read(d.t, versions)), string(filetest.Read(d.t, lock))
	newVersions := strings.Replace(oldVersions, old, text, 1)
	newLock := strings.ReplaceAll(oldLock, digest(oldVersions), digest(newVersions))
	const inputs, record = "/usr/lib/bake/inputs/", "/usr/lib/bake/image.json"
	d.write(d.content(inputs+"versions.yaml", 0), []byte(newVersions))
	d.write(d.content(inputs+"versions.lock", 0), []byte(newLock))
	for old, text := range map[string]string{digest(oldVersions): digest(newVersions), digest(oldLock): digest(newLock)} {
		d.write(d.find(record, old), []byte(text))
	}
}
