package pki_test

import (
	"testing"

	"github.com/nodebake/bake/firstboot/pki"
)

// BenchmarkCheckNode is what a boot spends here, for keys of both kinds.
func BenchmarkCheckNode(b *testing.B) {
	w := newWorld(b)
	b.Run("ECDSA", func(b *testing.B) {
		for b.Loop() {
			if err := pki.CheckNode(w.files); err != nil {
				b.Fatal(err)
			}
		}
	})
	node := sign(b, nodeTemplate(), newRSA(b), w.ca)
	w.use(b, node)
	w.files.KubeletKubeconfig = []byte(kubeconfig(b, w.ca, node))
	b.Run("RSA", func(b *testing.B) {
		for b.Loop() {
			if err := pki.CheckNode(w.files); err != nil {
				b.Fatal(err)
			}
		}
	})
}
