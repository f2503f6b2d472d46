//go:build system

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/firstboot/report"
)

// milestones are seconds by the guest's own clock, by name: since power on where
// instructions are counted, else since the guest's kernel began to count. A
// worker that was set up by hand has no firstboot.
type milestones map[string]float64

// milestoneNames are in the order in which they are mostly reached.
func milestoneNames() []string {
	return []string{
		"kernel", "/init", "systemd", "network", "firstboot", "metadata", "enqueued",
		"containerd started", "containerd answers", "kubelet started", "healthy", "registered", "Ready",
	}
}

// firstbootReady matches firstboot's line about a node that is healthy.
const firstbootReady = `(?m)^firstboot: ready (\{.*\})$`

// milestones asks a machine whose node is Ready when it got where. Everything
// is from the machine: what the host saw, it saw at a time of its own.
func (w *worker) milestones() milestones {
	w.t.Helper()
	m := milestones{}
	start := 0.0
	if w.config.CountInstructions {
		start = w.kernelStart()
		m["kernel"] = start
	}
	lines := w.Console.Lines()
	if at, ok := initStart(lines); ok {
		m["/init"] = start + at
	}
	for name, ms := range firstbootPhases(w.t, lines) {
		m[name] = start + float64(ms)/1e3
	}
	const show = "systemctl show -P "
	for name, command := range map[string]string{
		"systemd":            show + "UserspaceTimestampMonotonic",
		"network":            show + "ActiveEnterTimestampMonotonic network.target",
		"containerd started": show + "ExecMainStartTimestampMonotonic containerd.service",
		"kubelet started":    show + "ExecMainStartTimestampMonotonic kubelet.service",
	} {
		if us := number(w.t, w.run(command)); us > 0 {
			m[name] = start + us/1e6
		}
	}
	if booted := w.logged("containerd", "containerd successfully booted"); len(booted) > 0 {
		m["containerd answers"] = start + booted[len(booted)-1].at.Seconds()
	}
	registered, ready, err := nodeReady(w.logged("kubelet", "Successfully registered node|NodeReady"))
	if err != nil {
		w.t.Fatal(err)
	}
	m["registered"], m["Ready"] = start+registered.Seconds(), start+ready.Seconds()
	return m
}

// kernelStart returns how many seconds after power on the kernel began to
// count: the time stamp counter counts from power on, see vm.Config. The kernel
// can stamp its trace with it (Documentation/trace/ftrace.rst, trace_clock).
func (w *worker) kernelStart() float64 {
	w.t.Helper()
	trace := w.run(`set -e
		cd /sys/kernel/tracing
		test -e trace_marker || mount -t tracefs tracefs . && cd /sys/kernel/tracing
		echo x86-tsc >trace_clock
		cut -d ' ' -f 1 /proc/uptime >trace_marker
		cat trace`)
	start, err := parseTrace(trace)
	if err != nil {
		w.t.Fatal(err)
	}
	return start
}

// traceMark matches the time stamp counter and the mark, which is the uptime.
var traceMark = regexp.MustCompile(`(?m) (\d+): tracing_mark_write: (\d+\.\d+)$`)

// parseTrace returns the seconds between a time stamp counter of nanoseconds
// and the uptime that was marked.
func parseTrace(trace string) (float64, error) {
	m := traceMark.FindStringSubmatch(trace)
	if m == nil {
		return 0, fmt.Errorf("the kernel's trace has no mark with a time stamp counter:\n%s", trace)
	}
	counter, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, err
	}
	uptime, err := strconv.ParseFloat(m[2], 64)
	return counter/1e9 - uptime, err
}

func TestParseTrace(t *testing.T) {
	const trace = `# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
             cut-1161    [001] ..... 34250000000: tracing_mark_write: 24.10
`
	if got, err := parseTrace(trace); err != nil || math.Abs(got-10.15) > 1e-9 {
		t.Errorf("parseTrace = %v, %v; want 10.15", got, err)
	}
	// Another clock of the kernel's.
	if got, err := parseTrace("cut-1161 [001] ..... 34.250000: tracing_mark_write: 24.10"); err == nil {
		t.Errorf("parseTrace of seconds = %v; want an error", got)
	}
}

// kernelStamp matches the time that the kernel puts before its messages.
var kernelStamp = regexp.MustCompile(`^\[ *(\d+\.\d+)\] `)

// initStart returns the kernel's time when it ran the initramfs.
func initStart(lines []vm.Line) (seconds float64, ok bool) {
	for _, l := range lines {
		if stamp := kernelStamp.FindStringSubmatch(l.Text); stamp != nil && strings.Contains(l.Text, "Run /init as init process") {
			seconds, err := strconv.ParseFloat(stamp[1], 64)
			return seconds, err == nil
		}
	}
	return 0, false
}

