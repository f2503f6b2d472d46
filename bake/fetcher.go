package bake

import (
	"context"

	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/source/release"
)

// newFetcher returns what fetches for b, from m first where there is one.
func (b *Baker) newFetcher(m *mirror.Mirror) (*release.Fetcher, error) {
	config := release.Config{
		Store: b.store, Proxy: b.config.Proxy, UserAgent: b.config.UserAgent, Progress: b.config.Progress,
	}
	if m != nil {
		config.Mirror, config.Offline = m, b.config.Offline
	}
	return release.New(config)
}

// openMirror reads the index of the mirror, where one was given, and has
// everything fetched from it from then on. It takes a context, which New does
// not have, because the mirror may be a server.
func (b *Baker) openMirror(ctx context.Context) error {
	if b.config.Mirror == "" || b.mirror != nil {
		return nil
	}
	m, err := mirror.Open(ctx, b.config.Mirror, func(ctx context.Context, url string, limit int64) ([]byte, error) {
		return b.fetcher.Get(ctx, []string{url}, limit)
	})
	if err != nil {
		return err
	}
	f, err := b.newFetcher(m)
	if err != nil {
		return err
	}
	b.mirror, b.fetcher = m, f
	return nil
}
