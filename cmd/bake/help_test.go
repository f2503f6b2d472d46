package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// TestHelpFits has the help of every command fit a terminal of 40 lines and 100 columns,
// with a line, a synopsis and, where it does something, an example.
func TestHelpFits(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return // cobra's
		}
		var b bytes.Buffer
		if err := writeHelp(&b, c); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) > 40 {
			t.Errorf("%s --help has %d lines; want 40 at most", c.CommandPath(), len(lines))
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > 100 {
				t.Errorf("%s --help has a line of %d columns; want 100 at most: %s", c.CommandPath(), utf8.RuneCountInString(line), line)
			}
		}
		if lines[0] != c.Short+"." || !strings.Contains(b.String(), "Usage:    "+c.CommandPath()) {
			t.Errorf("%s --help does not say what it does, and how:\n%s", c.CommandPath(), &b)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&host{}))
}
