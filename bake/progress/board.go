package progress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nodebake/bake/bake/printable"
)

// board is what all forms know of the work.
type board struct {
	now      time.Time
	began    time.Time // when the display was made
	expected int       // tasks that were announced
	started  int
	live     []*task // in the order in which they began
	current  phase   // without a name: none is under way
	all      phase   // everything since the beginning
}

// start enters a task that begins.
func (b *board) start(t *task) {
	b.started++
	t.number, t.began, t.seen = b.started, b.now, b.now
	b.live = append(b.live, t)
}

// end enters the end of a task.
func (b *board) end(t *task) {
	if i := slices.Index(b.live, t); i >= 0 {
		b.live = slices.Delete(b.live, i, i+1)
	}
	b.current.count(t)
	b.all.count(t)
}

// sofar is how much of the work is done: "41 of 221 done", or "41 done" where
// nobody announced how many tasks there are.
func (b *board) sofar() string {
	if b.expected == 0 {
		return fmt.Sprintf("%d done", b.all.ended)
	}
	return fmt.Sprintf("%d of %d done", b.all.ended, max(b.expected, b.started))
}

// shown returns the first tasks that are live, at most most, and how many others
// there are. The first are those that take long.
func (b *board) shown(most int) (shown []*task, more int) {
	shown = b.live[:min(len(b.live), most)]
	return shown, len(b.live) - len(shown)
}

// phase is a step of the work, and the tasks that ended in it.
type phase struct {
	name   string
	began  time.Time
	ended  int
	groups []group
}

// group is tasks of one kind with one result.
type group struct {
	verb, result string
	tasks        int
	bytes        int64
}

func (p *phase) count(t *task) {
	p.ended++
	i := slices.IndexFunc(p.groups, func(g group) bool { return g.verb == t.verb && g.result == t.result })
	if i < 0 {
		i = len(p.groups)
		p.groups = append(p.groups, group{verb: t.verb, result: t.result})
	}
	p.groups[i].tasks++
	if t.countsBytes() {
		p.groups[i].bytes += t.bytes.Load()
	}
}

// summary is what ended: "120 fetched (213.4 MB), 98 unpacked, 1 compressed
// (cached, 804.3 MB)". It is "" where nothing did.
func (p *phase) summary() string {
	groups := slices.Clone(p.groups)
	slices.SortStableFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.tasks, a.tasks), cmp.Compare(a.verb, b.verb), cmp.Compare(a.result, b.result))
	})
	texts := make([]string, len(groups))
	for i, g := range groups {
		var more []string
		if g.result != "done" {
			more = append(more, g.result)
		}
		if g.bytes > 0 {
			more = append(more, Bytes(g.bytes))
		}
		texts[i] = fmt.Sprintf("%d %s", g.tasks, participle(g.verb))
		if len(more) > 0 {
			texts[i] += " (" + strings.Join(more, ", ") + ")"
		}
	}
	return strings.Join(texts, ", ")
}

// participle is what becomes of what a verb is done to.
func participle(verb string) string {
	switch verb {
	case "build":
		return "built"
	case "read":
		return "read"
	case "verify":
		return "verified"
	case "write":
		return "written"
	}
	return strings.TrimSuffix(verb, "e") + "ed"
}

// task is a Task of a Display.
type task struct {
	display    *Display
	verb, name string
	total      int64
	bytes      atomic.Int64
	detail     atomic.Pointer[string]
	once       sync.Once // End counts once

	// Of the board.
	number int
	began  time.Time
	result string
	took   time.Duration

	// What the last picture saw, for the rate.
	seen      time.Time
	seenBytes int64
	rate      float64 // bytes per second

	// What the last JSON line said.
	told       int64
	toldDetail string
}

func (t *task) Add(n int64) { t.bytes.Add(n) }

// Detail implements Detailer.
func (t *task) Detail(text string) {
	text = printable.String(text)
	t.detail.Store(&text)
}

func (t *task) at() string {
	if text := t.detail.Load(); text != nil {
		return *text
	}
	return ""
}

// End implements Task.
func (t *task) End(result string) {
	t.once.Do(func() {
		d := t.display
		d.do(func() {
			t.result, t.took = printable.String(result), d.board.now.Sub(t.began)
			d.board.end(t)
			d.form.end(&d.board, t)
		})
	})
}

// countsBytes reports whether the bytes of t mean something to people. What a
// build counts is source.
func (t *task) countsBytes() bool { return t.verb != "build" }

// amount is how far a task is: "31.0 MB of 93.1 MB", "45%".
func (t *task) amount() string {
	n := t.bytes.Load()
	switch {
	case !t.countsBytes():
		if t.total <= 0 {
			return ""
		}
		return fmt.Sprintf("%d%%", min(max(n, 0), t.total)*100/t.total)
	case t.total > 0:
		return Bytes(n) + " of " + Bytes(t.total)
	case n > 0:
		return Bytes(n)
	}
	return ""
}

// pace is how fast a task is, in bytes per second, smoothed over about three
// seconds, or since the beginning while that is less; where it has no bytes, how
// long it runs.
func (t *task) pace(now time.Time) string {
	const smooth = 3 // seconds
	n := t.bytes.Load()
	if dt := now.Sub(t.seen).Seconds(); dt > 0 {
		weight := min(dt/min(smooth, now.Sub(t.began).Seconds()), 1)
		t.rate += weight * (float64(max(n-t.seenBytes, 0))/dt - t.rate)
		t.seen, t.seenBytes = now, n
	}
	if n == 0 || !t.countsBytes() {
		return seconds(now.Sub(t.began))
	}
	return Bytes(int64(t.rate)) + "/s"
}
