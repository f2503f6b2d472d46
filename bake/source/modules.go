package source

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/mirror"
	"github.com/nodebake/bake/bake/tree"
)

// Sources calls add once for every file that building targets for archs takes
// from a Go module proxy, and for what a go command of another version on
// hosts ("linux-amd64") needs to become the toolchains that are pinned. Without
// hosts it is the host that this runs on. open gives a file out of the store,
// verified.
//
// What was found once is kept in the store, so that the next call asks nobody
// and runs no go command. Toolchains that can't be verified are left out, with a
// note.
func (s *Source) Sources(ctx context.Context, targets []gobuild.Target, archs []arch.Arch, hosts []string, add func(e mirror.Entry, open func() (io.ReadCloser, error)) error) error {
	if len(hosts) == 0 {
		hosts = []string{runtime.GOOS + "-" + runtime.GOARCH}
	}
	added := map[gobuild.File]bool{}
	addAll := func(kind mirror.Kind, files []gobuild.File) error {
		for _, f := range files {
			if added[f] {
				continue
			}
			added[f] = true
			e := mirror.Entry{Kind: kind, Name: moduleFileName(f.Path), Path: f.Path, SHA256: f.SHA256, Size: f.Size}
			err := add(e, func() (io.ReadCloser, error) { return s.Store.OpenFile(ctx, f.SHA256) })
			if err != nil {
				return err
			}
		}
		return nil
	}
	var toolchains []string
	for _, same := range byModule(targets) {
		toolchains = append(toolchains, same[0].Module.Toolchain)
		key, err := gobuild.SourcesKey(same, archs, s.Modules)
		if err != nil {
			return err
		}
		files, err := s.kept(ctx, key, func(add fileAdder) error {
			return s.Builder.Sources(ctx, same, archs, s.Modules, add)
		})
		if err != nil {
			return err
		}
		if err := addAll(mirror.Module, files); err != nil {
			return err
		}
	}
	for _, toolchain := range slices.Compact(slices.Sorted(slices.Values(toolchains))) {
		for _, host := range slices.Compact(slices.Sorted(slices.Values(hosts))) {
			files, err := s.kept(ctx, gobuild.ToolchainKey(toolchain, host), func(add fileAdder) error {
				return s.Builder.Toolchain(ctx, toolchain, host, add)
			})
			if _, ok := errors.AsType[*gobuild.UnverifiedError](err); ok {
				s.Progress.Note("%v", err)
				continue
			} else if err != nil {
				return err
			}
			if err := addAll(mirror.Toolchain, files); err != nil {
				return err
			}
		}
	}
	return nil
}

// byModule puts targets together that are built from the same module with the same
// toolchain, in the order of the first of each.
func byModule(targets []gobuild.Target) [][]gobuild.Target {
	type same struct{ dir, path, version, toolchain string }
	at := map[same]int{}
	var out [][]gobuild.Target
	for _, t := range targets {
		key := same{t.Module.Dir, t.Module.Path, t.Module.Version, t.Module.Toolchain}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], t)
	}
	return out
}

// moduleFileName is what people are shown of a file of a module proxy.
func moduleFileName(file string) string {
	escaped, version, ok := strings.Cut(file, "/@v/")
	if !ok {
		return "checksum database " + strings.TrimPrefix(file, "sumdb/")
	}
	path, err := module.UnescapePath(escaped)
	if err != nil {
		path = escaped
	}
	return path + " " + version
}

// fileAdder is an argument of gobuild.Builder.Sources and Toolchain.
type fileAdder = func(f gobuild.File, open func() (io.ReadCloser, error)) error

// kept returns the files that find found, now or before. They are in the store.
func (s *Source) kept(ctx context.Context, key string, find func(fileAdder) error) ([]gobuild.File, error) {
	digest := tree.Digest(sha256.Sum256([]byte("source files of " + key)))
	var files []gobuild.File
	if value, ok := s.Store.Get(digest); ok && json.Unmarshal(value, &files) == nil && s.hasAll(files) {
		return files, nil
	}
	files = nil
	err := find(func(f gobuild.File, open func() (io.ReadCloser, error)) error {
		files = append(files, f)
		return s.keep(ctx, f, open)
	})
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(files)
	if err == nil {
		err = s.Store.Put(digest, value)
	}
	return files, err
}

func (s *Source) hasAll(files []gobuild.File) bool {
	return !slices.ContainsFunc(files, func(f gobuild.File) bool {
		_, ok := s.Store.Path(f.SHA256)
		return !ok
	})
}

// keep copies f into the store, unless it is there.
func (s *Source) keep(ctx context.Context, f gobuild.File, open func() (io.ReadCloser, error)) error {
	if _, ok := s.Store.Path(f.SHA256); ok {
		return nil
	}
	r, err := open()
	if err != nil {
		return fmt.Errorf("storing %s: %w", f.Path, err)
	}
	_, err = s.Store.Add(ctx, []manifest.Digest{f.SHA256}, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("storing %s: %w", f.Path, err)
	}
	return nil
}

// ModuleProxy returns what lays out a directory as a Go module proxy with the
// files of a mirror that has index: for [gobuild.Config]. They are fetched into the
// store by s's Fetcher, all at once, and linked to from there. Offline, one that
// is unavailable is an error; else it is left out with a note, for the go command to
// ask elsewhere.
func (s *Source) ModuleProxy(index *mirror.Index, offline bool) func(ctx context.Context, dir string, wants func(path string) bool) error {
	return func(ctx context.Context, dir string, wants func(path string) bool) error {
		files := map[string]mirror.Entry{}
		var requests []fetch.Request
		requested := map[manifest.Digest]bool{}
		for _, e := range index.Entries {
			if e.Kind != mirror.Module && e.Kind != mirror.Toolchain || !wants(e.Path) {
				continue
			}
			if err := manifest.CheckLocalPath(e.Path); err != nil {
				return fmt.Errorf("reading the mirror's index: %w", err)
			}
			// Another time or another proxy may have given other bytes. They do as
			// well: the go command verifies what is in them.
			if _, twice := files[e.Path]; twice {
				continue
			}
			files[e.Path] = e
			if !requested[e.SHA256] {
				requested[e.SHA256] = true
				requests = append(requests, fetch.Request{Name: e.Name, Sums: []manifest.Digest{e.SHA256}, Size: e.Size})
			}
		}
		if err := s.Fetcher.Fetch(ctx, requests); offline && err != nil || err != nil && !onlyFiles(err) {
			return fmt.Errorf("fetching Go modules: %w", err)
		} else if err != nil {
			s.Progress.Note("%v; the go command asks elsewhere for it", err)
		}
		for path, e := range files {
			stored, ok := s.Store.Path(e.SHA256)
			if !ok {
				continue
			}
			if err := link(stored, filepath.Join(dir, filepath.FromSlash(path))); err != nil {
				return fmt.Errorf("laying out the mirror's modules: %w", err)
			}
		}
		return nil
	}
}

// onlyFiles reports whether err is about single files that a mirror does not
// have as its index says.
func onlyFiles(err error) bool {
	for _, e := range flatten(err) {
		digest, unreachable := (*fetch.DigestError)(nil), (*fetch.UnreachableError)(nil)
		if !errors.As(e, &digest) && !errors.As(e, &unreachable) {
			return false
		}
	}
	return true
}

// link makes name a symbolic link to the file at target, or another name of it
// where the user may not make those, as on Windows.
func link(target, name string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	if err := os.Symlink(target, name); err == nil {
		return nil
	}
	return os.Link(target, name)
}
