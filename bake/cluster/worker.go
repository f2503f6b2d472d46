package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/printable"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

// member is a worker of a running cluster.
type member struct {
	Worker
	console string // path
	stop    context.CancelFunc
	done    chan struct{} // closed when its machine has ended for good

	mu      sync.Mutex
	state   WorkerState // Booting, until the machine has ended for good
	message string
	starts  int
	ready   bool        // it was, since its last start
	machine *vm.Machine // the last one
}

// Lines of a console.
var (
	// firstbootReady is firstboot's when containerd, kubelet and kube-proxy are well.
	firstbootReady = regexp.MustCompile(`^firstboot: ready `)
	// kernelFate is the first line that says whether the kernel starts.
	kernelFate = regexp.MustCompile(vm.KernelRuns().String() + "|" + regexp.QuoteMeta(vm.TimerPanic))
)

// A machine that ended without having been asked to is started again, as Compute
// Engine restarts instances: at most maxStarts times within startsTime.
const (
	maxStarts  = 4
	startsTime = 10 * time.Minute
	pauseTime  = time.Second
)

// join puts a worker on the network and starts its machine.
func (c *Cluster) join(ctx context.Context, w Worker) (*member, error) {
	m := &member{Worker: w, console: c.dir.file(consolesDir, w.Name+consoleSuffix), done: make(chan struct{}), state: Booting}
	if err := c.connect(w); err != nil {
		return nil, err
	}
	disk, err := c.tools.Overlay(ctx, c.dir.file(disksDir, w.Name+".qcow2"), c.config.Disk, 0)
	if err != nil {
		c.disconnect(w)
		return nil, err
	}
	disk.Bus, disk.Boot = vm.SCSI, true
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx)) // it lives longer than what asks for it
	go func() {
		defer close(m.done)
		c.runMachine(ctx, m, disk)
	}()
	return m, nil
}

// connect makes a worker known to the network, with its metadata and its route.
func (c *Cluster) connect(w Worker) error {
	attributes, err := c.attributes(w)
	if err != nil {
		return err
	}
	instance := emulator.Instance{Name: w.Name, Project: project, Zone: zone, IP: w.IP.String(), Attributes: attributes}
	if err := instance.Check(); err != nil {
		return fmt.Errorf("making the metadata of %s: %w", w.Name, err)
	}
	if err := c.network.AddMachine(gce.InstanceNames(w.Name, zone, project)[0], w.IP); err != nil {
		return err
	}
	c.network.ServeMetadata(w.IP, emulator.NewServer(instance))
	err = c.network.SetCanIPForward(w.IP, true)
	if err == nil {
		err = c.network.SetRoute(w.PodCIDR, w.IP)
	}
	if err != nil {
		c.disconnect(w)
	}
	return err
}

func (c *Cluster) disconnect(w Worker) {
	c.network.RemoveRoute(w.PodCIDR)
	c.network.RemoveMachine(w.IP)
}

// attributes makes a worker's metadata, as `bake node` does.
func (c *Cluster) attributes(w Worker) (map[string]string, error) {
	values, err := node.New(node.Config{
		Name: w.Name, Server: c.controlPlane.URL(), IP: w.IP, PodCIDR: w.PodCIDR,
		CA: c.ca, Names: gce.InstanceNames(w.Name, zone, project), Now: c.now(),
	})
	if err != nil {
		return nil, err
	}
	attributes := map[string]string{}
	maps.Copy(attributes, c.config.Metadata)
	for key, value := range values {
		attributes[key] = string(value)
	}
	return attributes, nil
}

// runMachine starts a worker's machine until it has ended for good, or ctx.
func (c *Cluster) runMachine(ctx context.Context, m *member, disk vm.Disk) {
	console, err := os.OpenFile(m.console, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		m.set(Broken, err.Error())
		return
	}
	defer console.Close()
	var starts []time.Time
	for {
		starts = append(starts, c.now())
		machine, err := c.tools.Start(ctx, vm.Config{
			Name: m.Name, Disks: []vm.Disk{disk}, Accel: c.config.Accel, SecureBoot: c.config.SecureBoot,
			CPUs: c.config.CPUs, MemoryMiB: c.config.MemoryMiB, Network: c.network, Address: m.IP, Console: console,
		})
		if err != nil {
			m.set(Broken, err.Error())
			return
		}
		m.started(machine)
		panicked := watchKernel(ctx, machine)
		select {
		case <-machine.Done():
		case <-ctx.Done():
			machine.Kill()
		}
		err = machine.Wait(context.WithoutCancel(ctx))
		if panicked() {
			err = errNoTimer
		}
		if ctx.Err() != nil {
			m.set(Off, "")
			return
		}
		state, message := afterEnd(err, starts, c.now())
		m.set(state, message)
		if state != Booting {
			return
		}
		fmt.Fprintf(console, "\n=== %s\n", message)
		select {
		case <-time.After(pauseTime):
		case <-ctx.Done():
		}
	}
}

