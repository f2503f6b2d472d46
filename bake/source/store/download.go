package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// Download is a file on its way into the store. Its holder is the only one who
// downloads that file, in all processes, until Close. It is not safe for use
// by several goroutines.
type Download struct {
	store   *Store
	sums    []manifest.Digest
	hashes  []hash.Hash // of sums, over the bytes written
	own     hash.Hash   // SHA-256, which names the file; one of hashes or one more
	file    *os.File
	size    int64
	url     string
	valid   string
	release func()
}

// Download begins or resumes the download of the file that has all of sums,
// which people know as name. It waits while another goroutine or process downloads it: ask [Store.Find]
// again afterwards.
func (s *Store) Download(ctx context.Context, name string, sums []manifest.Digest) (_ *Download, err error) {
	sums, err = parseSums(sums)
	if err != nil {
		return nil, err
	}
	file := sums[0].Algorithm() + "-" + sums[0].Hex()
	release, err := s.acquire(ctx, "file-"+file, "fetches "+name)
	if err != nil {
		return nil, err
	}
	d := &Download{store: s, sums: sums, release: release}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	path := filepath.Join(s.dir, partialDir, file)
	d.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, s.full(err, 0)
	}
	d.rehash()
	info, err := d.file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return d, nil
	}
	if err := copyAt(ctx, (*downloadHash)(d), d.file, 0); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	// Without the record, or with half of one, the bytes are still worth
	// trying: the digest decides in the end.
	if from, err := os.ReadFile(path + ".from"); err == nil {
		d.url, d.valid, _ = strings.Cut(strings.TrimSuffix(string(from), "\n"), "\n")
	}
	return d, nil
}

// rehash begins the digests again.
func (d *Download) rehash() {
	d.hashes, d.own, d.size = nil, nil, 0
	for _, sum := range d.sums {
		h := sum.NewHash()
		d.hashes = append(d.hashes, h)
		if sum.Algorithm() == "sha256" {
			d.own = h
		}
	}
	if d.own == nil {
		d.own = sha256.New()
		d.hashes = append(d.hashes, d.own)
	}
}

// downloadHash is the part of a Download that counts and hashes.
type downloadHash Download

func (d *downloadHash) Write(b []byte) (int, error) {
	for _, h := range d.hashes {
		h.Write(b)
	}
	d.size += int64(len(b))
	return len(b), nil
}

// Size returns how many bytes there are, in this run or left by an earlier one.
func (d *Download) Size() int64 { return d.size }

// From returns the URL that the bytes came from and the validator of the
// resource (RFC 9110, section 8.8: a strong ETag or a Last-Modified date),
// as given to Reset. Both are empty where they are not known.
func (d *Download) From() (url, validator string) { return d.url, d.valid }

// Reset drops all bytes and records where the next ones come from.
func (d *Download) Reset(url, validator string) error {
	if err := d.file.Truncate(0); err != nil {
		return fmt.Errorf("starting %s again: %w", d.file.Name(), err)
	}
	d.rehash()
	d.url, d.valid = url, validator
	if url == "" {
		return removeIfThere(d.file.Name() + ".from")
	}
	if err := os.WriteFile(d.file.Name()+".from", []byte(url+"\n"+validator+"\n"), 0o644); err != nil {
		return d.store.full(err, 0)
	}
	return nil
}

// Write appends b. Where the disk is full the error is a FullError and the
// bytes written so far can be resumed from.
func (d *Download) Write(b []byte) (int, error) {
	n, err := d.file.WriteAt(b, d.size)
	_, _ = (*downloadHash)(d).Write(b[:n])
	return n, d.store.full(err, d.size+int64(len(b)))
}

// Commit verifies the bytes, gives them their name and returns it. The wrong
// bytes are dropped and reported as a manifest.DigestError.
func (d *Download) Commit() (string, error) {
	for i, sum := range d.sums {
		if err := sum.Check(d.hashes[i]); err != nil {
			return "", errors.Join(err, d.Reset("", ""))
		}
	}
	if err := d.file.Sync(); err != nil {
		return "", d.store.full(err, d.size)
	}
	own := manifest.SHA256([sha256.Size]byte(d.own.Sum(nil)))
	path := d.store.filePath(own)
	// Closed before the rename because Windows does not rename open files.
	partial := d.file.Name()
	if err := d.file.Close(); err != nil {
		return "", d.store.full(err, d.size)
	}
	d.file = nil
	if err := place(partial, path); err != nil {
		return "", d.store.full(err, d.size)
	}
	for _, sum := range d.sums {
		if sum.Algorithm() != "sha256" {
			if err := d.store.record(sum, own.Hex()); err != nil {
				return "", err
			}
		}
	}
	return path, removeIfThere(partial + ".from")
}

// Close ends the download. Bytes that were not committed are kept for the next
// one.
func (d *Download) Close() error {
	var err error
	if d.file != nil {
		name := d.file.Name()
		err = d.file.Close()
		if d.size == 0 && err == nil {
			err = errors.Join(removeIfThere(name), removeIfThere(name+".from"))
		}
		d.file = nil
	}
	d.release()
	return err
}

var _ io.Writer = (*Download)(nil)
