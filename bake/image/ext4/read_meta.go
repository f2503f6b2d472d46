package ext4

import (
	"fmt"
	"io"
)

// Metadata is read in windows, a number of which are kept: neighbouring
// inodes share one, and the reader below may verify a MiB for each read.
const (
	windowSize  = 64 << 10
	keptWindows = 256
)

// metaReader reads metadata.
type metaReader struct {
	r       io.ReaderAt
	windows map[int64][]byte // by offset / windowSize; shorter at the end of r
	order   []int64          // in which windows came
}

func newMetaReader(r io.ReaderAt) metaReader {
	return metaReader{r: r, windows: make(map[int64][]byte)}
}

// read returns length bytes at offset, which must not be changed. They must not cross a
// window: blocks, inodes and descriptors do not.
func (m *metaReader) read(offset int64, length int) ([]byte, error) {
	window, err := m.window(offset / windowSize)
	if err != nil {
		return nil, fmt.Errorf("reading %d bytes at %d: %w", length, offset, err)
	}
	at := int(offset % windowSize)
	if at+length > windowSize {
		return nil, fmt.Errorf("BUG: %d bytes at %d cross a window", length, offset)
	}
	if at+length > len(window) {
		return nil, fmt.Errorf("reading %d bytes at %d: %w", length, offset, io.ErrUnexpectedEOF)
	}
	return window[at : at+length : at+length], nil
}

func (m *metaReader) window(i int64) ([]byte, error) {
	if b, ok := m.windows[i]; ok {
		return b, nil
	}
	b := make([]byte, windowSize)
	n, err := m.r.ReadAt(b, i*windowSize)
	if n < len(b) && err != io.EOF {
		if err == nil {
			err = io.ErrNoProgress
		}
		return nil, err
	}
	if len(m.order) == keptWindows {
		delete(m.windows, m.order[0])
		m.order = m.order[1:]
	}
	m.windows[i] = b[:n]
	m.order = append(m.order, i)
	return b[:n], nil
}

// bitset is a set of numbers of which few of a large range are in use.
type bitset map[int64]*[512]uint64

// add adds n and reports whether it was new.
func (s bitset) add(n int64) bool {
	const pageBits = 512 * 64
	page := s[n/pageBits]
	if page == nil {
		page = new([512]uint64)
		s[n/pageBits] = page
	}
	word, bit := &page[n%pageBits/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
