// Package services enables and starts systemd units, and restarts those whose
// configuration changed.
//
// It speaks D-Bus to systemd's private socket, so that it works before and
// without the D-Bus daemon; that socket is root's. It enqueues jobs and never
// waits for one: who waits inside the boot for another unit's start can wait
// for himself. It writes no units and knows nothing of what they run; the links
// that enable them it makes itself, see [Manager.Apply].
package services

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const (
	// socket is where systemd listens for root.
	socket = "/run/systemd/private"

	// unitDir has the units of the image, and wantsDir the links of those that
	// systemd starts at a boot: what `systemctl enable` makes of
	// WantedBy=multi-user.target (systemd.unit(5)).
	unitDir  = "/usr/lib/systemd/system"
	wantsDir = "etc/systemd/system/multi-user.target.wants"
)

// Unit is one that shall be enabled and run.
type Unit struct {
	Name    string // "kubelet.service"
	Restart bool   // what it reads has changed
}

// Job is something that was enqueued for a unit.
type Job struct {
	Unit string
	What string // "start" or "restart"
}

// Result is what Apply did.
type Result struct {
	Jobs []Job // in the order in which they were enqueued

	// Enabled says that units were enabled that had not been. Until systemd
	// rereads its files, multi-user.target does not know that it wants them:
	// they run, and will be started at the next boot, but isolating the target
	// would stop them. See [Manager.Reload].
	Enabled bool
}

// Manager is a connection to systemd. Make one with [Dial].
type Manager struct {
	conn bus
	root string // of the links
}

// bus is what is used of go-systemd's connection, so that a test can see what
// is asked in which order.
type bus interface {
	ListUnitsByNamesContext(ctx context.Context, units []string) ([]systemd.UnitStatus, error)
	StartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	RestartUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	ResetFailedUnitContext(ctx context.Context, name string) error
	ReloadContext(ctx context.Context) error
	Close()
}

// Dial connects to the systemd that runs this machine, whose files are below
// root. Close the Manager.
func Dial(ctx context.Context, root string) (*Manager, error) { return dial(ctx, socket, root) }

// dial does what systemd.NewSystemdConnectionContext does, without signals and
// at any path. go-systemd wants a second connection for the signals that end
// jobs; nobody waits for a job, and one is enough.
func dial(ctx context.Context, path, root string) (*Manager, error) {
	var dialer net.Dialer
	stream, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to systemd at %s: %w", path, err)
	}
	conn, err := dbus.NewConn(newQuietConn(stream), dbus.WithContext(ctx))
	if err == nil {
		// There is no bus to say Hello to: the other end is systemd itself.
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	}
	if err != nil {
		stream.Close()
		return nil, fmt.Errorf("connecting to systemd at %s: %w", path, err)
	}
	manager, err := systemd.NewConnection(func() (*dbus.Conn, error) { return conn, nil })
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connecting to systemd at %s: %w", path, err)
	}
	return &Manager{manager, root}, nil
}

// Close ends the connection.
func (m *Manager) Close() { m.conn.Close() }

// Apply enqueues start jobs for the units that do not run, in their order,
// restarts those that shall be, and enables all of them for the next boots, by
// links of multi-user.target. Units that run, or are about to, and need no restart
// are left alone.
//
// Jobs come first and enabling last: an explicit start needs no links, and so the
// node's services do not wait for it. Neither does it need a daemon-reload, which
// costs seconds of generators on a slow machine while systemd does nothing else;
// Result says when one is due. Asked to enable units (EnableUnitFiles), systemd
// would say of every unit that it changed on disk until then.
func (m *Manager) Apply(ctx context.Context, units []Unit) (Result, error) {
	var result Result
	jobs, err := m.Start(ctx, units)
	result.Jobs = jobs
	if err != nil {
		return result, err
	}
	for _, u := range units {
		made, err := enable(m.root, u.Name)
		if err != nil {
			return result, fmt.Errorf("enabling %s: %w", u.Name, err)
		}
		result.Enabled = result.Enabled || made
	}
	return result, nil
}

