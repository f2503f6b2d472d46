package gobuild

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/progress"
)

// logSink logs tasks, and remembers them.
type logSink struct {
	t     *testing.T
	mu    sync.Mutex
	tasks []*logTask
	notes []string
}

type logTask struct {
	sink        *logSink
	name        string
	total, done int64
	steps       int
	result      string
	shown       time.Time
}

func (s *logSink) Start(verb, name string, total int64) progress.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	task := &logTask{sink: s, name: verb + " " + name, total: total}
	s.tasks = append(s.tasks, task)
	s.t.Logf("%s: %d bytes", task.name, total)
	return task
}

func (s *logSink) Note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

func (t *logTask) Add(n int64) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.done += n
	t.steps++
	if time.Since(t.shown) > 10*time.Second {
		t.shown = time.Now()
		t.sink.t.Logf("%s: %d of %d", t.name, t.done, t.total)
	}
}

func (t *logTask) End(result string) {
	t.sink.mu.Lock()
	defer t.sink.mu.Unlock()
	t.result = result
	t.sink.t.Logf("%s: %s after %d steps, %d of %d bytes", t.name, result, t.steps, t.done, t.total)
}
