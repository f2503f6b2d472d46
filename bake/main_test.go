package bake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/mirrorsync"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/images/worker"
	"github.com/nodebake/bake/units"
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
		if err != nil && baketest.Kind(err) != "input" {
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
