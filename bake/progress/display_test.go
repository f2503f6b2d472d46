package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBytes(t *testing.T) {
	for _, test := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"},
		{999, "999 B"},
		{1000, "1.0 kB"},
		{999_949, "999.9 kB"},
		{999_950, "1.0 MB"},
		{93_123_456, "93.1 MB"},
		{3_221_225_472, "3.2 GB"},
		{math.MaxInt64, "9.2 EB"},
		{-1500, "-1.5 kB"},
	} {
		if got := Bytes(test.n); got != test.want {
			t.Errorf("Bytes(%d) = %q; want %q", test.n, got, test.want)
		}
	}
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// newTest returns a display without a ticker, and what it writes to.
func newTest(c Config) (*Display, *bytes.Buffer) {
	var out bytes.Buffer
	c.W = &out
	d := newDisplay(c)
	close(d.done) // nothing beats but us
	return d, &out
}

// TestPlain follows a run in a log: a line when a phase ends, and one every 30
// seconds.
func TestPlain(t *testing.T) {
	c := newClock()
	d, out := newTest(Config{Now: c.now, Tasks: 2})

	d.Phase("plan")
	c.pass(400 * time.Millisecond)
	d.Phase("fetch")
	d.Expect(10)
	kubelet := d.Start("fetch", "kubelet v1.36.3", 93_123_456)
	runc := d.Start("fetch", "runc 1.4.3", 0)
	build := d.Start("build", "containerd 2.3.4", 1000)
	runc.Add(10_700_000)
	runc.End("done")
	runc.End("twice")
	kubelet.Add(31_000_000)
	c.pass(29 * time.Second)
	d.tick()
	c.pass(time.Second)
	d.tick()
	d.tick()
	d.Note("kubelet v1.36.3: %v; retry in %v", "503 Service Unavailable", 2*time.Second)
	d.Explain("nobody wants to know")
	kubelet.Add(-31_000_000)
	kubelet.Add(93_123_456)
	kubelet.End("done")
	build.Add(450)
	Detail(build, "github.com/containerd/containerd/v2/core/mount")
	other := d.Start("unpack", "tool 1.0", 0)
	third := d.Start("unpack", "bash 5.2.37-2", 0)
	c.pass(30 * time.Second)
	d.tick()
	build.End("done")
	other.End("done")
	third.End("failed")
	c.pass(time.Minute)
	d.Phase("compose")
	c.pass(2 * time.Second)
	d.Phase("write")
	written := d.Start("compress", "disk.raw", 1000)
	written.Add(1000)
	written.End("cached")
	d.Phase("")
	c.pass(time.Minute)
	d.tick() // nothing is under way
	d.Phase("never ends")
	d.Close()
	d.Close()
	d.Note("after the end")

	want := `fetch, 30s so far: 1 of 10 done; fetch kubelet v1.36.3 31.0 MB of 93.1 MB, build containerd 2.3.4 0%
kubelet v1.36.3: 503 Service Unavailable; retry in 2s
fetch, 1m0s so far: 2 of 10 done; build containerd 2.3.4 45% github.com/containerd/containerd/v2/core/mount, unpack tool 1.0 and 1 more
fetch: 2 fetched (103.8 MB), 1 built, 1 unpacked, 1 unpacked (failed) in 2m0s
compose: done in 2.0s
write: 1 compressed (cached, 1.0 kB) in 0.0s
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestJSON follows a run line by line.
func TestJSON(t *testing.T) {
	c := newClock()
	d, out := newTest(Config{Form: JSON, Now: c.now, Verbose: true})
	d.Phase("fetch")
	d.Expect(2)
	c.pass(500 * time.Millisecond)
	build := d.Start("build", "runc 1.4.3", 1000)
	d.tick()
	build.Add(100)
	Detail(build, "github.com/opencontainers/runc/libcontainer")
	c.pass(time.Second)
	d.tick()
	d.tick()
	d.Explain("a %s", "detail\x1b[2J\n")
	build.Add(900)
	build.End("done")
	d.Phase("")
	d.Close()

	want := `{"event":"phase","seconds":0,"phase":"fetch"}
{"event":"start","seconds":0.5,"phase":"fetch","task":1,"verb":"build","name":"runc 1.4.3","total":1000,"expected":2}
{"event":"progress","seconds":1.5,"phase":"fetch","task":1,"verb":"build","name":"runc 1.4.3","detail":"github.com/opencontainers/runc/libcontainer","bytes":100,"total":1000}
{"event":"note","seconds":1.5,"phase":"fetch","text":"a detail\\x1b[2J\\n"}
{"event":"end","seconds":1.5,"phase":"fetch","task":1,"verb":"build","name":"runc 1.4.3","detail":"github.com/opencontainers/runc/libcontainer","bytes":1000,"total":1000,"result":"done","took":1,"ended":1,"expected":2}
{"event":"phase-end","seconds":1.5,"phase":"fetch","took":1.5,"ended":1,"expected":2}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for line := range strings.Lines(out.String()) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%q is no object: %v", line, err)
		}
	}
}

