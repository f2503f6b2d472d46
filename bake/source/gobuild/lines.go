package gobuild

import (
	"bytes"
	"io"
)

// tailLines is how many of a failed command's last lines an error shows.
const tailLines = 20

// maxLine bounds what is kept of a line, in bytes.
const maxLine = 4096

// lineWriter passes what is written to it on to w and shows it to watch line
// by line.
type lineWriter struct {
	w     io.Writer
	watch func(line string) bool // nil: every line is worth showing
	tail  []string               // the last lines worth showing
	rest  []byte                 // an unfinished line
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	for data := p[:n]; len(data) > 0; {
		line, after, ended := bytes.Cut(data, []byte("\n"))
		if room := maxLine - len(l.rest); room > 0 {
			l.rest = append(l.rest, line[:min(len(line), room)]...)
		}
		if ended {
			l.flush()
		}
		data = after
	}
	return n, err
}

// flush ends an unfinished line.
func (l *lineWriter) flush() {
	if len(l.rest) == 0 {
		return
	}
	line := string(l.rest)
	l.rest = l.rest[:0]
	if l.watch != nil && !l.watch(line) {
		return
	}
	if len(l.tail) == tailLines {
		l.tail = append(l.tail[:0], l.tail[1:]...)
	}
	l.tail = append(l.tail, line)
}
