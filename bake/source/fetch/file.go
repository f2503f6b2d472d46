package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// fileTransport answers requests for file URLs (RFC 8089) below a mirror's
// directory, and no others, as a server would that knows no ranges. A link that
// leads out of the directory is refused, wherever on the way it is, as is a
// file that is one itself. Limit: a filesystem that hangs is waited for.
type fileTransport struct {
	base string // URL of the directory; empty: there is none
}

// fileError says why a file of a mirror is unavailable. Trying again does not
// help.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

var (
	errOutside = errors.New("file URLs are followed below a mirror's directory only")
	errLink    = errors.New("it is a symbolic link, or one on its way leads out of the mirror: copy the mirror with the files themselves")
)

// RoundTrip implements http.RoundTripper.
func (t fileTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	dir, name, err := t.split(req.URL)
	if err != nil {
		return nil, &fileError{err}
	}
	f, info, err := openIn(dir, name)
	if err != nil {
		return nil, &fileError{err}
	}
	resp := &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: &fileBody{done: func() error { return context.Cause(req.Context()) }, f: f}, ContentLength: info.Size(), Request: req,
	}
	if req.Method == http.MethodHead {
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, nil
}

// split returns the directory of the mirror and the path of the file below it.
func (t fileTransport) split(u *url.URL) (dir, name string, err error) {
	base, err := url.Parse(t.base)
	if err != nil || base.Scheme != "file" || base.Path == "" {
		return "", "", errOutside
	}
	name, ok := strings.CutPrefix(u.Path, base.Path)
	if !ok || u.Host != "" || !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", "", errOutside
	}
	dir = base.Path
	if drive := strings.TrimPrefix(dir, "/"); filepath.VolumeName(drive) != "" {
		dir = drive // of Windows: /C:/mirror/
	}
	return filepath.FromSlash(dir), filepath.FromSlash(name), nil
}

// openIn opens a regular file below dir.
func openIn(dir, name string) (_ *os.File, _ fs.FileInfo, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, plain(err)
	}
	defer root.Close()
	// Before opening, so that a FIFO is not waited for.
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return nil, nil, plain(err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, nil, errLink
	case info.IsDir():
		return nil, nil, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("it is no regular file (%v)", info.Mode())
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, plain(err)
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, plain(err)
	}
	return f, info, nil
}

// plain returns the reason without the operation and the path before it: our
// callers say which URL it was. os.Root has no error value for what leaves it.
func plain(err error) error {
	p, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err
	}
	if p.Err.Error() == "path escapes from parent" {
		return errLink
	}
	return p.Err
}

// fileBody reads a file until the request is ended.
type fileBody struct {
	done func() error // why to stop, if so
	f    *os.File
}

func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.done(); err != nil {
		return 0, err
	}
	n, err := b.f.Read(p)
	if err != nil && err != io.EOF {
		err = plain(err)
	}
	return n, err
}

func (b *fileBody) Close() error { return b.f.Close() }
