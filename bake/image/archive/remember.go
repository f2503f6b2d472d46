package archive

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// Digest is what the file of an archive is.
type Digest struct {
	Size   int64       `json:"size"` // bytes
	SHA256 tree.Digest `json:"sha256"`
}

// Remember keeps in o.Cache what the archive is that WriteTarGz has written for l and o.
func Remember(l *extent.List, o Options, d Digest) error {
	value, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return o.Cache.Put(planKey(l, o), value)
}

// Lookup returns what [WriteTarGz] would write for l and o, if Remember was told.
func Lookup(l *extent.List, o Options) (Digest, bool) {
	var d Digest
	value, ok := o.Cache.Get(planKey(l, o))
	return d, ok && json.Unmarshal(value, &d) == nil
}

func planKey(l *extent.List, o Options) tree.Digest {
	plan := PlanDigest(l, o)
	return sha256.Sum256(append([]byte("archive of plan "), plan[:]...))
}
