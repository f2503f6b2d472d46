// Package mirrorsync brings all that baking some versions files takes into the
// directory of an offline mirror: see package mirror for what is there.
package mirrorsync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/mirror"
)

// Config says what an offline site wants to bake, and where what that takes is put.
// Cache and To are required.
type Config struct {
	source.Options
	Definition fs.FS  // the image definition of a versions file that names none: images/worker
	Keyring    []byte // armored keys that sign Debian's indices: see lock.Config

	Sets    []Set
	Archs   []arch.Arch // of every set
	To      string      // directory of the mirror, absolute
	Sources bool        // modules and toolchains as well, for components whose release is unavailable
	GoHosts []string    // with Sources: what toolchains run on, "linux-amd64"; this host where empty
	Drop    []string    // names of sets that go
	Prune   bool        // files that no set needs any more go
	Now     time.Time   // that signatures of indices are checked at
}

// Set is a versions file under the name that the mirror calls it by.
type Set struct {
	Name     string
	Versions string // file
	Lock     string // file; beside it where empty

	// Dir is the absolute directory of Versions. An image definition that Versions
	// names may lie outside of it: then the names of directories are the mirror's too.
	Dir string
}

// Result is what a mirror holds, and what was done to it.
type Result struct {
	Mirror  string        `json:"mirror"`
	Sets    []MirroredSet `json:"sets"` // all there are, by name
	Entries int           `json:"entries"`
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"`
	Added   Amount        `json:"added"`
	Removed Amount        `json:"removed"`
	Missing []Missing     `json:"missing"` // that sources do in place of
}

// MirroredSet is a set of a mirror.
type MirroredSet struct {
	mirror.Set
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"` // of its files, which other sets may share
}

// Amount is a number of files and what they have together.
type Amount struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Missing is a release or an image that is unavailable, so that the
// offline site must make it from source.
type Missing struct {
	Set    string `json:"set"`
	Name   string `json:"name"` // "kubelet v1.36.3 amd64"
	Reason string `json:"reason"`
	Else   string `json:"else"` // "its module k8s.io/kubernetes v1.36.3"

	Causes []fetch.Cause `json:"causes,omitempty"` // as in Missing
	Image  bool          `json:"image,omitempty"`  // it is a container image
}

// Run brings everything that baking each set offline takes into one
// directory, and nothing else. Sets that are there stay unless they are dropped;
// one of the same name is replaced. Where a set has not changed and its files
// are there nobody is asked for anything. An interrupted run leaves the mirror as
// it was and what it has copied, so that the next one continues.
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	m := &mirroring{config: c, entries: map[entryKey]*mirror.Entry{}, announced: map[manifest.Digest]bool{}}
	defer m.close()
	var err error
	if len(c.Sets) > 0 { // else nothing is fetched
		if m.access, err = source.Open(c.Options); err != nil {
			return nil, err
		}
	}
	for _, given := range c.Sets {
		set, err := m.read(given)
		if err != nil {
			return nil, err
		}
		m.sets = append(m.sets, set)
	}
	if m.writer, err = mirror.Create(c.To); err != nil {
		if _, ok := errors.AsType[*mirror.NoLocksError](err); ok {
			return nil, &manifest.ArgumentError{Err: err}
		}
		return nil, err
	}
	m.old = m.writer.Index()
	if err := m.keepOthers(); err != nil {
		return nil, err
	}
	if err := m.bring(ctx); err != nil {
		return nil, err
	}
	progress.Phase(m.config.Progress, "")
	if err := m.commit(ctx); err != nil {
		return nil, err
	}
	return m.result()
}

// Check reads every byte of the mirror in dir, an absolute path. The
// report comes with the error where something is wrong.
func Check(ctx context.Context, dir string, jobs int, sink progress.Sink) (*mirror.Report, error) {
	if sink == nil {
		sink = progress.Discard{}
	}
	progress.Phase(sink, "check")
	report, err := mirror.Check(ctx, dir, jobs, sink)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	progress.Phase(sink, "")
	return report, report.Err()
}

// ExtractedInputs are the files that Extract has put below a directory.
type ExtractedInputs struct {
	Mirror string             `json:"mirror"`
	Out    string             `json:"out"`
	Files  []mirror.Extracted `json:"files"` // by path
}

