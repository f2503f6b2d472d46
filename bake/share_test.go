package bake_test

import (
	"sync"
	"testing"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
)

// TestShare bakes in three processes at once that share a store and an output
// directory.
func TestShare(t *testing.T) {
	t.Parallel()
	w, want := baketest.NewBaked(t)
	c := w.Config()
	w.Gets()
	const bakes = 3
	var results [bakes]*bake.Result
	var errs [bakes]error
	var wg sync.WaitGroup
	for i := range bakes {
		mine := c
		mine.Jobs = 1 + i
		wg.Go(func() { results[i], errs[i] = spawn(t.Context(), w, mine, limits{}) })
	}
	wg.Wait()
	for i := range bakes {
		if errs[i] != nil {
			t.Errorf("bake %d: %v", i, errs[i])
			continue
		}
		baketest.WantImage(t, c, results[i], want)
	}
	fetched := map[string]int{}
	for _, path := range w.Gets() {
		fetched[path]++
	}
	for path, n := range fetched {
		if n > 1 {
			t.Errorf("%s was fetched %d times; want once, by one for all", path, n)
		}
	}
}
