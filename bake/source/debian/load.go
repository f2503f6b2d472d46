package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/bake/source/fetch"
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
	loaded map[string]resolver.Group // without what is held
	groups map[string]resolver.Group
	locked []manifest.LockedRelease
	let    map[string]string // why locked packages are not kept, by name and suite
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
	l := &loader{cfg: cfg, keys: keys, sink: cfg.Progress, loaded: make(map[string]resolver.Group), groups: make(map[string]resolver.Group), let: make(map[string]string)}
	if l.sink == nil {
		l.sink = progress.Discard{}
	}
	return l, nil
}

// group loads a suite with its updates, and what is kept of it as it was locked.
func (l *loader) group(ctx context.Context, suite string) (resolver.Group, error) {
	if g, ok := l.groups[suite]; ok {
		return g, nil
	}
	g, err := l.indices(ctx, suite)
	if err != nil {
		return resolver.Group{}, err
	}
	if l.cfg.Locked != nil {
		if g.Held, err = l.hold(ctx, g, slices.Concat(l.cfg.Locked.Packages, l.cfg.Locked.Extra), l.let); err != nil {
			return resolver.Group{}, err
		}
	}
	l.groups[suite] = g
	return g, nil
}

// indices loads a suite with its updates.
func (l *loader) indices(ctx context.Context, suite string) (resolver.Group, error) {
	if g, ok := l.loaded[suite]; ok {
		return g, nil
	}
	g := resolver.Group{Suite: suite}
	for _, s := range sources(suite) {
		x, err := l.index(ctx, s)
		if err != nil {
			return resolver.Group{}, fmt.Errorf("loading %s of %s: %w", s.suite, s.archive, err)
		}
		g.Indices = append(g.Indices, x)
	}
	l.loaded[suite] = g
	return g, nil
}

// index loads one suite. A mirror whose InRelease is well signed and whose other
// files do not fit it, since it is being updated, is passed over for the next one's
// InRelease.
func (l *loader) index(ctx context.Context, s source) (resolver.Index, error) {
	mirrors, err := l.cfg.Mirrors.of(s.archive)
	if err != nil {
		return resolver.Index{}, err
	}
	var errs []error
	failed := make(map[manifest.Digest]bool)
	for len(mirrors) > 0 {
		found, err := l.release(ctx, s, mirrors)
		if err != nil {
			errs = append(errs, err)
			break
		}
		mirrors = slices.DeleteFunc(mirrors, func(m Mirror) bool { return m == found.mirror })
		if failed[found.locked.SHA256] {
			continue
		}
		packages, err := l.packages(ctx, s, found)
		if err == nil {
			l.noteOld(s, found)
			l.locked = append(l.locked, found.locked)
			return resolver.Index{Archive: s.archive, Suite: s.suite, Packages: packages}, nil
		}
		errs = append(errs, err)
		failed[found.locked.SHA256] = true
		if ctx.Err() != nil || !isFetching(err) {
			break
		}
		if len(mirrors) > 0 {
			l.sink.Note("%s: %v; trying the next mirror", s.suite, err)
		}
	}
	return resolver.Index{}, errors.Join(errs...)
}

// isFetching reports whether err is of files that are unavailable, and not of what
// they say.
func isFetching(err error) bool {
	updating, unreachable := (*UpdatingError)(nil), (*fetch.UnreachableError)(nil)
	return errors.As(err, &updating) || errors.As(err, &unreachable)
}

// found is a Release that is good, and where it is from.
type found struct {
	*repo.Release
	mirror Mirror
	signed []byte // its InRelease
	locked manifest.LockedRelease
}

// release returns the Release of the first of mirrors that has a good one. A
// mirror that is stale or broken only costs a note.
func (l *loader) release(ctx context.Context, s source, mirrors MirrorList) (*found, error) {
	path := "dists/" + s.suite + "/InRelease"
	var best *found
	err := l.first(ctx, s.suite+" InRelease", 0, mirrors.urls(path), maxRelease, func(u string, signed []byte) error {
		text, err := repo.Verify(signed, l.keys, l.cfg.Now)
		if err != nil {
			return err
		}
		release, err := repo.ParseRelease(text)
		if err != nil {
			return err
		}
		best = &found{Release: release, mirror: mirrors.serving(u, path), signed: signed, locked: manifest.LockedRelease{
			Archive: s.archive, Suite: s.suite, Date: release.Date, SHA256: manifest.SHA256(sha256.Sum256(signed)),
		}}
		if err := release.Check(s.archive, s.suite, l.cfg.Now); err != nil {
			return err
		}
		return l.cfg.checkOlder(s, release.Date)
	})
	if err != nil {
		return nil, err
	}
	return best, nil
}

// UpdatingError says that a mirror's files do not fit each other.
type UpdatingError struct {
	URL   string // of the InRelease, without a password
	Date  time.Time
	Index string // "main/binary-amd64/Packages.gz"
}

