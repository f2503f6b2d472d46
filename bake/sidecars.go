package bake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/sbom/slsa"
	"github.com/nodebake/bake/bake/sign"
)

// writeSidecars writes what goes beside the image, whose record has its digest by
// now: the record, the SBOM, the statement about these three, and
// where there is a key, its signature. What it returns is to be dropped also
// when it fails. replaces says that what is there is of another image.
func (b *Baker) writeSidecars(ctx context.Context, c *Composed, out output, replaces bool) (files []*atomicfile.File, err error) {
	both := []struct {
		path  string
		write func(w io.Writer) error
		file  *atomicfile.File
		sum   manifest.Digest
	}{
		{path: out.record, write: c.Record.Write},
		{path: out.spdx, write: func(w io.Writer) error { return c.sbom.Write(w, c.Record.File) }},
	}
	// Each is megabytes of JSON, which takes most of the time of a bake that
	// changes nothing.
	var group errgroup.Group
	for i := range both {
		f := &both[i]
		group.Go(func() (err error) {
			f.file, f.sum, err = writeHashed(f.path, f.write)
			return err
		})
	}
	err = group.Wait()
	subjects := []slsa.Subject{{Name: filepath.Base(out.image), SHA256: c.Record.File.SHA256}}
	for _, f := range both {
		files = append(files, f.file)
		subjects = append(subjects, slsa.Subject{Name: filepath.Base(f.path), SHA256: f.sum})
	}
	if err != nil {
		return files, err
	}
	statement, err := slsa.Statement(c.contents, subjects)
	if err != nil {
		return files, err
	}
	add := func(path string, content []byte) error {
		p, _, err := writeHashed(path, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
		if err == nil {
			files = append(files, p)
		}
		return err
	}
	if err := add(out.provenance, statement); err != nil {
		return files, err
	}
	if b.key == nil {
		if !replaces {
			b.noteOldBundle(out, statement)
		}
		return files, nil
	}
	bundle, err := sign.Sign(ctx, statement, b.key)
	if err != nil {
		return files, err
	}
	return files, add(out.bundle, bundle)
}

// noteOldBundle says that the signature that is there is of another image.
func (b *Baker) noteOldBundle(out output, statement []byte) {
	old, err := os.ReadFile(out.bundle)
	if err == nil && !bytes.Contains(old, []byte(base64.StdEncoding.EncodeToString(statement))) {
		b.config.Progress.Note("%s is the signature of another image: sign this one with --sign, or remove it", out.bundle)
	}
}

// writeHashed begins the file path with what write writes, and returns its
// digest too.
func writeHashed(path string, write func(w io.Writer) error) (*atomicfile.File, manifest.Digest, error) {
	file, err := atomicfile.Create(path)
	if err != nil {
		return nil, "", err
	}
	h := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(file, h))
	if err := errors.Join(write(w), w.Flush()); err != nil {
		file.Drop()
		return nil, "", err
	}
	return file, manifest.SHA256([sha256.Size]byte(h.Sum(nil))), nil
}

func dropAll(files []*atomicfile.File) {
	for _, f := range files {
		f.Drop()
	}
}

// readKey reads the key that signs, before anything slow begins.
func readKey(path string, password func() ([]byte, error)) (*sign.Key, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading the key to sign with: %w", err)}
	}
	key, err := sign.ParseKey(path, text, password)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	return key, nil
}
