package bake

import (
	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// recordedInputs returns the files of the image that hold what it was made
// from, for `bake verify` to make it again.
func (b *Baker) recordedInputs(record *bom.Image, parts *source.Parts) ([]tree.Entry, error) {
	return nil, nil
}
