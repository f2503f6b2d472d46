package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Kind is a kind of entry.
type Kind string

// The kinds of entries. Downloads and Partials cost network to get again,
// Packs and Values computing. Programs are directories with what this machine runs:
// a control plane, and what a bake without embedded programs has built.
const (
	Downloads Kind = "downloads"
	Partials  Kind = "partials"
	Packs     Kind = "packs"
	Values    Kind = "values"
	Programs  Kind = "programs"
)

// ProgramsDir is the directory of Programs, below the store's. Other packages put
// them there; when one was written counts as its last use.
const ProgramsDir = "programs"

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Downloads, Partials, Packs, Values, Programs} }

// ErrInUse says that a store can't be pruned because a bake is using it.
var ErrInUse = errors.New("a bake is using the store")

// PruneOptions says what Prune removes. Leftovers of interrupted bakes go in
// any case.
type PruneOptions struct {
	Kinds     []Kind        // to look at; none means all
	All       bool          // remove every entry of Kinds
	OlderThan time.Duration // remove what no bake used for so long (it is known to the hour); 0: nothing by age
	MaxSize   int64         // then remove the least recently used, until Kinds have at most so many bytes; 0: no limit
	DryRun    bool          // report only
}

// Amount is a number of entries and of bytes.
type Amount struct {
	Entries int
	Bytes   int64
}

// Report is what Usage counts, and what Prune removed and kept, by kind.
type Report struct {
	Removed map[Kind]Amount
	Kept    map[Kind]Amount
}

// entry is one removable thing.
type entry struct {
	kind  Kind
	paths []string // to remove, in this order
	bytes int64
	used  time.Time
}

// Usage counts what the store in dir holds. A directory that does not exist
// holds nothing.
func Usage(ctx context.Context, dir string) (Report, error) {
	entries, err := scan(ctx, dir, Kinds())
	if err != nil {
		return Report{}, fmt.Errorf("counting the store %s: %w", dir, err)
	}
	return report(nil, entries), nil
}

// Prune removes entries of the store in dir. It fails with ErrInUse, changing
// nothing, while any bake has the store open.
func Prune(ctx context.Context, dir string, o PruneOptions) (Report, error) {
	if _, err := os.Stat(filepath.Join(dir, lockFile)); errors.Is(err, fs.ErrNotExist) {
		return report(nil, nil), nil
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	ok, err := lock.TryLock()
	if err != nil {
		return Report{}, fmt.Errorf("pruning the store %s: %w", dir, err)
	}
	if !ok {
		return Report{}, fmt.Errorf("pruning %s: %w; wait for it to end", dir, ErrInUse)
	}
	defer lock.Unlock()
	sign(lock.Path())
	removed, kept, err := prune(ctx, dir, o)
	if err != nil {
		err = fmt.Errorf("pruning the store %s: %w", dir, err)
	}
	return report(removed, kept), err
}

func prune(ctx context.Context, dir string, o PruneOptions) (removed, kept []entry, err error) {
	if !o.DryRun {
		if err := sweep(dir); err != nil {
			return nil, nil, err
		}
	}
	if len(o.Kinds) == 0 {
		o.Kinds = Kinds()
	}
	entries, err := scan(ctx, dir, o.Kinds)
	if err != nil {
		return nil, nil, err
	}
	now, err := fileSystemTime(dir)
	if err != nil && noSpace(err) {
		// The disk is full to the last directory entry, and Prune is what
		// helps. Entries seem younger than they are by this.
		now = newest(entries)
	} else if err != nil {
		return nil, nil, err
	}
	doomed, kept := choose(entries, o, now)
	if o.DryRun {
		return doomed, kept, nil
	}
	for i, e := range doomed {
		if err := ctx.Err(); err != nil {
			return doomed[:i], append(kept, doomed[i:]...), context.Cause(ctx)
		}
		for _, path := range e.paths {
			if err := os.RemoveAll(path); err != nil {
				return doomed[:i], append(kept, doomed[i:]...), err
			}
		}
	}
	return doomed, kept, nil
}

// newest returns when any of the entries was last used.
func newest(entries []entry) time.Time {
	var t time.Time
	for _, e := range entries {
		if e.used.After(t) {
			t = e.used
		}
	}
	return t
}

// choose decides which entries go.
func choose(entries []entry, o PruneOptions, now time.Time) (doomed, kept []entry) {
	slices.SortFunc(entries, func(a, b entry) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		return cmp.Compare(a.paths[0], b.paths[0])
	})
	var total int64
	for _, e := range entries {
		total += e.bytes
	}
	for _, e := range entries {
		old := o.OlderThan > 0 && now.Sub(e.used) >= o.OlderThan
		if o.All || old || o.MaxSize > 0 && total > o.MaxSize {
			doomed = append(doomed, e)
			total -= e.bytes
		} else {
			kept = append(kept, e)
		}
	}
	return doomed, kept
}

