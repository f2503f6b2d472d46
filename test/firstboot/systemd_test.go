//go:build system && linux

// Package firstboot_test has what takes root to show of package firstboot: units
// that a real systemd starts, and files of other owners.
package firstboot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nodebake/bake/firstboot/services"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// machine is a systemd of the host's, PID 1 of namespaces of its own: what it
// starts, where it listens and what it enables is the test's.
type machine struct {
	t       *testing.T
	dir     string // its /run is run/ below, its /etc/systemd/system is units/, which etc/systemd/system leads to
	manager *services.Manager
	conn    *systemd.Conn // beside it, for questions that it does not ask
}

// enter makes the machine's root and goes there: the host's /usr read-only and
// without its units, everything else empty. No file of the host's is writable,
// whatever a unit may pull in: systemd-tmpfiles, say, empties /tmp.
const enter = `set -e
dir=$1 relay=$2
mount -t tmpfs tmpfs "$dir/root"
cd "$dir/root"
mkdir -p usr etc/systemd/system run proc sys dev tmp var old empty
ln -s usr/bin usr/sbin usr/lib usr/lib64 .
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind empty usr/lib/systemd/system
mount --bind empty usr/lib/systemd/system-generators
mount --bind "$dir/units" etc/systemd/system
mount --bind "$dir/run" run
for f in relay dev/null dev/zero dev/urandom; do touch $f; done
mount --bind "$relay" relay
mount -t tmpfs tmpfs dev
for f in null zero random urandom; do touch dev/$f; mount --bind /dev/$f dev/$f; done
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Without one it is a first boot, at which systemd enables every unit.
echo 0123456789abcdef0123456789abcdef >etc/machine-id
pivot_root . old
umount -l /old
for d in old tmp var; do [ -z "$(ls /$d)" ]; done
BAKE_TEST_RELAY=/run /relay -test.run='^TestRelay$' &
exec env -i container=test PATH=/usr/sbin:/usr/bin SYSTEMD_LOG_TARGET=console SYSTEMD_UNIT_PATH=/etc/systemd/system \
  /usr/lib/systemd/systemd --system --unit=test.target`

