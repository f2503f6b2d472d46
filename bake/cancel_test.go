package bake_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/baketest"
)

// prompt is how soon a bake must return once it is cancelled. The machine may
// be busy.
const prompt = 10 * time.Second

// TestCancel cancels a bake at many places from its beginning to its end. It
// returns soon and leaves nothing, and the next one succeeds.
func TestCancel(t *testing.T) {
	t.Parallel()
	w, want := newWorld(t)
	var all recorder
	c := w.Config()
	c.Progress = &all
	w.Image(c)
	const points = 24
	completed := 0
	for i := range points {
		at := 1 + i*(all.events-1)/(points-1)
		c := w.Config()
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled time.Time
		sink := recorder{on: func(event int) {
			if event == at {
				cancelled = time.Now()
				cancel()
			}
		}}
		c.Progress = &sink
		result, err := baketest.Image(ctx, c)
		took := time.Since(cancelled)
		if cancelled.IsZero() {
			cancel() // how many events there are differs a little
		} else if took > prompt {
			t.Errorf("event %d of %d: the bake returned %v after it was cancelled", at, all.events, took)
		}
		switch {
		case err == nil: // at its very end
			wantImage(t, c, result, want)
			completed++
			continue
		case !errors.Is(err, context.Canceled):
			t.Errorf("event %d of %d: Image() = %v; want that it was cancelled", at, all.events, err)
		}
		wantNothing(t, c)
		wantImage(t, c, w.Image(c), want)
		if t.Failed() {
			t.Fatalf("failed at event %d of %d", at, all.events)
		}
	}
	if completed > 2 {
		t.Errorf("%d of %d bakes completed though they were cancelled; want those alone that were about to", completed, points)
	}
}

// TestCancelBeforehand bakes with a context that is done.
func TestCancelBeforehand(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Lock()
	cause := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	c := w.Config()
	if _, err := baketest.Image(ctx, c); !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
		t.Errorf("Image() = %v; want that it was cancelled", err)
	}
	wantNothing(t, c)
	if got := w.Gets(); len(got) > len(w.Packages) {
		t.Errorf("asked for %q", got)
	}
}