// firstbootPhases returns those phases of firstboot's report, in milliseconds,
// that nothing else tells.
func firstbootPhases(t *testing.T, lines []vm.Line) map[string]int64 {
	t.Helper()
	for _, l := range lines {
		text, ok := strings.CutPrefix(l.Text, "firstboot: ready ")
		if !ok {
			continue
		}
		phases := decode[report.Ready](t, text).Phases
		all := map[string]int64{"firstboot": phases.Firstboot, "metadata": phases.Metadata, "enqueued": phases.Enqueued, "healthy": phases.Healthy}
		for name, ms := range all {
			if ms == 0 {
				delete(all, name)
			}
		}
		return all
	}
	return nil
}

// entry is a line of the guest's journal.
type entry struct {
	at      time.Duration // since the kernel began to count
	message string
}

// logged returns what a unit logged since the boot and matches an extended
// regular expression, as it looks in JSON.
func (w *worker) logged(unit, pattern string) []entry {
	w.t.Helper()
	out := w.run(fmt.Sprintf("journalctl -b -u %s -o json --output-fields=MESSAGE --no-pager | grep -E %s || true", unit, shellQuote(pattern)))
	entries, err := parseJournal(out)
	if err != nil {
		w.t.Fatalf("the journal of %s: %v", unit, err)
	}
	return entries
}

// parseJournal reads lines of `journalctl -o json` (systemd.journal-fields(7)).
func parseJournal(text string) ([]entry, error) {
	var entries []entry
	for line := range strings.Lines(text) {
		var e struct {
			Monotonic string `json:"__MONOTONIC_TIMESTAMP"` // microseconds
			Message   string `json:"MESSAGE"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("decoding %q: %w", line, err)
		}
		us, err := strconv.ParseInt(e.Monotonic, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decoding %q: %w", line, err)
		}
		entries = append(entries, entry{time.Duration(us) * time.Microsecond, e.Message})
	}
	return entries, nil
}

// nodeReady finds in what kubelet logged when it registered the node, and when
// it found the node Ready and sent that. It says the latter of a node that was
// not Ready before; one that registers as Ready says nothing more.
func nodeReady(entries []entry) (registered, ready time.Duration, err error) {
	for _, e := range entries {
		switch {
		case registered == 0 && strings.Contains(e.message, "Successfully registered node"):
			registered = e.at
		case registered != 0 && strings.Contains(e.message, `event="NodeReady"`):
			return registered, e.at, nil
		}
	}
	if registered == 0 {
		return 0, 0, errors.New("kubelet's journal does not say that it registered the node")
	}
	return registered, registered, nil
}

func TestNodeReady(t *testing.T) {
	text := `{"__MONOTONIC_TIMESTAMP":"7000000","MESSAGE":"Recording event message for node\" event=\"NodeReady\""}
{"__MONOTONIC_TIMESTAMP":"8500000","MESSAGE":"I1126 kubelet_node_status.go:78] \"Successfully registered node\" node=\"worker-0\""}
{"__MONOTONIC_TIMESTAMP":"8750000","MESSAGE":"I1126 kubelet_node_status.go:439] \"Recording event message for node\" node=\"worker-0\" event=\"NodeReady\""}
{"__MONOTONIC_TIMESTAMP":"9000000","MESSAGE":"I1126 kubelet_node_status.go:78] \"Successfully registered node\" node=\"worker-0\""}
`
	entries, err := parseJournal(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name              string
		entries           []entry
		registered, ready time.Duration
	}{
		{"both", entries, 8500 * time.Millisecond, 8750 * time.Millisecond},
		{"registered as Ready", entries[3:], 9 * time.Second, 9 * time.Second},
	} {
		registered, ready, err := nodeReady(test.entries)
		if registered != test.registered || ready != test.ready || err != nil {
			t.Errorf("%s: nodeReady = %v, %v, %v; want %v, %v", test.name, registered, ready, err, test.registered, test.ready)
		}
	}
	if _, _, err := nodeReady(entries[:1]); err == nil {
		t.Error("nodeReady of a node that did not register = nil; want an error")
	}
	if _, err := parseJournal(`{"MESSAGE":"x"}`); err == nil {
		t.Error("parseJournal without a time = nil; want an error")
	}
}

func TestInitStart(t *testing.T) {
	lines := []vm.Line{
		{Text: "BdsDxe: starting Boot0001"},
		{Text: "[    0.000000] Linux version 6.12"},
		{Text: "[    4.250000] Run /init as init process"},
	}
	if got, ok := initStart(lines); got != 4.25 || !ok {
		t.Errorf("initStart = %v, %v; want 4.25", got, ok)
	}
	if got, ok := initStart(lines[:2]); ok {
		t.Errorf("initStart before it = %v; want none", got)
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Error(err)
	}
	return v
}
