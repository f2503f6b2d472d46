package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/gofrs/flock"

	"github.com/nodebake/bake/bake/manifest"
)

// Writer changes a mirror. Add and Has may be called from several goroutines,
// its other methods from one, while nobody adds.
type Writer struct {
	dir       string
	root      *os.Root
	blobs     *os.Root // of blobsDir: to look a blob up in one step
	lock      *flock.Flock
	committed *Index // nil: the mirror has none yet
	temps     atomic.Int64
}

// BusyError says that another process writes the mirror.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("writing the mirror %s: another `bake mirror` is at it; wait until it has ended", e.Dir)
}

// NoLocksError says that the filesystem of a mirror has no locks.
type NoLocksError struct {
	Dir string
	Err error // from the system
}

func (e *NoLocksError) Error() string {
	return fmt.Sprintf("writing the mirror %s: its filesystem has no locks (NFS without a lock service?); make the mirror on a local disk and copy it there: %v", e.Dir, e.Err)
}

func (e *NoLocksError) Unwrap() error { return e.Err }

// FullError says that the filesystem of a mirror has no room. The mirror is
// as it was before, and keeps the files that were complete.
type FullError struct {
	Dir string
	Err error // from the system
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the filesystem of the mirror %s is full; make room, and run again: it goes on where it stopped (what no set needs any more goes by: %s): %v", e.Dir, manifest.Command("bake", "mirror", "prune", e.Dir), e.Err)
}

func (e *FullError) Unwrap() error { return e.Err }

// Create opens the mirror in dir, an absolute path, for writing, and makes one
// where there is none. There is one writer at a time: the error is a BusyError
// where there is another. What an interrupted writer left is removed, but for
// complete blobs.
func Create(dir string) (_ *Writer, err error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("BUG: path %q of a mirror is not absolute", dir)
	}
	w := &Writer{dir: dir}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, w.creating(err)
	}
	if w.root, err = os.OpenRoot(dir); err != nil {
		return nil, w.creating(err)
	}
	if err := w.refuseOthers(); err != nil {
		return nil, w.creating(err)
	}
	if err := w.takeLock(); err != nil {
		return nil, err
	}
	if err := w.load(); err != nil {
		return nil, w.creating(err)
	}
	if err := w.sweep(func(string, int64) {}); err != nil {
		return nil, w.creating(err)
	}
	if err := w.root.MkdirAll(blobsDir, 0o755); err != nil {
		return nil, w.creating(explainRoot(err))
	}
	for _, d := range []struct {
		name string
		bits fs.FileMode
	}{{".", 0o755}, {"blobs", 0o755}, {blobsDir, 0o755}, {lockFile, 0o644}} {
		if err := w.permit(d.name, d.bits); err != nil {
			return nil, w.creating(explainRoot(err))
		}
	}
	if w.blobs, err = w.root.OpenRoot(blobsDir); err != nil {
		return nil, w.creating(explainRoot(err))
	}
	return w, nil
}

// permit adds permissions whatever the umask was, since servers run as other
// users. It takes none away that somebody gave. A filesystem without permissions
// (FAT, CIFS) refuses: there the mount says who may read.
func (w *Writer) permit(name string, bits fs.FileMode) error {
	info, err := w.root.Stat(name)
	if err != nil || info.Mode().Perm()&bits == bits {
		return err
	}
	_ = w.root.Chmod(name, info.Mode()|bits)
	return nil
}

func (w *Writer) creating(err error) error {
	return fmt.Errorf("writing the mirror %s: %w", w.dir, w.full(err))
}

// full turns an error for want of space into a FullError and leaves others.
func (w *Writer) full(err error) error {
	if err == nil || !noSpace(err) {
		return err
	}
	return &FullError{Dir: w.dir, Err: err}
}

