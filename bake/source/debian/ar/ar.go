// Package ar reads the common ar(5) format as deb(5) uses it: short names,
// one header of 60 bytes per member, content padded to an even length.
//
// The long-name extensions of GNU and BSD are not supported; no .deb has them
// and a name of theirs is an error. Nothing is skipped silently: garbage between
// or after members is an error.
package ar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	magic      = "!<arch>\n"
	headerSize = 60
	headerEnd  = "`\n"
)

// Header describes a member.
type Header struct {
	Name string // 1 to 16 bytes of printable ASCII, without a trailing slash
	Size int64  // bytes
}

// Reader reads an archive from front to back.
type Reader struct {
	r    io.Reader
	rest int64 // of the current member, not yet read
	pad  bool  // the current member is followed by one byte of padding
}

// NewReader checks the archive's magic and returns a Reader.
func NewReader(r io.Reader) (*Reader, error) {
	var b [len(magic)]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, fmt.Errorf("reading ar magic: %w", noEOF(err))
	}
	if string(b[:]) != magic {
		return nil, fmt.Errorf("not an ar archive: it starts with %q", b[:])
	}
	return &Reader{r: r}, nil
}

// Next goes to the next member, past what is left of the current one, and
// returns [io.EOF] where the archive ends. Read then reads that member.
func (a *Reader) Next() (Header, error) {
	if _, err := io.Copy(io.Discard, a); err != nil {
		return Header{}, err
	}
	if a.pad {
		a.pad = false
		var b [1]byte
		switch _, err := io.ReadFull(a.r, b[:]); {
		case err == io.EOF:
			return Header{}, io.EOF // some writers leave the last padding out
		case err != nil:
			return Header{}, fmt.Errorf("reading ar padding: %w", err)
		case b[0] != '\n':
			return Header{}, fmt.Errorf("ar padding is %q, want a line feed", b[:])
		}
	}
	var b [headerSize]byte
	switch _, err := io.ReadFull(a.r, b[:]); {
	case err == io.EOF:
		return Header{}, io.EOF
	case err != nil:
		return Header{}, fmt.Errorf("reading ar header: %w", err)
	}
	h, err := parseHeader(b[:])
	if err != nil {
		return Header{}, err
	}
	a.rest, a.pad = h.Size, h.Size%2 == 1
	return h, nil
}

// Read reads the current member. It fails with [io.ErrUnexpectedEOF] where the
// archive ends before the size that the member's header gives.
func (a *Reader) Read(p []byte) (int, error) {
	if a.rest == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > a.rest {
		p = p[:a.rest]
	}
	n, err := a.r.Read(p)
	a.rest -= int64(n)
	if err == io.EOF {
		err = nil
		if a.rest > 0 {
			err = fmt.Errorf("ar member lacks its last %d bytes: %w", a.rest, io.ErrUnexpectedEOF)
		}
	}
	return n, err
}

// parseHeader reads name[16] mtime[12] uid[6] gid[6] mode[8] size[10] end[2].
// Time, owner and mode mean nothing in a .deb, but must be numbers.
func parseHeader(b []byte) (Header, error) {
	if string(b[58:]) != headerEnd {
		return Header{}, errors.New("ar header does not end in a grave accent and a line feed")
	}
	name := strings.TrimSuffix(string(bytes.TrimRight(b[:16], " ")), "/")
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
		return Header{}, fmt.Errorf("ar member name %q is not supported", b[:16])
	}
	for _, f := range []struct {
		name string
		text []byte
		base int
	}{
		{"time", b[16:28], 10}, {"owner", b[28:34], 10}, {"group", b[34:40], 10}, {"mode", b[40:48], 8},
	} {
		if text := bytes.TrimRight(f.text, " "); len(text) > 0 {
			if _, err := parseNumber(text, f.base); err != nil {
				return Header{}, fmt.Errorf("ar member %s: %s: %w", name, f.name, err)
			}
		}
	}
	size, err := parseNumber(bytes.TrimRight(b[48:58], " "), 10)
	if err != nil {
		return Header{}, fmt.Errorf("ar member %s: size: %w", name, err)
	}
	return Header{Name: name, Size: size}, nil
}

// parseNumber takes digits only, where strconv takes signs and underscores.
func parseNumber(text []byte, base int) (int64, error) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a number", text)
		}
	}
	n, err := strconv.ParseInt(string(text), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return n, nil
}

// noEOF makes of an end of file the error that it is inside of a structure.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
