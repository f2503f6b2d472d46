package report

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

// desk is a Reporter that keeps what it said.
func desk(t *testing.T) (r Reporter, lines, attributes *[]string) {
	lines, attributes = &[]string{}, &[]string{}
	return Reporter{
		Dir:     filepath.Join(t.TempDir(), "firstboot"),
		Console: func(line string) error { *lines = append(*lines, line); return nil },
		Guest: func(_ context.Context, namespace, key, value string) error {
			*attributes = append(*attributes, namespace+"/"+key+"="+value)
			return nil
		},
	}, lines, attributes
}

func TestFailedSaysEachReasonOnce(t *testing.T) {
	t.Parallel()
	r, lines, attributes := desk(t)
	// Time passes between two attempts; that makes no new reason.
	const expired = "metadata key kubelet-certificate: the certificate expired at 2026-01-02T00:00:00Z"
	for _, test := range []struct {
		reason string
		want   bool
	}{
		{"metadata key pod-cidr: is missing", true},
		{"metadata key pod-cidr: is missing", false},
		{"writing files: no space left on device\nsecond line", true},
		{"metadata key pod-cidr: is missing", false},
		{"writing files: no space left on device second line", false},
		{expired + ", 59s ago: this machine's clock reads 2026-01-02T00:00:59Z", true},
		{expired + ", 1m9s ago: this machine's clock reads 2026-01-02T00:01:09Z", false},
		{expired + ", 1 day ago: this machine's clock reads 2026-01-03T00:00:00Z", false},
	} {
		isNew, err := r.Failed(t.Context(), test.reason)
		if isNew != test.want || err != nil {
			t.Errorf("Failed(%q) = %t, %v; want %t", test.reason, isNew, err, test.want)
		}
	}
	want := []string{"firstboot: failed: metadata key pod-cidr: is missing", "firstboot: failed: writing files: no space left on device second line",
		"firstboot: failed: " + expired + ", 59s ago: this machine's clock reads 2026-01-02T00:00:59Z"}
	if diff := cmp.Diff(want, *lines); diff != "" {
		t.Errorf("the console (-want +got):\n%s", diff)
	}
	want = []string{
		"firstboot/state=failed", "firstboot/report=metadata key pod-cidr: is missing",
		"firstboot/state=failed", "firstboot/report=writing files: no space left on device second line",
		"firstboot/state=failed", "firstboot/report=" + expired + ", 59s ago: this machine's clock reads 2026-01-02T00:00:59Z"}
	if diff := cmp.Diff(want, *attributes); diff != "" {
		t.Errorf("guest attributes (-want +got):\n%s", diff)
	}
}

func TestReadyOncePerConfiguration(t *testing.T) {
	t.Parallel()
	r, lines, attributes := desk(t)
	ready := Ready{Node: "worker-0", Lock: "sha256:00", Configuration: "current", Runtime: "ready", Proxy: "ready", Attempts: 1, CPU: 80, Changed: 12,
		Phases: Phases{Firstboot: 9000, Metadata: 9100, Configured: 9200, Enqueued: 9300, Containerd: 9900, Kubelet: 12000, Healthy: 12500}}
	const line = `{"node":"worker-0","lock":"sha256:00","configuration":"current","runtime":"ready","proxy":"ready","attempts":1,"changed":12,"cpu_ms":80,` +
		`"phases":{"firstboot":9000,"metadata":9100,"configured":9200,"enqueued":9300,"containerd":9900,"kubelet":12000,"healthy":12500}}`
	for i, want := range []bool{true, false, true} {
		if i == 2 {
			if err := r.Unready(); err != nil {
				t.Fatal(err)
			}
		}
		isNew, err := r.Ready(t.Context(), ready)
		if isNew != want || err != nil {
			t.Errorf("Ready, time %d = %t, %v; want %t", i+1, isNew, err, want)
		}
		if !r.IsReady() {
			t.Errorf("IsReady = false after time %d", i+1)
		}
	}
	if diff := cmp.Diff([]string{"firstboot: ready " + line, "firstboot: ready " + line}, *lines); diff != "" {
		t.Errorf("the console (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"firstboot/state=ready", "firstboot/report=" + line}, (*attributes)[:2]); diff != "" {
		t.Errorf("guest attributes (-want +got):\n%s", diff)
	}
}

func TestReportingGoesOnWithoutGuestAttributes(t *testing.T) {
	t.Parallel()
	r, lines, _ := desk(t)
	disabled := errors.New("not enabled")
	tries := 0
	r.Guest = func(context.Context, string, string, string) error { tries++; return disabled }
	isNew, err := r.Failed(t.Context(), "a reason")
	if !isNew || !errors.Is(err, disabled) || len(*lines) != 1 {
		t.Errorf("Failed = %t, %v with the console %q; want the line, and an error about guest attributes", isNew, err, *lines)
	}
	if tries != 1 {
		t.Errorf("guest attributes were tried %d times; want once", tries)
	}
}

func TestStateIsKept(t *testing.T) {
	t.Parallel()
	r, _, _ := desk(t)
	if s, err := r.State(); err != nil || cmp.Diff(State{}, s) != "" {
		t.Errorf("State at first = %+v, %v; want the zero State", s, err)
	}
	want := State{Node: "worker-0", Lock: "sha256:00", Attempts: 2, Pending: []string{"/etc/a"}, Phases: Phases{Firstboot: 1}}
	if err := r.Keep(want); err != nil {
		t.Fatal(err)
	}
	got, err := r.State()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("State: %v (-want +got):\n%s", err, diff)
	}
	filetest.Write(t, filepath.Join(r.Dir, "state.json"), "{")
	if _, err := r.State(); err == nil {
		t.Error("State of half a file = nil error")
	}
}

