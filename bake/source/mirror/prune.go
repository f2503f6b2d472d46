package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// sweep removes what interrupted writers left. The caller holds the lock.
func (w *Writer) sweep(removed func(name string, size int64)) error {
	names, err := fs.ReadDir(w.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range names {
		if !strings.HasPrefix(entry.Name(), tmpPrefix) {
			continue
		}
		info, err := w.root.Lstat(entry.Name())
		if err != nil {
			return err
		}
		if err := w.root.RemoveAll(entry.Name()); err != nil {
			return err
		}
		removed(entry.Name(), info.Size())
	}
	return nil
}

// Prune removes blobs that no entry of the committed index names, and what
// interrupted writers left. It returns how many files and bytes that were. Of a
// mirror without an index it removes no blob, since the next run wants them.
// What never came from a writer is left where it is.
func (w *Writer) Prune() (files int, bytes int64, err error) {
	removed := func(_ string, size int64) { files, bytes = files+1, bytes+size }
	if err := w.sweep(removed); err != nil {
		return files, bytes, fmt.Errorf("pruning the mirror %s: %w", w.dir, err)
	}
	if w.committed == nil {
		return files, bytes, nil
	}
	wanted := map[manifest.Digest]bool{}
	for _, e := range w.committed.Entries {
		wanted[e.SHA256] = true
	}
	names, err := fs.ReadDir(w.root.FS(), blobsDir)
	if err != nil {
		return files, bytes, fmt.Errorf("pruning the mirror %s: %w", w.dir, explainRoot(err))
	}
	var errs []error
	for _, entry := range names {
		sum, err := manifest.ParseDigest("sha256:" + entry.Name())
		if err != nil || wanted[sum] || entry.IsDir() {
			continue
		}
		info, err := w.root.Lstat(blobPath(sum))
		if err == nil {
			err = w.root.Remove(blobPath(sum))
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		removed(entry.Name(), info.Size())
	}
	if err := errors.Join(errs...); err != nil {
		return files, bytes, fmt.Errorf("pruning the mirror %s: %w", w.dir, err)
	}
	return files, bytes, nil
}
