package bake_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/verify"
)

// TestVerifyNotVouched looks at images whose inputs nobody vouches for, and whose
// inputs a versions file vouches for.
func TestVerifyNotVouched(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	c := w.Config()
	c.Format = bake.Raw
	image := w.Image(c)
	record := readRecord(t, c)
	raw := newDisk(t, image.Path, record)
	w.Gets()
	const nobody = "nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)"
	lone := filepath.Join(t.TempDir(), "mine.yaml")
	writeFile(t, lone, readFile(t, w.Versions))
	other := filepath.Join(t.TempDir(), "versions.yaml")
	writeFile(t, other, append(readFile(t, w.Versions), "# more\n"...))
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
		{"another versions file", other, 0, verify.Result{NotVouched: other + " is " + string(sumFile(t, other)) + ", and the image was made from " + string(record.Inputs.Versions)}},
		{"another program", "", raw.content("/usr/local/bin/kubelet", 0), verify.Result{NotVouched: nobody, Contradictions: []string{"component kubelet: /usr/local/bin/kubelet has sha256:"}}},
		{"another unit", "", at, verify.Result{NotVouched: nobody, Contradictions: []string{"/etc/systemd/system/kubelet.service is not this bake's"}}},
		{"a partition table that is damaged", "", 512 + 56, verify.Result{NotVouched: nobody, Contradictions: []string{"opening the image " + image.Path + ": "}}},
	} {
		test.want.Image, test.want.SHA256, test.want.Size = image.Path, image.SHA256, image.Size
		if test.damage > 0 {
			before := raw.read(test.damage, 1)
			raw.write(test.damage, []byte{before[0] ^ 1})
			defer raw.write(test.damage, before)
		}
		config := inspected(c)
		if !test.want.Rebuilt {
			config.Cache = filepath.Join(t.TempDir(), "cache")
		}
		tmp := t.TempDir()
		got, err := verify.Run(t.Context(), verify.Config{Image: image.Path, TmpDir: tmp, Versions: test.versions, Options: config.Options, Units: config.Units, Definition: config.Definition})
		if err != nil {
			t.Fatalf("%s: Verify = %v", test.name, err)
		}
		if len(got.Contradictions) == len(test.want.Contradictions) {
			for i, want := range test.want.Contradictions {
				if strings.HasPrefix(got.Contradictions[i], want) {
					test.want.Contradictions[i] = got.Contradictions[i]
				}
			}
		}
		if test.damage > 0 {
			if got.SHA256 == image.SHA256 {
				t.Errorf("%s: Verify says %s; want the digest of the image as it is now", test.name, got.SHA256)
			}
			test.want.SHA256 = got.SHA256
		}
		if diff := cmp.Diff(&test.want, got); diff != "" {
			t.Errorf("%s: Verify (-want +got):\n%s", test.name, diff)
		}
		if left := list(t, tmp); len(left) > 0 {
			t.Errorf("%s: left in the temporary directory: %q", test.name, left)
		}
		if test.want.Rebuilt {
			continue
		}
		if _, err := os.Stat(config.Cache); err == nil {
			t.Errorf("%s: there is a store; want nothing fetched", test.name)
		}
		if asked := w.Gets(); len(asked) > 0 {
			t.Errorf("%s: asked for %q; want nothing", test.name, asked)
		}
		if test.damage > 0 {
			before := raw.read(test.damage, 1)
			raw.write(test.damage, []byte{before[0] ^ 1})
		}
	}
}

// TestVerifyHostile has versions files inside images say what is to be run.
// Whoever vouches for them, they are refused before anything is asked for.
func TestVerifyHostile(t *testing.T) {
	t.Parallel()
	w := lockedWorld(t)
	ran := filepath.Join(t.TempDir(), "ran")
	room := "      #" + strings.Repeat("x", 200) + "\n"
	w.Edit("versions.yaml", "      stamp:\n", room+"      stamp:\n")
	w.Lock()
	c := w.Config()
	c.Format = bake.Raw
	image := w.Image(c)
	raw := newDisk(t, image.Path, readRecord(t, c))
	w.Gets()
	for _, test := range []struct{ name, line, want string }{
		{"a linker flag", `cgo: {ldflags: ["-wrapper,touch,` + ran + `"]}`, `cgo.ldflags[0]: "-wrapper,touch,` + ran + `" is not allowed (want -static or -static-pie, nothing else)`},
		{"a tag", `tags: ["x -toolexec=` + ran + `"]`, ` is not a build tag (letters, digits, _ and .)`},
	} {
		d := raw.copied(t)
		line := fmt.Sprintf("      %-*s\n", len(room)-7, test.line)
		replaceInside(d, w.Versions, w.LockFile(), room, line)
		for _, trust := range []bool{false, true} {
			tmp := t.TempDir()
			config := inspected(w.Config())
			result, err := verify.Run(t.Context(), verify.Config{Image: d.path, TmpDir: tmp, TrustInputs: trust, Options: config.Options, Units: config.Units, Definition: config.Definition})
			wantError(t, err, "input", test.want)
			if result != nil {
				t.Errorf("%s: Verify = %+v; want nothing beside the error", test.name, result)
			}
			if asked := w.Gets(); len(asked) > 0 {
				t.Errorf("%s: asked for %q; want nothing", test.name, asked)
			}
			if _, err := os.Stat(config.Cache); err == nil {
				t.Errorf("%s: there is a store; want nothing fetched", test.name)
			}
			if _, err := os.Stat(ran); err == nil {
				t.Fatalf("%s: the image had its command run", test.name)
			}
		}
	}
}

// replaceInside replaces text of one length in the versions file that d holds,
// and adapts the digests in lock and record.
func replaceInside(d *disk, versions, lock, old, text string) {
	d.t.Helper()
	if len(old) != len(text) {
		d.t.Fatalf("%q is longer than %q", text, old)
	}
	sum := func(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }
	oldVersions, oldLock := string(readFile(d.t, versions)), string(readFile(d.t, lock))
	newVersions := strings.Replace(oldVersions, old, text, 1)
	newLock := strings.ReplaceAll(oldLock, sum(oldVersions), sum(newVersions))
	const inputs, record = "/usr/lib/bake/inputs/", "/usr/lib/bake/image.json"
	d.write(d.content(inputs+"versions.yaml", 0), []byte(newVersions))
	d.write(d.content(inputs+"versions.lock", 0), []byte(newLock))
	for old, text := range map[string]string{sum(oldVersions): sum(newVersions), sum(oldLock): sum(newLock)} {
		d.write(d.find(record, old), []byte(text))
	}
}
