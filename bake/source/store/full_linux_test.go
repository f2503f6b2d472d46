package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// smallDisk returns a directory in which about 1 MB can be written: a tmpfs,
// or, where mounting is not permitted, any directory and a limit for the size
// of this process's files.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Errorf("unmounting: %v", err)
			}
		})
		return dir
	}
	t.Log("mounting a tmpfs is not permitted; using RLIMIT_FSIZE")
	signal.Ignore(syscall.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	must.Do(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: before.Max}))
	t.Cleanup(func() {
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &before)
		signal.Reset(syscall.SIGXFSZ)
	})
	return dir
}

// wantFull fails unless err is a FullError that a person can act on.
func wantFull(t *testing.T, what string, err error, dir string, need int64) {
	t.Helper()
	full, ok := errors.AsType[*FullError](err)
	if !ok {
		t.Fatalf("%s on a full disk = %v; want a FullError", what, err)
	}
	if full.Dir != dir || full.Need < need {
		t.Errorf("%s = %+v; want the store's directory and at least %d bytes needed", what, full, need)
	}
	for _, want := range []string{dir, fmt.Sprint(full.Need), "bake cache prune", "--cache"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %q; want %q in it", what, err, want)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	s := open(t, dir)
	small, large := bytes.Repeat([]byte("s"), 1000), bytes.Repeat([]byte("large"), 400_000)

	err := s.Put(tree.Digest{1}, large)
	wantFull(t, "Put", err, dir, int64(len(large)))
	if _, ok := s.Get(tree.Digest{1}); ok {
		t.Error("Get = found after Put failed")
	}

	_, err = s.Pack(t.Context(), "large", "package large", makeFiles("small", string(small), "large", string(large)))
	wantFull(t, "Pack", err, dir, 1)
	if !strings.Contains(err.Error(), "package large") {
		t.Errorf("Pack = %v; want the name of the pack in it", err)
	}
	if s.HasPack("large") {
		t.Error("HasPack = true after Pack failed")
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("tmp holds %q; want nothing", left)
	}

	_, err = s.Add(t.Context(), []manifest.Digest{manifesttest.Digest(large)}, bytes.NewReader(large))
	wantFull(t, "Add", err, dir, 1)
	if _, ok := s.Path(manifesttest.Digest(large)); ok {
		t.Error("Path = found after Add failed")
	}

	// What is there can still be used, and the store opened: nothing is broken.
	s.Close()
	s = open(t, dir)

	// The interrupted download is what fills the disk; it can be pruned.
	s.Close()
	if _, err := Prune(t.Context(), dir, PruneOptions{All: true, Kinds: []Kind{Partials}}); err != nil {
		t.Fatalf("Prune of a full disk = %v", err)
	}
	s = open(t, dir)
	if err := s.Put(tree.Digest{1}, small); err != nil {
		t.Errorf("Put after Prune = %v", err)
	}
	p, err := s.Pack(t.Context(), "small", "small", makeFiles("a", string(small)))
	if err != nil {
		t.Fatalf("Pack after Prune = %v", err)
	}
	if got := must.Get(io.ReadAll(p.Entries[0].Content())); !bytes.Equal(got, small) {
		t.Errorf("content has %d bytes; want %d", len(got), len(small))
	}
}

func TestReserve(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Reserve(1); err != nil {
		t.Errorf("Reserve(1) = %v", err)
	}
	full := (*FullError)(nil)
	if err := s.Reserve(math.MaxInt64); !errors.As(err, &full) || full.Free <= 0 || full.Need != math.MaxInt64 {
		t.Errorf("Reserve(everything) = %v; want a FullError with both figures", err)
	}
}

// TestUnwritable opens a store as a user who may not write it. The test may
// run as root, so it gives up root's rights over files for one thread
// (setfsuid(2)), which ends with the goroutine.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	open(t, dir).Close()
	for path := filepath.Join(dir, tmpDir); path != filepath.Clean(os.TempDir()); path = filepath.Dir(path) {
		must.Do(os.Chmod(path, 0o555))
		t.Cleanup(func() { _ = os.Chmod(path, 0o755) })
	}
	const nobody = 65534
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		if os.Getuid() == 0 {
			if err := unix.Setfsuid(nobody); err != nil {
				result <- fmt.Errorf("setfsuid: %w", err)
				return
			}
		}
		_, err := Open(filepath.Join(dir, "below"))
		result <- err
		_, err = Open(dir)
		result <- err
	}()
	for _, what := range []string{"that can't be made", "that can't be written"} {
		err := <-result
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "can't be made or written; give another directory with --cache, or set XDG_CACHE_HOME: ") {
			t.Errorf("Open of a directory %s = %v; want it named, with the remedy", what, err)
		}
	}
}

func TestOpenNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	filetest.Write(t, file, "")
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open of a file = %v; want an error that names it", err)
	}
}