func TestReloadOnce(t *testing.T) {
	t.Parallel()
	r, _, _ := desk(t)
	fails := errors.New("not now")
	times := 0
	do := func() error { times++; return nil }
	for _, step := range []struct {
		do   func() error
		want error
	}{{func() error { return errors.New("nobody asked for it") }, nil}, {func() error { return fails }, fails}, {do, nil}, {do, nil}} {
		if err := r.Reload(step.do); !errors.Is(err, step.want) {
			t.Errorf("Reload = %v; want %v", err, step.want)
		}
		if step.want == nil && times == 0 {
			if err := r.WantReload(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if times != 1 {
		t.Errorf("reloaded %d times; want once", times)
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	const body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
	for in, want := range map[string]string{
		"a\r\nfirstboot: ready {}": "a firstboot: ready {}",
		"\x1b[2J wiped \x00":       "[2J wiped",
		"key -----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY----- x":                   "key (PEM left out) x",
		"key -----BEGIN PRIVATE KEY-----\n" + body + "\nAAAA":                                  "key (PEM left out)",
		`key "-----BEGIN PRIVATE KEY-----\n` + body + `\nAAAA" is wrong`:                       `key "(PEM left out)`,
		"key -----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n" + body:               "key (PEM left out)",
		"two -----BEGIN A-----\nAA\n-----END A-----\n-----BEGIN B-----\nBB\n-----END B-----\n": "two (PEM left out)",
		"key LS0tLS1CRUdJTiBQUklWQVRF\nIEtFWS0tLS0t; make it again":                            "key (PEM left out); make it again",
		"holds no PEM block (-----BEGIN ...-----); make it again with `bake node`":             "holds no PEM block (-----BEGIN ...-----); make it again with `bake node`",
		"begins with -----BEGIN CERTIFICATE-----; see docs":                                    "begins with -----BEGIN CERTIFICATE-----; see docs",
		strings.Repeat("ä", maxReason):                                                         strings.Repeat("ä", maxReason),
		strings.Repeat("ä", maxReason+1):                                                       strings.Repeat("ä", maxReason-1) + "…",
	} {
		if got := OneLine(in); got != want {
			t.Errorf("OneLine(%q) = %q; want %q", in, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("metadata key pod-cidr: \"10.200.0.0\" is no range\n")
	f.Add("\xff\x00\u2028\x1b]0;title\x07")
	f.Add(strings.Repeat("x ", 1000))
	f.Add("-----BEGIN A-----\nQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\n-----END A-----\n")
	keyLike := regexp.MustCompile(`-----BEGIN [^-]*-----.*[A-Za-z0-9+/]{24}`)
	f.Fuzz(func(t *testing.T, s string) {
		got := OneLine(s)
		if strings.ContainsAny(got, "\r\n\x1b\u2028") || utf8.RuneCountInString(got) > maxReason || keyLike.MatchString(got) {
			t.Errorf("OneLine(%q) = %q; want one printable line of at most %d characters", s, got, maxReason)
		}
	})
}
