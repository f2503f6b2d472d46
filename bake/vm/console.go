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

// Console keeps what a machine printed on its serial port. It is an io.Writer
// for whoever reads the port and is safe for concurrent use.
type Console struct {
	mu     sync.Mutex
	text   bytes.Buffer
	grown  chan struct{} // closed and replaced whenever text grows or the machine ends
	ended  bool
	copyTo io.Writer // may be nil
}

func newConsole(copyTo io.Writer) *Console {
	return &Console{grown: make(chan struct{}), copyTo: copyTo}
}

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p)
	if c.copyTo != nil {
		c.copyTo.Write(p)
	}
	c.signal()
	return len(p), nil
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

// Tail returns the last n lines without terminal escapes, for error messages.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(plain(c.String()), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Wait returns the submatches of the first line that matches pattern, which
// is matched against the text without terminal escapes. It fails when ctx ends
// or the machine does, with the console's last lines.
func (c *Console) Wait(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	start := time.Now()
	for {
		c.mu.Lock()
		text, grown, ended := c.text.String(), c.grown, c.ended
		c.mu.Unlock()
		if m := pattern.FindStringSubmatch(plain(text)); m != nil {
			return m, nil
		}
		if ended {
			return nil, fmt.Errorf("waiting for %q: the machine ended; its console's last lines:\n%s", pattern, c.Tail(40))
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q: nothing after %v (%w); the console's last lines:\n%s",
				pattern, time.Since(start).Round(time.Second), ctx.Err(), c.Tail(40))
		}
	}
}

// escapes are the terminal sequences that firmware and systemd print (ECMA-48
// control sequences, operating system commands, and character set choices).
var escapes = regexp.MustCompile(`\x1b\[[0-9;?=]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()][0-9A-Za-z]|\x1b[=>78cM]`)

// plain removes terminal escapes and turns line ends into "\n".
func plain(s string) string {
	s = escapes.ReplaceAllString(s, "")
	return strings.ReplaceAll(s, "\r", "")
}
