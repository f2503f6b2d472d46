package mirrorsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/mirror"
)

// mirrorParallel is how many files are fetched and copied at once: as many as
// a fetch.Fetcher downloads.
const mirrorParallel = 8

// bring fetches what the mirror lacks. First everything is asked for, so that
// what is unavailable is named, all at once, before anything slow begins.
func (m *mirroring) bring(ctx context.Context) error {
	var changed []*request
	for _, s := range m.sets {
		m.index.Sets = append(m.index.Sets, s.Set)
		if m.unchanged(s) {
			for _, e := range m.old.Entries {
				if slices.Contains(e.Sets, s.Set.Name) {
					m.add(s.Set.Name, e)
				}
			}
			continue
		}
		for _, a := range s.archs {
			changed = append(changed, &request{set: s, arch: a})
		}
	}
	progress.Phase(m.config.Progress, "plan")
	var errs []error
	for _, w := range changed {
		err := m.plan(ctx, w)
		if ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.noteMissing()
	progress.Phase(m.config.Progress, "mirror")
	var copies []mirrorCopy
	for _, w := range changed {
		for _, in := range w.set.inputs {
			copies = append(copies, mirrorCopy{set: w.set.Set.Name, entry: in.Entry, open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(string(in.content))), nil
			}})
		}
		more, err := m.list(ctx, w)
		if err != nil {
			return err
		}
		copies = append(copies, more...)
	}
	if err := m.copyAll(ctx, copies); err != nil {
		return err
	}
	return m.bringSources(ctx, changed)
}

// request is what one set takes for one architecture.
type request struct {
	set    *mirrorSet
	arch   *mirrorArch
	source *source.Source
	needs  []source.Need // without those that are unavailable
	images []source.NeededImage
}

// plan finds out what w takes and whether it is available.
func (m *mirroring) plan(ctx context.Context, w *request) error {
	var err error
	if w.source, err = m.access.Source(ctx, w.arch.inputs.Versions, w.arch.inputs.LockCommand(), w.arch.inputs.Arch, source.Choice{}); err != nil {
		return err
	}
	w.source.Indices = append(w.source.Indices, m.old)
	releases, packages, err := w.source.Needs(w.arch.required, m.config.Sources)
	if err != nil {
		return err
	}
	lacks := func(needs []source.Need) (out []source.Need) {
		for _, n := range needs {
			if _, ok := m.have(n); !ok {
				out = append(out, n)
			}
		}
		return out
	}
	reasons, err := w.source.Unreachable(ctx, lacks(releases), lacks(packages))
	if ctx.Err() != nil {
		return err
	}
	errs := []error{err}
	w.needs = packages
	for _, n := range releases {
		reason := reasons[n.Path]
		if reason == nil {
			w.needs = append(w.needs, n)
			continue
		}
		errs = append(errs, m.without(w, "component "+n.Request.Name, n.Entry.Name, n.Else, reason))
	}
	for _, image := range w.arch.required.Images {
		if image.Packages != nil {
			continue // no registry has it
		}
		needed, err := w.source.NeedImage(ctx, image)
		if ctx.Err() != nil {
			return err
		}
		unreachable := (*fetch.UnreachableError)(nil)
		switch {
		case err == nil:
			w.images = append(w.images, needed)
		case errors.As(err, &unreachable):
			errs = append(errs, m.without(w, "", image.Reference+" "+string(w.arch.inputs.Arch), needed.Else, err))
		default:
			errs = append(errs, err)
		}
	}
	return source.JoinParts(errs...)
}

// without notes that something is unavailable and that its source does in its
// place, or says what keeps it from that.
func (m *mirroring) without(w *request, what, name, instead string, reason error) error {
	if what != "" {
		reason = fmt.Errorf("%s: %w", what, reason)
	}
	unavailable := func(why string, err error) error {
		return &source.PartError{Image: what == "", Name: name, Why: why, Err: err}
	}
	input := (*manifest.InputError)(nil)
	switch {
	case errors.As(reason, &input):
		return input
	case !fetch.Gone(reason):
		return unavailable("this does not say that they are gone, so nothing is taken in their place",
			fmt.Errorf("%w; this does not say that it is gone, so nothing is taken in its place", reason))
	case instead == "":
		return unavailable("nothing does in their place", fmt.Errorf("%w; nothing does in its place", reason))
	case !m.config.Sources:
		return unavailable("with --sources their modules do in their place, and bake image --build-missing makes them from those",
			fmt.Errorf("%w; with --sources %s does in its place, and bake image --build-missing makes it from that", reason, instead))
	}
	progress.Explain(m.config.Progress, "%v; the mirror has %s in its place", reason, instead)
	m.missing = append(m.missing, Missing{
		Set: w.set.Set.Name, Name: name, Reason: reason.Error(), Else: instead,
		Causes: source.Causes(reason), Image: what == "",
	})
	return nil
}