// Extract puts the versions files, locks, image definitions and module
// files of the mirror in dir below the directory to, and overwrites nothing. Both
// are absolute paths.
func Extract(ctx context.Context, dir, to string) (*ExtractedInputs, error) {
	inputs, err := mirror.ReadInputs(ctx, dir)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	files, err := inputs.Write(ctx, to)
	if _, ok := errors.AsType[*mirror.DiffersError](err); ok {
		return nil, &manifest.ArgumentError{Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("extracting the inputs of the mirror %s: %w", dir, err)
	}
	return &ExtractedInputs{Mirror: dir, Out: to, Files: files}, nil
}

func (c *Config) check() error {
	names := map[string]string{}
	for _, s := range c.Sets {
		if err := mirror.CheckSetName(s.Name); err != nil {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s can't be a set of the mirror: its name %w; rename the file", s.Versions, err)}
		}
		if other, twice := names[s.Name]; twice {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s and %s would both be set %s of the mirror: rename one of the files", other, s.Versions, s.Name)}
		}
		names[s.Name] = s.Versions
		if slices.Contains(c.Drop, s.Name) {
			return &manifest.ArgumentError{Err: fmt.Errorf("set %s is to be dropped and to be mirrored from %s", s.Name, s.Versions)}
		}
	}
	if len(c.Sets) > 0 && len(c.Archs) == 0 {
		return &manifest.ArgumentError{Err: errors.New("a mirror is for at least one architecture, and none was given")}
	}
	return nil
}

// mirroring is one run of Mirror.
type mirroring struct {
	config Config
	access *source.Access // nil: no set is to be brought
	writer *mirror.Writer
	old    *mirror.Index
	sets   []*mirrorSet

	// What becomes of the mirror.
	index   mirror.Index
	entries map[entryKey]*mirror.Entry
	images  []mirror.OCIImage

	announced map[manifest.Digest]bool // downloads that the display was told of

	added   Amount
	removed Amount
	missing []Missing
}

// entryKey is what may be in an index once.
type entryKey struct {
	kind mirror.Kind
	path string
	sum  manifest.Digest
}

// mirrorSet is one set to mirror.
type mirrorSet struct {
	Set    mirror.Set
	given  Set
	dir    string        // of the versions file below the set's, see place; "": the set's
	inputs []mirrorInput // files of the person who makes the set
	archs  []*mirrorArch
}

// mirrorInput is a file that is in memory.
type mirrorInput struct {
	mirror.Entry
	content []byte
}

// mirrorArch is a set for one architecture.
type mirrorArch struct {
	inputs   *inputs.Inputs
	lock     *manifest.Lock
	locked   *manifest.LockedArch
	required *source.Requirements
}

func (m *mirroring) close() {
	if m.access != nil {
		m.access.Close()
	}
	if m.writer != nil {
		m.writer.Close()
	}
}

// read reads the files of a set.
func (m *mirroring) read(given Set) (_ *mirrorSet, err error) {
	s := &mirrorSet{given: given}
	s.Set = mirror.Set{Name: given.Name, Archs: slices.Compact(slices.Sorted(slices.Values(m.config.Archs))), Sources: m.config.Sources}
	for _, arch := range s.Set.Archs {
		in, err := inputs.Read(inputs.Files{Versions: given.Versions, Lock: given.Lock, Definition: m.config.Definition, Arch: arch})
		if err != nil {
			return nil, err
		}
		a := &mirrorArch{inputs: in}
		if a.lock, a.locked, err = in.ReadLock(); err != nil {
			return nil, err
		}
		if a.required, err = source.Require(in.Set, a.locked, arch, in.LockCommand()); err != nil {
			return nil, err
		}
		s.archs = append(s.archs, a)
	}
	first := s.archs[0]
	s.Set.Versions, s.Set.Lock = first.inputs.Set.Sum, first.lock.Sum
	if s.dir, err = place(filepath.ToSlash(given.Dir), first.inputs.Set.Definition); err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s: definition: %w", first.inputs.Set.DefinitionPos, err)}
	}
	s.input(mirror.Versions, filepath.Base(first.inputs.Versions), s.Set.Versions, first.inputs.VersionsText)
	s.input(mirror.Lock, filepath.Base(first.inputs.Lock), s.Set.Lock, first.inputs.LockText)
	if dir := first.inputs.Set.Definition; dir != "" {
		files := first.inputs.Definition.Files
		for _, name := range slices.Sorted(maps.Keys(files)) {
			s.input(mirror.Definition, path.Join(dir, name), manifest.SHA256(sha256.Sum256(files[name])), files[name])
		}
	}
	if m.config.Sources {
		if err := s.moduleFiles(first); err != nil {
			return nil, err
		}
	}
	return s, s.checkInputs()
}

// input adds a file of the set by its path from the versions file's directory.
func (s *mirrorSet) input(kind mirror.Kind, name string, sum manifest.Digest, content []byte) {
	p := path.Join(s.Set.Name, s.dir, name)
	s.inputs = append(s.inputs, mirrorInput{mirror.Entry{Kind: kind, Name: p, Path: p, SHA256: sum, Size: int64(len(content))}, content})
}

// place returns where a set has the directory of its versions file, which is dir:
// as many names deep as the path of its image definition leads up, so that the
// definition is below the set's directory too. Without a definition, and with one
// that is beside the versions file, it is the set's own.
func place(dir, definition string) (string, error) {
	names := strings.Split(strings.Trim(dir, "/"), "/")
	up := strings.Count(definition, "../") // they stand at its beginning only
	if up > len(names) || up > 0 && names[0] == "" {
		return "", fmt.Errorf("%q leads above the root of the filesystem", definition)
	}
	return path.Join(names[len(names)-up:]...), nil
}

