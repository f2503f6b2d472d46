// Package walk runs the commands that a document shows, in its order, and
// compares what they print with what it shows of that.
//
// A command is a line that begins with "$ " in an indented block. The lines below
// it are some of those that it prints, in their order. A comment says where it
// fails: "# exits with 4", or "# exits with 0 or 4".
package walk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Step is a command of a document.
type Step struct {
	Command string
	Codes   []int    // it exits with one of these
	Prints  []string // among other lines
}

// Parse returns the commands of a document.
func Parse(text string) []Step {
	exits := regexp.MustCompile(` +# exits with (\d+)(?: or (\d+))?$`)
	var all []Step
	shown := false // the line before is of a command
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case indented && begins:
			s := Step{Command: exits.ReplaceAllString(command, ""), Codes: []int{0}}
			if m := exits.FindStringSubmatch(command); m != nil {
				s.Codes = nil
				for _, digits := range m[1:] {
					if code, err := strconv.Atoi(digits); err == nil {
						s.Codes = append(s.Codes, code)
					}
				}
			}
			all, shown = append(all, s), true
		case indented && shown:
			last := &all[len(all)-1]
			last.Prints = append(last.Prints, line)
		default:
			shown = false
		}
	}
	return all
}

// Shell is bash in a directory: what a command sets is there for the next one.
type Shell struct {
	t     testing.TB
	stdin io.Writer
	out   *bufio.Reader
}

// Start starts a shell that ends with the test. env is its whole environment.
func Start(t testing.TB, dir string, env []string) *Shell {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, time.Second
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); writer.Close(); close(ended) }()
	t.Cleanup(func() { cancel(); reader.Close(); <-ended })
	return &Shell{t: t, stdin: stdin, out: bufio.NewReader(reader)}
}

// mark is how the line begins that ends what a command prints.
const mark = "the command has ended with "

// Run runs a command and returns what it prints, and its exit code.
func (s *Shell) Run(command string) (string, int) {
	s.t.Helper()
	quoted := "'" + strings.ReplaceAll(command, "'", `'\''`) + "'"
	if _, err := fmt.Fprintf(s.stdin, "eval %s </dev/null\nprintf '\\n%s%%d\\n' $?\n", quoted, mark); err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if digits, ended := strings.CutPrefix(line, mark); ended && err == nil {
			code, err := strconv.Atoi(strings.TrimSpace(digits))
			if err != nil {
				s.t.Fatal(err)
			}
			return strings.TrimSuffix(out.String(), "\n"), code
		}
		out.WriteString(line)
		if err != nil {
			s.t.Fatalf("%s: the shell has ended: %v\n%s", command, err, out.String())
		}
	}
}

// Do runs the command of a step. Another exit code ends the test, and a line that
// is not printed fails it; likely takes from both what may differ. It returns what
// is printed.
func (s *Shell) Do(step Step, likely func(string) string) string {
	s.t.Helper()
	from := time.Now()
	out, code := s.Run(step.Command)
	s.t.Logf("%5.1f s  %s", time.Since(from).Seconds(), step.Command)
	if !slices.Contains(step.Codes, code) {
		s.t.Fatalf("%s exits with %d; want %v:\n%s", step.Command, code, step.Codes, out)
	}
	rest := likely(out)
	for _, want := range step.Prints {
		_, after, found := strings.Cut(rest, likely(want))
		if !found {
			s.t.Errorf("%s prints\n%s\nwhere the document has\n%s", step.Command, out, want)
			break
		}
		rest = after
	}
	return out
}
