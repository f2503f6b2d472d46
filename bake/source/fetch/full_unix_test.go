//go:build unix

package fetch

import (
	"errors"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// TestFetchFullDisk limits the size of this process's files; see package store
// for the same with a real full filesystem.
func TestFetchFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	content := filetest.Noise("content", 1_000_000)
	s := serve(t, content, nil)
	f := newFetcher(t)
	must.Do(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 400_000, Max: before.Max}))
	err := f.Fetch(t.Context(), []Request{request(content, s.URL, s.URL)})
	must.Do(unix.Setrlimit(unix.RLIMIT_FSIZE, &before))
	if _, ok := errors.AsType[*store.FullError](err); !ok || !strings.Contains(err.Error(), f.config.Store.Dir()) {
		t.Fatalf("Fetch to a full disk = %v; want a FullError that names the store", err)
	}
	if got := s.requests.Load(); got != 1 {
		t.Errorf("the server saw %d requests; want 1, since no other URL can help", got)
	}
	wantNothing(t, f)

	// With room again, the download goes on where it stopped.
	if err := f.Fetch(t.Context(), []Request{request(content, s.URL)}); err != nil {
		t.Fatal(err)
	}
	wantStored(t, f, content)
	if got := s.rangesSeen(); got[1] != "bytes=400000-" {
		t.Errorf("ranges = %q; want the second from 400000", got)
	}
}

func TestFetchForeseesFullDisk(t *testing.T) {
	s := serve(t, nil, nil)
	f := newFetcher(t)
	req := request([]byte("x"), s.URL)
	req.Size = 1 << 60
	full := (*store.FullError)(nil)
	if err := f.Fetch(t.Context(), []Request{req}); !errors.As(err, &full) || full.Need != req.Size {
		t.Errorf("Fetch of 1 EiB = %v; want a FullError", err)
	}
	if got := s.requests.Load(); got != 0 {
		t.Errorf("the server saw %d requests; want none", got)
	}
}
