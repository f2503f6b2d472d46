package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/progress"
)

// shown are the flags that say what a command shows of its work, on stderr.
type shown struct {
	quiet, verbose bool
	form           progressForm
}

// addShownFlags adds them; quiet is what --quiet does.
func (h *host) addShownFlags(c *cobra.Command, quiet string) {
	f := c.Flags()
	f.BoolVarP(&h.shown.quiet, "quiet", "q", false, quiet)
	f.BoolVarP(&h.shown.verbose, "verbose", "v", false, "show details, such as every URL of what is unavailable")
	f.Var(&h.shown.form, "progress", "`FORM`: auto, plain, tty or json (docs/progress.md)")
}

// progressForm is the value of --progress.
type progressForm struct{ progress.Form }

// Set implements pflag.Value.
func (p *progressForm) Set(text string) (err error) {
	p.Form, err = progress.ParseForm(text)
	return err
}

// String implements pflag.Value.
func (p *progressForm) String() string {
	if p.Form == "" {
		return "auto"
	}
	return string(p.Form)
}

// Type implements pflag.Value.
func (p *progressForm) Type() string { return "form" }

// progress returns a display of long work on stderr, of as many tasks at once as
// work runs, and what ends it, which may be called more than once.
func (h *host) progress(tasks int) (progress.Sink, func()) {
	if h.shown.quiet {
		return progress.Discard{}, func() {}
	}
	form := h.shown.form.Form
	if form == "" && h.terminal && h.getenv("TERM") != "dumb" {
		form = progress.TTY
	}
	display := progress.New(progress.Config{
		W: h.stderr, Form: form, Now: h.now, Size: h.size, Tasks: tasks, Verbose: h.shown.verbose,
	})
	return display, display.Close
}

// say shows one line that is no progress, and no error.
func (h *host) say(text string) {
	h.write("note", message{text: text, one: true})
}

// report shows err, which may be several joined, each on lines of its own.
func (h *host) report(err error) {
	h.write("error", messages(err, h.shown.verbose)...)
}

// write shows messages as lines, or as JSON where progress is.
func (h *host) write(event string, messages ...message) {
	if h.shown.form.Form != progress.JSON {
		report(h.stderr, messages)
		return
	}
	for _, m := range messages {
		var lines []string
		for _, line := range m.lines() {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		progress.Event{Event: event, Seconds: h.now().Sub(h.began).Round(time.Millisecond).Seconds(), Text: strings.Join(lines, "\n")}.Write(h.stderr)
	}
}
