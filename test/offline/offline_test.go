//go:build system

// Package offline mirrors the real sets of versions, and bakes them where there
// is no network: the images must be those of out/ and out/kthw, byte for byte.
//
// It needs bin/bake and both images (`make image`, and again with the guide's
// versions), a network for the mirror, util-linux for a namespace without one, a
// few GB in the temporary directory, and time for building what can't be
// downloaded. The mirror and every bake have a store of their own. Only the go
// command's build cache is the user's: it decides no bytes, and spares an hour.
package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/test/artifact"
	"github.com/nodebake/bake/test/filetest"
)

// root is the project's, seen from this package.
const root = "../.."

// exitInterrupted is the code of a bake that Ctrl-C has ended.
const exitInterrupted = 130

// sets are what is mirrored, and where the image is that make image made of it.
func sets() []set {
	return []set{
		{"manifests/versions.yaml", artifact.Image},
		{"test/kthw/versions.yaml", artifact.Guides},
	}
}

type set struct {
	versions string
	image    func(root string) (string, error)
}

// run runs a command in the project's directory that must succeed.
func run(t *testing.T, name string, args ...string) (stdout string, took time.Duration) {
	t.Helper()
	cmd := command(t.Context(), name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out.String(), time.Since(begun)
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

func TestOffline(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "bin/bake")); err != nil {
		t.Fatalf("%v (run make)", err)
	}
	dir := t.TempDir()
	mirror := filepath.Join(dir, "mirror")
	args := []string{"mirror", "--sources", "--output", mirror, "--cache", filepath.Join(dir, "cache"), "--json"}
	for _, s := range sets() {
		args = append(args, "--versions", s.versions)
	}

	arrived := interrupt(t, mirror, append(args, "--quiet"))
	r, took := mirrored(t, args)
	t.Logf("%d files had arrived before the interruption; the rest took %v: %d files, %d bytes, in all %d files, %d bytes",
		arrived, took.Round(time.Second), r.Added.Files, r.Added.Bytes, r.Files, r.Bytes)
	if r.Added.Files > r.Files-arrived {
		t.Errorf("the second run added %d of %d files, though %d had arrived", r.Added.Files, r.Files, arrived)
	}
	r, took = mirrored(t, args)
	t.Logf("a run that changes nothing took %v", took.Round(time.Millisecond))
	if r.Added.Files > 0 || took > 2*time.Second {
		t.Errorf("the third run added %d files in %v; want none in less than 2 s", r.Added.Files, took)
	}
	_, took = run(t, "bin/bake", "mirror", "check", mirror, "--quiet")
	_, reference := run(t, "sh", "-c", `find "$1" -type f -print0 | xargs -0 -n 16 -P "$(nproc)" sha256sum`, "sh", filepath.Join(mirror, "blobs"))
	t.Logf("mirror check took %v, sha256sum on all cores %v", took.Round(time.Millisecond), reference.Round(time.Millisecond))

	noNetwork(t)
	for _, s := range sets() {
		t.Run(filepath.Base(filepath.Dir(s.versions)), func(t *testing.T) {
			out := t.TempDir()
			stdout, took := run(t, "unshare", isolated("env", "GOMODCACHE="+filepath.Join(out, "modules"),
				"bin/bake", "image", "--versions", s.versions, "--mirror", mirror, "--offline", "--build-missing",
				"--cache", filepath.Join(out, "cache"), "--output", filepath.Join(out, "out"), "--quiet")...)
			t.Logf("baking offline took %v", took.Round(time.Second))
			if got, want := strings.Fields(stdout)[0], digest(t, s); got != want {
				t.Errorf("the image that was made without a network is %s; want %s", got, want)
			}
		})
	}
}

// mirrored runs bake mirror.
func mirrored(t *testing.T, args []string) (*mirrorsync.Result, time.Duration) {
	t.Helper()
	stdout, took := run(t, "bin/bake", args...)
	r := new(mirrorsync.Result)
	if err := json.Unmarshal([]byte(stdout), r); err != nil {
		t.Fatal(err)
	}
	return r, took
}

// interrupt starts bake mirror and ends it as Ctrl-C does, once a hundred files
// have arrived. It returns how many there are then.
func interrupt(t *testing.T, mirror string, args []string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := command(ctx, "bin/bake", args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	blobs := filepath.Join(mirror, "blobs", "sha256")
	for begun := time.Now(); count(t, blobs) < 100; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("bake mirror ended before it was interrupted: %v: %s", err, errs.String())
		default:
		}
		if time.Since(begun) > 10*time.Minute {
			t.Fatal("bake mirror has not brought a hundred files in 10 minutes")
		}
	}
	cancel()
	<-ended
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Fatalf("bake mirror that was interrupted exits with %d; want %d: %s", code, exitInterrupted, errs.String())
	}
	if _, err := os.Stat(filepath.Join(mirror, "mirror.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run that was interrupted left an index: %v", err)
	}
	return count(t, blobs)
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(entries)
}

// isolated are the arguments of unshare that run a command where no network is.
func isolated(args ...string) []string {
	if os.Getuid() != 0 {
		return append([]string{"-r", "-n"}, args...)
	}
	return append([]string{"-n"}, args...)
}

// noNetwork proves that a connection really fails there, even to this machine.
func noNetwork(t *testing.T) {
	t.Helper()
	out, err := command(t.Context(), "unshare", isolated("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1")...).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("Network is unreachable")) {
		t.Fatalf("in a network namespace of its own a connection gives %v, %s; want a network that is unreachable (util-linux and bash are needed)", err, out)
	}
}

// digest is that of the image that make image made.
func digest(t *testing.T, s set) string {
	t.Helper()
	image, err := s.image(root)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(image, ".tar.gz") + ".json"
	f := filetest.Open(t, name)
	rec, err := record.Read(name, f)
	if err != nil {
		t.Fatal(fmt.Errorf("reading the record of %s: %w", image, err))
	}
	return string(rec.File.SHA256)
}