func TestParseForm(t *testing.T) {
	for name, want := range map[string]Form{"auto": "", "plain": Plain, "tty": TTY, "json": JSON} {
		if got, err := ParseForm(name); got != want || err != nil {
			t.Errorf("ParseForm(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", "rawjson", "TTY"} {
		if got, err := ParseForm(name); err == nil {
			t.Errorf("ParseForm(%q) = %q; want an error", name, got)
		}
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestDisplaysConcurrently(t *testing.T) {
	for _, form := range []Form{Plain, TTY, JSON} {
		t.Run(string(form), func(t *testing.T) {
			var out buffer
			d := New(Config{W: &out, Form: form, Now: time.Now})
			const tasks = 50
			Phase(d, "fetch")
			Expect(d, tasks)
			var wg sync.WaitGroup
			for i := range tasks {
				wg.Go(func() {
					task := d.Start("fetch", fmt.Sprint("file ", i), int64(i%3)*1000)
					for range 100 {
						task.Add(1000) // more than was announced
						Detail(task, "x")
					}
					d.Note("note %d", i)
					task.End("done")
				})
			}
			wg.Wait()
			Phase(d, "")
			d.Close()
			want := map[Form]string{
				Plain: "fetch: 50 fetched (5.0 MB) in ",
				TTY:   "50 of 50 done in ",
				JSON:  `"ended":50,"expected":50`,
			}[form]
			if !strings.Contains(out.String(), want) {
				t.Errorf("output lacks %q:\n%s", want, out.String())
			}
		})
	}
}

// TestTicks has a display show what changes by itself.
func TestTicks(t *testing.T) {
	var out buffer
	d := New(Config{W: &out, Form: TTY, Now: time.Now})
	defer d.Close()
	d.Start("fetch", "kubelet", 100).Add(50)
	for range 100 {
		if strings.Contains(out.String(), "50 B of 100 B") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("nothing is shown after 5 s; output: %q", out.String())
}

func TestDiscardAndFailingWriter(t *testing.T) {
	Expect(Discard{}, 3) // does nothing, as do these
	Phase(Discard{}, "x")
	Explain(Discard{}, "x")
	task := Discard{}.Start("fetch", "x", 0)
	Detail(task, "x")
	task.End("done")
	for _, form := range []Form{Plain, TTY, JSON} {
		d := New(Config{W: failing{}, Form: form, Now: time.Now})
		d.Note("lost")
		d.Start("fetch", "x", 0).End("done")
		d.Close()
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestQuotes notes what a server said, and shows what an image is called.
func TestQuotes(t *testing.T) {
	d, out := newTest(Config{Now: newClock().now})
	d.Note("%s: %v", "a\x1b[2J\nb", errors.Join(errors.New("one\u202e"), errors.New("two")))
	d.Phase("read")
	d.Start("read", "w\x1b]0;x\a", 0).End("d\x1b")
	d.Phase("")
	want := `a\x1b[2J\nb: one\u202e; two` + "\n" + `read: 1 read (d\x1b) in 0.0s` + "\n"
	if got := out.String(); got != want {
		t.Errorf("lines are %q; want %q", got, want)
	}
}