func (e *UpdatingError) Error() string {
	return fmt.Sprintf("%s is of %s, and %s is not the one that it lists: the mirror is being updated (try again in a few minutes) or damaged (give another by --debian-mirror)",
		e.URL, e.Date.Format("2006-01-02 15:04 UTC"), e.Index)
}

// packages fetches the Packages file of f from any mirror, f's first: by its
// digest, which outlives an update of the mirror, then by its name.
func (l *loader) packages(ctx context.Context, s source, f *found) ([]resolver.Package, error) {
	x, err := f.Packages(string(l.cfg.Arch))
	if err != nil {
		return nil, err
	}
	if x.Size > maxIndex || x.Unpacked > maxIndex {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", x.Path, max(x.Size, x.Unpacked), maxIndex)
	}
	var content []byte
	own := f.mirror.url("dists/" + s.suite + "/" + x.Path)
	differs := false
	err = l.first(ctx, s.suite+" packages", x.Size, l.packagesURLs(s, f.Release, x, f.mirror), x.Size, func(u string, got []byte) error {
		content = got
		err := x.Verify(got)
		differs = differs || err != nil && u == own
		return err
	})
	if err != nil && (differs || tooLarge(err, own)) {
		return nil, &UpdatingError{URL: redact(f.mirror.url("dists/" + s.suite + "/InRelease")), Date: f.Date, Index: x.Path}
	}
	if err != nil {
		return nil, err
	}
	l.keep(ctx, s.suite+" InRelease", f.signed)
	l.keep(ctx, s.suite+" packages", content)
	packages, err := x.Parse(content, string(l.cfg.Arch))
	l.noteMalformed(s, packages)
	return packages, err
}

// noteMalformed says which packages of an index are left out.
func (l *loader) noteMalformed(s source, packages []resolver.Package) {
	const most = 3
	n := 0
	for i := range packages {
		if p := &packages[i]; p.Malformed != nil {
			if n++; n <= most {
				l.sink.Note("%s: package %s %s is malformed and left out: %v", s.suite, p.Name, p.Version, p.Malformed)
			}
		}
	}
	if n > most {
		l.sink.Note("%s: %d more packages are malformed and left out", s.suite, n-most)
	}
}

// tooLarge reports whether err says that the file at rawURL is longer than it
// should be.
func tooLarge(err error, rawURL string) bool {
	unreachable := (*fetch.UnreachableError)(nil)
	return errors.As(err, &unreachable) && slices.ContainsFunc(unreachable.Tried, func(t fetch.Attempt) bool {
		return t.URL == redact(rawURL) && errors.Is(t.Err, fetch.ErrTooLarge)
	})
}

// packagesURLs is where the index x of s may be had, on each mirror by its
// digest first; preferred is the mirror to begin with, if any.
func (l *loader) packagesURLs(s source, rel *repo.Release, x repo.Index, preferred Mirror) []string {
	paths := []string{x.Path}
	if rel.ByHash {
		paths = []string{x.ByHash(), x.Path}
	}
	mirrors, _ := l.cfg.Mirrors.of(s.archive)
	if i := slices.Index(mirrors, preferred); i > 0 {
		mirrors = slices.Insert(slices.Delete(mirrors, i, i+1), 0, preferred)
	}
	var urls []string
	for _, m := range mirrors {
		for _, p := range paths {
			urls = append(urls, m.url("dists/"+s.suite+"/"+p))
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

// first is get with a display of it.
func (l *loader) first(ctx context.Context, name string, size int64, urls []string, limit int64, accept func(url string, content []byte) error) error {
	task := l.sink.Start("fetch", name, size)
	content, err := l.get(ctx, urls, limit, accept)
	if err != nil {
		task.End("failed")
		return err
	}
	task.Add(int64(len(content)))
	task.End("done")
	return nil
}

// get gets the first of urls whose content accept takes. The error says what
// was wrong with each.
func (l *loader) get(ctx context.Context, urls []string, limit int64, accept func(url string, content []byte) error) ([]byte, error) {
	rejected := make(map[string]bool)
	content, err := l.cfg.Getter.Get(ctx, urls, limit, func(u string, content []byte) error {
		err := accept(u, content)
		rejected[redact(u)] = err != nil
		return err
	})
	if unreachable, ok := errors.AsType[*fetch.UnreachableError](err); ok {
		err = &noneError{unreachable, rejected}
	}
	return content, err
}

// noneError says what was wrong with each URL, in a line of its own.
type noneError struct {
	*fetch.UnreachableError
	rejected map[string]bool // URLs that have a file, which will not do
}

func (e *noneError) Error() string {
	lines := make([]string, len(e.Tried))
	for i, t := range e.Tried {
		if e.rejected[t.URL] {
			lines[i] = fmt.Sprintf("%s: %v", t.URL, t.Err)
		} else {
			lines[i] = fmt.Sprintf("%s is unavailable: %v", t.URL, t.Err)
		}
	}
	return strings.Join(lines, "\n")
}

func (e *noneError) Unwrap() error { return e.UnreachableError }
