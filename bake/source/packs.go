package source

import (
	"context"
	"fmt"
	"sync"

	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/tree"
)

// packs is the store, remembering the key of every pack that it gave out.
type packs struct {
	*store.Store
	mu        sync.Mutex
	keys      map[string]string // by the pack's name
	forgotten map[string]bool   // by key
}

// Pack implements gobuild.Packs.
func (p *packs) Pack(ctx context.Context, key, name string, make func(context.Context, *tree.PackWriter) error) (*tree.Pack, error) {
	p.remember(name, key)
	return p.Store.Pack(ctx, key, name, make)
}

func (p *packs) remember(name, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[name] = key
}

func (p *packs) forget(name string) (bool, error) {
	p.mu.Lock()
	key, ok := p.keys[name]
	before := p.forgotten[key]
	p.forgotten[key] = true
	p.mu.Unlock()
	switch {
	case !ok:
		return false, fmt.Errorf("BUG: no pack is called %q", name)
	case before:
		return false, nil
	}
	return true, p.Store.Forget(key)
}
