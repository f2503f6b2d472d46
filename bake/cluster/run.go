package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/vm"
)

// Cluster is a cluster that this process runs.
type Cluster struct {
	config Config
	tools  vm.Tools
	dir    *Dir
	now    func() time.Time

	// What runs. It is set by start, in this order.
	network      *vm.Network
	ca           *node.CA
	controlPlane *controlplane.ControlPlane

	adding sync.Mutex    // held while a worker joins or leaves
	ended  chan struct{} // closed when nothing runs any more

	mu      sync.Mutex
	status  Status // but for Workers
	members []*member
}

// Run runs a cluster until ctx ends, somebody asks for its end by a [Client], or
// it fails. The directory is removed then, but after a failure: it has the reason
// and the logs. However it ends, nothing that was started runs any more.
func Run(ctx context.Context, d *Dir, config Config, tools vm.Tools, now func() time.Time) error {
	c := &Cluster{config: config, tools: tools, dir: d, now: now, ended: make(chan struct{}), status: firstStatus(&config, Starting, now())}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Before anybody can see this process: if it is killed, what is written names it.
	if err := c.save(); err != nil {
		return errors.Join(err, d.Remove())
	}
	stopServing, err := c.serve(func() { cancel(errDeleted) })
	if err != nil {
		return errors.Join(err, d.Remove())
	}
	defer stopServing()
	defer close(c.ended)
	err = c.run(ctx)
	failed := ctx.Err() == nil
	if failed {
		c.update(func(s *Status) { s.Phase, s.Step, s.Error = Failed, "", err.Error() })
		err = errors.Join(err, c.save())
	}
	c.stop()
	switch {
	case failed:
		return errors.Join(err, d.Release())
	case context.Cause(ctx) == errDeleted:
		return d.Remove()
	}
	return errors.Join(ctx.Err(), d.Remove())
}

// firstStatus is what is known of a cluster at its beginning.
func firstStatus(c *Config, phase Phase, now time.Time) Status {
	return Status{
		Name: c.Name, Phase: phase, PID: os.Getpid(), Since: now, Image: c.Image,
		Kubernetes: c.Programs.Version, Kubectl: c.Programs.Kubectl,
	}
}

// errDeleted is why a cluster ends that somebody deletes.
var errDeleted = errors.New("it was deleted")

// run starts the cluster and returns why it can't go on.
func (c *Cluster) run(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	c.update(func(s *Status) { s.Phase, s.Step = Running, "" })
	if err := c.save(); err != nil {
		return err
	}
	for {
		if c.controlPlane.Err() != nil {
			return c.controlPlaneFailed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(checkTime):
		}
	}
}

// controlPlaneFailed says why it did.
func (c *Cluster) controlPlaneFailed() error {
	return fmt.Errorf("the control plane failed: %w\n%s", c.controlPlane.Err(), c.controlPlane.Logs(consoleLines))
}

// start starts everything and waits until it is Ready.
func (c *Cluster) start(ctx context.Context) error {
	if err := c.step("control plane"); err != nil {
		return err
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	if err := c.step("workers"); err != nil {
		return err
	}
	for _, w := range Workers(c.config.Workers) {
		if _, err := c.add(ctx, w); err != nil {
			return err
		}
	}
	if err := c.waitAll(ctx); err != nil {
		return err
	}
	if err := c.step("dns"); err != nil {
		return err
	}
	return c.applyDNS(ctx)
}

// startControlPlane starts the network and what is on it beside workers.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	for _, dir := range []string{disksDir, consolesDir} {
		if err := os.Mkdir(c.dir.file(dir), 0o700); err != nil {
			return fmt.Errorf("making the cluster's directories: %w", err)
		}
	}
	var err error
	c.network, err = vm.NewNetwork(vm.NetworkConfig{
		Isolated: c.config.Isolated, LAN: c.config.LAN, Rules: rules(),
	})
	if err != nil {
		return err
	}
	if c.ca, err = node.NewCA(node.CAConfig{Now: c.now()}); err != nil {
		return err
	}
	c.controlPlane, err = controlplane.Start(ctx, controlplane.Config{
		Programs: &c.config.Programs, CA: c.ca, Now: c.now(), Dir: c.dir.file(controlPlaneDir), Dial: c.network.Dial,
	})
	if err != nil {
		return err
	}
	// Workers reach nothing else of this host's loopback, where a person's own
	// servers are.
	if err := c.network.ServeHostPort(c.controlPlane.Port()); err != nil {
		return err
	}
	proxy, err := c.network.ListenProxy(0)
	if err != nil {
		return err
	}
	c.update(func(s *Status) {
		s.Server, s.Kubeconfig, s.CADir = c.controlPlane.LocalURL(), c.controlPlane.AdminKubeconfig(), c.dir.file(controlPlaneDir)
		s.Proxy = "http://" + proxy
	})
	return nil
}

