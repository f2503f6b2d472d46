package debian

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/bake/source/fetch"
)

// Files opens files that are known by their digests. *fetch.Fetcher does.
type Files interface {
	Open(ctx context.Context, req fetch.Request) (*os.File, error)
}

// Index is one file of a suite's index: its signed InRelease, or the Packages
// file of one architecture that the InRelease vouches for.
type Index struct {
	Suite  string // "trixie-security"
	Path   string // below a mirror of all archives: "debian-security/dists/trixie-security/InRelease"
	Size   int64  // bytes
	SHA256 manifest.Digest
	URLs   []string // where it is available, unless it is kept already

	Newer bool      // not the one that the lock was made from: mirrors do not have that any more
	Date  time.Time // of the InRelease
	Gone  []string  // with Newer, of a Packages file: locked packages that it does not list, "bash 5.2.37-2"
}

// Indices returns the index files that locked was made from, each InRelease
// before its Packages. Files that were kept (see Config.Keep) are taken from
// files by their digest. Else mirrors are asked: an InRelease that has the
// locked digest counts, and where no mirror has it any more the newest that is
// well signed is taken in its place. Valid-Until is not looked at: what decides
// is the lock, which was made while it held.
//
// cfg's lists are not looked at. Every file can be opened from files by its
// digest afterwards.
func Indices(ctx context.Context, cfg Config, files Files, locked *manifest.LockedArch) ([]Index, error) {
	l, err := newLoader(cfg)
	if err != nil {
		return nil, err
	}
	var out []Index
	for _, r := range locked.Releases {
		pair, err := l.indexPair(ctx, files, r)
		if err != nil {
			return nil, fmt.Errorf("finding the index of %s of %s, from which the lock was made: %w", r.Suite, r.Archive, err)
		}
		if pair.newer {
			pair.packages.Gone = pair.gone(locked)
		}
		out = append(out, pair.release, pair.packages)
	}
	return out, nil
}

// indexPair is an InRelease with the Packages file of one architecture.
type indexPair struct {
	locked            manifest.LockedRelease
	release, packages Index
	newer             bool
	listed            map[string]bool // with newer: "name version" of all packages
}

// indexPair finds the pair that r names, or a newer one.
func (l *loader) indexPair(ctx context.Context, files Files, r manifest.LockedRelease) (*indexPair, error) {
	// Without URLs only what is kept answers.
	signed, err := readRequest(ctx, files, fetch.Request{Name: r.Suite + " InRelease", Sums: []manifest.Digest{r.SHA256}}, maxRelease)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var kept error
	if err == nil {
		pair, err := l.pair(ctx, files, r, signed)
		if err == nil || ctx.Err() != nil {
			return pair, err
		}
		kept = err // its Packages file is gone
	}
	published, err := l.published(ctx, r)
	errs := []error{kept, err}
	for _, p := range published {
		pair, err := l.pair(ctx, files, r, p.signed)
		if _, ok := errors.AsType[*fetch.DigestError](err); ok {
			err = &UpdatingError{URL: redact(p.url), Date: p.date, Index: "its Packages file"}
		}
		if err == nil && l.cfg.Keep != nil {
			err = l.cfg.Keep(ctx, p.signed)
		}
		if err == nil || ctx.Err() != nil {
			return pair, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// published is an InRelease that a mirror has.
type published struct {
	url    string
	signed []byte
	date   time.Time
}

// published returns the InReleases that mirrors have: the locked one alone, else
// those that are good, the newest first.
func (l *loader) published(ctx context.Context, r manifest.LockedRelease) ([]published, error) {
	urls, err := l.cfg.Mirrors.URLs(r.Archive, "dists/"+r.Suite+"/InRelease")
	if err != nil {
		return nil, err
	}
	var good []published
	_, err = l.get(ctx, urls, maxRelease, func(u string, content []byte) error {
		if manifest.SHA256(sha256.Sum256(content)) == r.SHA256 {
			good = []published{{u, content, r.Date}}
			return nil
		}
		date, err := l.verify(r, content)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(good, func(p published) bool { return bytes.Equal(p.signed, content) }) {
			good = append(good, published{u, content, date})
		}
		return fmt.Errorf("it is of %s: %w", date.Format("2006-01-02 15:04 UTC"), fetch.ErrSettle)
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(good) == 0 {
		return nil, err
	}
	slices.SortStableFunc(good, func(a, b published) int { return b.date.Compare(a.date) })
	return good, nil
}

// verify returns the date of an InRelease that is well signed and of r's suite.
func (l *loader) verify(r manifest.LockedRelease, content []byte) (time.Time, error) {
	text, err := repo.Verify(content, l.keys, l.cfg.Now)
	if err != nil {
		return time.Time{}, err
	}
	found, err := repo.ParseRelease(text)
	if err != nil {
		return time.Time{}, err
	}
	found.ValidUntil = time.Time{}
	return found.Date, found.Check(r.Archive, r.Suite, l.cfg.Now)
}

// pair finds the Packages file of signed, an InRelease that has the digest
// that r says or was verified.
func (l *loader) pair(ctx context.Context, files Files, r manifest.LockedRelease, signed []byte) (*indexPair, error) {
	text, err := repo.Plaintext(signed)
	if err != nil {
		return nil, err
	}
	rel, err := repo.ParseRelease(text)
	if err != nil {
		return nil, err
	}
	sum := manifest.SHA256(sha256.Sum256(signed))
	p := &indexPair{locked: r, newer: sum != r.SHA256}
	dist := r.Archive + "/dists/" + r.Suite + "/"
	p.release = Index{Suite: r.Suite, Path: dist + "InRelease", Size: int64(len(signed)), SHA256: sum, Newer: p.newer, Date: rel.Date}
	x, err := rel.Packages(string(l.cfg.Arch))
	if err != nil {
		return nil, err
	}
	p.packages = Index{
		Suite: r.Suite, Path: dist + x.Path, Size: x.Size, SHA256: manifest.SHA256(x.SHA256), Newer: p.newer, Date: rel.Date,
		URLs: l.packagesURLs(source{r.Archive, r.Suite}, rel, x, Mirror{}),
	}
	request := fetch.Request{Name: r.Suite + " packages", URLs: p.packages.URLs, Sums: []manifest.Digest{p.packages.SHA256}, Size: x.Size}
	if !p.newer {
		f, err := files.Open(ctx, request)
		if err != nil {
			return nil, err
		}
		return p, f.Close()
	}
	content, err := readRequest(ctx, files, request, maxIndex)
	if err != nil {
		return nil, err
	}
	packages, err := x.Parse(content, string(l.cfg.Arch))
	if err != nil {
		return nil, err
	}
	p.listed = make(map[string]bool, len(packages))
	for i := range packages {
		p.listed[packages[i].Name+" "+packages[i].Version] = true
	}
	return p, nil
}

// gone returns the packages that locked has from this suite and the index does
// not list.
func (p *indexPair) gone(locked *manifest.LockedArch) []string {
	var gone []string
	for _, q := range locked.All() {
		if name := q.Name + " " + q.Version; q.Archive == p.locked.Archive && q.Suite == p.locked.Suite && !p.listed[name] {
			gone = append(gone, name)
		}
	}
	slices.SortFunc(gone, cmp.Compare[string])
	return slices.Compact(gone)
}

// readRequest returns the content of a file, which is an error where it is
// longer than limit bytes.
func readRequest(ctx context.Context, files Files, req fetch.Request, limit int64) ([]byte, error) {
	f, err := files.Open(ctx, req)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", req.Name, limit)
	}
	return content, err
}
