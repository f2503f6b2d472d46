package progress

import (
	"encoding/json"
	"io"
	"time"
)

// Event is a line of the form JSON: see docs/progress.md. What is 0 or empty is
// left out.
type Event struct {
	Event    string  `json:"event"`              // "phase", "phase-end", "start", "progress", "end", "note" or "error"
	Seconds  float64 `json:"seconds"`            // since the beginning
	Phase    string  `json:"phase,omitempty"`    // the one that is under way
	Task     int     `json:"task,omitempty"`     // its number, from 1
	Verb     string  `json:"verb,omitempty"`     // "fetch"
	Name     string  `json:"name,omitempty"`     // "kubelet v1.36.3"
	Detail   string  `json:"detail,omitempty"`   // what the task is at
	Bytes    int64   `json:"bytes,omitempty"`    // done; of a build: bytes of source
	Total    int64   `json:"total,omitempty"`    // bytes, where that is known
	Result   string  `json:"result,omitempty"`   // of a task: "done", "cached", "there", "failed"
	Took     float64 `json:"took,omitempty"`     // seconds, of a task or phase that ended
	Ended    int     `json:"ended,omitempty"`    // tasks, since the beginning
	Expected int     `json:"expected,omitempty"` // tasks, as far as is known by now
	Text     string  `json:"text,omitempty"`     // of a note or an error
}

// Write writes e as a line. An error of the log must not stop the work.
func (e Event) Write(w io.Writer) {
	line, err := json.Marshal(e)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	_, _ = w.Write(append(line, '\n'))
}

// jsonLines is an object on a line for every event.
type jsonLines struct{ w io.Writer }

func (j *jsonLines) every() time.Duration { return time.Second }

func (j *jsonLines) write(b *board, e Event) {
	e.Seconds = milli(b.now.Sub(b.began))
	if e.Phase == "" {
		e.Phase = b.current.name
	}
	e.Write(j.w)
}

// milli is d in seconds, to the millisecond.
func milli(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func (j *jsonLines) phase(b *board, ended *phase) {
	if ended == nil {
		j.write(b, Event{Event: "phase"})
		return
	}
	j.write(b, Event{Event: "phase-end", Phase: ended.name, Took: milli(b.now.Sub(ended.began)), Ended: b.all.ended, Expected: b.expected})
}

// task is an event of t.
func (j *jsonLines) task(b *board, t *task, e Event) {
	t.told, t.toldDetail = t.bytes.Load(), t.at()
	e.Task, e.Verb, e.Name, e.Total = t.number, t.verb, t.name, t.total
	e.Bytes, e.Detail = t.told, t.toldDetail
	j.write(b, e)
}

func (j *jsonLines) start(b *board, t *task) {
	j.task(b, t, Event{Event: "start", Expected: b.expected})
}

func (j *jsonLines) end(b *board, t *task) {
	j.task(b, t, Event{Event: "end", Result: t.result, Took: milli(t.took), Ended: b.all.ended, Expected: b.expected})
}

func (j *jsonLines) note(b *board, line string) { j.write(b, Event{Event: "note", Text: line}) }

// tick says of each task how far it is, if that has changed.
func (j *jsonLines) tick(b *board) {
	for _, t := range b.live {
		if t.bytes.Load() != t.told || t.at() != t.toldDetail {
			j.task(b, t, Event{Event: "progress"})
		}
	}
}

func (j *jsonLines) close(*board) {}
