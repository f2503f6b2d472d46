package bake_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/progress/progresstest"
)

// TestCancel cancels a bake at many places from its beginning to its end. It
// returns soon and leaves nothing, and the next one succeeds.
func TestCancel(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	var all progresstest.Recorder
	c := w.Config()
	c.Progress = &all
	w.Image(c)
	const points = 12
	var completed atomic.Int32
	t.Run("at", func(t *testing.T) {
		for i := range points {
			at := 1 + i*(all.Events-1)/(points-1)
			t.Run(fmt.Sprintf("event %d of %d", at, all.Events), func(t *testing.T) {
				t.Parallel()
				c := w.Config()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var cancelled time.Time
				c.Progress = &progresstest.Recorder{On: func(event int) {
					if event == at {
						cancelled = time.Now()
						cancel()
					}
				}}
				result, err := baketest.Image(ctx, c)
				// How many events there are differs a little.
				if took := time.Since(cancelled); !cancelled.IsZero() && took > progresstest.Prompt {
					t.Errorf("the bake returned %v after it was cancelled", took)
				}
				if err == nil { // at its very end
					completed.Add(1)
					baketest.WantImage(t, c, result, want)
					return
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Image() = %v; want that it was cancelled", err)
				}
				baketest.WantNothing(t, c)
				c.Progress = nil
				baketest.WantImage(t, c, w.Image(c), want)
			})
		}
	})
	if n := completed.Load(); n > 2 {
		t.Errorf("%d of %d bakes completed though they were cancelled; want those alone that were about to", n, points)
	}
}

// TestCancelBeforehand bakes with a context that is done.
func TestCancelBeforehand(t *testing.T) {
	t.Parallel()
	w := baketest.NewLocked(t)
	cause := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	c := w.Config()
	if _, err := baketest.Image(ctx, c); !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
		t.Errorf("Image() = %v; want that it was cancelled", err)
	}
	baketest.WantNothing(t, c)
	if got := w.Gets(); len(got) > len(w.Packages) {
		t.Errorf("asked for %q", got)
	}
}
