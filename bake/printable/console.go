package printable

import (
	"io"
	"unicode/utf8"
)

// Console passes on what a machine prints on its serial console to a terminal
// that people look at. What a shell needs to edit a line goes through: colours,
// moving and erasing within the line, carriage return, backspace, bell. All other
// sequences (ECMA-48) are left out: those that clear the screen, move to another
// line, set a title or the clipboard, or ask the terminal for an answer. What
// remains is written as [String] writes it, but for tabs and line ends.
//
// Programs that draw on the whole screen don't work through it.
type Console struct {
	w       io.Writer
	state   state
	pending []byte // a control sequence, or a character, that has not ended
}

type state int

const (
	text     state = iota
	escape1        // behind ESC
	charset        // behind ESC and an intermediate byte
	control        // in a control sequence
	command        // in a string that is for the terminal, such as a title
	command1       // behind ESC in such a string
)

// maxPending bounds what is kept of a sequence; a longer one is left out.
const maxPending = 32

// NewConsole returns a Console that writes to w.
func NewConsole(w io.Writer) *Console { return &Console{w: w} }

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	var out []byte
	for _, b := range p {
		out = c.next(out, b)
	}
	if len(out) > 0 {
		if _, err := c.w.Write(out); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// next appends what can be shown now that b has come.
func (c *Console) next(out []byte, b byte) []byte {
	if c.state != text && (b == 0x18 || b == 0x1a) { // CAN and SUB end every sequence
		c.begin(text)
		return out
	}
	switch c.state {
	case text:
		if b == 0x1b {
			out = c.flush(out)
			c.begin(escape1)
			return out
		}
		return c.character(out, b)
	case escape1:
		switch {
		case b == '[':
			c.begin(control)
			c.pending = append(c.pending, 0x1b, '[')
		case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
			c.begin(command)
		case b >= 0x20 && b <= 0x2f:
			c.begin(charset)
		case b != 0x1b:
			c.begin(text)
		}
	case charset:
		if b < 0x20 || b > 0x2f {
			c.begin(text)
		}
	case control:
		if len(c.pending) < maxPending {
			c.pending = append(c.pending, b)
		}
		if b == 0x1b {
			c.begin(escape1)
		} else if b >= 0x40 && b <= 0x7e || b < 0x20 || b > 0x7e {
			if inLine(c.pending) {
				out = append(out, c.pending...)
			}
			c.begin(text)
			if b == '\n' { // it was none
				out = append(out, b)
			}
		}
	case command:
		switch b {
		case 0x07:
			c.begin(text)
		case 0x1b:
			c.begin(command1)
		case '\n': // it has no end: don't swallow the console
			c.begin(text)
			return append(out, b)
		}
	case command1:
		c.begin(text)
		if b != '\\' {
			c.begin(escape1)
			return c.next(out, b)
		}
	}
	return out
}

func (c *Console) begin(s state) { c.state, c.pending = s, c.pending[:0] }

// character appends b, once it and what came before are a whole character.
func (c *Console) character(out []byte, b byte) []byte {
	if len(c.pending) > 0 && utf8.RuneStart(b) {
		out = c.flush(out) // it ended too early
	}
	c.pending = append(c.pending, b)
	if utf8.FullRune(c.pending) {
		out = c.flush(out)
	}
	return out
}

// flush appends the character that is pending.
func (c *Console) flush(out []byte) []byte {
	if s := string(c.pending); len(s) == 1 && (s == "\n" || s == "\r" || s == "\t" || s == "\b" || s == "\a") || s == `\` {
		out = append(out, s...)
	} else {
		out = append(out, String(s)...)
	}
	c.pending = c.pending[:0]
	return out
}

// inLine reports whether a control sequence stays in its line: colours (m),
// erasing to the end of the line (K), moving (C, D, G), deleting and inserting
// (P, @).
func inLine(sequence []byte) bool {
	last := len(sequence) - 1
	for _, b := range sequence[2:last] {
		if (b < '0' || b > '9') && b != ';' {
			return false
		}
	}
	switch sequence[last] {
	case 'm', 'K', 'C', 'D', 'G', 'P', '@':
		return true
	}
	return false
}
