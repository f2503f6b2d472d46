package source

import (
	"sync"

	"github.com/nodebake/bake/bake/source/store"
)

// packs is the store, remembering what was dropped from it.
type packs struct {
	*store.Store
	mu        sync.Mutex
	forgotten map[string]bool // by key
}

// forget drops the pack with key, once.
func (p *packs) forget(key string) (bool, error) {
	p.mu.Lock()
	before := p.forgotten[key]
	p.forgotten[key] = true
	p.mu.Unlock()
	if before {
		return false, nil
	}
	return true, p.Store.Forget(key)
}
