package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/google/go-cmp/cmp"
)

// recorder answers for systemd and writes down what it was asked to do.
type recorder struct {
	active string
	fail   string
	calls  []string
}

func (r *recorder) did(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	if call == r.fail {
		return errors.New("refused")
	}
	return nil
}

func (r *recorder) ListUnitsByNamesContext(_ context.Context, units []string) (list []systemd.UnitStatus, err error) {
	for _, u := range units {
		list = append(list, systemd.UnitStatus{Name: u, LoadState: "loaded", ActiveState: r.active})
	}
	return list, nil
}

func (r *recorder) StartUnitContext(_ context.Context, name, mode string, ch chan<- string) (int, error) {
	return 0, r.did("start %s %s, waiting: %t", name, mode, ch != nil)
}

func (r *recorder) RestartUnitContext(_ context.Context, name, mode string, ch chan<- string) (int, error) {
	return 0, r.did("restart %s %s, waiting: %t", name, mode, ch != nil)
}

func (r *recorder) ResetFailedUnitContext(_ context.Context, name string) error {
	return r.did("reset %s", name)
}

func (r *recorder) ReloadContext(context.Context) error { return r.did("reload") }
func (r *recorder) Close()                              {}

func TestDialNamesTheSocket(t *testing.T) {
	_, err := dial(t.Context(), "/nonexistent/private", "/")
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/private") {
		t.Errorf("dial = %v; want an error that names the socket", err)
	}
}

// TestOrder keeps what costs boot time where it is: starting first, enabling
// last, and that without systemd; no reload.
func TestOrder(t *testing.T) {
	t.Parallel()
	units := []Unit{{Name: "a.service"}, {Name: "b.service", Restart: true}}
	for _, test := range []struct {
		name string
		bus  recorder
		want []string
	}{
		{"first boot", recorder{active: "inactive"}, []string{
			"start a.service replace, waiting: false", "start b.service replace, waiting: false"}},
		{"running", recorder{active: "active"}, []string{
			"restart b.service replace, waiting: false"}},
		{"failed", recorder{active: "failed"}, []string{
			"reset a.service", "start a.service replace, waiting: false",
			"reset b.service", "restart b.service replace, waiting: false"}},
		{"a start is refused", recorder{active: "inactive", fail: "start a.service replace, waiting: false"}, []string{
			"start a.service replace, waiting: false"}},
	} {
		bus, root := test.bus, t.TempDir()
		result, err := (&Manager{&bus, root}).Apply(t.Context(), units)
		if links, _ := os.ReadDir(filepath.Join(root, wantsDir)); result.Enabled != (bus.fail == "") || len(links) > 0 != result.Enabled {
			t.Errorf("%s: Apply = %+v with %d links; want them where all was started", test.name, result, len(links))
		}
		if (err != nil) != (bus.fail != "") {
			t.Errorf("%s: Apply = %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, bus.calls); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestEnable makes links, over whatever stands there.
func TestEnable(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]func(path string) error{
		"nothing":        func(string) error { return nil },
		"another link":   func(path string) error { return os.Symlink("/lib/systemd/system/a.service", path) },
		"a link to null": func(path string) error { return os.Symlink("/dev/null", path) },
		"a file":         func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		root := t.TempDir()
		link := filepath.Join(root, "etc/systemd/system/multi-user.target.wants/a.service")
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), there(link), os.Symlink("x", filepath.Join(filepath.Dir(link), ".a.service"))); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if made, err := enable(root, "a.service"); made != want || err != nil {
				t.Errorf("%s: enable = %t, %v; want %t", name, made, err, want)
			}
		}
		if got, err := os.Readlink(link); got != "/usr/lib/systemd/system/a.service" || err != nil {
			t.Errorf("%s: the link leads to %q, %v", name, got, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(link)); len(left) != 1 {
			t.Errorf("%s: there are %d entries; want the link alone", name, len(left))
		}
	}
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "etc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := enable(root, "a.service"); made || err == nil {
		t.Errorf("where no directory can be: enable = %t, %v; want an error", made, err)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		active, sub string
		changed     bool
		want        action
	}{
		{"inactive", "dead", false, start},
		{"inactive", "dead", true, start},
		{"deactivating", "stop-sigterm", true, start},
		{"active", "running", false, nothing},
		{"active", "running", true, restart},
		{"active", "exited", true, restart},
		{"reloading", "reload", true, restart},
		{"activating", "start", false, nothing},
		{"activating", "start", true, restart},
		{"activating", "auto-restart", false, nothing},
		{"activating", "auto-restart", true, startAnew},
		{"activating", "auto-restart-queued", true, startAnew},
		{"failed", "failed", false, startAnew},
		{"failed", "failed", true, startAnew},
	} {
		got := decide(systemd.UnitStatus{ActiveState: test.active, SubState: test.sub}, test.changed)
		if got != test.want {
			t.Errorf("decide(%s/%s, changed %t) = %d; want %d", test.active, test.sub, test.changed, got, test.want)
		}
	}
	// In the middle of a boot.
	for _, job := range []struct {
		kind string
		want action
	}{{"start", nothing}, {"restart", nothing}, {"stop", start}, {"verify-active", start}} {
		got := decide(systemd.UnitStatus{ActiveState: "inactive", SubState: "dead", JobId: 7, JobType: job.kind}, true)
		if got != job.want {
			t.Errorf("decide(inactive, with a job to %s) = %d; want %d", job.kind, got, job.want)
		}
	}
}

func TestUnitNames(t *testing.T) {
	t.Parallel()
	if got := unitNames([]Unit{{Name: "b"}, {Name: "a"}}); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("unitNames = %q; want their order", got)
	}
}
