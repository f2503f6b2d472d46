package oci_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/source/oci/ocitest"
)

// gate is a Sink that counts tasks, and lets none begin before so many were
// announced.
type gate struct {
	progress.Discard
	enough            int
	all               chan struct{}
	once              sync.Once
	mu                sync.Mutex
	expected, started int
}

func (p *gate) Expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected += n
	if p.expected == p.enough {
		p.once.Do(func() { close(p.all) })
	}
}

func (p *gate) Start(verb, name string, total int64) progress.Task {
	select {
	case <-p.all:
	case <-time.After(10 * time.Second): // the counts will tell
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started++
	return p.Discard.Start(verb, name, total)
}

// TestProgress pulls images that share a layer at the same time. Each announces
// it, one verifies it.
func TestProgress(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	shared := ocitest.Layer(types.OCILayer, "/shared", strings.Repeat("x", 1000))
	st := newStore(t)
	fetcher, err := fetch.New(fetch.Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	shown := &gate{enough: 3, all: make(chan struct{})}
	p := oci.New(oci.Config{Packs: st, Fetcher: fetcher, Progress: shown})
	var group sync.WaitGroup
	for name, image := range map[string]v1.Image{
		"one": ocitest.Image("amd64", shared, ocitest.Layer(types.OCILayer, "/1", "1"), shared),
		"two": ocitest.Image("amd64", shared),
	} {
		digest := r.Push(name, "v1", image)
		resolved, err := p.Resolve(t.Context(), manifest.ContainerImage{Name: name, Reference: r.Host + "/" + name + ":v1", Digest: manifest.Digest(digest)}, arch.AMD64)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			if _, err := p.Pull(t.Context(), resolved); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if shown.expected != 2 || shown.started != 2 {
		t.Errorf("%d layers were announced, %d verified; want 2", shown.expected, shown.started)
	}
}
