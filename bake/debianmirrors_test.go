package bake_test

import (
	"testing"

	"github.com/nodebake/bake/bake/baketest"
)

// TestPlus has packages whose paths have a "+", which the world's server takes
// for a blank as S3 does, locked, baked and mirrored.
func TestPlus(t *testing.T) {
	t.Parallel()
	w := baketest.New(t)
	w.Package("tool").Version = "1.0+deb13u1"
	w.Package("libtool0").Version = "1.0-1+b5"
	w.Package("kube-proxy-amd64").Version = "1.30.0~rc1"
	w.Publish()
	w.Lock()
	w.Image(w.Config())
	makeMirror(t, mirrorConfig(t, w))
}
