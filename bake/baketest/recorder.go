package baketest

import (
	"fmt"
	"sync"
	"time"

	"github.com/nodebake/bake/bake/progress"
)

// Prompt is how soon work must return once it is cancelled. The machine may be
// busy.
const Prompt = 10 * time.Second

// Recorder is a progress.Sink that remembers what it was told, and may act at
// an event.
type Recorder struct {
	On func(event int) // called with the number of each event, from 1; nil: nobody

	mu            sync.Mutex
	Events        int
	ended         []string
	noted         []string
	Expected      int
	ExpectedFirst int // when the first task began
	started       bool
}

var _ progress.Counter = (*Recorder)(nil)

func (r *Recorder) event() {
	r.mu.Lock()
	r.Events++
	n := r.Events
	r.mu.Unlock()
	if r.On != nil {
		r.On(n)
	}
}

// Lines returns the tasks that ended, "fetch tool 1.0 done", and the notes,
// since the last call.
func (r *Recorder) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.ended
	r.ended = nil
	return lines
}

func (r *Recorder) add(line string) {
	r.mu.Lock()
	r.ended = append(r.ended, line)
	r.mu.Unlock()
	r.event()
}

// Expect implements progress.Counter.
func (r *Recorder) Expect(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Expected += n
}

// Start implements progress.Sink.
func (r *Recorder) Start(verb, name string, total int64) progress.Task {
	r.mu.Lock()
	if !r.started {
		r.started, r.ExpectedFirst = true, r.Expected
	}
	r.mu.Unlock()
	r.event()
	return &recordedTask{r, verb + " " + name}
}

// Note implements progress.Sink.
func (r *Recorder) Note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.noted = append(r.noted, line)
	r.mu.Unlock()
	r.add(line)
}

// Notes returns the notes since the last call.
func (r *Recorder) Notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := r.noted
	r.noted = nil
	return notes
}

type recordedTask struct {
	*Recorder
	name string
}

func (t *recordedTask) Add(int64)         { t.event() }
func (t *recordedTask) End(result string) { t.add(t.name + " " + result) }
