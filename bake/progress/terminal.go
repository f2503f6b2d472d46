package progress

import (
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/nodebake/bake/bake/printable"
)

// refresh is the time between two pictures, barWidth the columns of a bar.
const (
	refresh  = 120 * time.Millisecond
	barWidth = 24
)

// Terminal is a Display for people: a bar for every task under way, while the
// lines of those that ended scroll above.
type Terminal struct {
	now  func() time.Time
	bars *mpb.Progress

	mu    sync.Mutex
	tally tally
	live  map[*terminalTask]bool
}

var _ Display = (*Terminal)(nil)

// NewTerminal returns a Terminal that draws on w. Its width is that of the
// terminal if w is one, else 80 columns.
func NewTerminal(w io.Writer, now func() time.Time) *Terminal {
	return &Terminal{
		now:  now,
		live: map[*terminalTask]bool{},
		bars: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(refresh)),
	}
}

type terminalTask struct {
	task
	terminal *Terminal
	bar      *mpb.Bar
}

func (t *terminalTask) Add(n int64) {
	t.task.Add(n)
	t.bar.SetCurrent(t.bytes.Load())
}

// Expect implements Counter.
func (t *Terminal) Expect(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.expect(n)
}

// Start implements Sink.
func (t *Terminal) Start(verb, name string, total int64) Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	task := &terminalTask{task: task{verb: verb, name: name, total: total, began: t.now()}, terminal: t}
	shown := printable.String(verb + " " + name)
	label := func(decor.Statistics) string { return shown }
	amount := func(decor.Statistics) string { return task.amount() }
	options := []mpb.BarOption{
		mpb.BarRemoveOnComplete(),
		mpb.BarWidth(barWidth),
		mpb.PrependDecorators(decor.Any(label, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(
			decor.Any(amount, decor.WCSyncSpace),
			decor.Any(task.rate(t.now), decor.WCSyncSpace),
		),
	}
	// A total of 0 keeps mpb from ending the bar by itself, here and with a
	// total that turns out too small: End does that.
	filler := mpb.SpinnerStyle().Build()
	if total > 0 {
		filler = mpb.BarStyle().Build()
	}
	bar, err := t.bars.Add(0, filler, options...)
	if err != nil {
		return discardTask{} // closed
	}
	if total > 0 {
		bar.SetTotal(total, false)
	}
	task.bar = bar
	t.tally.start()
	t.live[task] = true
	return task
}

// rate returns a decorator's text: bytes per second, smoothed over about three
// seconds, or since the beginning while that is less.
func (t *task) rate(now func() time.Time) func(decor.Statistics) string {
	const smooth = 3 // seconds
	last, seen, rate := t.began, int64(0), 0.0
	return func(decor.Statistics) string {
		at, n := now(), t.bytes.Load()
		if dt := at.Sub(last).Seconds(); dt > 0 {
			weight := min(dt/min(smooth, at.Sub(t.began).Seconds()), 1)
			rate += weight * (float64(max(n-seen, 0))/dt - rate)
			last, seen = at, n
		}
		if n == 0 {
			return duration(at.Sub(t.began))
		}
		return Bytes(int64(rate)) + "/s"
	}
}

// Note implements Sink.
func (t *Terminal) Note(format string, args ...any) {
	// Where the display is closed there is nobody to tell.
	_, _ = io.WriteString(t.bars, oneLine(format, args...))
}

// Close implements Display.
func (t *Terminal) Close() error {
	t.mu.Lock()
	for task := range t.live {
		task.bar.Abort(true)
	}
	clear(t.live)
	t.mu.Unlock()
	t.bars.Wait()
	return nil
}

// End implements Task.
func (t *terminalTask) End(result string) {
	t.once.Do(func() {
		term := t.terminal
		term.mu.Lock()
		defer term.mu.Unlock()
		delete(term.live, t)
		term.Note("%s %s", term.tally.end(), t.summary(result, term.now()))
		t.bar.Abort(true)
	})
}
