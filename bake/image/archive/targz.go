package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/image/extent"
	"github.com/nodebake/bake/bake/tree"
)

// WriteTarGz writes l to w as a tar.gz with one member. It fails with a
// [tree.CorruptError] where stored content is not what it was recorded to be.
// After any error what was written is worthless. Cancelling ctx makes it
// return as soon as a write to w that is under way does.
//
// A cache that cannot keep a segment does not fail the archive: the first
// such error is shown as a note.
func WriteTarGz(ctx context.Context, w io.Writer, l *extent.List, o Options) (Result, error) {
	o = o.withDefaults()
	if err := l.Check(); err != nil {
		return Result{}, err
	}
	head, err := header(o.Name, l.Size, o.Epoch)
	if err != nil {
		return Result{}, err
	}

	content := contentSize(l)
	shown := o.Progress.Start("compress", o.Name, content)
	p := &pipeline{
		list:    l,
		options: o,
		ordered: make(chan *task, o.Workers+ahead),
		work:    make(chan *task),
		free:    make(chan []byte, o.Workers+ahead+2), // as many as can be in use
		shown:   shown,
	}
	out := newOutput(w)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.feed(ctx) })
	for range o.Workers {
		g.Go(func() error { return p.compress(ctx) })
	}
	g.Go(func() error { return p.write(ctx, out, head) })
	if err := g.Wait(); err != nil {
		shown.End("failed")
		return Result{}, err
	}
	cached := p.cached.Load()
	if content > 0 && cached == content {
		shown.End("cached")
	} else {
		shown.End("done")
	}
	return Result{Size: out.size, SHA256: tree.Digest(out.sum.Sum(nil)), Content: content, Cached: cached}, nil
}

// ahead is how many segments may wait for the writer beside those that are
// being compressed. Segments take about equally long, so a few are enough to
// keep every worker busy while the writer waits for a slow one.
const ahead = 4

// pipeline is one run of WriteTarGz: feed cuts the list into tasks, which go
// both to the compressing workers and, in order, to the writer. The capacity
// of ordered bounds how far the workers run ahead of the writer.
type pipeline struct {
	list    *extent.List
	options Options

	ordered chan *task
	work    chan *task
	free    chan []byte // buffers of values that were written
	shown   interface{ Add(int64) }
	cached  atomic.Int64
	noted   atomic.Bool // the first failure to put was shown
}

// task is one segment on its way.
type task struct {
	segment
	value []byte        // set before ready is closed
	own   bool          // value's buffer is ours to use again
	ready chan struct{} // nil: zeroes, nothing to wait for
}

