package progress

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/nodebake/bake/bake/printable"
)

// Form is how work is shown.
type Form string

// The forms.
const (
	// Plain is lines for a log: one when a phase ends, one every 30 seconds that
	// says what runs, and notes.
	Plain Form = "plain"
	// TTY is a picture at the bottom of a terminal, with notes above.
	TTY Form = "tty"
	// JSON is an object on a line for every event, for programs: see docs/progress.md.
	JSON Form = "json"
)

// ParseForm reads the name of a form; "auto" is "".
func ParseForm(s string) (Form, error) {
	switch f := Form(s); f {
	case Plain, TTY, JSON:
		return f, nil
	case "auto":
		return "", nil
	}
	return "", fmt.Errorf("want auto, %s, %s or %s", Plain, TTY, JSON)
}

// Config says how work is shown, and where.
type Config struct {
	W       io.Writer
	Form    Form                       // Plain where empty
	Now     func() time.Time           // the clock; required
	Size    func() (columns, rows int) // of the terminal, asked for each picture (see TerminalSize); nil: 80 by 24
	Tasks   int                        // how many are shown at most; 0: as many as there are, within reason
	Verbose bool                       // show what Explain is told
}

// maxTasks is how many tasks are shown where Config.Tasks does not say it.
const maxTasks = 8

// Display is a Sink that people or programs watch. Close it after use.
type Display struct {
	config Config
	form   form
	stop   chan struct{}
	done   chan struct{} // closed when nothing is shown by itself any more

	mu     sync.Mutex
	board  board
	closed bool
}

var (
	_ Sink      = (*Display)(nil)
	_ Counter   = (*Display)(nil)
	_ Phaser    = (*Display)(nil)
	_ Explainer = (*Display)(nil)
	_ Detailer  = (*task)(nil)
)

// form writes one Form. Its methods are called one at a time.
type form interface {
	phase(b *board, ended *phase) // a phase has begun, or ended if ended is not nil
	start(b *board, t *task)
	end(b *board, t *task)
	note(b *board, line string)
	tick(b *board) // some time has passed
	close(b *board)
	every() time.Duration // between two ticks
}

// New returns a Display that shows work as c says.
func New(c Config) *Display {
	d := newDisplay(c)
	go d.beat()
	return d
}

// newDisplay is New without the ticks.
func newDisplay(c Config) *Display {
	if c.Size == nil {
		c.Size = func() (int, int) { return defaultColumns, defaultRows }
	}
	if c.Tasks <= 0 {
		c.Tasks = maxTasks
	}
	d := &Display{config: c, stop: make(chan struct{}), done: make(chan struct{})}
	now := c.Now()
	d.board = board{now: now, began: now, all: phase{began: now}}
	switch c.Form {
	case TTY:
		d.form = &terminal{w: c.W, size: c.Size, tasks: c.Tasks}
	case JSON:
		d.form = &jsonLines{w: c.W}
	default:
		d.form = &plain{w: c.W, tasks: c.Tasks, spoke: now}
	}
	return d
}

// beat lets the form show what changes with time, until the display is closed.
func (d *Display) beat() {
	defer close(d.done)
	ticker := time.NewTicker(d.form.every())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.tick()
		case <-d.stop:
			return
		}
	}
}

func (d *Display) tick() { d.do(func() { d.form.tick(&d.board) }) }

// do calls f unless the display is closed. Nothing else looks at the board.
func (d *Display) do(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.board.now = d.config.Now()
	f()
}

// Expect implements Counter.
func (d *Display) Expect(n int) { d.do(func() { d.board.expected += n }) }

// Phase implements Phaser.
func (d *Display) Phase(name string) {
	d.do(func() {
		b := &d.board
		if b.current.name != "" {
			ended := b.current
			d.form.phase(b, &ended)
		}
		b.current = phase{name: name, began: b.now}
		if name != "" {
			d.form.phase(b, nil)
		}
	})
}

// Start implements Sink.
func (d *Display) Start(verb, name string, total int64) Task {
	t := &task{display: d, verb: printable.String(verb), name: printable.String(name), total: total}
	d.do(func() { d.board.start(t); d.form.start(&d.board, t) })
	return t
}

// Note implements Sink.
func (d *Display) Note(format string, args ...any) {
	line := oneLine(format, args...)
	d.do(func() { d.form.note(&d.board, line) })
}

// Explain implements Explainer.
func (d *Display) Explain(format string, args ...any) {
	if d.config.Verbose {
		d.Note(format, args...)
	}
}

// Close ends the display, also where tasks are still under way; later calls show
// nothing.
func (d *Display) Close() {
	first := false
	d.do(func() { first = true; d.form.close(&d.board); d.closed = true })
	if first {
		close(d.stop)
		<-d.done
	}
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// TerminalSize returns what asks for the size of the terminal f, in characters,
// for Config.Size.
func TerminalSize(f *os.File) func() (columns, rows int) {
	return func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 { // a terminal that does not know says 0
			return defaultColumns, defaultRows
		}
		return columns, rows
	}
}

// The size of a terminal that does not say it.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// oneLine is a line of a display. The errors in it may be several, a line each,
// and what they quote may be anybody's text.
func oneLine(format string, args ...any) string {
	args = slices.Clone(args)
	for i, a := range args {
		if err, ok := a.(error); ok {
			args[i] = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	return printable.String(fmt.Sprintf(format, args...))
}