// noteMissing says in one line what the mirror has in place of what.
func (m *mirroring) noteMissing() {
	if len(m.missing) == 0 {
		return
	}
	var causes []fetch.Cause
	var names []string
	images := 0
	for _, missing := range m.missing {
		causes, names = append(causes, missing.Causes...), append(names, missing.Name)
		if missing.Image {
			images++
		}
	}
	m.config.Progress.Note("%s", source.SayUnavailable(len(names)-images, images, causes, "the mirror has in their place what they are built from", names))
}

// have returns the entry of the mirror that n is, if its file is there.
func (m *mirroring) have(n source.Need) (mirror.Entry, bool) {
	for _, e := range m.old.Find(n.Kind, n.Path) {
		same := n.Sum() == "" || n.Sum() == e.SHA256
		if want := n.Entry.SHA512; want != "" && want != e.SHA512 {
			same = false
		}
		if same && m.writer.Has(e.SHA256, e.Size) {
			return e, true
		}
	}
	return mirror.Entry{}, false
}

// mirrorCopy is a file on its way into the mirror. Digest and size of entry are
// empty where only opening the file tells them: then it is one of the store's.
type mirrorCopy struct {
	set   string
	entry mirror.Entry
	open  func(context.Context) (io.ReadCloser, error)
}

// list returns what is to be copied for w.
func (m *mirroring) list(ctx context.Context, w *request) ([]mirrorCopy, error) {
	name := w.set.Set.Name
	var copies []mirrorCopy
	var requests []fetch.Request
	for _, n := range w.needs {
		if e, ok := m.have(n); ok {
			m.add(name, e)
			continue
		}
		requests = append(requests, n.Asked())
		copies = append(copies, mirrorCopy{name, n.Entry, func(ctx context.Context) (io.ReadCloser, error) {
			return w.source.Open(ctx, n)
		}})
	}
	missing, err := m.access.Fetcher.Missing(ctx, requests)
	if err != nil {
		return nil, err
	}
	for _, req := range missing {
		if sum := slices.Min(req.Sums); !m.announced[sum] { // else another set or architecture has it too
			m.announced[sum] = true
			progress.Expect(m.config.Progress, 1)
		}
	}
	indices, err := m.indices(ctx, w)
	if err != nil {
		return nil, err
	}
	copies = append(copies, indices...)
	for _, needed := range w.images {
		blobs, err := m.image(ctx, w, needed)
		if err != nil {
			return nil, err
		}
		copies = append(copies, blobs...)
	}
	return copies, nil
}

// indices finds the signed indices that w's lock was made from.
func (m *mirroring) indices(ctx context.Context, w *request) ([]mirrorCopy, error) {
	config, err := lock.DebianConfig(w.arch.inputs, m.access, w.arch.inputs.Arch, m.config.Keyring, m.config.Now)
	if err != nil {
		return nil, err
	}
	found, err := debian.Indices(ctx, config, m.access.Fetcher, w.arch.locked)
	if err != nil {
		return nil, err
	}
	var copies []mirrorCopy
	for _, x := range found {
		e := mirror.Entry{Kind: mirror.Archive, Name: x.Suite + " " + path.Base(x.Path), Path: x.Path, SHA256: x.SHA256, Size: x.Size}
		if path.Base(x.Path) != "InRelease" {
			e.Name += " " + string(w.arch.inputs.Arch)
		}
		if x.Newer {
			e.Name += x.Date.Format(", newer than the lock: of 2006-01-02")
		}
		if len(x.Gone) > 0 {
			var names []string
			for _, p := range x.Gone {
				name, _, _ := strings.Cut(p, " ")
				names = append(names, name)
			}
			m.config.Progress.Note("the index of %s that mirrors have is newer than %s and does not list %d of its packages: %s (newer ones, run: %s)",
				x.Suite, w.arch.inputs.Lock, len(x.Gone), strings.Join(x.Gone, ", "),
				manifest.LockCommand(w.arch.inputs.Versions, w.arch.inputs.Lock, "--upgrade", strings.Join(slices.Compact(names), ",")))
		}
		request := fetch.Request{Name: e.Name, URLs: x.URLs, Sums: []manifest.Digest{x.SHA256}, Size: x.Size}
		copies = append(copies, mirrorCopy{w.set.Set.Name, e, func(ctx context.Context) (io.ReadCloser, error) {
			return m.access.Fetcher.Open(ctx, request)
		}})
	}
	return copies, nil
}