func (p *pipeline) feed(ctx context.Context) error {
	defer close(p.ordered)
	defer close(p.work)
	for s := range segments(p.list) {
		t := &task{segment: s}
		if s.pieces != nil {
			t.ready = make(chan struct{})
		}
		select {
		case p.ordered <- t:
		case <-ctx.Done():
			return ctx.Err()
		}
		if t.ready == nil {
			continue
		}
		select {
		case p.work <- t:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (p *pipeline) compress(ctx context.Context) error {
	var l *loader // made at the first miss: an all-cached run needs none
	var c *compressor
	for t := range p.work {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.options.Cache != nil {
			if value, ok := p.options.Cache.Get(t.key()); ok && validValue(value) {
				t.value = value
				p.cached.Add(t.contentSize())
				close(t.ready)
				continue
			}
		}
		if l == nil {
			var err error
			l = &loader{}
			if c, err = newCompressor(); err != nil {
				return err
			}
		}
		content, err := l.load(&t.segment)
		if err != nil {
			return fmt.Errorf("compressing %s: %w", t.describe(), err)
		}
		value, err := c.appendValue(p.buffer(), content)
		if err != nil {
			return fmt.Errorf("compressing %s: %w", t.describe(), err)
		}
		p.keep(t, value)
		t.value, t.own = value, true
		close(t.ready)
	}
	return ctx.Err()
}

func (p *pipeline) buffer() []byte {
	select {
	case b := <-p.free:
		return b[:0]
	default:
		return make([]byte, 0, segmentSize/2)
	}
}

func (p *pipeline) keep(t *task, value []byte) {
	if p.options.Cache == nil {
		return
	}
	if err := p.options.Cache.Put(t.key(), value); err != nil && p.noted.CompareAndSwap(false, true) {
		p.options.Progress.Note("compressed content is not kept for the next run: %v", err)
	}
}

// emptyFinalBlock ends a deflate stream after a sync flush: BFINAL, fixed
// Huffman codes, end of block.
var emptyFinalBlock = [...]byte{0x03, 0x00}

// gzipHeader is that of RFC 1952 section 2.3: deflate, no flags, no time, no
// extra flags, operating system unknown.
var gzipHeader = [...]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

func (p *pipeline) write(ctx context.Context, out *output, head []byte) error {
	m := member{out: out, fill: make([]byte, 64<<10)}
	out.write(gzipHeader[:])
	c, err := newCompressor()
	if err != nil {
		return err
	}
	value, err := c.appendValue(nil, head)
	if err != nil {
		return fmt.Errorf("compressing the tar header: %w", err)
	}
	m.value(value, int64(len(head)))

	for t := range p.ordered {
		if t.ready == nil {
			if err := m.zeroes(ctx, t.length); err != nil {
				return err
			}
			continue
		}
		select {
		case <-t.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.value(t.value, t.length)
		if out.err != nil {
			return out.err
		}
		if t.own {
			select {
			case p.free <- t.value:
			default:
			}
		}
		p.shown.Add(t.contentSize())
	}
	if err := ctx.Err(); err != nil {
		return err // feed stopped early
	}
	if want := blockSize + p.list.Size; m.size != want {
		return fmt.Errorf("BUG: wrote %d bytes of tar, want %d", m.size, want)
	}

	// Fill the last block; two zero blocks end the archive, which is padded to
	// whole records.
	end := (m.size+blockSize-1)/blockSize*blockSize + 2*blockSize
	end = (end + recordSize - 1) / recordSize * recordSize
	if err := m.zeroes(ctx, end-m.size); err != nil {
		return err
	}
	out.write(emptyFinalBlock[:])
	trailer := binary.LittleEndian.AppendUint32(nil, m.crc)
	out.write(binary.LittleEndian.AppendUint32(trailer, uint32(m.size))) // ISIZE: modulo 2^32
	return out.flush()
}

// contentSize returns the bytes of s that come from blobs.
func (s *segment) contentSize() int64 {
	var n int64
	for _, p := range s.pieces {
		if p.Blob != nil {
			n += p.Length
		}
	}
	return n
}

// member is the gzip member under construction: it puts compressed forms
// together and keeps the CRC-32 and size of what they decompress to.
type member struct {
	out  *output
	crc  uint32
	size int64
	fill []byte // zeroes
}

// value appends a value of length bytes of content.
func (m *member) value(value []byte, length int64) {
	m.crc = combineCRC(m.crc, binary.LittleEndian.Uint32(value), length)
	m.size += length
	m.out.write(value[crcLen:])
}

// zeroes appends n zeroes.
func (m *member) zeroes(ctx context.Context, n int64) error {
	run := deflateZeroes(n)
	m.crc = combineCRC(m.crc, zeroesCRC(n), n)
	m.size += n
	m.out.write(run.head)
	for left := run.fill; left > 0 && m.out.err == nil; left -= int64(len(m.fill)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.out.write(m.fill[:min(left, int64(len(m.fill)))])
	}
	m.out.write(run.tail)
	return m.out.err
}

// output writes and hashes the archive. Its first error stays.
type output struct {
	w    io.Writer
	buf  *bufio.Writer // for what is short
	sum  hash.Hash
	size int64
	err  error
}

// directSize is from how many bytes on a write goes past the buffer.
const directSize = 32 << 10

func newOutput(w io.Writer) *output {
	return &output{w: w, buf: bufio.NewWriterSize(w, 2*directSize), sum: sha256.New()}
}

func (o *output) write(b []byte) {
	if o.err != nil {
		return
	}
	o.sum.Write(b)
	o.size += int64(len(b))
	var err error
	if len(b) < directSize {
		_, err = o.buf.Write(b)
	} else if err = o.buf.Flush(); err == nil {
		_, err = o.w.Write(b)
	}
	if err != nil {
		o.err = fmt.Errorf("writing the archive: %w", err)
	}
}

func (o *output) flush() error {
	if o.err == nil {
		if err := o.buf.Flush(); err != nil {
			o.err = fmt.Errorf("writing the archive: %w", err)
		}
	}
	return o.err
}