// add lets a worker join, and keeps it.
func (c *Cluster) add(ctx context.Context, w Worker) (*member, error) {
	m, err := c.join(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", w.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
	return m, nil
}

// waitAll waits until all workers are Ready, or one can't be.
func (c *Cluster) waitAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, m := range c.all() {
		group.Go(func() error { return c.waitReady(ctx, m) })
	}
	return group.Wait()
}

func (c *Cluster) all() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members)
}

// Add lets one more worker join: worker-I with the guide's addresses, another name
// with the first that are free. With replace, a worker of that name ends and
// begins anew, at the same address on a fresh disk. It returns when the worker is
// Ready.
func (c *Cluster) Add(ctx context.Context, name string, replace bool) error {
	c.adding.Lock()
	defer c.adding.Unlock()
	if err := c.isRunning(); err != nil {
		return err
	}
	w, err := c.place(name, replace)
	if err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	m, err := c.add(ctx, w)
	if err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	return c.waitReady(ctx, m)
}

// isRunning returns why the cluster can't be asked for anything but its status.
func (c *Cluster) isRunning() error {
	if phase := c.known().Phase; phase != Running {
		return fmt.Errorf("cluster %s is %s", c.config.Name, phase)
	}
	return nil
}

// place returns the worker to add. One that is to be replaced has ended then.
func (c *Cluster) place(name string, replace bool) (Worker, error) {
	var have []Worker
	for _, m := range c.all() {
		have = append(have, m.Worker)
	}
	i := find(have, name)
	if i < 0 || !replace {
		return next(name, have)
	}
	c.mu.Lock()
	m := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	c.mu.Unlock()
	m.stop()
	<-m.done
	c.disconnect(m.Worker)
	return m.Worker, os.Remove(c.dir.file(disksDir, name+".qcow2"))
}

// stop ends everything that runs.
func (c *Cluster) stop() {
	for _, m := range c.all() {
		m.stop()
	}
	for _, m := range c.all() {
		<-m.done
	}
	if c.controlPlane != nil {
		c.controlPlane.Stop()
	}
	if c.network != nil {
		c.network.Close()
	}
}

// step says what is under way.
func (c *Cluster) step(name string) error {
	c.update(func(s *Status) { s.Step = name })
	return c.save()
}

func (c *Cluster) update(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}

// save writes what is known, for when this process is gone.
func (c *Cluster) save() error {
	return writeJSON(c.dir.file(statusFile), c.known())
}

// known is the status as far as this process knows it by itself.
func (c *Cluster) known() Status {
	members := c.all()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Workers = make([]WorkerStatus, len(members))
	for i, m := range members {
		s.Workers[i] = m.status()
	}
	return s
}

// Status is what is known of the cluster. The API server is asked about workers.
func (c *Cluster) Status(ctx context.Context) Status {
	s := c.known()
	for i, m := range c.all() {
		if i < len(s.Workers) && s.Workers[i].State == Booting && m.isUp() {
			s.Workers[i].State, s.Workers[i].Message = Ready, ""
			if err := c.check(ctx, m); err != nil {
				s.Workers[i].State, s.Workers[i].Message = m.notReady(), err.Error()
			}
		}
	}
	return s
}
