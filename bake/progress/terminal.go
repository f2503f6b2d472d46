package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// refresh is the time between two pictures.
const refresh = 120 * time.Millisecond

// The control sequences that are written (ECMA-48, and DEC's autowrap mode).
const (
	eraseLine  = "\x1b[K"   // from the cursor to the end of its line
	eraseBelow = "\x1b[J"   // from the cursor to the end of the screen
	wrapOff    = "\x1b[?7l" // what is longer than a line is cut
	wrapOn     = "\x1b[?7h"
	up         = "\x1b[%dA"
)

// terminal is a picture at the bottom of a terminal, which changes in place, with
// notes above. It has no colours.
//
// Between two pictures the cursor stands at the picture's beginning. There it
// stays when the terminal gets another size: terminals that wrap lines again move
// the cursor with the character that it stands on, and others leave it in its
// line. So the old picture, however many lines it has become, is below the cursor:
// a new one is written over it, and what is left below that is erased. A cursor at
// the picture's end would have to go up by a number of lines that nobody tells.
// Each line is begun at its first column, since what is typed is shown where the
// cursor is. Nothing erases from the screen's first character on, which tmux takes
// for the clearing of a whole screen: it keeps what was on it.
//
// A picture is never as wide as the terminal, and is written without wrapping:
// where the size has changed since it was asked for, lines are cut.
type terminal struct {
	w     io.Writer
	size  func() (columns, rows int)
	tasks int

	shown   []string // the picture that is there
	columns int      // of the terminal that it was drawn for
}

func (t *terminal) every() time.Duration { return refresh }

// write writes to the terminal. Its errors must not stop the work.
func (t *terminal) write(s string) { _, _ = io.WriteString(t.w, s) }

func (t *terminal) phase(*board, *phase) {}

func (t *terminal) start(*board, *task) {}

func (t *terminal) end(*board, *task) {}

// note writes a line above the picture. It may be longer than the terminal is
// wide: the terminal wraps it, and lets it be copied as one.
func (t *terminal) note(b *board, line string) {
	columns, rows := t.size()
	t.draw("\r"+line+eraseLine+"\r\n", columns, picture(b, columns, rows, t.tasks))
}

func (t *terminal) tick(b *board) {
	columns, rows := t.size()
	lines := picture(b, columns, rows, t.tasks)
	if len(lines) == 0 && len(t.shown) == 0 {
		return
	}
	if columns != t.columns || !slices.Equal(lines, t.shown) {
		t.draw("", columns, lines)
	}
}

// draw writes a picture where the cursor is after before, in one piece, and leaves
// the cursor at its beginning.
func (t *terminal) draw(before string, columns int, lines []string) {
	t.shown, t.columns = lines, columns
	if len(lines) == 0 {
		t.write(before)
		return
	}
	back := eraseBelow + "\r"
	if n := len(lines) - 1; n > 0 {
		back += fmt.Sprintf(up, n)
	}
	t.write(before + wrapOff + "\r" + strings.Join(lines, eraseLine+"\r\n") + back + wrapOn)
}

// close replaces the picture by a line that says what was done.
func (t *terminal) close(b *board) {
	end, what := "", b.all.summary()
	if what != "" {
		end = fmt.Sprintf("%s in %s: %s", b.sofar(), duration(b.now.Sub(b.began)), what)
	}
	switch {
	case len(t.shown) > 0:
		end = "\r" + end + eraseLine + "\r\n" + eraseBelow
		if what == "" {
			end += fmt.Sprintf(up, 1)
		}
	case what != "":
		end += "\r\n"
	}
	t.write(end)
}
