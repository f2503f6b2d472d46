// Package deb822 reads the control files of Debian: stanzas of "Name: value"
// fields, separated by empty lines. Release, Packages, a package's control
// file and apt's .sources files are all written in it.
//
// It is strict where Debian Policy 5.1 and deb822(5) leave a choice: a line of
// blanks only is an error, as is a field that a stanza gives twice. It reads
// only; and it does not know OpenPGP, so that a signed file must be verified
// and stripped first. Its memory is bounded by the fields that are kept, and by
// [MaxLine] for one line.
package deb822

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxLine is the longest line in bytes that a [Reader] accepts. The longest of
// Debian's indices are Provides fields, well below 100 KB.
const MaxLine = 1 << 20

// maxName is the longest field name that is accepted.
const maxName = 64

// SyntaxError is a violation of the format.
type SyntaxError struct {
	Line int // from 1
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Field is one field of a stanza. Lines after the first are joined by "\n",
// each without the blank that marks it as a continuation.
type Field struct {
	Name  string // as written
	Value string // without leading and trailing blanks on any line
}

// Stanza is one block of fields, in the order of the file.
type Stanza struct {
	Line   int // where it starts, from 1
	Fields []Field
}

// Get returns the value of the field that is called name in any case, and ""
// where the stanza has none.
func (s *Stanza) Get(name string) string {
	value, _ := s.Lookup(name)
	return value
}

// Lookup is [Stanza.Get] that tells an empty field from a missing one.
func (s *Stanza) Lookup(name string) (string, bool) {
	for _, f := range s.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value, true
		}
	}
	return "", false
}

// Reader reads stanzas one by one.
type Reader struct {
	// Comments lets lines that start with "#" pass as if they were not there.
	// Policy has them in source packages only; apt's .sources have them too.
	Comments bool

	r    *bufio.Reader
	keep map[string]bool // lower-case names; nil: all
	long []byte          // a line longer than r's buffer
	line int             // number of the line read last
}

// ReadOne reads a file of one stanza, and keeps the fields called names as
// [NewReader] does.
func ReadOne(r io.Reader, names ...string) (Stanza, error) {
	reader := NewReader(r, names...)
	s, err := reader.Next()
	if err == io.EOF {
		return Stanza{}, errors.New("it is empty")
	}
	if err != nil {
		return Stanza{}, err
	}
	switch _, err := reader.Next(); err {
	case io.EOF:
		return s, nil
	case nil:
		return Stanza{}, errors.New("it has more than one stanza")
	default:
		return Stanza{}, err
	}
}

// NewReader returns a Reader of r that keeps the fields called names, in any
// case, and skips all others after checking their form. Without names it keeps
// every field.
func NewReader(r io.Reader, names ...string) *Reader {
	d := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	if len(names) > 0 {
		d.keep = make(map[string]bool, len(names))
		for _, n := range names {
			d.keep[strings.ToLower(n)] = true
		}
	}
	return d
}

// Skip reads on to the end of a stanza in which [Reader.Next] found an error.
func (d *Reader) Skip() error {
	for {
		line, err := d.readLine()
		if _, ok := errors.AsType[*SyntaxError](err); err != nil && !ok {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err == nil && len(line) == 0 {
			return nil
		}
	}
}

// Next returns the next stanza, or [io.EOF]. Errors in the text are a
// [SyntaxError], with what was read of the stanza until then.
func (d *Reader) Next() (Stanza, error) {
	var s Stanza
	var value *[]byte // of the field being read; nil: it is skipped
	var text []byte
	end := func() {
		if value != nil {
			s.Fields[len(s.Fields)-1].Value = string(text)
			value = nil
		}
	}
	for {
		line, err := d.readLine()
		if err == io.EOF {
			end()
			if s.Line == 0 {
				return Stanza{}, io.EOF
			}
			return s, nil
		}
		if err != nil {
			end()
			return s, err
		}
		switch {
		case len(line) == 0:
			if s.Line == 0 {
				continue
			}
			end()
			return s, nil
		case line[0] == '#' && d.Comments:
		case line[0] == ' ' || line[0] == '\t':
			rest := bytes.Trim(line, " \t")
			switch {
			case len(rest) == 0:
				end()
				return s, d.errorf("a line of blanks only")
			case s.Line == 0:
				return s, d.errorf("a continuation line before any field")
			}
			if value != nil {
				text = append(append(text, '\n'), rest...)
			}
		default:
			end()
			name, rest, err := d.field(line)
			if err != nil {
				return s, err
			}
			if s.Line == 0 {
				s.Line = d.line
			}
			if !d.wants(name) {
				continue
			}
			if _, twice := s.Lookup(string(name)); twice {
				return s, d.errorf("field %s twice in the stanza of line %d", name, s.Line)
			}
			s.Fields = append(s.Fields, Field{Name: string(name)})
			text = append(text[:0], bytes.Trim(rest, " \t")...)
			value = &text
		}
	}
}

// field splits a line at its colon and checks the name: printable ASCII
// without colon and blank, and neither "#" nor "-" first (Policy 5.1).
func (d *Reader) field(line []byte) (name, rest []byte, err error) {
	colon := bytes.IndexByte(line, ':')
	switch {
	case colon < 0:
		return nil, nil, d.errorf("%q has no colon", clip(line))
	case colon == 0 || colon > maxName || line[0] == '-' || line[0] == '#':
		return nil, nil, d.errorf("%q starts with no field name", clip(line))
	}
	for _, c := range line[:colon] {
		if c <= ' ' || c > '~' {
			return nil, nil, d.errorf("%q is no field name", clip(line[:colon]))
		}
	}
	return line[:colon], line[colon+1:], nil
}

func (d *Reader) wants(name []byte) bool {
	if d.keep == nil {
		return true
	}
	var lower [maxName]byte
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return d.keep[string(lower[:len(name)])]
}

// readLine returns the next line without its line feed. It is valid until the
// next call. A last line without a line feed counts.
func (d *Reader) readLine() ([]byte, error) {
	line, err := d.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		d.long = append(d.long[:0], line...)
		for err == bufio.ErrBufferFull && len(d.long) <= MaxLine {
			line, err = d.r.ReadSlice('\n')
			d.long = append(d.long, line...)
		}
		line = d.long
	}
	if err != nil && !errors.Is(err, io.EOF) && len(line) <= MaxLine {
		return nil, err
	}
	if len(line) == 0 {
		return nil, io.EOF
	}
	d.line++
	if len(line) > MaxLine {
		return nil, d.errorf("longer than %d bytes", MaxLine)
	}
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if bytes.Contains(line, []byte{0}) {
		return nil, d.errorf("a NUL byte")
	}
	return line, nil
}

func (d *Reader) errorf(format string, args ...any) error {
	return &SyntaxError{Line: d.line, Msg: fmt.Sprintf(format, args...)}
}

// clip shortens b for an error message.
func clip(b []byte) []byte {
	if len(b) > 40 {
		return append(b[:40:40], "..."...)
	}
	return b
}
