package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian/closure"
	"github.com/nodebake/bake/bake/source/debian/repo"
)

// maxRelease bounds an InRelease file in bytes. trixie's has 140 KB.
const maxRelease = 8 << 20

// maxIndex bounds a Packages file in bytes, compressed and not. trixie's has
// 57 MB, sid's 60 MB.
const maxIndex = 512 << 20

// loader fetches and verifies index files, each suite once.
type loader struct {
	cfg    Config
	keys   openpgp.EntityList
	sink   progress.Sink
	groups map[string]closure.Group
	locked []manifest.LockedRelease
}

func newLoader(cfg Config) (*loader, error) {
	switch {
	case cfg.Suite == "":
		return nil, errors.New("BUG: no suite was given")
	case cfg.Arch == "":
		return nil, errors.New("BUG: no architecture was given")
	case cfg.Getter == nil:
		return nil, errors.New("BUG: nothing to fetch with was given")
	case cfg.Now.IsZero():
		return nil, errors.New("BUG: no time was given")
	}
	keys, err := keyring(cfg.Keyring)
	if err != nil {
		return nil, err
	}
	l := &loader{cfg: cfg, keys: keys, sink: cfg.Progress, groups: make(map[string]closure.Group)}
	if l.sink == nil {
		l.sink = progress.Discard{}
	}
	return l, nil
}

// group loads a suite with its updates.
func (l *loader) group(ctx context.Context, suite string) (closure.Group, error) {
	if g, ok := l.groups[suite]; ok {
		return g, nil
	}
	g := closure.Group{Suite: suite}
	for _, s := range sources(suite) {
		x, err := l.index(ctx, s)
		if err != nil {
			return closure.Group{}, fmt.Errorf("loading %s of %s: %w", s.suite, s.archive, err)
		}
		g.Indices = append(g.Indices, x)
	}
	l.groups[suite] = g
	return g, nil
}

func (l *loader) index(ctx context.Context, s source) (closure.Index, error) {
	release, locked, err := l.release(ctx, s)
	if err != nil {
		return closure.Index{}, err
	}
	x, err := release.Packages(string(l.cfg.Arch))
	if err != nil {
		return closure.Index{}, err
	}
	if x.Size > maxIndex || x.Unpacked > maxIndex {
		return closure.Index{}, fmt.Errorf("%s has %d bytes, more than %d", x.Path, max(x.Size, x.Unpacked), maxIndex)
	}
	packages, err := l.packages(ctx, s, release, x)
	if err != nil {
		return closure.Index{}, err
	}
	l.locked = append(l.locked, locked)
	return closure.Index{Archive: s.archive, Suite: s.suite, Packages: packages}, nil
}

// release returns the first mirror's Release that is good. A mirror that is
// stale or broken only costs a note.
func (l *loader) release(ctx context.Context, s source) (*repo.Release, manifest.LockedRelease, error) {
	urls, err := l.cfg.Mirrors.URLs(s.archive, "dists/"+s.suite+"/InRelease")
	if err != nil {
		return nil, manifest.LockedRelease{}, err
	}
	var release *repo.Release
	var sum [sha256.Size]byte
	var signed []byte
	err = l.first(ctx, s.suite+" InRelease", 0, urls, maxRelease, func(content []byte) error {
		text, err := repo.Verify(content, l.keys, l.cfg.Now)
		if err != nil {
			return err
		}
		if release, err = repo.ParseRelease(text); err != nil {
			return err
		}
		sum, signed = sha256.Sum256(content), content
		return release.Check(s.archive, s.suite, l.cfg.Now)
	})
	if err != nil {
		return nil, manifest.LockedRelease{}, err
	}
	l.keep(ctx, s.suite+" InRelease", signed)
	return release, manifest.LockedRelease{Archive: s.archive, Suite: s.suite, Date: release.Date, SHA256: manifest.SHA256(sum)}, nil
}

// packages fetches the index x from any mirror: by its digest, which outlives
// an update of the mirror, then by its name.
func (l *loader) packages(ctx context.Context, s source, release *repo.Release, x repo.Index) ([]closure.Package, error) {
	var content []byte
	err := l.first(ctx, s.suite+" packages", x.Size, l.packagesURLs(s, release, x), x.Size, func(got []byte) error {
		content = got
		return x.Verify(got)
	})
	if err != nil {
		return nil, err
	}
	l.keep(ctx, s.suite+" packages", content)
	return x.Parse(content, string(l.cfg.Arch))
}

// packagesURLs is where the index x of s may be had, on each mirror by its
// digest first.
func (l *loader) packagesURLs(s source, release *repo.Release, x repo.Index) []string {
	paths := []string{x.Path}
	if release.ByHash {
		paths = []string{x.ByHash(), x.Path}
	}
	var urls []string
	for _, m := range l.cfg.Mirrors {
		for _, p := range paths {
			if m.Archive == s.archive {
				urls = append(urls, m.url("dists/"+s.suite+"/"+p))
			}
		}
	}
	return urls
}

// keep gives a verified file to whoever wants to have it later. That it can't
// be kept is no reason to lock nothing.
func (l *loader) keep(ctx context.Context, name string, content []byte) {
	if l.cfg.Keep == nil {
		return
	}
	if err := l.cfg.Keep(ctx, content); err != nil {
		l.sink.Note("%s could not be kept for bake mirror: %v", name, err)
	}
}

// first gets one URL after the other until accept takes the content. The error
// joins what was wrong with each.
func (l *loader) first(ctx context.Context, name string, size int64, urls []string, limit int64, accept func([]byte) error) error {
	task := l.sink.Start("fetch", name, size)
	var errs []error
	for _, u := range urls {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		content, err := l.cfg.Getter.Get(ctx, []string{u}, limit)
		if err == nil {
			err = accept(content)
			if err == nil {
				task.Add(int64(len(content)))
				task.End("done")
				return nil
			}
			err = fmt.Errorf("%s: %w", redact(u), err)
		}
		// A Getter's own error names the URL.
		errs = append(errs, err)
	}
	task.End("failed")
	return errors.Join(errs...)
}
