package progress

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newTTY returns a display on s without a ticker.
func newTTY(s *screen, c *clock, tasks int) *Display {
	d := newDisplay(Config{W: s, Form: TTY, Now: c.now, Size: s.size, Tasks: tasks})
	close(d.done) // nothing beats but us
	return d
}

// work gives d something to show: a build, downloads, a name in wide characters.
func work(d *Display, c *clock) (build, fetch, wide Task) {
	d.Phase("fetch")
	d.Expect(221)
	build = d.Start("build", "kubelet v1.36.3", 9_000_000)
	build.Add(4_050_000)
	Detail(build, "k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology")
	fetch = d.Start("fetch", "linux-image-6.12.118+deb13-cloud-amd64-unsigned 6.12.118-1", 93_123_456)
	wide = d.Start("unpack", "日本語の名前 1.0", 1_000_000)
	for i := range 40 {
		d.Start("fetch", fmt.Sprint("file ", i), 0).End("done")
	}
	c.pass(83 * time.Second)
	fetch.Add(31_000_000)
	wide.Add(500_000)
	return build, fetch, wide
}

// TestPicture compares pictures of three widths.
func TestPicture(t *testing.T) {
	for _, test := range []struct {
		columns int
		want    string
	}{
		{60, ` 1m23s  fetch  40 of 221 done, 3 running
   build kubelet v1.36.3                    45%       1m23s
   fetch linux-image-6.1...  31.0 MB of 93.1 MB  373.5 kB/s
   unpack 日本語の名前 1.0   500.0 kB of 1.0 MB    6.0 kB/s
`},
		{80, ` 1m23s  fetch  40 of 221 done, 3 running
   build kubelet v1.36.3                      45%       1m23s  ...ager/topology
   fetch linux-image-6.1...    31.0 MB of 93.1 MB  373.5 kB/s
   unpack 日本語の名前 1.0     500.0 kB of 1.0 MB    6.0 kB/s
`},
		{200, ` 1m23s  fetch  40 of 221 done, 3 running
   build kubelet v1.36.3                                                              45%       1m23s  k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology
   fetch linux-image-6.12.118+deb13-cloud-amd64-unsigned 6.12.118-1    31.0 MB of 93.1 MB  373.5 kB/s
   unpack 日本語の名前 1.0                                             500.0 kB of 1.0 MB    6.0 kB/s
`},
	} {
		t.Run(fmt.Sprint(test.columns), func(t *testing.T) {
			s, c := newScreen(t, test.columns, 24, true), newClock()
			d := newTTY(s, c, 3)
			work(d, c)
			d.tick()
			if diff := cmp.Diff(test.want, s.String()+"\n"); diff != "" {
				t.Errorf("screen (-want +got):\n%s", diff)
			}
			if s.widest >= test.columns {
				t.Errorf("a line has %d columns; want less than %d", s.widest, test.columns)
			}
		})
	}
}

// TestPictureSmall draws on terminals that are too small for anything.
func TestPictureSmall(t *testing.T) {
	for columns := 1; columns < 60; columns++ {
		for rows := 1; rows < 6; rows++ {
			s, c := newScreen(t, columns, rows, true), newClock()
			d := newTTY(s, c, 3)
			work(d, c)
			d.tick()
			d.tick()
			if s.widest >= max(columns, 2) || len(s.lines) > max(rows, 1) {
				t.Errorf("on a terminal of %d by %d the picture is %d wide and %d high:\n%s", columns, rows, s.widest, len(s.lines), s)
			}
		}
	}
}

// TestResize changes the size of terminals at any moment: what is on them
// afterwards are the notes and one picture.
func TestResize(t *testing.T) {
	for _, reflows := range []bool{true, false} {
		for seed := range uint64(50) {
			t.Run(fmt.Sprintf("reflows=%v/%d", reflows, seed), func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				s, c := newScreen(t, 100, 30, reflows), newClock()
				fmt.Fprint(s, "$ bake image --versions versions.yaml\r\n")
				d := newTTY(s, c, 4)
				_, fetch, _ := work(d, c)
				want := []string{"$ bake image --versions versions.yaml"}
				for i := range 40 {
					switch random.IntN(5) {
					case 4:
						fmt.Fprint(s, "^C") // typed, and shown where the cursor is
					case 0:
						note := fmt.Sprintf("note %d: %s", i, strings.Repeat("word ", random.IntN(30)))
						d.Note("%s", note)
						want = append(want, strings.TrimRight(note, " "))
					case 1:
						fetch.Add(100_000)
						c.pass(time.Second)
						d.tick()
					default:
						s.resize(20+random.IntN(180), 8+random.IntN(40))
						if random.IntN(2) == 0 {
							d.tick()
						}
					}
				}
				c.pass(time.Second)
				d.tick()
				columns, rows := s.size()
				picture := strings.Join(picture(&d.board, columns, rows, 4), "\n")
				if diff := cmp.Diff(picture, s.below()); diff != "" {
					t.Errorf("below the cursor (-want +got):\n%s", diff)
				}
				switch {
				case reflows:
					if diff := cmp.Diff(strings.Join(want, "\n"), s.above()); diff != "" {
						t.Errorf("above the cursor (-want +got):\n%s", diff)
					}
				default: // lines are cut for good, but they are those
					for i, line := range strings.Split(s.above(), "\n") {
						if !strings.HasPrefix(line, "$ ") && !strings.HasPrefix(line, "note ") && strings.Trim(line, "word ") != "" {
							t.Errorf("line %d above the cursor is %q; want a note", i, line)
						}
					}
				}
				if seed%2 == 0 {
					d.board.all = phase{} // an end without a line
				}
				d.Close()
				if strings.Contains(s.String(), "running") || s.below() != "" {
					t.Errorf("after Close there is some of the picture:\n%s", s)
				}
			})
		}
	}
}

