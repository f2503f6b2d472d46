package store

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockPoll is how often a lock that another process holds is tried.
const lockPoll = 50 * time.Millisecond

// keyLock is held by the goroutine of this process that makes an entry.
type keyLock struct {
	turn  chan struct{} // holds one token while nobody makes the entry
	users int           // that hold or wait for it
}

// acquire waits until the caller alone, in all processes, may make the entry
// called name. Goroutines of one process wait for each other on a channel,
// processes by flock(2).
func (s *Store) acquire(ctx context.Context, name string) (release func(), err error) {
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
	if _, err := file.TryLockContext(ctx, lockPoll); err != nil {
		k.turn <- struct{}{}
		leave()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("locking %s: %w", file.Path(), s.full(err, 0))
	}
	return func() {
		// The file stays: removing it would let a process that waits for it
		// and one that makes it anew both believe that they hold the lock.
		_ = file.Unlock()
		k.turn <- struct{}{}
		leave()
	}, nil
}
