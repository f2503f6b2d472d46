package progress

import (
	"io"
	"strconv"
	"strings"
	"testing"
)

// screen is a terminal as far as the form TTY needs one. It fails the test for
// what the form must not write.
type screen struct {
	t       *testing.T
	reflows bool // lines are wrapped again when the width changes, as most terminals do; else they are cut, as xterm does

	columns, rows int
	lines         []screenLine // scrolled off, then those on the screen
	top           int          // the first on the screen
	row, column   int          // of the cursor; row counts from lines[0]
	nowrap        bool
	pending       string // a sequence whose end has not come
	widest        int    // columns that a line had that was not wrapped
}

type screenLine struct {
	text  []rune // 0 behind a wide character
	wraps bool   // the next one continues it
}

func newScreen(t *testing.T, columns, rows int, reflows bool) *screen {
	return &screen{t: t, reflows: reflows, columns: columns, rows: rows, lines: make([]screenLine, 1)}
}

func (s *screen) size() (int, int) { return s.columns, s.rows }

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	text := s.pending + string(p)
	for text != "" {
		rest, ok := s.next(text)
		if !ok {
			break
		}
		text = rest
	}
	s.pending = text
	return len(p), nil
}

var _ io.Writer = (*screen)(nil)

// next shows one character or obeys one sequence.
func (s *screen) next(text string) (rest string, ok bool) {
	switch {
	case text[0] == '\r':
		s.column = 0
		return text[1:], true
	case text[0] == '\n':
		s.column = 0 // as a terminal's driver has it
		s.line().wraps = false
		s.down()
		return text[1:], true
	case text[0] == 0x1b:
		end := strings.IndexFunc(text, func(r rune) bool { return r >= '@' && r != '[' })
		if end < 0 {
			return text, false
		}
		s.obey(text[1 : end+1])
		return text[end+1:], true
	case text[0] < ' ' || text[0] == 0x7f:
		s.t.Fatalf("the terminal is sent the control character %q", text[0])
	}
	for i, r := range text {
		if i > 0 {
			return text[i:], true
		}
		s.put(r)
	}
	return "", true
}

func (s *screen) obey(sequence string) {
	switch {
	case sequence == "[K":
		s.line().text = s.line().text[:min(s.column, len(s.line().text))]
		s.line().wraps = false
	case sequence == "[J":
		if s.row == s.top && s.column == 0 {
			s.t.Error("the whole screen is erased, of which tmux keeps what was on it")
		}
		s.line().text = s.line().text[:min(s.column, len(s.line().text))]
		s.line().wraps = false
		s.lines = s.lines[:s.row+1]
	case sequence == "[?7l":
		s.nowrap = true
	case sequence == "[?7h":
		s.nowrap = false
	case strings.HasSuffix(sequence, "A"):
		n, err := strconv.Atoi(strings.Trim(sequence, "[A"))
		if err != nil || n < 1 {
			s.t.Fatalf("the terminal is sent ESC %q", sequence)
		}
		s.row = max(s.row-n, s.top)
	default:
		s.t.Fatalf("the terminal is sent ESC %q", sequence)
	}
}

func (s *screen) line() *screenLine { return &s.lines[s.row] }

func (s *screen) down() {
	s.row++
	if s.row == len(s.lines) {
		s.lines = append(s.lines, screenLine{})
	}
	s.top = max(s.top, s.row-s.rows+1)
}

func (s *screen) put(r rune) {
	w := columnsOfRune(r)
	if s.column+w > s.columns {
		if s.nowrap {
			s.column = s.columns - w
		} else {
			s.line().wraps = true
			s.down()
			s.column = 0
		}
	}
	l := s.line()
	for len(l.text) < s.column+w {
		l.text = append(l.text, ' ')
	}
	if l.text[s.column] == 0 { // half of a wide character
		l.text[s.column-1] = ' '
	}
	l.text[s.column] = r
	if w == 2 {
		l.text[s.column+1] = 0
	}
	if s.column += w; s.column < len(l.text) && l.text[s.column] == 0 {
		l.text[s.column] = ' '
	}
	if s.nowrap {
		s.widest = max(s.widest, s.column)
	}
}

// resize is what the user does.
func (s *screen) resize(columns, rows int) {
	if columns != s.columns && s.reflows {
		s.reflow(columns)
	} else if columns < s.columns {
		for i := range s.lines {
			s.lines[i].text = s.lines[i].text[:min(columns, len(s.lines[i].text))]
		}
	}
	s.columns, s.rows = columns, rows
	s.column = min(s.column, columns-1)
	// The cursor's line stays on the screen.
	s.top = min(max(len(s.lines)-rows, 0), s.row)
	if last := s.top + rows; len(s.lines) > last {
		s.lines = s.lines[:last]
	}
}

// reflow wraps all lines again. The cursor stays on its character.
func (s *screen) reflow(columns int) {
	var lines []screenLine
	row, column := 0, 0
	for i := 0; i < len(s.lines); i++ {
		var whole []rune
		cursor := -1
		for ; ; i++ {
			if i == s.row {
				cursor = len(whole) + s.column
			}
			whole = append(whole, s.lines[i].text...)
			if !s.lines[i].wraps || i == len(s.lines)-1 {
				break
			}
		}
		for first := true; first || len(whole) > 0; first = false {
			n := min(columns, len(whole))
			if n > 0 && n < len(whole) && whole[n] == 0 {
				n-- // a wide character is not cut in two
			}
			if cursor >= 0 && (cursor < n || n == len(whole)) {
				row, column = len(lines), min(cursor, columns-1)
				cursor = -1
			}
			cursor = max(cursor-n, -1)
			lines = append(lines, screenLine{text: whole[:n:n], wraps: n < len(whole)})
			whole = whole[n:]
		}
	}
	s.lines, s.row, s.column = lines, row, column
}

// String returns all lines, those that have scrolled off too, without what
// terminals do to long ones.
func (s *screen) String() string { return s.text(0, len(s.lines)) }

// above and below return the lines before the cursor's, and the cursor's with
// those after it.
func (s *screen) above() string { return s.text(0, s.row) }
func (s *screen) below() string { return s.text(s.row, len(s.lines)) }

func (s *screen) text(from, to int) string {
	var b strings.Builder
	for _, l := range s.lines[from:to] {
		text := strings.ReplaceAll(string(l.text), "\x00", "")
		if l.wraps {
			b.WriteString(text)
			continue
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