// checkInputs requires that every file has a path that a mirror takes.
func (s *mirrorSet) checkInputs() error {
	seen := map[string]bool{}
	for _, in := range s.inputs {
		err := mirror.CheckPath(in.Path)
		if err == nil && seen[in.Path] {
			err = fmt.Errorf("%q is that of two files", in.Path)
		}
		if err != nil {
			return &manifest.ArgumentError{Err: fmt.Errorf("%s can't be a set of the mirror: the path %w (rename the file or the directory)", s.given.Versions, err)}
		}
		seen[in.Path] = true
	}
	return nil
}

// keepOthers takes what the mirror has of sets that this run is not about.
func (m *mirroring) keepOthers() error {
	m.index = mirror.Index{Schema: mirror.Schema}
	keep := map[string]bool{}
	for _, s := range m.old.Sets {
		keep[s.Name] = true
	}
	for _, name := range m.config.Drop {
		if !keep[name] {
			return &manifest.ArgumentError{Err: fmt.Errorf("the mirror %s has no set %s to drop (it has: %s)", m.config.To, name, cmp.Or(strings.Join(slices.Sorted(maps.Keys(keep)), ", "), "none"))}
		}
	}
	for _, name := range m.config.Drop {
		delete(keep, name)
	}
	for _, s := range m.sets {
		delete(keep, s.Set.Name)
	}
	for _, s := range m.old.Sets {
		if keep[s.Name] {
			m.index.Sets = append(m.index.Sets, s)
		}
	}
	for _, e := range m.old.Entries {
		for _, set := range e.Sets {
			if keep[set] {
				m.add(set, e)
			}
		}
	}
	return nil
}

// add notes that set needs e.
func (m *mirroring) add(set string, e mirror.Entry) {
	key := entryKey{e.Kind, e.Path, e.SHA256}
	known := m.entries[key]
	if known == nil {
		known = &mirror.Entry{Kind: e.Kind, Name: e.Name, Path: e.Path, SHA256: e.SHA256, Size: e.Size}
		m.entries[key] = known
	}
	known.SHA512 = cmp.Or(known.SHA512, e.SHA512)
	if !slices.Contains(known.Sets, set) {
		known.Sets = append(known.Sets, set)
	}
}

// unchanged reports whether the mirror has s as it is, with all of its files.
func (m *mirroring) unchanged(s *mirrorSet) bool {
	i := slices.IndexFunc(m.old.Sets, func(o mirror.Set) bool { return o.Name == s.Set.Name })
	if i < 0 {
		return false
	}
	o := m.old.Sets[i]
	if o.Versions != s.Set.Versions || o.Lock != s.Set.Lock || !slices.Equal(o.Archs, s.Set.Archs) || o.Sources != s.Set.Sources {
		return false
	}
	inputs := map[entryKey]bool{}
	for _, in := range s.inputs {
		inputs[entryKey{in.Entry.Kind, in.Entry.Path, in.SHA256}] = true
	}
	for _, e := range m.old.Entries {
		if !slices.Contains(e.Sets, o.Name) {
			continue
		}
		if !m.writer.Has(e.SHA256, e.Size) {
			return false
		}
		key := entryKey{e.Kind, e.Path, e.SHA256}
		if mirror.IsInput(&e) && !inputs[key] {
			return false // a definition that has lost a file
		}
		delete(inputs, key)
	}
	return m.hasToolchains(s) && len(inputs) == 0
}

// commit makes the new index the mirror's, and removes what nothing needs.
func (m *mirroring) commit(ctx context.Context) error {
	before, err := m.writer.Images()
	if err != nil {
		return err
	}
	wanted := map[entryKey]bool{}
	for _, e := range m.entries {
		m.index.Entries = append(m.index.Entries, *e)
		wanted[entryKey{e.Kind, e.Path, e.SHA256}] = true
	}
	images := slices.Concat(m.images, before)
	images = slices.DeleteFunc(images, func(i mirror.OCIImage) bool {
		return !wanted[entryKey{mirror.Image, i.Reference, i.Digest}]
	})
	if err := m.writer.Commit(ctx, &m.index, images); err != nil {
		return err
	}
	if m.config.Prune {
		m.removed.Files, m.removed.Bytes, err = m.writer.Prune()
	}
	return err
}

// result says what the mirror is now.
func (m *mirroring) result() (*Result, error) {
	x := m.writer.Index()
	r := &Result{
		Mirror: m.config.To, Sets: []MirroredSet{}, Entries: len(x.Entries),
		Added: m.added, Removed: m.removed, Missing: append([]Missing{}, m.missing...),
	}
	seen := map[manifest.Digest]bool{}
	for _, e := range x.Entries {
		if !seen[e.SHA256] {
			r.Files++
			r.Bytes += e.Size
		}
		seen[e.SHA256] = true
	}
	for _, s := range x.Sets {
		set := MirroredSet{Set: s}
		seen := map[manifest.Digest]bool{}
		for _, e := range x.Entries {
			if !slices.Contains(e.Sets, s.Name) {
				continue
			}
			set.Entries++
			if !seen[e.SHA256] {
				set.Bytes += e.Size
			}
			seen[e.SHA256] = true
		}
		r.Sets = append(r.Sets, set)
	}
	return r, nil
}
