package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	// lockPoll is how often a lock that another process holds is tried.
	lockPoll = 50 * time.Millisecond
	// sayAfter is how long it is waited for before anybody is told.
	sayAfter = time.Second
)

// Wait is another process that must be waited for.
type Wait struct {
	PID  int    // 0: it does not say who it is
	Does string // "fetches kubelet v1.36.3"
}

func (w Wait) String() string {
	if w.PID == 0 {
		return "waiting for another process, which " + w.Does
	}
	return fmt.Sprintf("waiting for process %d, which %s", w.PID, w.Does)
}

// keyLock is held by the goroutine of this process that makes an entry.
type keyLock struct {
	turn  chan struct{} // holds one token while nobody makes the entry
	users int           // that hold or wait for it
}

// acquire waits until the caller alone, in all processes, may make the entry
// called name. Goroutines of one process wait for each other on a channel,
// processes by flock(2). does is what whoever holds it is doing.
func (s *Store) acquire(ctx context.Context, name, does string) (release func(), err error) {
	s.mu.Lock()
	k := s.busy[name]
	if k == nil {
		k = &keyLock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		s.busy[name] = k
	}
	k.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(s.busy, name)
		}
	}

	select {
	case <-k.turn:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	file := flock.New(filepath.Join(s.dir, locksDir, name))
	if err := take(ctx, file.TryLock, func() { s.waits(file.Path(), does) }); err != nil {
		k.turn <- struct{}{}
		leave()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("locking %s: %w", file.Path(), s.full(err, 0))
	}
	sign(file.Path())
	return func() {
		// The file stays: removing it would let a process that waits for it
		// and one that makes it again both believe that they hold the lock.
		_ = file.Unlock()
		k.turn <- struct{}{}
		leave()
	}, nil
}

// take tries again and again to take a lock, and calls say once if that takes
// long.
func take(ctx context.Context, try func() (bool, error), say func()) error {
	early := time.NewTimer(sayAfter)
	defer early.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ok, err := try(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-early.C:
			say()
		case <-poll.C:
		}
	}
}

// waits tells whoever wants to know that the lock in file is waited for.
func (s *Store) waits(file, does string) {
	if s.tell != nil {
		s.tell(Wait{signature(file), does})
	}
}

// A lock's file says who holds it: from the second byte on, the process ID as
// decimal digits, and spaces. On Windows nobody else can read the first one
// while the lock is held.
const (
	signedAt = 1
	signedBy = "%-20d\n"
)

// sign writes into the file of a lock that this process holds it. Where that
// fails, on a full disk, others know no name.
func sign(file string) {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt(fmt.Appendf(nil, signedBy, os.Getpid()), signedAt)
}

// signature returns the process that has signed the file of a lock, or 0.
func signature(file string) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	buf := make([]byte, len(fmt.Sprintf(signedBy, 0)))
	n, err := f.ReadAt(buf, signedAt)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
