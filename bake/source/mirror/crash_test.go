package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestMain lets the test binary stand for another process that writes a mirror.
func TestMain(m *testing.M) {
	if dir := os.Getenv("MIRROR_TEST_DIR"); dir != "" {
		if os.Getenv("MIRROR_TEST_DO") == "once" {
			if err := newWorld().writeTo(context.Background(), dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
		fmt.Fprintln(os.Stderr, writeForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// states returns two worlds, the second with a package more.
func states() [2]*world {
	one, two := newWorld(), newWorld()
	two.add(Package, "new 1 amd64", "debian/pool/new", filetest.Noise("7", 200_000), "kthw-1.21")
	return [2]*world{one, two}
}

// writeForever makes one mirror after the other in dir, each from no blobs.
func writeForever(dir string) error {
	worlds := states()
	for i := 0; ; i++ {
		m, err := Create(dir)
		if err != nil {
			return err
		}
		w := worlds[i%2]
		for _, e := range w.index.Entries {
			if err := m.Add(context.Background(), e.SHA256, e.Size, bytes.NewReader(w.blobs[e.SHA256])); err != nil {
				return err
			}
		}
		if err := m.Commit(context.Background(), w.index, w.images); err != nil {
			return err
		}
		if _, _, err := m.Prune(); err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
}

// wantOneOf fails unless dir holds one of the worlds whole.
func wantOneOf(t *testing.T, dir string, worlds [2]*world) {
	t.Helper()
	m, err := Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := must.Get(m.Index().Encode())
	if !bytes.Equal(got, must.Get(worlds[0].index.Encode())) && !bytes.Equal(got, must.Get(worlds[1].index.Encode())) {
		t.Fatalf("the index is neither the old nor the new one:\n%s", got)
	}
	if r := must.Get(Check(t.Context(), dir, 2, progress.Discard{})); r.Err() != nil {
		t.Fatalf("Check = %v", r.Err())
	}
}

// TestKilled kills a process that writes, at moments by chance.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	worlds := states()
	worlds[0].write(t, dir)
	self := must.Get(os.Executable())
	leftovers := 0
	for i := range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "MIRROR_TEST_DIR="+dir)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Some starts later than others, so the process is at its work and not
		// at its beginning.
		time.Sleep(time.Duration(60+37*i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("the other process ended by itself: %v %s", err, stderr.String())
		}
		wantOneOf(t, dir, worlds)
		for name := range files(t, dir) {
			if strings.HasPrefix(name, tmpPrefix) {
				leftovers++
			}
		}
	}
	if leftovers == 0 {
		t.Log("no process was killed while it wrote a blob")
	}
	// The next one goes on, and nothing stays behind.
	m := must.Get(Create(dir))
	if _, _, err := m.Prune(); err != nil {
		t.Error(err)
	}
	m.Close()
	wantNoTemps(t, dir)
	r := must.Get(Check(t.Context(), dir, 2, progress.Discard{}))
	if len(r.Extra) > 0 || r.Err() != nil {
		t.Errorf("after Prune, Check finds %v, %q", r.Err(), r.Extra)
	}
}

// countdown is a context that is done when it was asked n times.
type countdown struct {
	context.Context
	left atomic.Int64
	err  error
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return c.err
	}
	return nil
}

// TestInterrupted interrupts the writing at every step, and ends it then.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	worlds := states()
	enough := errors.New("interrupted")
	for step := int64(0); ; step++ {
		dir := t.TempDir()
		worlds[0].write(t, dir)
		ctx := &countdown{Context: t.Context(), err: enough}
		ctx.left.Store(step)
		err := worlds[1].writeTo(ctx, dir)
		if err == nil {
			if step < 8 {
				t.Errorf("there are %d steps only", step)
			}
			break
		}
		wantNoTemps(t, dir)
		wantOneOf(t, dir, worlds)
		if err := worlds[1].writeTo(t.Context(), dir); err != nil {
			t.Fatalf("after an interruption at step %d: %v", step, err)
		}
		m := must.Get(Open(t.Context(), dir, nil))
		if got := must.Get(m.Index().Encode()); !bytes.Equal(got, must.Get(worlds[1].index.Encode())) {
			t.Errorf("after an interruption at step %d and a second run the index is\n%s", step, got)
		}
	}
}

// TestFirstRunInterrupted has no index yet.
func TestFirstRunInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	ctx := &countdown{Context: t.Context(), err: errors.New("interrupted")}
	ctx.left.Store(10)
	if err := w.writeTo(ctx, dir); err == nil {
		t.Fatal("BUG: it was not interrupted")
	}
	for what, err := range map[string]error{
		"Open":  second(Open(t.Context(), dir, nil)),
		"Check": second(Check(t.Context(), dir, 1, progress.Discard{})),
	} {
		if err == nil || !strings.Contains(err.Error(), "run it again") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s = %v; want an error that says to run it again", what, err)
		}
	}
	w.write(t, dir)
	wantOneOf(t, dir, [2]*world{w, w})
}

func second[T any](_ T, err error) error { return err }
