package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// Mirror is a mirror that files are fetched from. Its methods may be called
// from several goroutines.
type Mirror struct {
	base  *url.URL // ends in a slash
	name  string   // for people, without a password
	index *Index
	blobs map[manifest.Digest]manifest.Digest // SHA-256 and SHA-512 to the SHA-256 that names the blob
	other map[manifest.Digest]manifest.Digest // SHA-256 to SHA-512, where it is known
}

// Open reads the index of the mirror at location, an absolute path of a
// directory or an http or https URL. get is asked for the index of the latter,
// at most limit bytes of it.
func Open(ctx context.Context, location string, get func(ctx context.Context, url string, limit int64) ([]byte, error)) (*Mirror, error) {
	m := &Mirror{}
	var content []byte
	var err error
	if isURL(location) {
		if m.base, err = parseBase(location); err != nil {
			return nil, err
		}
		m.name = m.base.Redacted()
		content, err = get(ctx, m.base.JoinPath(indexFile).String(), maxIndex)
		if err != nil {
			return nil, fmt.Errorf("opening the mirror %s, which must serve the directory that `bake mirror` made: %w", m.name, err)
		}
	} else {
		m.name, m.base = location, fileURL(filepath.Clean(location))
		content, err = readIndex(location)
		if err != nil {
			return nil, fmt.Errorf("opening the mirror %s: %w", m.name, err)
		}
	}
	if m.index, err = ParseIndex(content); err != nil {
		return nil, fmt.Errorf("opening the mirror %s: reading %s: %w", m.name, indexFile, err)
	}
	m.blobs, m.other = map[manifest.Digest]manifest.Digest{}, map[manifest.Digest]manifest.Digest{}
	for _, e := range m.index.Entries {
		m.blobs[e.SHA256] = e.SHA256
		if e.SHA512 != "" {
			m.blobs[e.SHA512], m.other[e.SHA256] = e.SHA256, e.SHA512
		}
	}
	return m, nil
}

func isURL(location string) bool { return strings.Contains(location, "://") }

func parseBase(location string) (*url.URL, error) {
	u, err := url.Parse(location)
	if err != nil {
		// The error of package url quotes all of it, a password included.
		return nil, errors.New("opening the mirror: its location is no valid URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("opening the mirror %s: want a directory, or an http or https URL", u.Redacted())
	case u.Host == "":
		return nil, fmt.Errorf("opening the mirror %s: it names no host", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("opening the mirror %s://%s%s: a query or fragment can't be part of its URL", u.Scheme, u.Host, u.EscapedPath())
	}
	return u.JoinPath("/"), nil
}

// fileURL returns the URL of an absolute directory (RFC 8089), with a slash at
// its end.
func fileURL(dir string) *url.URL {
	path := filepath.ToSlash(dir)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // of Windows: C:/mirror
	}
	return &url.URL{Scheme: "file", Path: strings.TrimSuffix(path, "/") + "/"}
}

// readIndex reads mirror.json of a directory.
func readIndex(dir string) ([]byte, error) {
	if !filepath.IsAbs(dir) {
		return nil, errors.New("BUG: its path is not absolute")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readIndexIn(root)
}

func readIndexIn(root *os.Root) ([]byte, error) {
	content, err := readLimited(root, indexFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	if _, err := root.Stat(blobsDir); err == nil {
		return nil, fmt.Errorf("it has no %s: the `bake mirror` that made it did not end; run it again, it goes on where it stopped: %w", indexFile, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("it is no mirror: it has no %s; make one with `bake mirror --versions FILE... --output DIR`: %w", indexFile, fs.ErrNotExist)
}

// readLimited reads one of the small files of a mirror.
func readLimited(root *os.Root, name string) ([]byte, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(b) > maxIndex {
		return nil, fmt.Errorf("reading %s: it has more than %d bytes", name, maxIndex)
	}
	return b, nil
}

// errForeign says that something in a mirror's place for files is none.
var errForeign = errors.New("no mirror has that")

// openRegular opens a regular file of a mirror. It does not wait for a FIFO,
// and follows no link, not even within the mirror: `bake mirror` makes none,
// and web servers differ in what they do with one.
func openRegular(root *os.Root, name string) (*os.File, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, explainRoot(err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("opening %s: it is a symbolic link: %w", name, errForeign)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("opening %s: it is no regular file (%v): %w", name, info.Mode(), errForeign)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, explainRoot(err)
	}
	return f, nil
}

// explainRoot says what os.Root's refusal to leave the directory means here:
// it has no error value of its own.
func explainRoot(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok && p.Err.Error() == "path escapes from parent" {
		return fmt.Errorf("opening %s: a symbolic link on its way leads out of the mirror: %w", p.Path, errForeign)
	}
	return err
}

// URL returns where the file that has all of sums is. It is false where the
// index has no such file.
func (m *Mirror) URL(sums []manifest.Digest) (string, bool) {
	var blob manifest.Digest
	for _, sum := range sums {
		found, ok := m.blobs[sum]
		if !ok && sum.Algorithm() == "sha512" && len(sums) > 1 {
			continue // not known to the index; the SHA-256 decides
		}
		if !ok || blob != "" && found != blob {
			return "", false
		}
		blob = found
	}
	if blob == "" {
		return "", false
	}
	for _, sum := range sums {
		if other, known := m.other[blob]; known && sum.Algorithm() == "sha512" && sum != other {
			return "", false
		}
	}
	return m.base.JoinPath(blobsDir, blob.Hex()).String(), true
}

// Base returns the URL of the mirror itself, which ends in a slash and may
// carry a password: a file URL for a directory.
func (m *Mirror) Base() string { return m.base.String() }

// Index returns what the mirror holds. It must not be changed.
func (m *Mirror) Index() *Index { return m.index }

// String names the mirror for people: its directory, or its URL without the
// password.
func (m *Mirror) String() string { return m.name }
