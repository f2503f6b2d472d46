package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
)

// TestWaitTellsForWhom waits for another process, and wants to be told once which
// one it is.
func TestWaitTellsForWhom(t *testing.T) {
	dir := t.TempDir()
	other := startOther(t, dir, "hang")
	defer other.Wait()
	defer other.Process.Kill()
	for range 1000 {
		if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var told []Wait
	s, err := OpenTelling(dir, func(w Wait) { told = append(told, w) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), sayAfter/2)
	defer cancel()
	if _, err := s.Pack(ctx, "shared", "shared", makeFiles()); !errors.Is(err, context.DeadlineExceeded) || told != nil {
		t.Errorf("Pack = %v after telling %v; want to wait until the deadline, and no word yet", err, told)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 2*sayAfter+sayAfter/2)
	defer cancel()
	if _, err := s.Pack(ctx, "shared", "component kubelet", makeFiles()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pack = %v; want to wait until the deadline", err)
	}
	want := []Wait{{other.Process.Pid, "makes component kubelet"}}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}

// TestOpenTellsOfPrune opens a store that is being pruned.
func TestOpenTellsOfPrune(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	lock := flock.New(filepath.Join(dir, lockFile))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatalf("TryLock = %v, %v", ok, err)
	}
	sign(lock.Path())
	var told []Wait
	s, err := OpenTelling(dir, func(w Wait) {
		told = append(told, w)
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if diff := cmp.Diff([]Wait{{os.Getpid(), "cleans up the store"}}, told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}

// TestSignature reads locks that are signed, and others.
func TestSignature(t *testing.T) {
	signed := filepath.Join(t.TempDir(), "signed")
	for _, test := range []struct {
		content string
		want    int
	}{
		{"", 0},
		{"\x00", 0},
		{"\x004711                \n", 4711},
		{"\x00-4                  \n", 0},
		{"\x0047", 47},
		{"\x00nobody\n", 0},
	} {
		if err := os.WriteFile(signed, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := signature(signed); got != test.want {
			t.Errorf("signature of %q = %d; want %d", test.content, got, test.want)
		}
		sign(signed)
		if got, want := signature(signed), os.Getpid(); got != want {
			t.Errorf("signature of %q after sign = %d; want %d", test.content, got, want)
		}
	}
	if got := signature(filepath.Join(t.TempDir(), "none")); got != 0 {
		t.Errorf("signature of a file that is not there = %d; want 0", got)
	}
}

func TestWaitString(t *testing.T) {
	for want, w := range map[string]Wait{
		"waiting for process 4711, which makes component kubelet":    {4711, "makes component kubelet"},
		"waiting for another process, which fetches kubelet v1.36.3": {0, "fetches kubelet v1.36.3"},
	} {
		if got := w.String(); got != want {
			t.Errorf("%#v.String() = %q; want %q", w, got, want)
		}
	}
}
