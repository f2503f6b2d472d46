package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
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

func TestPlain(t *testing.T) {
	var out buffer
	c := newClock()
	p := newPlain(&out, c.now)
	close(p.done) // nothing beats but us

	p.Expect(10)
	kubelet := p.Start("fetch", "kubelet v1.36.3", 93_123_456)
	runc := p.Start("fetch", "runc 1.4.3", 0)
	build := p.Start("build", "containerd 2.3.4", 0)
	runc.Add(10_700_000)
	c.pass(1200 * time.Millisecond)
	runc.End("done")
	runc.End("twice")
	p.pulse()
	kubelet.Add(31_000_000)
	c.pass(14 * time.Second)
	p.pulse()
	p.pulse()
	p.Note("kubelet v1.36.3: %v; trying again in %v", "503 Service Unavailable", 2*time.Second)
	kubelet.Add(-31_000_000)
	kubelet.Add(93_123_456)
	c.pass(time.Second)
	p.pulse()
	kubelet.End("done")
	c.pass(2 * time.Minute)
	build.End("failed")
	if err := p.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	p.Note("after the end")

	want := `[ 1/10] fetch runc 1.4.3 10.7 MB done in 1.2s
fetch kubelet v1.36.3 31.0 MB of 93.1 MB, still running after 15.0s
build containerd 2.3.4, still running after 15.0s
kubelet v1.36.3: 503 Service Unavailable; trying again in 2s
[ 2/10] fetch kubelet v1.36.3 93.1 MB done in 16.2s
[ 3/10] build containerd 2.3.4 failed in 2m16s
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestPlainWithoutExpect(t *testing.T) {
	var out buffer
	p := NewPlain(&out, newClock().now)
	defer p.Close()
	p.Start("unpack", "cni", 0).End("cached")
	if got, want := out.String(), "[1] unpack cni cached in 0.0s\n"; got != want {
		t.Errorf("lines = %q; want %q", got, want)
	}
}

// screen shows what a terminal shows after output: it knows the sequences that
// the display writes, cursor up and erase below, and refuses others.
func screen(t *testing.T, output string) string {
	t.Helper()
	var lines []string
	row := 0
	sequence := regexp.MustCompile(`^\x1b\[(\d*)([AJ])`)
	put := func(s string) {
		for len(lines) <= row {
			lines = append(lines, "")
		}
		lines[row] += s
	}
	for output != "" {
		if m := sequence.FindStringSubmatch(output); m != nil {
			output = output[len(m[0]):]
			if m[2] == "A" {
				n, _ := strconv.Atoi(m[1])
				row -= n
			} else {
				lines = lines[:min(row, len(lines))]
			}
			continue
		}
		switch output[0] {
		case '\n':
			put("")
			row++
		case 0x1b:
			t.Fatalf("unknown sequence in %q", output[:min(20, len(output))])
		default:
			put(output[:1])
		}
		output = output[1:]
	}
	return strings.Join(lines, "\n")
}

func TestTerminal(t *testing.T) {
	var out buffer
	c := newClock()
	d := NewTerminal(&out, c.now)
	d.Expect(2)
	kubelet := d.Start("fetch", "kubelet v1.36.3", 93_123_456)
	runc := d.Start("fetch", "runc 1.4.3", 0)
	runc.Add(10_700_000)
	kubelet.Add(31_000_000)
	c.pass(1500 * time.Millisecond)
	waitFor(t, &out, "31.0 MB of 93.1 MB")
	waitFor(t, &out, "10.7 MB ")
	runc.End("done")
	waitFor(t, &out, "[1/2] fetch runc 1.4.3 10.7 MB done in 1.5s\n")
	d.Note("kubelet v1.36.3: %s", "connection reset")
	kubelet.Add(-31_000_000)
	kubelet.Add(93_123_456)
	kubelet.End("done")
	left := d.Start("compose", "never ends", 100)
	left.Add(50)
	if err := d.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	left.Add(50)
	left.End("late")
	d.Start("after", "Close", 1).End("done")

	want := `[1/2] fetch runc 1.4.3 10.7 MB done in 1.5s
kubelet v1.36.3: connection reset
[2/2] fetch kubelet v1.36.3 93.1 MB done in 1.5s`
	if diff := cmp.Diff(want, screen(t, out.String())); diff != "" {
		t.Errorf("screen at the end (-want +got):\n%s", diff)
	}
}

func waitFor(t *testing.T, out *buffer, want string) {
	t.Helper()
	for range 100 {
		if strings.Contains(out.String(), want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%q is not shown after 5 s; output:\n%q", want, out.String())
}

func TestDisplaysConcurrently(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		t.Run(fmt.Sprint(terminal), func(t *testing.T) {
			var out buffer
			d := NewDisplay(&out, terminal, time.Now)
			const tasks = 50
			Expect(d, tasks)
			var wg sync.WaitGroup
			for i := range tasks {
				wg.Go(func() {
					task := d.Start("fetch", fmt.Sprint("file ", i), int64(i%3)*1000)
					for range 100 {
						task.Add(1000) // more than was announced
					}
					d.Note("note %d", i)
					task.End("done")
				})
			}
			wg.Wait()
			if err := d.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
			if got := strings.Count(out.String(), "100.0 kB done in"); got != tasks {
				t.Errorf("%d tasks ended on the display; want %d", got, tasks)
			}
			if !strings.Contains(out.String(), "[50/50] ") {
				t.Error("no line says [50/50]")
			}
		})
	}
}

func TestDiscardAndFailingWriter(t *testing.T) {
	Expect(Discard{}, 3) // does nothing
	Discard{}.Start("fetch", "x", 0).End("done")
	p := NewPlain(failing{}, time.Now)
	p.Note("lost")
	p.Start("fetch", "x", 0).End("done")
	if err := p.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestQuotes notes what a server said, and shows what an image is called.
func TestQuotes(t *testing.T) {
	var b bytes.Buffer
	p := newPlain(&b, func() time.Time { return time.Time{} })
	p.Note("%s: %v", "a\x1b[2J\nb", errors.Join(errors.New("one\u202e"), errors.New("two")))
	p.Start("read", "w\x1b]0;x\a", 0).End("done")
	want := `a\x1b[2J\nb: one\u202e; two` + "\n" + `[1] read w\x1b]0;x\x07 done in 0.0s` + "\n"
	if got := b.String(); got != want {
		t.Errorf("lines are %q; want %q", got, want)
	}
}
