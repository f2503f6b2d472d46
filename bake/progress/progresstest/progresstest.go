// Package progresstest records what people are told, for tests.
package progresstest

import (
	"fmt"
	"strings"
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
	On      func(event int)   // called with the number of each event, from 1; nil: nothing is
	OnStart func(verb string) // called before a task begins; nil: nothing is

	Counts
	Events        int
	ExpectedFirst int // how many tasks were announced when the first began
	Highest       int // how many were, at any time
	Tasks         []*Task

	mu           sync.Mutex
	ended, noted []string
}

// Counts are how many tasks were announced, began and ended.
type Counts struct{ Expected, Started, Ended int }

// Task is one of a Recorder.
type Task struct {
	Name        string // "fetch tool 1.0"
	Total, Done int64
	Result      string // "": it has not ended

	recorder *Recorder
}

var _ progress.Counter = (*Recorder)(nil)

// event changes r, and then tells the test of an event.
func (r *Recorder) event(change func()) {
	r.mu.Lock()
	change()
	r.Events++
	n := r.Events
	r.mu.Unlock()
	if r.On != nil {
		r.On(n)
	}
}

// Expect implements progress.Counter.
func (r *Recorder) Expect(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Expected += n
	r.Highest = max(r.Highest, r.Expected)
}

// Start implements progress.Sink.
func (r *Recorder) Start(verb, name string, total int64) progress.Task {
	if r.OnStart != nil {
		r.OnStart(verb)
	}
	task := &Task{Name: verb + " " + name, Total: total, recorder: r}
	r.event(func() {
		if r.Started == 0 {
			r.ExpectedFirst = r.Expected
		}
		r.Started++
		r.Tasks = append(r.Tasks, task)
	})
	return task
}

// Note implements progress.Sink.
func (r *Recorder) Note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	r.event(func() { r.ended, r.noted = append(r.ended, line), append(r.noted, line) })
}

// Add implements progress.Task.
func (t *Task) Add(n int64) { t.recorder.event(func() { t.Done += n }) }

// End implements progress.Task.
func (t *Task) End(result string) {
	t.recorder.event(func() {
		t.Result = result
		t.recorder.Ended++
		t.recorder.ended = append(t.recorder.ended, t.Name+" "+result)
	})
}

// Lines returns the tasks that ended, "fetch tool 1.0 done", and the notes, since
// the last call.
func (r *Recorder) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.ended
	r.ended = nil
	return lines
}

// Notes returns the notes since the last call.
func (r *Recorder) Notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := r.noted
	r.noted = nil
	return notes
}

// String has all notes so far, a line each.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.noted, "\n")
}
