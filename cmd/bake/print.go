package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nodebake/bake/bake/printable"
)

// lines collects the lines of a result. What stands in a line may come from an
// image, a mirror or a server: it stays in its line, and is readable.
type lines struct{ text strings.Builder }

func (l *lines) add(format string, args ...any) {
	l.text.WriteString(printable.String(fmt.Sprintf(format, args...)))
	l.text.WriteByte('\n')
}

func (l *lines) print(w io.Writer) error {
	_, err := io.WriteString(w, l.text.String())
	return err
}

// note says on stderr what else there is to know.
func (h *host) note(format string, args ...any) {
	fmt.Fprintf(h.stderr, "note: %s\n", printable.String(fmt.Sprintf(format, args...)))
}

// row writes a line of a table: cells for a tabwriter.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		cells[i] = printable.String(c)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// problem is an error of one line, whatever it quotes.
type problem string

func (p problem) Error() string { return string(p) }

// report prints messages, each on lines of its own. Only a message begins a line
// with "bake: "; what else has a line break goes on below it, further in.
func report(w io.Writer, messages []message) {
	for _, m := range messages {
		begin := "bake: "
		for _, line := range m.lines() {
			if line = strings.TrimSpace(line); line != "" {
				fmt.Fprintf(w, "%s%s\n", begin, printable.String(line))
				begin = "bake:   "
			}
		}
	}
}

// message is the text of one error.
type message struct {
	text string
	one  bool // it is one line: what looks like the end of a line is quoted
}

func (m message) lines() []string {
	if m.one {
		return []string{m.text}
	}
	return strings.Split(m.text, "\n")
}

// messages takes an error apart into those that were joined: by errors.Join, or
// by a text that goes on in a new line behind another error. With verbose, those
// that are said in one line for having one cause are taken apart too.
func messages(err error, verbose bool) []message {
	text := err.Error()
	if d, ok := err.(interface{ Details() []error }); ok && verbose {
		var all []message
		for _, e := range d.Details() {
			all = append(all, messages(e, verbose)...)
		}
		return all
	}
	if _, ok := err.(problem); ok {
		return []message{{text, true}}
	}
	switch u := err.(type) {
	case interface{ Unwrap() []error }:
		if joined := errors.Join(u.Unwrap()...); joined == nil || joined.Error() != text {
			break // it has no errors, or says more than they do
		}
		var all []message
		for _, e := range u.Unwrap() {
			all = append(all, messages(e, verbose)...)
		}
		return all
	case interface{ Unwrap() error }:
		inner := u.Unwrap()
		if inner == nil || inner.Error() == "" {
			break
		}
		all := messages(inner, verbose)
		if rest, ok := strings.CutPrefix(text, inner.Error()+"\n"); ok {
			return append(all, message{text: rest})
		}
		if before, ok := strings.CutSuffix(text, inner.Error()); ok {
			all[0].text = before + all[0].text
			return all
		}
	}
	return []message{{text: text}}
}
