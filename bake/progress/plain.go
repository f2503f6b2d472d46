package progress

import (
	"io"
	"slices"
	"sync"
	"time"
)

// heartbeat is after how long a task that still runs says so, again and again:
// a log that stands still for long looks like a program that hangs.
const heartbeat = 15 * time.Second

// Plain is a Display for logs: a numbered line for every task that ends, and
// one every 15 seconds for each that takes longer. It writes no escape
// sequences.
type Plain struct {
	now  func() time.Time
	stop chan struct{}
	done chan struct{} // closed when no line will come by itself

	mu     sync.Mutex
	w      io.Writer
	tally  tally
	live   []*plainTask // in the order in which they began
	closed bool
}

var _ Display = (*Plain)(nil)

// NewPlain returns a Plain that writes to w.
func NewPlain(w io.Writer, now func() time.Time) *Plain {
	p := newPlain(w, now)
	go p.beat()
	return p
}

func newPlain(w io.Writer, now func() time.Time) *Plain {
	return &Plain{now: now, w: w, stop: make(chan struct{}), done: make(chan struct{})}
}

type plainTask struct {
	task
	plain *Plain
	spoke time.Time // when its last line was written
}

// beat writes the heartbeats until the display is closed.
func (p *Plain) beat() {
	defer close(p.done)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.pulse()
		case <-p.stop:
			return
		}
	}
}

// pulse writes a line for each task that was silent for long.
func (p *Plain) pulse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, t := range p.live {
		if now.Sub(t.spoke) < heartbeat {
			continue
		}
		t.spoke = now
		amount := t.amount()
		if amount != "" {
			amount = " " + amount
		}
		p.line("%s %s%s, still running after %s", t.verb, t.name, amount, duration(now.Sub(t.began).Round(time.Second)))
	}
}

// line writes one line. An error of the log must not stop the work.
func (p *Plain) line(format string, args ...any) {
	if !p.closed {
		_, _ = io.WriteString(p.w, oneLine(format, args...))
	}
}

// Expect implements Counter.
func (p *Plain) Expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.expect(n)
}

// Start implements Sink.
func (p *Plain) Start(verb, name string, total int64) Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	t := &plainTask{task: task{verb: verb, name: name, total: total, began: now}, plain: p, spoke: now}
	p.tally.start()
	p.live = append(p.live, t)
	return t
}

// Note implements Sink.
func (p *Plain) Note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(format, args...)
}

// Close implements Display.
func (p *Plain) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.stop)
	<-p.done
	return nil
}

// End implements Task.
func (t *plainTask) End(result string) {
	t.once.Do(func() {
		p := t.plain
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.live, t); i >= 0 {
			p.live = slices.Delete(p.live, i, i+1)
		}
		p.line("%s %s", p.tally.end(), t.summary(result, p.now()))
	})
}
