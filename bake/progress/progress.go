// Package progress lets long work say how far it is, without knowing who
// watches: a terminal, a log or nobody.
package progress

// Sink is told of tasks. Its methods may be called from several goroutines.
type Sink interface {
	// Start begins a task. verb and name are shown: "fetch", "kubelet v1.36.3".
	// total is in bytes, 0 where it is not known.
	Start(verb, name string, total int64) Task
	// Note shows one line, such as a retry and its reason.
	Note(format string, args ...any)
}

// Task is one piece of work under way.
type Task interface {
	// Add reports n more bytes; a negative n takes back what must be done again.
	Add(n int64)
	// End closes the task; result is a word or two: "done", "cached", "failed".
	End(result string)
}

// Discard is a Sink that shows nothing.
type Discard struct{}

// Start implements Sink.
func (Discard) Start(string, string, int64) Task { return discardTask{} }

// Note implements Sink.
func (Discard) Note(string, ...any) {}

type discardTask struct{}

func (discardTask) Add(int64)  {}
func (discardTask) End(string) {}
