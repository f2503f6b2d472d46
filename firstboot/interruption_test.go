package firstboot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/firstboot/services"
)

// TestRestartSurvivesAnInterruption: files were written, and then systemd could
// not be reached. The next attempt finds nothing to write and must restart all the same.
func TestRestartSurvivesAnInterruption(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.configures()
	w.metadata.SetAttribute("cluster-dns", "10.32.0.53")
	c := w.config()
	c.Units = func(context.Context) (Units, error) { return deaf{w}, nil }
	if err := Run(t.Context(), c); err == nil {
		t.Fatal("Run without systemd = nil; want an error")
	}
	if diff := cmp.Diff([]string{"restart kubelet.service", "restart firstboot-health.service"}, w.configures()); diff != "" {
		t.Errorf("units of the next attempt (-want +got):\n%s", diff)
	}
	if calls := w.configures(); len(calls) > 0 {
		t.Errorf("units of the one after: %q; want none", calls)
	}
}

// deaf starts what needs no metadata and then ends the connection.
type deaf struct{ *worker }

func (deaf) Apply(context.Context, []services.Unit) (services.Result, error) {
	return services.Result{}, errors.New("connection closed")
}

// cutOff ends the process at a line of the log, as a power cut would: nothing
// that comes after is done.
type cutOff struct {
	line  string
	lines int
}

func (c *cutOff) Write(p []byte) (int, error) {
	if strings.Contains(string(p), c.line) {
		if c.lines--; c.lines == 0 {
			panic(c)
		}
	}
	return len(p), nil
}

// TestPowerCut cuts the power after each line about a written file. At the next
// boot the units are held back by the journal, started once it is rolled
// forward, before there are metadata, and in the end all is as without the cut.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	whole := newWorker(t)
	whole.configures()
	for n := 1; n <= 13; n++ {
		t.Run(fmt.Sprintf("%02d", n), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			cut := &cutOff{"firstboot: wrote ", n}
			c := w.config()
			c.Log = cut
			func() {
				defer func() {
					if r := recover(); r != cut {
						t.Fatalf("no power cut: %v", r)
					}
				}()
				Run(t.Context(), c)
			}()
			w.reboot()
			if !w.exists("/var/lib/firstboot/apply.json") {
				t.Error("there is no journal; want the cut in the middle of an apply")
			}
			interrupted := n > 1 // the first is of what needs no metadata

			// First without metadata, until it asks for them.
			ctx, cancel := context.WithCancel(t.Context())
			w.metadata.SetFaults(emulator.Fault{Kind: emulator.Status})
			c = w.config()
			c.Metadata.Sleep = func(context.Context, time.Duration) { cancel() }
			w.calls, w.console = nil, nil
			if err := Run(ctx, c); !errors.Is(err, context.Canceled) {
				t.Fatalf("Run = %v; want the end of its context", err)
			}
			want := firstStart[:1]
			if interrupted {
				want = firstStart
			}
			if diff := cmp.Diff(want, w.calls); diff != "" {
				t.Errorf("units without metadata (-want +got):\n%s", diff)
			}
			if len(w.console) > 0 {
				t.Errorf("the console shows %q; want nothing", w.console)
			}

			w.metadata.SetFaults()
			want = firstStart[1:]
			if interrupted {
				want = nil
			}
			if diff := cmp.Diff(want, w.configures()); diff != "" {
				t.Errorf("units with metadata (-want +got):\n%s", diff)
			}
			var names, wantNames []string
			for path := range w.snapshot() {
				names = append(names, path)
			}
			for path := range whole.snapshot() {
				wantNames = append(wantNames, path)
			}
			slices.Sort(names)
			slices.Sort(wantNames)
			if diff := cmp.Diff(wantNames, names); diff != "" {
				t.Errorf("files (-without a cut +with):\n%s", diff)
			}
		})
	}
}