// refuseOthers keeps us from filling a directory that is something else.
func (w *Writer) refuseOthers() error {
	names, err := fs.ReadDir(w.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range names {
		if entry.Name() == indexFile {
			return nil
		}
	}
	for _, entry := range names {
		if !ours(entry.Name()) {
			return fmt.Errorf("it is no mirror, and has %s in it; give an empty directory, a new one, or a mirror", entry.Name())
		}
	}
	return nil
}

// ours reports whether a mirror has such a name at its top.
func ours(name string) bool {
	switch name {
	case indexFile, pageFile, ociLayoutFile, ociIndexFile, "blobs", lockFile, "lost+found":
		return true
	}
	return strings.HasPrefix(name, tmpPrefix)
}

func (w *Writer) takeLock() error {
	// Not through a link, which os.Root would refuse and flock would follow.
	if info, err := w.root.Lstat(lockFile); err == nil && !info.Mode().IsRegular() {
		return w.creating(fmt.Errorf("%s is no regular file; remove it", lockFile))
	}
	w.lock = flock.New(filepath.Join(w.dir, lockFile), flock.SetPermissions(0o644))
	ok, err := w.lock.TryLock()
	if noLocks(err) {
		return &NoLocksError{w.dir, err}
	}
	if err != nil {
		return w.creating(err)
	}
	if !ok {
		return &BusyError{w.dir}
	}
	return nil
}

// load reads the index that is there.
func (w *Writer) load() error {
	b, err := readLimited(w.root, indexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w.committed, err = ParseIndex(b)
	if err != nil {
		return fmt.Errorf("reading %s: %w; or remove it to begin a new index: the files that are there are used again", indexFile, err)
	}
	return nil
}

// Close ends the writing. What was not committed is not in the index, but its
// blobs stay for the next writer.
func (w *Writer) Close() error {
	var err error
	if w.lock != nil {
		// The file stays: see the store's locks.
		err = w.lock.Unlock()
	}
	for _, root := range []*os.Root{w.blobs, w.root} {
		if root != nil {
			err = errors.Join(err, root.Close())
		}
	}
	return err
}

// Index returns a copy of what is in the mirror already: an empty index where
// it is new.
func (w *Writer) Index() *Index {
	if w.committed == nil {
		return &Index{Schema: Schema}
	}
	return w.committed.clone()
}

func blobPath(sum manifest.Digest) string { return blobsDir + "/" + sum.Hex() }

// Has reports whether the mirror has a blob. Its bytes were right when they
// were written; it looks at the size only, and [Check] at the bytes.
func (w *Writer) Has(sum manifest.Digest, size int64) bool {
	if checkSum(sum, "sha256") != nil {
		return false
	}
	info, err := w.blobs.Lstat(sum.Hex())
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// Add writes the blob that has sum, a SHA-256, and size bytes. The error is a
// *manifest.DigestError where r has other bytes. Nothing is left where it fails.
// A blob that is there already is replaced, whatever it is.
func (w *Writer) Add(ctx context.Context, sum manifest.Digest, size int64, r io.Reader) error {
	if err := checkSum(sum, "sha256"); err != nil {
		return fmt.Errorf("adding to the mirror: %w", err)
	}
	err := w.place(ctx, blobPath(sum), func(f io.Writer) error {
		h := sha256.New()
		// One byte more than there may be shows a file that is longer.
		n, err := io.Copy(io.MultiWriter(f, h), &interruptible{func() error { return stopped(ctx) }, io.LimitReader(r, size+1)})
		switch {
		case err != nil:
			return err
		case n > size:
			return fmt.Errorf("it has more than %d bytes", size)
		case n < size:
			return fmt.Errorf("it ends after %d of %d bytes", n, size)
		}
		return sum.Check(h)
	})
	if err != nil {
		return fmt.Errorf("adding %s to the mirror: %w", sum, err)
	}
	return nil
}

// interruptible is a reader that stops when there is a reason to.
type interruptible struct {
	done func() error
	r    io.Reader
}

func (r *interruptible) Read(b []byte) (int, error) {
	if err := r.done(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// stopped returns why ctx is done, if it is.
func stopped(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// place makes the file called name with what write gives, synced and complete
// or not at all.
func (w *Writer) place(ctx context.Context, name string, write func(io.Writer) error) (err error) {
	tmp := fmt.Sprintf("%s%d", tmpPrefix, w.temps.Add(1))
	f, err := w.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return w.full(explainRoot(err))
	}
	defer func() {
		if err != nil {
			_ = f.Close() // also of what was closed: Windows removes no open file
			_ = w.root.Remove(tmp)
			err = w.full(explainRoot(err))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	_ = f.Chmod(0o644) // as in permit
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := stopped(ctx); err != nil {
		return err
	}
	return w.root.Rename(tmp, name)
}

// Commit makes x the index of the mirror: the page for people and the files of
// the OCI layout first, mirror.json last, each by rename. It fails, and leaves
// the mirror as it is, unless every blob that x names is there. Files that
// would not change are not written.
func (w *Writer) Commit(ctx context.Context, x *Index, images []OCIImage) error {
	y := x.clone()
	y.sort()
	if err := y.check(); err != nil {
		return fmt.Errorf("BUG: index of the mirror %s: %w", w.dir, err)
	}
	if err := w.complete(y); err != nil {
		return err
	}
	oci, err := encodeOCI(y, images)
	if err != nil {
		return fmt.Errorf("BUG: images of the mirror %s: %w", w.dir, err)
	}
	page, err := encodePage(y)
	if err != nil {
		return fmt.Errorf("writing %s of the mirror: %w", pageFile, err)
	}
	if err := w.syncDir(blobsDir); err != nil {
		return w.creating(err)
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{{pageFile, page}, {ociLayoutFile, []byte(ociLayout)}, {ociIndexFile, oci}, {indexFile, y.encode()}} {
		if err := w.replace(ctx, file.name, file.content); err != nil {
			return fmt.Errorf("writing %s of the mirror %s: %w", file.name, w.dir, err)
		}
	}
	w.committed = y
	return nil
}

// complete fails unless every blob is there.
func (w *Writer) complete(x *Index) error {
	var missing []string
	for _, e := range x.Entries {
		if !w.Has(e.SHA256, e.Size) {
			missing = append(missing, fmt.Sprintf("%s (%s)", e.Name, e.SHA256))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	const most = 10
	count := len(missing)
	if count > most {
		missing = append(missing[:most], fmt.Sprintf("and %d more", count-most))
	}
	return fmt.Errorf("writing the mirror %s: %d files are not there; make it again:\n  %s", w.dir, count, strings.Join(missing, "\n  "))
}

func (w *Writer) replace(ctx context.Context, name string, content []byte) error {
	if before, err := readLimited(w.root, name); err == nil && bytes.Equal(before, content) {
		return nil
	}
	err := w.place(ctx, name, func(f io.Writer) error {
		_, err := f.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return w.syncDir(".")
}

// syncDir makes renames in a directory last through a power failure.
func (w *Writer) syncDir(name string) error {
	d, err := w.root.Open(name)
	if err != nil {
		return explainRoot(err)
	}
	defer d.Close()
	return syncDirectory(d)
}