// TestResizeWhileDrawing has the size change between asking for it and drawing.
func TestResizeWhileDrawing(t *testing.T) {
	for _, reflows := range []bool{true, false} {
		s, c := newScreen(t, 60, 24, reflows), newClock()
		d := newDisplay(Config{W: s, Form: TTY, Now: c.now, Tasks: 3, Size: func() (int, int) {
			columns, rows := s.size()
			if columns == 60 {
				return 120, rows // as it was just before
			}
			return columns, rows
		}})
		close(d.done)
		work(d, c)
		d.tick()
		if n := len(s.lines); n != 4 {
			t.Errorf("reflows=%v: a picture for another width has %d lines; want 4:\n%s", reflows, n, s)
		}
		s.resize(59, 24)
		d.tick()
		if diff := cmp.Diff(strings.Join(picture(&d.board, 59, 24, 3), "\n"), s.String()); diff != "" {
			t.Errorf("reflows=%v: screen (-want +got):\n%s", reflows, diff)
		}
	}
}

// TestTerminal follows a run to its end.
func TestTerminal(t *testing.T) {
	s, c := newScreen(t, 80, 24, true), newClock()
	d := newTTY(s, c, 2)
	d.tick()
	if got := s.String(); got != "" {
		t.Errorf("before the work the screen shows %q; want nothing", got)
	}
	d.Phase("fetch")
	d.Expect(3)
	kubelet := d.Start("fetch", "kubelet v1.36.3", 93_123_456)
	runc := d.Start("fetch", "runc 1.4.3", 0)
	crictl := d.Start("fetch", "crictl v1.36.0", 20_000_000)
	runc.Add(10_700_000)
	c.pass(1500 * time.Millisecond)
	d.tick()
	want := ` 1s  fetch  0 of 3 done, 3 running
   fetch kubelet v1.36.3        0 B of 93.1 MB          1s
   fetch runc 1.4.3                    10.7 MB    7.1 MB/s`
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
	runc.End("done")
	d.Note("kubelet v1.36.3: %s", "connection reset")
	want = `kubelet v1.36.3: connection reset
 1s  fetch  1 of 3 done, 2 running
   fetch kubelet v1.36.3        0 B of 93.1 MB          1s
   fetch crictl v1.36.0         0 B of 20.0 MB          1s`
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
	kubelet.Add(93_123_456)
	kubelet.End("done")
	c.pass(time.Second)
	d.Close()
	crictl.End("late")
	d.Start("after", "Close", 1).End("done")
	d.Note("after Close")
	want = `kubelet v1.36.3: connection reset
2 of 3 done in 2.5s: 2 fetched (103.8 MB)`
	if diff := cmp.Diff(want, s.String()); diff != "" {
		t.Errorf("screen at the end (-want +got):\n%s", diff)
	}
}

// TestCut shortens texts to every width.
func TestCut(t *testing.T) {
	for _, text := range []string{"", "kubelet v1.36.3", "日本語の名前 1.0", "a日b本c", "e\u0301e\u0301", "→…é"} {
		for columns := range 25 {
			for name, f := range map[string]func(string, int) string{"cut": cut, "cutFront": cutFront} {
				got := f(text, columns)
				if columnsOf(got) > columns || columnsOf(text) <= columns && got != text {
					t.Errorf("%s(%q, %d) = %q of %d columns", name, text, columns, got, columnsOf(got))
				}
			}
		}
	}
	if got, want := cut("kubelet v1.36.3", 10), "kubelet..."; got != want {
		t.Errorf("cut = %q; want %q", got, want)
	}
	if got, want := cutFront("k8s.io/kubernetes/pkg/proxy", 12), "...pkg/proxy"; got != want {
		t.Errorf("cutFront = %q; want %q", got, want)
	}
}

// FuzzCut shortens anything: what comes out fits, and is of what went in.
func FuzzCut(f *testing.F) {
	f.Add("kubelet v1.36.3", 10)
	f.Add("日本語の名前 1.0", 7)
	f.Add("\xff\xfe\u0301", 1)
	f.Fuzz(func(t *testing.T, text string, columns int) {
		columns = max(columns, 0)
		end, front := cut(text, columns), cutFront(text, columns)
		if columnsOf(end) > columns || columnsOf(front) > columns {
			t.Errorf("cut(%q, %d) = %q and cutFront = %q; want at most as many columns", text, columns, end, front)
		}
		if !strings.HasPrefix(text, strings.TrimRight(end, ".")) || !strings.HasSuffix(text, strings.TrimLeft(front, ".")) {
			t.Errorf("cut(%q, %d) = %q and cutFront = %q; want its beginning and its end", text, columns, end, front)
		}
	})
}