// afterEnd decides what becomes of a worker whose machine has ended: err is why,
// nil where it powered itself off.
func afterEnd(err error, starts []time.Time, now time.Time) (WorkerState, string) {
	if err == nil {
		return Off, "it powered itself off"
	}
	why := strings.TrimSuffix(err.Error(), ": ") // QEMU had nothing to say
	recent := 0
	for _, at := range starts {
		if now.Sub(at) < startsTime {
			recent++
		}
	}
	if recent >= maxStarts {
		return Broken, fmt.Sprintf("its machine ended %d times within %v, the last time: %s", recent, startsTime, why)
	}
	return Booting, fmt.Sprintf("its machine ended and is started again: %s", why)
}

// errNoTimer is why a machine is ended whose kernel panics for no fault of its own:
// see vm.TimerPanic.
var errNoTimer = errors.New("emulation gave its kernel no timer interrupt")

// watchKernel ends such a machine. What it returns ends the watching, and says
// whether that was so.
func watchKernel(ctx context.Context, machine *vm.Machine) (panicked func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan bool, 1)
	go func() {
		line, err := machine.Console.Wait(ctx, kernelFate)
		found := err == nil && strings.Contains(line[0], vm.TimerPanic)
		if found {
			machine.Kill()
		}
		result <- found
	}()
	return func() bool { cancel(); return <-result }
}

func (m *member) started(machine *vm.Machine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.machine, m.state, m.message, m.ready = machine, Booting, "", false
	m.starts++
}

func (m *member) set(state WorkerState, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.message = state, message
}

// status is what is known of the worker without asking the API server.
func (m *member) status() WorkerStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := WorkerStatus{Worker: m.Worker, State: m.state, Message: m.message, Console: m.console, Starts: m.starts}
	if s.State == Booting && s.Message == "" && m.machine != nil {
		s.Message = lastLine(m.machine.Console)
	}
	return s
}

// shownLine is how many characters of a console's line are shown as progress.
const shownLine = 60

// lastLine is the last line of a console that is not empty.
func lastLine(console *vm.Console) string {
	lines := strings.Split(strings.TrimSpace(console.Tail(consoleLines)), "\n")
	line := printable.String(strings.TrimSpace(lines[len(lines)-1]))
	if runes := []rune(line); len(runes) > shownLine {
		line = string(runes[:shownLine]) + "…"
	}
	return line
}

// isUp reports whether firstboot has said that the machine which runs is well.
func (m *member) isUp() bool {
	m.mu.Lock()
	machine := m.machine
	m.mu.Unlock()
	if machine == nil {
		return false
	}
	for _, line := range machine.Console.Lines() {
		if firstbootReady.MatchString(line.Text) {
			return true
		}
	}
	return false
}

var errNotUp = errors.New("firstboot has not said on its console that the node is ready")

// check returns why a worker is not Ready.
func (c *Cluster) check(ctx context.Context, m *member) error {
	s := m.status()
	switch {
	case s.State == Off || s.State == Broken:
		return errors.New(s.Message)
	case !m.isUp():
		return errNotUp
	}
	n, err := c.controlPlane.Node(ctx, m.Name)
	if err != nil {
		return err
	}
	if n.Ready {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ready = true
	}
	return notReady(n)
}

// notReady is the state of a worker that is up, and not Ready.
func (m *member) notReady() WorkerState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready {
		return NotReady
	}
	return Booting
}

func notReady(n controlplane.Node) error {
	if n.Ready {
		return nil
	}
	return errors.New(n.Message)
}

// waitReady waits until a worker is Ready. The error has the reason, and the end of
// its console.
func (c *Cluster) waitReady(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.ReadyTime)
	defer cancel()
	reason := errNotUp
	for {
		err := c.check(ctx, m)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // else err is that the time is over
			reason = err
		}
		if c.controlPlane.Err() != nil {
			return c.controlPlaneFailed()
		}
		if s := m.status(); s.State == Off || s.State == Broken {
			return m.explain(fmt.Errorf("%s is not Ready: %w", m.Name, reason))
		}
		select {
		case <-ctx.Done():
			if context.Cause(ctx) != context.DeadlineExceeded {
				return ctx.Err()
			}
			return m.explain(fmt.Errorf("%s is not Ready within %v: %w", m.Name, c.config.ReadyTime, reason))
		case <-time.After(checkTime):
		}
	}
}

// checkTime is the pause between two looks at a worker or the control plane.
const checkTime = 500 * time.Millisecond

// consoleLines is how much of a console an error shows.
const consoleLines = 20

func (m *member) explain(err error) error {
	m.mu.Lock()
	machine := m.machine
	m.mu.Unlock()
	if machine == nil {
		return err
	}
	return fmt.Errorf("%w\nthe last lines of its console %s:\n%s", err, m.console, machine.Console.Tail(consoleLines))
}