// image brings the blobs of a container image.
func (m *mirroring) image(ctx context.Context, w *request, needed source.NeededImage) ([]mirrorCopy, error) {
	pulled, err := w.source.PullImage(ctx, needed)
	if err != nil {
		return nil, err
	}
	m.images = append(m.images, mirror.OCIImage{
		Reference: needed.Reference, MediaType: pulled.Target.MediaType,
		Digest: pulled.Target.Digest, Size: pulled.Target.Size, Arch: w.arch.inputs.Arch,
	})
	var copies []mirrorCopy
	for _, b := range pulled.Blobs {
		what := needed.Name + " " + needed.Tag() + " " + string(w.arch.inputs.Arch)
		switch b.Digest {
		case pulled.Manifest.Digest:
			what += ": manifest"
		case pulled.Config.Digest:
			what += ": configuration"
		case pulled.Target.Digest:
			what = needed.Name + " " + needed.Tag() + ": index"
		default:
			layer := slices.IndexFunc(pulled.Layers, func(d source.ImageDescriptor) bool { return d.Digest == b.Digest })
			what += fmt.Sprintf(": layer %d of %d", layer+1, len(pulled.Layers))
		}
		e := mirror.Entry{Kind: mirror.Image, Name: what, Path: needed.Reference, SHA256: b.Digest, Size: b.Size}
		copies = append(copies, mirrorCopy{w.set.Set.Name, e, func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(b.Content.Content()), nil
		}})
	}
	return copies, nil
}

// copyAll copies what the mirror does not have. Files that are unavailable do not
// stop the others: all that is copied now need not be the next time.
func (m *mirroring) copyAll(ctx context.Context, copies []mirrorCopy) error {
	progress.Expect(m.config.Progress, len(copies))
	// The largest first, so that none of them is what is left at the end.
	slices.SortStableFunc(copies, func(a, b mirrorCopy) int { return cmp.Compare(b.entry.Size, a.entry.Size) })
	var mu sync.Mutex
	var failed []error
	done := map[manifest.Digest]*sync.Mutex{} // one at a time copies what several sets share
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mirrorParallel)
	for _, c := range copies {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			mu.Lock()
			turn := done[c.entry.SHA256]
			if turn == nil || c.entry.SHA256 == "" {
				turn = &sync.Mutex{}
				done[c.entry.SHA256] = turn
			}
			mu.Unlock()
			turn.Lock()
			defer turn.Unlock()
			e, added, err := m.copy(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				m.add(c.set, e)
				if added {
					m.added.Files++
					m.added.Bytes += e.Size
				}
				return nil
			case onlyThisFile(err):
				failed = append(failed, err)
				return nil
			}
			return err
		})
	}
	err := group.Wait()
	return errors.Join(append(failed, err)...)
}

// onlyThisFile reports whether err says nothing about other files.
func onlyThisFile(err error) bool {
	digest, unreachable := (*fetch.DigestError)(nil), (*fetch.UnreachableError)(nil)
	return errors.As(err, &digest) || errors.As(err, &unreachable)
}

// copy brings one file into the mirror, unless it is there. It returns what it
// is, and whether it was not there.
func (m *mirroring) copy(ctx context.Context, c mirrorCopy) (e mirror.Entry, added bool, err error) {
	e = c.entry
	task := m.config.Progress.Start("mirror", e.Name, e.Size)
	defer func() {
		switch {
		case err != nil:
			task.End("failed")
		case added:
			task.End("done")
		default:
			task.End("there")
		}
	}()
	if e.SHA256 != "" && e.Size > 0 && m.writer.Has(e.SHA256, e.Size) {
		return e, false, nil
	}
	r, err := c.open(ctx)
	if err != nil {
		return e, false, err
	}
	defer r.Close()
	if f, ok := r.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return e, false, err
		}
		e.Size = info.Size()
		if e.SHA256 == "" { // the store names files by it
			if e.SHA256, err = manifest.ParseDigest("sha256:" + filepath.Base(f.Name())); err != nil {
				return e, false, fmt.Errorf("BUG: %s is no file of the store: %w", f.Name(), err)
			}
		}
	}
	if m.writer.Has(e.SHA256, e.Size) {
		return e, false, nil
	}
	err = m.writer.Add(ctx, e.SHA256, e.Size, readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		task.Add(int64(n))
		return n, err
	}))
	if err != nil {
		return e, false, fmt.Errorf("%s: %w", e.Name, err)
	}
	return e, true, nil
}

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
