package bake_test

import (
	"fmt"
	"sync"

	"github.com/nodebake/bake/bake/progress"
)

// recorder is a progress.Sink that remembers what it was told, and may act at
// an event.
type recorder struct {
	on func(event int) // called with the number of each event, from 1; nil: nobody

	mu            sync.Mutex
	events        int
	ended         []string
	noted         []string
	expected      int
	expectedFirst int // when the first task began
	started       bool
}

var _ progress.Counter = (*recorder)(nil)

func (r *recorder) event() {
	r.mu.Lock()
	r.events++
	n := r.events
	r.mu.Unlock()
	if r.on != nil {
		r.on(n)
	}
}

// lines returns the tasks that ended, "fetch tool 1.0 done", and the notes,
// since the last call.
func (r *recorder) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.ended
	r.ended = nil
	return lines
}

func (r *recorder) add(line string) {
	r.mu.Lock()
	r.ended = append(r.ended, line)
	r.mu.Unlock()
	r.event()
}

// Expect implements progress.Counter.
func (r *recorder) Expect(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected += n
}

// Start implements progress.Sink.
func (r *recorder) Start(verb, name string, total int64) progress.Task {
	r.mu.Lock()
	if !r.started {
		r.started, r.expectedFirst = true, r.expected
	}
	r.mu.Unlock()
	r.event()
	return &recordedTask{r, verb + " " + name}
}

// Note implements progress.Sink.
func (r *recorder) Note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.noted = append(r.noted, line)
	r.mu.Unlock()
	r.add(line)
}

// notes returns the notes since the last call.
func (r *recorder) notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := r.noted
	r.noted = nil
	return notes
}

type recordedTask struct {
	*recorder
	name string
}

func (t *recordedTask) Add(int64)         { t.event() }
func (t *recordedTask) End(result string) { t.add(t.name + " " + result) }
