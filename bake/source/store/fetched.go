package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Fetched says what the bytes of a download were asked for as, and where. A digest
// alone does not tell one version of a program from another.
type Fetched struct {
	Name string `json:"name"`          // "kubelet v1.36.3 amd64"
	URL  string `json:"url,omitempty"` // "" where the name says all
}

// FetchedAs returns what the bytes that have sum were fetched as, the latest last. It
// outlives them. Nothing is known of what an older bake has brought, or once the
// record was damaged or pruned.
func (s *Store) FetchedAs(sum manifest.Digest) []Fetched {
	value, ok := s.Get(fetchedKey(sum))
	var fetched []Fetched
	if !ok || json.Unmarshal(value, &fetched) != nil {
		return nil
	}
	return fetched
}

// RecordFetched notes that the bytes that have all of sums were fetched as h.
func (s *Store) RecordFetched(ctx context.Context, sums []manifest.Digest, h Fetched) error {
	for _, sum := range sums {
		if err := s.recordFetched(ctx, sum, h); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) recordFetched(ctx context.Context, sum manifest.Digest, h Fetched) error {
	if slices.Contains(s.FetchedAs(sum), h) {
		return nil
	}
	key := fetchedKey(sum)
	release, err := s.acquire(ctx, "fetched-"+key.String(), "notes what "+h.Name+" was fetched as")
	if err != nil {
		return err
	}
	defer release()
	fetched := s.FetchedAs(sum)
	if slices.Contains(fetched, h) {
		return nil
	}
	value, err := json.Marshal(append(fetched, h))
	if err != nil {
		return err
	}
	return s.Put(key, value)
}

func fetchedKey(sum manifest.Digest) tree.Digest {
	return sha256.Sum256([]byte("had as 1 " + string(sum)))
}
