// Package progress lets long work say how far it is, without knowing who
// watches: a terminal, a log, a program or nobody.
//
// Work tells a [Sink] of its tasks, and of what only some sinks want to know by
// the functions [Expect], [Phase], [Detail] and [Explain]. A [Display] is a Sink
// that shows them in one of several forms; see [Config].
package progress

// Sink is told of tasks. Its methods may be called from several goroutines.
type Sink interface {
	// Start begins a task. verb and name are shown: "fetch", "kubelet v1.36.3".
	// total is in bytes, 0 where it is not known. The bytes of a "build" are those of
	// source, of which people see the percentage alone.
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

// Counter is a Sink that can be told how many tasks will come, so that it can
// write "3 of 12".
type Counter interface {
	// Expect says that n more tasks will be started, or -n fewer.
	Expect(n int)
}

// Expect tells sink that n more tasks will come, or -n fewer, if it cares.
func Expect(sink Sink, n int) {
	if c, ok := sink.(Counter); ok {
		c.Expect(n)
	}
}

// Phaser is a Sink that wants to know which step of a command is under way.
type Phaser interface {
	// Phase ends the phase before, if there is one, and begins another; "" begins
	// none. A phase that is not ended has failed.
	Phase(name string)
}

// Phase tells sink that the step called name begins, if it cares: see Phaser.
func Phase(sink Sink, name string) {
	if p, ok := sink.(Phaser); ok {
		p.Phase(name)
	}
}

// Detailer is a Task that can say what it is at.
type Detailer interface {
	// Detail replaces what was said before: "k8s.io/api/core/v1".
	Detail(text string)
}

// Detail tells task what it is at, if it cares.
func Detail(task Task, text string) {
	if d, ok := task.(Detailer); ok {
		d.Detail(text)
	}
}

// Explainer is a Sink that shows details where somebody asked for them.
type Explainer interface {
	// Explain is Note for what most people need not know.
	Explain(format string, args ...any)
}

// Explain shows one line with a detail, if sink cares.
func Explain(sink Sink, format string, args ...any) {
	if e, ok := sink.(Explainer); ok {
		e.Explain(format, args...)
	}
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