// newMachine starts a systemd that knows the units and has started none.
func newMachine(t *testing.T, units map[string]string) *machine {
	t.Helper()
	need.Root(t, "start systemd in namespaces")
	for program, pkg := range map[string]string{"/usr/lib/systemd/systemd": "systemd", "/usr/bin/unshare": "util-linux", "/usr/sbin/pivot_root": "util-linux"} {
		if _, err := os.Stat(program); err != nil {
			need.Missing(t, "%v: apt-get install %s", err, pkg)
		}
	}
	m := &machine{t: t, dir: t.TempDir()}
	for _, dir := range []string{"root", "run", "units", "etc/systemd"} {
		filetest.Mkdir(t, filepath.Join(m.dir, dir))
	}
	filetest.Link(t, "../../units", filepath.Join(m.dir, "etc/systemd/system"))
	m.write("units/test.target", "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n# As at a boot, systemd has loaded it before anything starts.\nAfter=multi-user.target\n")
	for name, content := range units {
		m.write("units/"+name, content)
	}
	self := must.Get(os.Executable())
	cgroup, err := newCgroup(t)
	if err != nil {
		need.Missing(t, "%v", err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo $$ >"$0/cgroup.procs"; exec "$@"`, cgroup,
		"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup",
		"sh", "-c", enter, "sh", m.dir, self)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &log, &log, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() { <-exited }) // t.Context has ended, and so it was killed
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := m.dial()
		if err == nil {
			return m
		}
		select {
		case <-exited:
			need.Missing(t, "systemd does not run in namespaces here:\n%s", log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("systemd in namespaces: %v", err)
		}
	}
}

// dial connects to the machine's systemd, in two ways.
func (m *machine) dial() error {
	relay := filepath.Join(m.dir, "run/relay")
	manager, err := dialManager(m.t.Context(), relay, m.dir)
	if err != nil {
		return err
	}
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := dbus.Dial("unix:path="+relay, dbus.WithContext(m.t.Context()))
		if err != nil {
			return nil, err
		}
		return conn, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
	})
	if err != nil {
		manager.Close()
		return err
	}
	m.manager, m.conn = manager, conn
	m.t.Cleanup(manager.Close)
	m.t.Cleanup(conn.Close)
	return nil
}

// dialManager has services.Dial, which knows systemd's own socket only, find the
// relay there: one thread, which ends with the goroutine, sees another /run.
func dialManager(ctx context.Context, relay, root string) (manager *services.Manager, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		manager, err = func() (*services.Manager, error) {
			if _, err := os.Stat(relay); err != nil {
				return nil, err
			}
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return nil, fmt.Errorf("unshare: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return nil, fmt.Errorf("making mounts private: %w", err)
			}
			if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
				return nil, fmt.Errorf("mounting /run: %w", err)
			}
			if err := errors.Join(os.Mkdir("/run/systemd", 0o755), os.Symlink(relay, "/run/systemd/private")); err != nil {
				return nil, err
			}
			return services.Dial(ctx, root)
		}()
	}()
	<-done
	return manager, err
}

// newCgroup makes a cgroup for a machine, which goes with the test.
func newCgroup(t *testing.T) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if fields[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(fields[1], "bake-test-")
		if err != nil {
			return "", err
		}
		t.Cleanup(func() { // before t.TempDir's, after systemd's end
			for try := 0; ; try++ {
				// Children before parents: rmdir is all that a cgroup knows.
				out, err := exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").CombinedOutput()
				if err == nil {
					return
				}
				if try == 100 {
					t.Errorf("removing the cgroup %s: %v: %s", dir, err, out)
					return
				}
				time.Sleep(20 * time.Millisecond) // its processes are dying
			}
		})
		return dir, nil
	}
	return "", errors.New("no cgroup2 filesystem is mounted")
}

// TestRelay is no test: it is the program that [enter] starts beside systemd.
// systemd hears only whom it can see, and that is who shares its PID namespace.
func TestRelay(t *testing.T) {
	dir := os.Getenv("BAKE_TEST_RELAY")
	if dir == "" {
		return
	}
	listener := must.Get(net.Listen("unix", filepath.Join(dir, "relay")))
	for {
		outside, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer outside.Close()
			inside, err := net.Dial("unix", filepath.Join(dir, "systemd/private"))
			if err != nil {
				return
			}
			defer inside.Close()
			go func() { io.Copy(inside, outside); inside.Close() }()
			io.Copy(outside, inside)
		}()
	}
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	filetest.Write(m.t, filepath.Join(m.dir, name), content)
}

func (m *machine) apply(units ...services.Unit) services.Result {
	m.t.Helper()
	result, err := m.manager.Apply(m.t.Context(), units)
	if err != nil {
		m.t.Fatal(err)
	}
	return result
}

func (m *machine) property(unit, name string) any {
	m.t.Helper()
	all, err := m.conn.GetAllPropertiesContext(m.t.Context(), unit)
	if err != nil {
		m.t.Fatal(err)
	}
	return all[name]
}

// await waits until a unit is in a state, "active/running".
func (m *machine) await(unit, state string) {
	m.t.Helper()
	var now string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = fmt.Sprint(m.property(unit, "ActiveState"), "/", m.property(unit, "SubState")); now == state {
			return
		}
	}
	m.t.Fatalf("%s is %s; want %s", unit, now, state)
}

const install = "\n[Install]\nWantedBy=multi-user.target\n"

func service(lines ...string) string {
	return "[Unit]\nDescription=Test\nDefaultDependencies=no\n[Service]\n" + strings.Join(lines, "\n") + install
}

// TestApply walks a node's life against a real systemd.
func TestApply(t *testing.T) {
	t.Parallel()
	m := newMachine(t, map[string]string{
		"multi-user.target": "[Unit]\nDescription=Multi-User System\nDefaultDependencies=no\n",
		"runtime.service":   service("ExecStart=/bin/sleep infinity"),
		// It never becomes active: who waits for its job waits for ever.
		"slow.service": service("Type=notify", "TimeoutStartSec=infinity", "ExecStart=/bin/sleep infinity"),
		// It fails until its configuration is there, and is not tried again soon.
		"broken.service": service("ExecStart=/bin/sh -c 'test -e /run/repaired && exec sleep infinity'", "Restart=on-failure", "RestartSec=1h"),
		"failed.service": service("ExecStart=/bin/sh -c 'test -e /run/repaired && exec sleep infinity'"),
	})
	all := []services.Unit{{Name: "runtime.service"}, {Name: "slow.service"}, {Name: "broken.service"}, {Name: "failed.service"}}

	began := time.Now()
	want := services.Result{Enabled: true, Jobs: []services.Job{
		{Unit: "runtime.service", What: "start"}, {Unit: "slow.service", What: "start"}, {Unit: "broken.service", What: "start"}, {Unit: "failed.service", What: "start"}}}
	if diff := cmp.Diff(want, m.apply(all...)); diff != "" {
		t.Errorf("the first Apply (-want +got):\n%s", diff)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Apply took %v; it must wait for no job", took)
	}
	for _, u := range all {
		if _, err := os.Lstat(filepath.Join(m.dir, "units/multi-user.target.wants", u.Name)); err != nil {
			t.Errorf("%s is not enabled: %v", u.Name, err)
		}
	}
	m.await("runtime.service", "active/running")
	m.await("slow.service", "activating/start")
	m.await("broken.service", "activating/auto-restart")
	m.await("failed.service", "failed/failed")

	// What runs or is tried again is left alone; what failed for good is not.
	mainPID := m.property("runtime.service", "MainPID")
	if diff := cmp.Diff(services.Result{Jobs: []services.Job{{Unit: "failed.service", What: "start"}}}, m.apply(all...)); diff != "" {
		t.Errorf("Apply again (-want +got):\n%s", diff)
	}
	m.await("failed.service", "failed/failed")
	if now := m.property("runtime.service", "MainPID"); now != mainPID {
		t.Errorf("runtime.service had PID %v, now %v; Apply without a change restarts nothing", mainPID, now)
	}

	// What a unit reads was repaired: at once, not in an hour.
	m.write("run/repaired", "")
	for i := range all {
		all[i].Restart = true
	}
	want = services.Result{Jobs: []services.Job{
		{Unit: "runtime.service", What: "restart"}, {Unit: "slow.service", What: "restart"}, {Unit: "broken.service", What: "restart"}, {Unit: "failed.service", What: "restart"}}}
	if diff := cmp.Diff(want, m.apply(all...)); diff != "" {
		t.Errorf("Apply with changes (-want +got):\n%s", diff)
	}
	m.await("broken.service", "active/running")
	m.await("failed.service", "active/running")
	m.await("runtime.service", "active/running")
	if now := m.property("runtime.service", "MainPID"); now == mainPID {
		t.Errorf("runtime.service still has PID %v; what it reads has changed", now)
	}

	// Nobody is told that units changed on disk.
	for _, u := range all {
		if m.property(u.Name, "NeedDaemonReload") != false {
			t.Errorf("systemd wants a daemon-reload for %s", u.Name)
		}
	}
	// Enabling alone does not tell the target that runs what it wants.
	if wants := m.property("multi-user.target", "Wants").([]string); slices.Contains(wants, "runtime.service") {
		t.Error("systemd knows of the links without a reload; Result.Enabled has no purpose")
	}
	if err := m.manager.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wants := m.property("multi-user.target", "Wants").([]string); !slices.Contains(wants, "runtime.service") {
		t.Errorf("after a reload multi-user.target wants %q; want runtime.service in it", wants)
	}
}

func TestApplyNamesUnitsThatAreNotThere(t *testing.T) {
	t.Parallel()
	m := newMachine(t, map[string]string{
		"a.service":   service("ExecStart=/bin/sleep infinity"),
		"bad.service": "[Unit]\nDefaultDependencies=no\n[Service]\nType=simple\n",
	})
	filetest.Link(t, "/dev/null", filepath.Join(m.dir, "units/masked.service"))
	for unit, want := range map[string]string{
		"gone.service":   "unit gone.service is not-found",
		"bad.service":    "unit bad.service is bad-setting",
		"masked.service": "unit masked.service is masked",
	} {
		_, err := m.manager.Apply(t.Context(), []services.Unit{{Name: "a.service"}, {Name: unit}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply with %s = %v; want an error with %q", unit, err, want)
		}
	}
	m.await("a.service", "inactive/dead")
}
