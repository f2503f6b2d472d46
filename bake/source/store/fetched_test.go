package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/must"
)

func TestFetchedAs(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir) // of another process
	content := []byte("kubelet")
	sums := []manifest.Digest{manifesttest.Digest(content), manifesttest.Digest512(content)}
	if got := s.FetchedAs(sums[0]); got != nil {
		t.Errorf("FetchedAs() of what was never fetched = %v; want nothing", got)
	}
	const names = 20
	var wg sync.WaitGroup
	for i := range names {
		for _, s := range []*Store{s, other} { // twice, at once
			wg.Go(func() {
				if err := s.RecordFetched(t.Context(), sums, Fetched{Name: fmt.Sprintf("kubelet v1.36.%d amd64", i), URL: "https://example.com/kubelet"}); err != nil {
					t.Errorf("RecordFetched() = %v", err)
				}
			})
		}
	}
	wg.Wait()
	for _, sum := range sums {
		seen := map[string]bool{}
		for _, h := range s.FetchedAs(sum) {
			seen[h.Name] = true
		}
		if got := len(s.FetchedAs(sum)); got != names || len(seen) != names {
			t.Errorf("FetchedAs(%s) = %v; want each of %d names once", sum, s.FetchedAs(sum), names)
		}
	}

	// The latest is the last.
	last := Fetched{Name: "an image"}
	if err := s.RecordFetched(t.Context(), sums[:1], last); err != nil {
		t.Fatal(err)
	}
	if got := other.FetchedAs(sums[0]); len(got) != names+1 || got[names] != last {
		t.Errorf("FetchedAs() = %v; want %v at its end", got, last)
	}

	// What is damaged is not known.
	paths, err := filepath.Glob(filepath.Join(dir, valuesDir, "*", "*"))
	if err != nil || len(paths) != len(sums) {
		t.Fatalf("the store has the values %q, %v; want one for each digest", paths, err)
	}
	for _, path := range paths {
		must.Do(os.Truncate(path, 40))
	}
	if diff := cmp.Diff([]Fetched(nil), s.FetchedAs(sums[0])); diff != "" {
		t.Errorf("FetchedAs() of a damaged value (-want +got):\n%s", diff)
	}
}
