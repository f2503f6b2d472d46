package progress

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// heartbeat is how often a log is told what runs: a log that stands still for
	// long looks like a program that hangs.
	heartbeat = 30 * time.Second
	// silent is how long a phase may take that has done nothing and is not worth a
	// line.
	silent = time.Second
)

// plain is lines for a log, without escape sequences.
type plain struct {
	w     io.Writer
	tasks int
	spoke time.Time // when the last line about phases and tasks was written
}

func (p *plain) every() time.Duration { return time.Second }

// line writes one line. An error of the log must not stop the work.
func (p *plain) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *plain) phase(b *board, ended *phase) {
	if ended == nil {
		return
	}
	took, what := b.now.Sub(ended.began), ended.summary()
	switch {
	case what != "":
		p.line("%s: %s in %s", ended.name, what, duration(took))
	case took >= silent:
		p.line("%s: done in %s", ended.name, duration(took))
	default:
		return
	}
	p.spoke = b.now
}

func (p *plain) start(*board, *task) {}

func (p *plain) end(*board, *task) {}

func (p *plain) note(_ *board, line string) { p.line("%s", line) }

// tick says every 30 seconds what runs: "fetch, 1m30s so far: 41 of 221 done;
// build kubelet v1.36.3 45% k8s.io/api/core/v1, fetch runc 1.4.3 3.1 MB of
// 10.7 MB and 6 more".
func (p *plain) tick(b *board) {
	if b.now.Sub(p.spoke) < heartbeat || b.current.name == "" && len(b.live) == 0 {
		return
	}
	p.spoke = b.now
	text := seconds(b.now.Sub(b.began)) + " so far: " + b.sofar()
	if b.current.name != "" {
		text = b.current.name + ", " + text
	}
	shown, more := b.shown(p.tasks)
	running := make([]string, len(shown))
	for i, t := range shown {
		running[i] = strings.Join(notEmpty(t.verb, t.name, t.amount(), t.at()), " ")
	}
	if len(running) > 0 {
		text += "; " + strings.Join(running, ", ")
	}
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	p.line("%s", text)
}

func (p *plain) close(*board) {}

// notEmpty returns those of texts that are not empty.
func notEmpty(texts ...string) (out []string) {
	for _, text := range texts {
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}
