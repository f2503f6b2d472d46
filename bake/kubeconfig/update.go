package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/manifest"
)

// Waiting says how long a file that another program has locked is waited for.
type Waiting struct {
	Time  time.Duration    // default: 5 s
	Every time.Duration    // default: 50 ms
	Note  func(string)     // is called once, with what is waited for
	Now   func() time.Time // is asked how old a lock is
}

// Update locks the files as kubectl does, reads them, and writes what decide
// returns: all that changes, or nothing. Files that are not there have no content.
func Update(ctx context.Context, paths Paths, waiting Waiting, decide func([]File) (*Result, error)) (*Result, error) {
	made, err := makeDir(filepath.Dir(paths.Target))
	if err != nil {
		return nil, fmt.Errorf("making a directory for %s: %w", paths.Target, err)
	}
	result, err := update(ctx, paths, waiting, decide)
	if err != nil || len(result.Files) == 0 {
		for _, dir := range slices.Backward(made) {
			os.Remove(dir)
		}
	}
	return result, err
}

// makeDir makes a directory and those above it, as kubectl does, and returns what
// it made.
func makeDir(dir string) ([]string, error) {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil // what is wrong shows when the file is read
	}
	made, err := makeDir(filepath.Dir(dir))
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	return append(made, dir), err
}

func update(ctx context.Context, paths Paths, waiting Waiting, decide func([]File) (*Result, error)) (*Result, error) {
	locks := locks{waiting: waiting, unlocked: map[string]error{}}
	defer locks.release()
	for _, path := range slices.Sorted(slices.Values(paths.Files)) { // kubectl's order, so that nobody waits for ever
		if err := locks.take(ctx, path); err != nil {
			return nil, err
		}
	}
	files, err := readFiles(paths.Files)
	if err != nil {
		return nil, err
	}
	result, err := decide(files)
	if err != nil {
		return nil, err
	}
	for _, f := range result.Files {
		if err := errors.Join(checkWritable(f.Path), locks.unlocked[f.Path]); err != nil {
			return nil, &manifest.ArgumentError{Err: err}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return result, writeFiles(result.Files)
}

func readFiles(paths []string) ([]File, error) {
	var files []File
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading a kubeconfig: %w", err)}
		}
		if err == nil && content == nil {
			content = []byte{}
		}
		files = append(files, File{path, content})
	}
	return files, nil
}

// checkWritable refuses what kubectl would fail at, and what a rename would make
// something else of.
func checkWritable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("%s is a symbolic link that leads nowhere (remove it)", path)
		}
		return fmt.Errorf("%s is a symbolic link, and would be replaced by a file (give the file itself: --kubeconfig %s)", path, to)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	case info.Mode().Perm()&0o222 == 0:
		return fmt.Errorf("%s is read-only (chmod u+w %s, or another file by --kubeconfig)", path, path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%s can't be written (another file by --kubeconfig): %w", path, err)
	}
	return f.Close()
}

// Write writes a kubeconfig that its user alone may read, in place of what is there.
func Write(path string, content []byte) error {
	out, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer out.Drop()
	out.SetMode(0o600)
	if _, err := out.Write(content); err != nil {
		return err
	}
	return atomicfile.Commit(out)
}

// writeFiles gives all files their content, with the permissions and the owner
// that they have; new ones are their user's alone.
func writeFiles(files []File) error {
	var all []*atomicfile.File
	defer func() {
		for _, f := range all {
			f.Drop()
		}
	}()
	for _, f := range files {
		out, err := atomicfile.Create(f.Path)
		if err != nil {
			return err
		}
		all = append(all, out)
		out.SetMode(0o600)
		if info, err := os.Stat(f.Path); err == nil {
			out.SetMode(info.Mode().Perm())
			if err := keepOwner(out.File, info); err != nil {
				return fmt.Errorf("writing %s: it is another user's, who would lose it: %w", f.Path, err)
			}
		}
		if _, err := out.Write(f.Content); err != nil {
			return err
		}
		if err := out.Sync(); err != nil {
			return err
		}
	}
	return atomicfile.Commit(all...)
}

// locks are the files beside kubeconfigs that keep others from writing them.
type locks struct {
	waiting  Waiting
	held     []string
	unlocked map[string]error // files that can't be locked: nobody can write them
}

// take locks a file: FILE.lock must not be there. kubectl gives up where it is;
// it has the lock for a moment only, so we wait.
func (l *locks) take(ctx context.Context, path string) error {
	lock := path + ".lock"
	limit, every := l.waiting.Time, l.waiting.Every
	if limit == 0 {
		limit = 5 * time.Second
	}
	if every == 0 {
		every = 50 * time.Millisecond
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for told := false; ; told = true {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0)
		switch {
		case err == nil:
			l.held = append(l.held, lock)
			return f.Close()
		case errors.Is(err, fs.ErrNotExist):
			return nil // its directory is not there, and neither is the file
		case !errors.Is(err, fs.ErrExist):
			l.unlocked[path] = fmt.Errorf("%s can't be locked, as kubectl does before it writes (another file by --kubeconfig): %w", path, err)
			return nil
		}
		if !told && l.waiting.Note != nil {
			l.waiting.Note("waiting for " + lock + ", which another program has made")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return fmt.Errorf("%s is there after %s%s: another program writes the file, or was killed at it (then remove the lock)", lock, limit, l.age(lock))
		case <-time.After(every):
		}
	}
}

// age says since when a lock is there.
func (l *locks) age(lock string) string {
	info, err := os.Lstat(lock)
	if err != nil || l.waiting.Now == nil {
		return ""
	}
	return fmt.Sprintf(", and was made %s ago", l.waiting.Now().Sub(info.ModTime()).Round(time.Second))
}

func (l *locks) release() {
	for _, lock := range slices.Backward(l.held) {
		os.Remove(lock)
	}
}
