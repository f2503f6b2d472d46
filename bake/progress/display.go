package progress

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/nodebake/bake/bake/printable"
)

// Display is a Sink that people watch. Close ends it, also where tasks are
// still under way; later calls show nothing.
type Display interface {
	Sink
	Counter
	io.Closer
}

// Counter is a Sink that can be told how many tasks will come, so that it can
// write "3/12".
type Counter interface {
	// Expect says that n more tasks will be started, or -n fewer.
	Expect(n int)
}

// Expect tells sink that n more tasks will come, or -n fewer, if it cares.
func Expect(sink Sink, n int) {
	if c, ok := sink.(Counter); ok {
		c.Expect(n)
	}
}

// NewDisplay returns a live display where terminal is true, else plain lines
// for a log. now is the clock, time.Now in a program.
func NewDisplay(w io.Writer, terminal bool, now func() time.Time) Display {
	if terminal {
		return NewTerminal(w, now)
	}
	return NewPlain(w, now)
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// oneLine is a line of a display. The errors in it may be several, a line each,
// and what they quote may be anybody's text.
func oneLine(format string, args ...any) string {
	args = slices.Clone(args)
	for i, a := range args {
		if err, ok := a.(error); ok {
			args[i] = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	return printable.String(fmt.Sprintf(format, args...)) + "\n"
}

// tally numbers the tasks of a display as they end.
type tally struct {
	expected int // that were announced
	started  int
	ended    int
}

func (t *tally) expect(n int) { t.expected += n }
func (t *tally) start()       { t.started++ }

// end returns the number of the task that ended: "[3/12]", or "[3]" where
// nobody announced how many there are.
func (t *tally) end() string {
	t.ended++
	if t.expected == 0 {
		return fmt.Sprintf("[%d]", t.ended)
	}
	all := max(t.expected, t.started)
	return fmt.Sprintf("[%*d/%d]", len(fmt.Sprint(all)), t.ended, all)
}

// task is what both displays know of a task.
type task struct {
	verb, name string
	total      int64
	began      time.Time
	bytes      atomic.Int64
	once       sync.Once // End counts once
}

func (t *task) Add(n int64) { t.bytes.Add(n) }

// summary is the line of a task that ended: "fetch kubelet v1.36.3 93.1 MB
// done in 1.2s".
func (t *task) summary(result string, now time.Time) string {
	size := ""
	if n := t.bytes.Load(); n > 0 {
		size = " " + Bytes(n)
	}
	return fmt.Sprintf("%s %s%s %s in %s", t.verb, t.name, size, result, duration(now.Sub(t.began)))
}

// amount is how far a task is: "31.0 MB of 93.1 MB".
func (t *task) amount() string {
	n := t.bytes.Load()
	switch {
	case t.total > 0:
		return Bytes(n) + " of " + Bytes(t.total)
	case n > 0:
		return Bytes(n)
	}
	return ""
}
