package bake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// Result is what was written.
type Result struct {
	SHA256 manifest.Digest `json:"sha256"`
	Path   string          `json:"path"`
	Record string          `json:"record"` // NAME.json
	Size   int64           `json:"size"`   // bytes

	SPDX       string `json:"spdx"`             // NAME.spdx.json
	Provenance string `json:"provenance"`       // NAME.provenance.json
	Bundle     string `json:"bundle,omitempty"` // NAME.sigstore.json, where it was signed

	Replaced manifest.Digest `json:"replaced,omitempty"` // digest of another image of that name that was there, see Config.Force

	Missing []source.Missing `json:"missing,omitempty"` // parts that something else was made in place of
}

// write writes the image and what is beside it. No file gets its name before all
// are complete, so that a record never describes another image than the one
// beside it.
func (b *Baker) write(ctx context.Context, c *Composed, out output) (*Result, error) {
	result, err := b.writeAll(ctx, c, out)
	if failed, ok := errors.AsType[*fs.PathError](err); ok && filepath.Dir(failed.Path) == filepath.Dir(out.image) {
		return nil, fmt.Errorf("writing %s: %w (make room, or give another directory by --output)", out.image, err)
	}
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", out.image, err)
	}
	return result, nil
}

func (b *Baker) writeAll(ctx context.Context, c *Composed, out output) (*Result, error) {
	options := archive.Options{
		Epoch: 0, Workers: b.config.Jobs, Cache: b.access.Store, Progress: b.config.Progress,
	}
	writeImage := b.writeTarGz
	if b.config.Format == Raw {
		writeImage = b.writeRaw
	}
	image, written, err := writeImage(ctx, c, out, options)
	if err != nil {
		return nil, err
	}
	defer image.Drop()
	written.Name = out.name + "." + string(b.config.Format)
	written.Format = string(b.config.Format)
	c.Record.File = &written
	replaced, err := b.mayReplace(out, written.SHA256)
	if err != nil {
		return nil, err
	}
	beside, err := b.writeSidecars(ctx, c, out, replaced != "")
	defer dropAll(beside)
	if err != nil {
		return nil, err
	}
	if b.key == nil && replaced != "" {
		if err := b.dropOldBundle(out); err != nil {
			return nil, err
		}
	}
	if err := atomicfile.Commit(append(beside, image)...); err != nil {
		return nil, err
	}
	result := &Result{
		SHA256: written.SHA256, Path: out.image, Size: written.Size,
		Record: out.record, SPDX: out.spdx, Provenance: out.provenance, Missing: c.missing,
		Replaced: replaced,
	}
	if b.key != nil {
		result.Bundle = out.bundle
	}
	return result, nil
}

// writeTarGz writes the archive, unless the one that is there is it: the plan
// tells what its digest must be, and the file is read to see that it has it.
// Then there is nothing pending.
func (b *Baker) writeTarGz(ctx context.Context, c *Composed, out output, options archive.Options) (_ *atomicfile.File, _ record.File, err error) {
	before, ok := archive.Lookup(&c.List, options)
	if ok && out.present() == before {
		b.config.Progress.Note("%s is there already, with the right digest", out.image)
		return nil, record.File{Size: before.Size, SHA256: manifest.SHA256(before.SHA256)}, nil
	}
	if ok {
		// What it will be is known: there is no need to make it.
		if _, err := b.mayReplace(out, manifest.SHA256(before.SHA256)); err != nil {
			return nil, record.File{}, err
		}
	}
	file, err := atomicfile.Create(out.image)
	if err != nil {
		return nil, record.File{}, err
	}
	defer func() {
		if err != nil {
			file.Drop()
		}
	}()
	result, err := archive.WriteTarGz(ctx, file, &c.List, options)
	if err != nil {
		return nil, record.File{}, err
	}
	if ok && result.SHA256 != before.SHA256 {
		return nil, record.File{}, fmt.Errorf("BUG: the same plan gave sha256:%s before and sha256:%s now", before.SHA256, result.SHA256)
	}
	if err := archive.Remember(&c.List, options, archive.Digest{Size: result.Size, SHA256: result.SHA256}); err != nil {
		b.config.Progress.Note("the digest of %s could not be kept for next time: %v", out.image, err)
	}
	return file, record.File{Size: result.Size, SHA256: manifest.SHA256(result.SHA256)}, nil
}

// measure returns what the file at path is, and nothing where it can't be read.
func measure(path string) archive.Digest {
	f, err := os.Open(path)
	if err != nil {
		return archive.Digest{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return archive.Digest{}
	}
	sum, err := sumOf(f)
	if err != nil {
		return archive.Digest{}
	}
	return archive.Digest{Size: info.Size(), SHA256: sum}
}

func sumOf(r io.Reader) (tree.Digest, error) {
	h := sha256.New()
	// Large reads: the hash is faster than many small system calls.
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, make([]byte, 1<<20)); err != nil {
		return tree.Digest{}, err
	}
	return tree.Digest(h.Sum(nil)), nil
}

// writeRaw writes a sparse disk.
func (b *Baker) writeRaw(ctx context.Context, c *Composed, out output, options archive.Options) (*atomicfile.File, record.File, error) {
	file, err := atomicfile.Create(out.image)
	if err != nil {
		return nil, record.File{}, err
	}
	err = archive.WriteRaw(ctx, file.File, &c.List, options)
	var sum tree.Digest
	if err == nil {
		sum, err = sumList(ctx, &c.List)
	}
	if err != nil {
		file.Drop()
		return nil, record.File{}, err
	}
	return file, record.File{Size: c.List.Size, SHA256: manifest.SHA256(sum)}, nil
}

// sumList hashes the disk from its plan, without reading holes back.
func sumList(ctx context.Context, l *extent.List) (tree.Digest, error) {
	h := sha256.New()
	r := l.Reader()
	buf := make([]byte, tree.ChunkSize)
	for at := int64(0); at < l.Size; {
		if err := context.Cause(ctx); err != nil {
			return tree.Digest{}, err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), l.Size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return tree.Digest{}, err
		}
		h.Write(buf[:n])
		at += int64(n)
	}
	return tree.Digest(h.Sum(nil)), nil
}
