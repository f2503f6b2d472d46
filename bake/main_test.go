package bake_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
)

// The files of the tiny world's image.
const (
	imageName  = "tiny-v1-30-0-amd64.tar.gz"
	rawName    = "tiny-v1-30-0-amd64.raw"
	recordName = "tiny-v1-30-0-amd64.json"
	spdxName   = "tiny-v1-30-0-amd64.spdx.json"
	madeName   = "tiny-v1-30-0-amd64.provenance.json"
)

// orderVariable makes the test binary bake what it says, as a process of its
// own, and nothing else.
const orderVariable = "BAKE_TEST_ORDER"

func TestMain(m *testing.M) {
	if text := os.Getenv(orderVariable); text != "" {
		os.Exit(obey(text))
	}
	// Several tests wait for a server that says nothing; others can use the time.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// order is a bake for another process.
type order struct {
	Versions, Cache, Out string
	Mirrors              []string
	Jobs                 int
	Limits               limits
}

// limits are what a process does to itself before it bakes.
type limits struct {
	Umask    *int   // where it is given
	UID      int    // to become
	Refuse   string // what the filesystem does not know: "chmod" (FAT), "flock" (NFS); an empty mirror is made first
	FileSize uint64 // RLIMIT_FSIZE in bytes: larger files can't be written, as on a full disk
}

// badInput is the exit code of an order of which all that failed is an
// [manifest.ArgumentError].
const badInput = 3

// obey carries an order out and prints the result as JSON, or else the error
// on standard error.
func obey(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.Limits.apply()
	}
	var mirrored error
	if err == nil && o.Limits.Refuse != "" {
		if err = refuse(o.Limits.Refuse); err == nil {
			_, mirrored = mirrorsync.Run(context.Background(), mirrorsync.Config{To: o.Out + "-mirror", Archs: []arch.Arch{arch.AMD64}})
		}
	}
	var result *bake.Result
	if err == nil {
		result, err = baketest.Image(context.Background(), bake.Config{
			Files:   inputs.Files{Versions: o.Versions, Definition: worker.FS(), Arch: arch.AMD64},
			Options: source.Options{Cache: o.Cache, DebianMirrors: o.Mirrors, Jobs: o.Jobs},
			Units:   units.FS(), Out: o.Out,
		})
	}
	if err := errors.Join(mirrored, err); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for _, err := range []error{mirrored, err} {
		if err != nil && kind(err) != "input" {
			return 1
		}
	}
	if mirrored != nil || err != nil {
		return badInput
	}
	json.NewEncoder(os.Stdout).Encode(result)
	return 0
}

// spawn bakes c in a process of its own. What it needs of the environment is
// in env.
func spawn(ctx context.Context, w *baketest.World, c bake.Config, l limits, env ...string) (*bake.Result, error) {
	text, err := json.Marshal(order{c.Versions, c.Cache, c.Out, c.DebianMirrors, c.Jobs, l})
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(env, orderVariable+"="+string(text))
	cmd.Dir = w.Dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
		if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == badInput {
			err = &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	result := new(bake.Result)
	return result, json.Unmarshal(stdout.Bytes(), result)
}

// lockedWorld returns a world with its lock made.
func lockedWorld(t *testing.T) *baketest.World {
	t.Helper()
	w := baketest.New(t)
	w.Lock()
	return w
}

// newWorld returns a world with its lock made, and the digest of its image.
func newWorld(t *testing.T) (*baketest.World, manifest.Digest) {
	t.Helper()
	w := lockedWorld(t)
	c := w.Config()
	result := w.Image(c)
	wantImage(t, c, result, result.SHA256)
	return w, result.SHA256
}

// wantImage fails unless c's output directory has the image with digest want,
// a record that says so, its SBOM and statement, and nothing else, and result says
// the same.
func wantImage(t *testing.T, c bake.Config, result *bake.Result, want manifest.Digest) {
	t.Helper()
	name := imageName
	if c.Format == bake.Raw {
		name = rawName
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values([]string{recordName, madeName, name, spdxName})), list(t, c.Out)); diff != "" {
		t.Errorf("output directory (-want +got):\n%s", diff)
	}
	path := filepath.Join(c.Out, name)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got := &bake.Result{
		SHA256: sumFile(t, path), Path: path, Size: info.Size(), Record: filepath.Join(c.Out, recordName),
		SPDX: filepath.Join(c.Out, spdxName), Provenance: filepath.Join(c.Out, madeName),
		Missing: result.Missing, // is in no file
	}
	if got.SHA256 != want {
		t.Errorf("the image has digest %s; want %s", got.SHA256, want)
	}
	if diff := cmp.Diff(got, result); diff != "" {
		t.Errorf("result differs from what is there (-there +result):\n%s", diff)
	}
	if diff := cmp.Diff(&record.File{Name: name, Format: formatOf(c), Size: info.Size(), SHA256: got.SHA256}, readRecord(t, c).File); diff != "" {
		t.Errorf("the record differs from what is there (-there +record):\n%s", diff)
	}
	wantClean(t, c)
}

func formatOf(c bake.Config) string {
	if c.Format == "" {
		return string(bake.TarGz)
	}
	return string(c.Format)
}

// wantNothing fails if c's output directory holds anything, under whatever
// name.
func wantNothing(t *testing.T, c bake.Config) {
	t.Helper()
	if files := list(t, c.Out); len(files) > 0 {
		t.Errorf("output directory holds %q; want nothing", files)
	}
	wantClean(t, c)
}

// wantClean fails if the store has something half-done other than downloads,
// which are resumed.
func wantClean(t *testing.T, c bake.Config) {
	t.Helper()
	for _, dir := range []string{"tmp", "build"} {
		for _, name := range list(t, filepath.Join(c.Cache, dir)) {
			if filepath.Ext(name) != ".log" {
				t.Errorf("the store has left %s in %s", name, dir)
			}
		}
	}
}

// list returns the names in dir, which need not exist, sorted.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

func readRecord(t *testing.T, c bake.Config) *record.Record {
	t.Helper()
	return recordAt(t, filepath.Join(c.Out, recordName))
}

func recordAt(t *testing.T, path string) *record.Record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rec, err := record.Read(path, f)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func sumFile(t *testing.T, path string) manifest.Digest {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return manifest.SHA256([sha256.Size]byte(h.Sum(nil)))
}

// kind is what cmd/bake makes an exit code of.
func kind(err error) string {
	var input *manifest.InputError
	var badInput *manifest.ArgumentError
	var noArch *manifest.MissingArchError
	var stale *manifest.StaleError
	var outdated *lock.OutdatedError
	var superseded *source.SupersededError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &stale):
		return "stale"
	case errors.As(err, &outdated):
		return "outdated"
	case errors.As(err, &superseded):
		return "superseded"
	case errors.As(err, &input) || errors.As(err, &badInput) || errors.As(err, &noArch):
		return "input"
	}
	return "failed"
}

// wantError fails unless err is of that kind and its text has all of want.
func wantError(t *testing.T, err error, wantKind string, want ...string) {
	t.Helper()
	if got := kind(err); got != wantKind {
		t.Errorf("the error is of kind %q; want %q: %v", got, wantKind, err)
	}
	if err == nil {
		return
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
}