// enable makes the link of a unit, over one of another making, and reports whether
// it was not there.
func enable(root, name string) (made bool, err error) {
	dir := filepath.Join(root, wantsDir)
	link, target := filepath.Join(dir, name), filepath.Join(unitDir, name)
	if now, err := os.Readlink(link); err == nil && now == target {
		return false, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	staged := filepath.Join(dir, "."+name)
	if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Symlink(target, staged); err != nil {
		return false, err
	}
	return true, os.Rename(staged, link)
}

// Start is the first half of Apply: it enables nothing.
func (m *Manager) Start(ctx context.Context, units []Unit) ([]Job, error) {
	status, err := m.status(ctx, units)
	if err != nil {
		return nil, err
	}
	var jobs []Job
	for _, u := range units {
		what := decide(status[u.Name], u.Restart)
		if what == nothing {
			continue
		}
		// It may have failed too often for another start.
		if what == startAnew {
			if err := m.conn.ResetFailedUnitContext(ctx, u.Name); err != nil {
				return jobs, fmt.Errorf("resetting %s: %w", u.Name, err)
			}
		}
		// "replace": a conflicting job that waits gives way. Without a channel
		// for its end nobody waits for the job.
		if u.Restart && what != start {
			if _, err := m.conn.RestartUnitContext(ctx, u.Name, "replace", nil); err != nil {
				return jobs, fmt.Errorf("restarting %s: %w", u.Name, err)
			}
			jobs = append(jobs, Job{u.Name, "restart"})
			continue
		}
		if _, err := m.conn.StartUnitContext(ctx, u.Name, "replace", nil); err != nil {
			return jobs, fmt.Errorf("starting %s: %w", u.Name, err)
		}
		jobs = append(jobs, Job{u.Name, "start"})
	}
	return jobs, nil
}

// Reload makes systemd reread its files. It takes seconds on a slow
// machine, during which systemd starts nothing.
func (m *Manager) Reload(ctx context.Context) error {
	if err := m.conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reloading systemd: %w", err)
	}
	return nil
}

func (m *Manager) status(ctx context.Context, units []Unit) (map[string]systemd.UnitStatus, error) {
	list, err := m.conn.ListUnitsByNamesContext(ctx, unitNames(units))
	if err != nil {
		return nil, fmt.Errorf("asking for %q: %w", unitNames(units), err)
	}
	status := map[string]systemd.UnitStatus{}
	for _, s := range list {
		status[s.Name] = s
	}
	for _, u := range units {
		s, ok := status[u.Name]
		if !ok {
			return nil, fmt.Errorf("asking for %s: systemd does not answer for it; is it an alias?", u.Name)
		}
		if s.LoadState != "loaded" {
			return nil, fmt.Errorf("unit %s is %s (systemctl status %s says more)", u.Name, s.LoadState, u.Name)
		}
	}
	return status, nil
}

func unitNames(units []Unit) []string {
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.Name
	}
	return names
}

type action int

const (
	nothing action = iota
	start
	startAnew // after a failure, or between two tries of systemd
	restart
)

// decide says what a unit in a state needs (ActiveState and SubState of
// org.freedesktop.systemd1(5)).
func decide(s systemd.UnitStatus, changed bool) action {
	stopped := s.ActiveState == "inactive" || s.ActiveState == "deactivating" || s.ActiveState == "failed"
	switch {
	case stopped && s.JobId != 0 && (s.JobType == "start" || s.JobType == "restart"):
		// Its turn comes, as in the middle of a boot, and it has read nothing yet.
		return nothing
	case s.ActiveState == "failed":
		return startAnew
	case stopped:
		return start
	case !changed:
		// It runs, is being started, or systemd tries again in a while.
		return nothing
	case strings.HasPrefix(s.SubState, "auto-restart"): // or "auto-restart-queued"
		// Not in a while but now, with what was repaired.
		return startAnew
	}
	return restart
}
