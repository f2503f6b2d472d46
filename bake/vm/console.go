package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// stillTime is how long a line without its end must have been still to be
// taken for all there is, as a prompt is. Until then the rest may be under way.
const stillTime = time.Second

// Console keeps what a machine printed on its serial port. It is an io.Writer
// for whoever reads the port and is safe for concurrent use.
type Console struct {
	now     func() time.Time
	started time.Time

	copying sync.Mutex
	copyTo  io.Writer // may be nil; becomes nil where it fails

	mu    sync.Mutex
	text  bytes.Buffer
	lines []line        // those that have ended
	last  line          // the one that has not, from its first byte on
	wrote time.Time     // the last byte
	grown chan struct{} // closed and replaced whenever text grows or the machine ends
	ended bool
}

// Line is a line of a console, without terminal escapes.
type Line struct {
	At   time.Duration // of its first byte, since the machine's start
	Text string
}

// line is a Line and where it begins in the raw text.
type line struct {
	Line
	offset int
}

func newConsole(now func() time.Time, copyTo io.Writer) *Console {
	return &Console{now: now, started: now(), grown: make(chan struct{}), copyTo: copyTo}
}

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	c.keep(p)
	// Whoever is slow to read the copy holds up the machine, and nobody who
	// waits. The machine goes on where nobody reads it any more.
	c.copying.Lock()
	defer c.copying.Unlock()
	if c.copyTo != nil {
		if _, err := c.copyTo.Write(p); err != nil {
			c.copyTo = nil
		}
	}
	return len(p), nil
}

func (c *Console) keep(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote = c.now()
	at := c.wrote.Sub(c.started)
	for rest := p; len(rest) > 0; {
		if c.last.offset == c.text.Len() {
			c.last.At = at
		}
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		c.text.Write(part)
		if ended {
			c.last.Text = Plain(string(c.text.Bytes()[c.last.offset:]))
			c.lines = append(c.lines, c.last)
			c.text.WriteByte('\n')
			c.last = line{offset: c.text.Len()}
		}
		rest = after
	}
	c.signal()
}

func (c *Console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.signal()
}

func (c *Console) signal() {
	close(c.grown)
	c.grown = make(chan struct{})
}

// String returns everything printed so far.
func (c *Console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Len returns how many bytes were printed so far: a place to begin at with
// [Console.WaitAfter].
func (c *Console) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Len()
}

// Lines returns all lines so far with their times; what has not ended yet is
// the last one.
func (c *Console) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Line, 0, len(c.lines)+1)
	for _, l := range c.lines {
		list = append(list, l.Line)
	}
	if c.text.Len() > c.last.offset {
		list = append(list, Line{At: c.last.At, Text: Plain(string(c.text.Bytes()[c.last.offset:]))})
	}
	return list
}

// Tail returns the last n lines without terminal escapes, for error messages.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(Plain(c.String()), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Wait returns the submatches of the first line that matches pattern, which is
// held against each line without terminal escapes; a line that has not ended
// counts once it has been still for a second. It fails when ctx ends or the
// machine does, with the console's last lines.
func (c *Console) Wait(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	return c.WaitAfter(ctx, 0, pattern)
}

// WaitAfter is Wait for what was printed after the first n bytes (see
// [Console.Len]): a second boot, say.
func (c *Console) WaitAfter(ctx context.Context, n int, pattern *regexp.Regexp) ([]string, error) {
	start := c.now()
	seen := 0 // lines that do not match
	for {
		c.mu.Lock()
		for ; seen < len(c.lines); seen++ {
			text, ok := c.after(n, seen)
			if !ok {
				continue
			}
			if m := pattern.FindStringSubmatch(text); m != nil {
				c.mu.Unlock()
				return m, nil
			}
		}
		var m []string
		still := c.now().Sub(c.wrote)
		if begin := max(n, c.last.offset); begin < c.text.Len() {
			m = pattern.FindStringSubmatch(Plain(string(c.text.Bytes()[begin:])))
		}
		grown, ended := c.grown, c.ended
		c.mu.Unlock()

		var settled <-chan time.Time
		if m != nil {
			if ended || still >= stillTime {
				return m, nil
			}
			settled = time.After(stillTime - still)
		}
		if ended {
			return nil, fmt.Errorf("waiting for %q: the machine ended; its console's last lines:\n%s", pattern, c.Tail(40))
		}
		select {
		case <-grown:
		case <-settled:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q: nothing after %v (%w); the console's last lines:\n%s",
				pattern, c.now().Sub(start).Round(time.Second), ctx.Err(), c.Tail(40))
		}
	}
}

// after returns what of an ended line lies after the first n bytes of the
// text, if anything does. The caller holds c.mu.
func (c *Console) after(n, i int) (string, bool) {
	end := c.last.offset
	if i+1 < len(c.lines) {
		end = c.lines[i+1].offset
	}
	switch begin := c.lines[i].offset; {
	case begin >= n:
		return c.lines[i].Text, true
	case end > n:
		return Plain(strings.TrimSuffix(string(c.text.Bytes()[n:end]), "\n")), true
	}
	return "", false
}

// escapes are the terminal sequences that firmware and systemd print (ECMA-48
// control sequences, operating system commands, and character set choices).
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()][0-9A-Za-z]|\x1b[=>78cM]`)

// Plain removes terminal escapes and turns line ends into
// "\n".
func Plain(s string) string {
	s = escapes.ReplaceAllString(s, "")
	return strings.ReplaceAll(s, "\r", "")
}