func report(removed, kept []entry) Report {
	r := Report{Removed: map[Kind]Amount{}, Kept: map[Kind]Amount{}}
	count := func(to map[Kind]Amount, entries []entry) {
		for _, e := range entries {
			a := to[e.kind]
			a.Entries++
			a.Bytes += e.bytes
			to[e.kind] = a
		}
	}
	count(r.Removed, removed)
	count(r.Kept, kept)
	return r
}

// scan lists the entries of kinds.
func scan(ctx context.Context, dir string, kinds []Kind) ([]entry, error) {
	var all []entry
	for _, kind := range kinds {
		var err error
		switch kind {
		case Downloads:
			err = scanShards(ctx, filepath.Join(dir, filesDir, "sha256"), kind, &all)
			if err == nil {
				err = scanShards(ctx, filepath.Join(dir, filesDir, "sha512"), kind, &all)
			}
		case Partials:
			err = scanPartials(filepath.Join(dir, partialDir), &all)
		case Packs:
			err = scanShards(ctx, filepath.Join(dir, packsDir), kind, &all)
		case Values:
			err = scanShards(ctx, filepath.Join(dir, valuesDir), kind, &all)
		case Programs:
			err = scanPrograms(filepath.Join(dir, ProgramsDir), &all)
		default:
			err = fmt.Errorf("unknown kind %q", kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func scanShards(ctx context.Context, dir string, kind Kind, to *[]entry) error {
	shards, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, sh := range shards {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		names, err := readDir(filepath.Join(dir, sh.Name()))
		if err != nil {
			return err
		}
		for _, name := range names {
			path := filepath.Join(dir, sh.Name(), name.Name())
			e := entry{kind: kind, paths: []string{path}}
			if kind == Packs {
				// The index tells when the pack was used, and goes first so
				// that an interrupted Prune leaves no index without data.
				index := filepath.Join(path, "index")
				e.paths = []string{index, path}
				e.add(index)
				e.add(filepath.Join(path, "data"))
			} else {
				e.add(path)
			}
			*to = append(*to, e)
		}
	}
	return nil
}

func scanPartials(dir string, to *[]entry) error {
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name.Name())
		if download, ok := strings.CutSuffix(path, ".from"); ok {
			if _, err := os.Lstat(download); err == nil {
				continue // goes with its download
			}
		}
		e := entry{kind: Partials, paths: []string{path, path + ".from"}}
		e.add(path)
		*to = append(*to, e)
	}
	return nil
}

func scanPrograms(dir string, to *[]entry) error {
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		e := entry{kind: Programs, paths: []string{filepath.Join(dir, name.Name())}}
		err := filepath.WalkDir(e.paths[0], func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			switch {
			case err == nil && path == e.paths[0]:
				e.used = info.ModTime()
			case err == nil && d.Type().IsRegular():
				e.bytes += info.Size()
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was renamed meanwhile
			return err
		}
		*to = append(*to, e)
	}
	return nil
}

// add counts a file. Its use counts only if it is the entry's first; one that
// is not there was last used in the year 1.
func (e *entry) add(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	e.bytes += info.Size()
	if path == e.paths[0] {
		e.used = info.ModTime()
	}
}

func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
