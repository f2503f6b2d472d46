package bake

import (
	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// billInside returns the files of the image that say what is in it in the forms
// of SPDX and in-toto.
func (b *Baker) billInside(record *bom.Image, parts *source.Parts) ([]tree.Entry, error) {
	return nil, nil
}
