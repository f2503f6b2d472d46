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
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// maxInputs bounds what ReadInputs reads. A set has about 1 MiB.
const maxInputs = 64 << 20 // bytes

// Extracted is a file that Write has put somewhere. It encodes as JSON.
type Extracted struct {
	Set     string          `json:"set"`
	Path    string          `json:"path"` // below the directory: "manifests/versions.yaml"
	SHA256  manifest.Digest `json:"sha256"`
	Size    int64           `json:"size"`    // bytes
	Written bool            `json:"written"` // it was not there before
}

// DiffersError says that a directory has something else where a file of a
// mirror was to go.
type DiffersError struct {
	Path string // of it
	What string // it is
}

func (e *DiffersError) Error() string {
	return fmt.Sprintf("%s %s; remove it, or give another directory by --output", e.Path, e.What)
}

// Inputs are the files that people made the sets of a mirror from: versions
// files, locks, image definitions, and the go.mod and go.sum of modules. They are
// in memory, and have the digests that the index gives them.
type Inputs struct{ files []input }

// Write puts every file below to, an absolute path, in a directory with its
// set's name, and returns them by path. The directory is made where it is
// missing; what is there with the same bytes stays. Where something else has the
// place of a file, other bytes, a link, or a link on the way, nothing is written,
// and the error has a *DiffersError for each. No link below to is followed.
func (x *Inputs) Write(ctx context.Context, to string) ([]Extracted, error) {
	if err := os.MkdirAll(to, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	out := []Extracted{}
	var errs []error
	for _, in := range x.files {
		there, err := compareInput(root, in)
		errs = append(errs, err)
		out = append(out, Extracted{Set: in.Sets[0], Path: in.Path, SHA256: in.SHA256, Size: in.Size, Written: !there})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i, in := range x.files {
		if err := stopped(ctx); err != nil {
			return nil, err
		}
		if !out[i].Written {
			continue
		}
		if err := writeInput(root, in); err != nil {
			return nil, fmt.Errorf("writing %s: %w", below(root, in.Path), err)
		}
	}
	return out, nil
}

// below is the path of a file below root for people.
func below(root *os.Root, name string) string {
	return filepath.Join(root.Name(), filepath.FromSlash(name))
}

// input is a file to extract.
type input struct {
	Entry
	content []byte
}

// ReadInputs reads those of the mirror in dir, an absolute path.
func ReadInputs(ctx context.Context, dir string) (*Inputs, error) {
	x, err := readInputs(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("reading the mirror %s: %w", dir, err)
	}
	return x, nil
}

func readInputs(ctx context.Context, dir string) (*Inputs, error) {
	content, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(content)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", indexFile, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var inputs []input
	left := int64(maxInputs)
	for _, e := range x.Entries {
		if !IsInput(&e) {
			continue
		}
		if err := stopped(ctx); err != nil {
			return nil, err
		}
		if left -= e.Size; left < 0 {
			return nil, fmt.Errorf("its versions files, locks and image definitions have more than %d bytes", maxInputs)
		}
		content, err := readBlob(root, &e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; `bake mirror check` says what else is wrong", e.Name, err)
		}
		inputs = append(inputs, input{e, content})
	}
	slices.SortFunc(inputs, func(a, b input) int { return strings.Compare(a.Path, b.Path) })
	return &Inputs{inputs}, nil
}

// readBlob reads the small file that e is.
func readBlob(root *os.Root, e *Entry) ([]byte, error) {
	f, err := openRegular(root, blobPath(e.SHA256))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, e.Size+1))
	if err != nil {
		return nil, err
	}
	if got := manifest.SHA256(sha256.Sum256(content)); got != e.SHA256 {
		return nil, fmt.Errorf("%s is altered or cut off", blobPath(e.SHA256))
	}
	return content, nil
}

// compareInput reports whether in is at its place below root. It is a
// *DiffersError that something else is there, or on the way.
func compareInput(root *os.Root, in input) (there bool, err error) {
	differs := func(p, what string) (bool, error) {
		return false, &DiffersError{Path: below(root, p), What: what}
	}
	for i, c := range in.Path {
		if c != '/' {
			continue
		}
		info, err := root.Lstat(in.Path[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		case info.Mode()&fs.ModeSymlink != 0:
			return differs(in.Path[:i], "is a symbolic link, which is not followed")
		case !info.IsDir():
			return differs(in.Path[:i], "is no directory")
		}
	}
	info, err := root.Lstat(in.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode()&fs.ModeSymlink != 0:
		return differs(in.Path, "is a symbolic link, which is not followed")
	case !info.Mode().IsRegular():
		return differs(in.Path, "is no file")
	case info.Size() != in.Size:
		return differs(in.Path, "has other bytes than the mirror's")
	}
	content, err := root.ReadFile(in.Path)
	switch {
	case err != nil:
		return false, err
	case !bytes.Equal(content, in.content):
		return differs(in.Path, "has other bytes than the mirror's")
	}
	return true, nil
}

// writeInput makes the file complete or not at all. Other users may read it as
// the umask says.
func writeInput(root *os.Root, in input) (err error) {
	dir := path.Dir(in.Path)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	tmp := path.Join(dir, tmpPrefix+in.SHA256.Hex()[:16])
	_ = root.Remove(tmp) // of a run that was killed
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(tmp)
		}
	}()
	_, err = f.Write(in.content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(tmp, in.Path)
}
