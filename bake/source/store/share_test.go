package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/bake/tree"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestMain lets the test binary stand for another process that uses a store.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_DIR"); dir != "" {
		if err := otherProcess(dir, os.Getenv("STORE_TEST_DO")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func otherProcess(dir, do string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Pack(context.Background(), "shared", "shared", func(ctx context.Context, w *tree.PackWriter) error {
		log, err := os.OpenFile(filepath.Join(dir, "made"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		fmt.Fprintln(log, os.Getpid())
		if err := log.Close(); err != nil {
			return err
		}
		if err := makeFiles("a", strings.Repeat("half", 1000))(ctx, w); err != nil {
			return err
		}
		if do == "hang" {
			time.Sleep(time.Minute)
		}
		time.Sleep(100 * time.Millisecond)
		return makeFiles("b", "whole")(ctx, w)
	})
	return err
}

func startOther(t *testing.T, dir, do string) *exec.Cmd {
	t.Helper()
	self := must.Get(os.Executable())
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "STORE_TEST_DIR="+dir, "STORE_TEST_DO="+do)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestProcessesShareOnePack(t *testing.T) {
	dir := t.TempDir()
	var others []*exec.Cmd
	for range 4 {
		others = append(others, startOther(t, dir, ""))
	}
	for _, cmd := range others {
		if err := cmd.Wait(); err != nil {
			t.Errorf("other process: %v", err)
		}
	}
	made := must.Get(os.ReadFile(filepath.Join(dir, "made")))
	if n := bytes.Count(made, []byte("\n")); n != 1 {
		t.Errorf("the pack was made %d times by 4 processes; want once", n)
	}
	if !open(t, dir).HasPack("shared") {
		t.Error("HasPack = false after the others made it")
	}
}

func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	other := startOther(t, dir, "hang")
	for range 200 {
		if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}

	// While it lives, others wait for it, as long as they like to.
	s := open(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Pack(ctx, "shared", "shared", makeFiles()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pack while another process makes it = %v; want to wait until the deadline", err)
	}
	if _, err := Prune(t.Context(), dir, PruneOptions{All: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("Prune of a store in use = %v; want ErrInUse", err)
	}
	s.Close()

	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	if left := leftovers(t, s); len(left) == 0 {
		t.Error("the killed process left nothing; this test proves nothing")
	}
	s = open(t, dir)
	if left := leftovers(t, s); len(left) != 0 {
		t.Errorf("tmp holds %q after Open; want nothing", left)
	}
	p, err := s.Pack(t.Context(), "shared", "shared", makeFiles("c", "anew"))
	if err != nil || len(p.Entries) != 1 {
		t.Errorf("Pack after the other was killed = %v, %v; want it made anew", p, err)
	}
}

func TestOpenLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	left := filepath.Join(dir, tmpDir, "pack-of-somebody")
	filetest.Mkdir(t, left)
	second := open(t, dir)
	if _, err := os.Stat(left); err != nil {
		t.Errorf("Open of a store in use swept it: %v", err)
	}
	s.Close()
	second.Close()
	open(t, dir)
	if _, err := os.Stat(left); err == nil {
		t.Error("Open of a store that nobody uses did not sweep it")
	}
}

func TestGoroutinesShare(t *testing.T) {
	dir := t.TempDir()
	stores := []*Store{open(t, dir), open(t, dir)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[string]int{}
	for i := range 64 {
		wg.Go(func() {
			key := fmt.Sprint("key ", i%5)
			p, err := stores[i%2].Pack(t.Context(), key, key, func(ctx context.Context, w *tree.PackWriter) error {
				mu.Lock()
				made[key]++
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				return makeFiles("a", key)(ctx, w)
			})
			if err != nil {
				t.Errorf("Pack = %v", err)
				return
			}
			if got, err := io.ReadAll(p.Entries[0].Content()); err != nil || string(got) != key {
				t.Errorf("content = %q, %v; want %q", got, err, key)
			}
			digest := tree.Digest{byte(i % 3)}
			if err := stores[i%2].Put(digest, digest[:]); err != nil {
				t.Errorf("Put = %v", err)
			}
			if got, ok := stores[(i+1)%2].Get(digest); !ok || !bytes.Equal(got, digest[:]) {
				t.Errorf("Get = %x, %v", got, ok)
			}
		})
	}
	wg.Wait()
	for key, n := range made {
		if n != 1 {
			t.Errorf("%s was made %d times; want once", key, n)
		}
	}
	for _, s := range stores {
		if len(s.busy) != 0 {
			t.Errorf("%d locks are still known; want none", len(s.busy))
		}
	}
}

func TestPackWithinPack(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.Pack(t.Context(), "outer", "outer", func(ctx context.Context, w *tree.PackWriter) error {
		inner, err := s.Pack(ctx, "inner", "inner", makeFiles("a", "inner content"))
		if err != nil {
			return err
		}
		return w.Add(inner.Entries[0], inner.Entries[0].Content())
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := must.Get(io.ReadAll(p.Entries[0].Content())); string(got) != "inner content" {
		t.Errorf("content = %q; want that of the inner pack", got)
	}
}

func TestDownloadResume(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	sums := []manifest.Digest{manifesttest.Digest512(content)}
	d := must.Get(s.Download(ctx, "a file", sums))
	if err := d.Reset("http://a.example/f", `"v1"`); err != nil {
		t.Fatal(err)
	}
	_, _ = d.Write(content[:4000])
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d = must.Get(s.Download(ctx, "a file", sums))
	if url, valid := d.From(); d.Size() != 4000 || url != "http://a.example/f" || valid != `"v1"` {
		t.Errorf("resumed at %d from %q, %q; want 4000 and what was recorded", d.Size(), url, valid)
	}
	waiting, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Download(waiting, "a file", sums); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second Download = %v; want to wait for the first", err)
	}
	_, _ = d.Write(content[4000:])
	path, err := d.Commit()
	if err != nil {
		t.Fatalf("Commit of a resumed download = %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := must.Get(os.ReadFile(path)); !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes; want the %d written", len(got), len(content))
	}
	if left := must.Get(os.ReadDir(filepath.Join(s.dir, partialDir))); len(left) != 0 {
		t.Errorf("partial holds %v; want nothing", left)
	}
}
