package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/tree"
)

// Had says what the bytes of a download were asked for as, and where. A digest
// alone does not tell one version of a program from another.
type Had struct {
	Name string `json:"name"`          // "kubelet v1.36.3 amd64"
	URL  string `json:"url,omitempty"` // "" where the name says all
}

// HadAs returns what the bytes that have sum were had as, the latest last. It
// outlives them. Nothing is known of what an older bake has brought, or once the
// record was damaged or pruned.
func (s *Store) HadAs(sum manifest.Digest) []Had {
	value, ok := s.Get(hadKey(sum))
	var had []Had
	if !ok || json.Unmarshal(value, &had) != nil {
		return nil
	}
	return had
}

// RecordHad notes that the bytes that have all of sums were had as h.
func (s *Store) RecordHad(ctx context.Context, sums []manifest.Digest, h Had) error {
	for _, sum := range sums {
		if err := s.recordHad(ctx, sum, h); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) recordHad(ctx context.Context, sum manifest.Digest, h Had) error {
	if slices.Contains(s.HadAs(sum), h) {
		return nil
	}
	key := hadKey(sum)
	release, err := s.acquire(ctx, "had-"+key.String(), "notes what "+h.Name+" was had as")
	if err != nil {
		return err
	}
	defer release()
	had := s.HadAs(sum)
	if slices.Contains(had, h) {
		return nil
	}
	value, err := json.Marshal(append(had, h))
	if err != nil {
		return err
	}
	return s.Put(key, value)
}

func hadKey(sum manifest.Digest) tree.Digest {
	return sha256.Sum256([]byte("had as 1 " + string(sum)))
}
