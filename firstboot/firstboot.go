// Package firstboot makes the machine that it runs on the Kubernetes worker
// that its instance's metadata describe.
//
// [Run] is one attempt, at each boot and again after a failure: it reads the
// metadata, works out the configuration, writes what differs, and tells systemd
// what to start. It waits for the metadata server and for nothing else. [Health]
// waits until the node is healthy and reports that. [DryRun] shows what Run would do.
//
// What is decided is decided in package config, a pure function; here is what
// is done, in its order. Neither does Run know Kubernetes, nor join: kubelet
// registers the node.
package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/pki"
	"github.com/nodebake/bake/firstboot/report"
	"github.com/nodebake/bake/firstboot/services"
)

// Paths on the node.
const (
	imageRecord  = "/usr/lib/bake/image.json"
	hostnameFile = "/etc/hostname"
	stateDir     = "/run/firstboot"

	kubeletConfig = "/var/lib/kubelet/kubelet-config.yaml" // as package config has it
)

// runtimeUnit starts before there is an answer; healthUnit comes after all others.
const (
	runtimeUnit = "containerd.service"
	healthUnit  = "firstboot-health.service"
)

// Config says where Run works and what it uses. Log is required; the zero value
// of everything else is a real worker.
type Config struct {
	Root     string          // the node's root directory; "/" where empty
	Metadata metadata.Config // of the client; Waiting is Run's own
	Machine  Machine

	Log    io.Writer    // one line for each event
	Status func(string) // what `systemctl status firstboot` shows; may be nil

	// Units connects to what starts units; systemd where nil.
	Units func(context.Context) (Units, error)

	// MayBootstrap asks an API server whether it takes credentials for TLS
	// bootstrap; one request to it where nil.
	MayBootstrap func(context.Context, pki.Access) error

	// Patience is how long the metadata server may fail for one reason before
	// that is reported as a failure, without giving up; 2 minutes where 0.
	Patience time.Duration
}

// Units starts units; [services.Manager] does.
type Units interface {
	Start(context.Context, []services.Unit) ([]services.Job, error)
	Apply(context.Context, []services.Unit) (services.Result, error)
	Close()
}

func (c Config) withDefaults() Config {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Status == nil {
		c.Status = func(string) {}
	}
	if c.Units == nil {
		c.Units = func(ctx context.Context) (Units, error) { return services.Dial(ctx, c.Root) }
	}
	if c.MayBootstrap == nil {
		c.MayBootstrap = MayBootstrap
	}
	if c.Patience == 0 {
		c.Patience = 2 * time.Minute
	}
	c.Machine = c.Machine.withDefaults()
	return c
}

// run is one attempt.
type run struct {
	Config
	client   *metadata.Client
	reporter report.Reporter
	state    report.State
	image    config.Image
}

// Run configures the machine, and reports why where it can't. Its error is nil
// once systemd knows what to start.
func Run(ctx context.Context, c Config) error {
	r := &run{Config: c.withDefaults()}
	waiting := &waiting{run: r, ctx: ctx}
	clientConfig := r.Metadata
	clientConfig.Waiting = waiting.failed
	r.client = metadata.New(clientConfig)
	r.reporter = report.Reporter{Dir: filepath.Join(r.Root, stateDir), Console: r.Machine.Console, Guest: r.client.PutGuestAttribute}

	err := r.configure(ctx)
	switch {
	case err == nil:
		r.Status("configured " + r.state.Node)
	case ctx.Err() != nil:
		// The machine goes down, or somebody stopped us: no failure.
		r.Status("stopped")
	default:
		r.failed(ctx, err)
		r.Status("failed: " + report.OneLine(err.Error()))
	}
	return err
}

// failed reports err once. Every attempt that fails for the same reason would
// fill the console, and systemd logs each.
func (r *run) failed(ctx context.Context, err error) {
	isNew, reportErr := r.reporter.Failed(ctx, err.Error())
	if isNew {
		r.logf("failed: %s", report.OneLine(err.Error()))
	}
	r.logReport(reportErr)
}

func (r *run) logf(format string, args ...any) {
	fmt.Fprintf(r.Log, "firstboot: "+format+"\n", args...)
}

// logReport logs what kept us from reporting: that is never a failure itself.
func (r *run) logReport(err error) {
	if err != nil && !errors.Is(err, metadata.ErrDisabled) {
		r.logf("reporting: %s", report.OneLine(err.Error()))
	}
}

func (r *run) configure(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	r.Status("finishing what a power cut interrupted")
	recovered, err := r.recover(ctx)
	if err != nil {
		return err
	}
	if err := r.early(ctx, recovered); err != nil {
		return err
	}

	r.Status("waiting for the metadata server")
	m, err := r.client.Get(ctx)
	if err != nil {
		return err
	}
	cpu := r.Machine.CPU()
	r.state.Phases.Metadata = r.uptime()
	r.Status("configuring")
	node, err := r.node(ctx, m)
	if err != nil {
		return err
	}
	r.state.Node, r.state.Credentials = node.Name, string(node.Credentials)
	for _, warning := range node.Warnings {
		r.logf("%s", report.OneLine(warning))
	}
	if err := r.swapOff(); err != nil {
		return err
	}
	if err := r.write(ctx, node); err != nil {
		return err
	}
	if err := r.start(ctx, node); err != nil {
		return err
	}
	r.state.CPU = (r.Machine.CPU() - cpu).Milliseconds()
	return r.reporter.Keep(r.state)
}

// begin counts the attempt and reads what is baked in.
func (r *run) begin() error {
	var err error
	if r.state, err = r.reporter.State(); err != nil {
		// Of this boot only, and not worth a node.
		r.logReport(err)
		r.state = report.State{}
	}
	r.state.Attempts++
	first := r.state.Phases.Firstboot
	if first == 0 {
		first = r.uptime()
	}
	r.state.Phases = report.Phases{Firstboot: first}
	if name, err := os.ReadFile(filepath.Join(r.Root, hostnameFile)); err == nil && r.state.Node == "" {
		r.state.Node = strings.TrimSpace(string(name))
	}
	if r.image, err = readImage(filepath.Join(r.Root, imageRecord)); err != nil {
		return err
	}
	r.state.Lock = r.image.Lock
	return r.reporter.Keep(r.state)
}

func readImage(path string) (config.Image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return config.Image{}, fmt.Errorf("reading what is baked into this image: %w", err)
	}
	image, err := config.ParseImage(data)
	if err != nil {
		return config.Image{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return image, nil
}

// recover ends an apply that was interrupted. The node's units refused to start
// while it was not ended, so they are started now: the configuration is
// complete, and need not wait for the metadata server.
func (r *run) recover(ctx context.Context) (recovered bool, err error) {
	changes, err := files.Recover(r.Root)
	if err != nil {
		return false, err
	}
	for _, change := range changes {
		r.wrote(change)
	}
	if len(changes) == 0 {
		return false, nil
	}
	return true, r.pending(changes)
}

// early writes what needs no metadata and starts the container runtime, which
// takes seconds to come up: it does so while the metadata server is awaited.
func (r *run) early(ctx context.Context, recovered bool) error {
	want, err := config.Early(r.image)
	if err != nil {
		return err
	}
	changes, err := files.Add(r.Root, want, r.wrote)
	if err != nil {
		return err
	}
	if err := r.pending(changes); err != nil {
		return err
	}
	// Nothing has started that did not find its files complete, but for what ran
	// before an attempt of this boot was interrupted.
	units := []services.Unit{{Name: runtimeUnit, Restart: len(changes) > 0 || recovered}}
	if recovered && r.configured() {
		units = append(units, services.Unit{Name: "kubelet.service", Restart: true}, services.Unit{Name: "kube-proxy.service", Restart: true}, services.Unit{Name: healthUnit, Restart: true})
	}
	// No connection stays open while metadata are awaited: it would be woken by
	// everything that systemd does meanwhile.
	manager, err := r.Units(ctx)
	if err != nil {
		return err
	}
	jobs, err := manager.Start(ctx, units)
	manager.Close()
	r.logJobs(jobs)
	if err != nil {
		return err
	}
	r.settle(changes, recovered)
	return r.reporter.Keep(r.state)
}

// configured says whether there is a configuration, of whatever boot: the apply
// that was interrupted may have been that of early.
func (r *run) configured() bool {
	_, err := os.Stat(filepath.Join(r.Root, kubeletConfig))
	return err == nil
}

// settle forgets changes whose units have been started since.
func (r *run) settle(changes []files.Change, all bool) {
	r.state.Pending = slices.DeleteFunc(r.state.Pending, func(path string) bool {
		return all || slices.ContainsFunc(changes, func(c files.Change) bool { return c.Path == path })
	})
}

// node works out the configuration.
func (r *run) node(ctx context.Context, m *metadata.Metadata) (*config.Node, error) {
	secrets, err := fetchSecrets(ctx, r.client, m)
	if err != nil {
		return nil, err
	}
	return config.New(config.Input{
		Metadata: m, Secrets: secrets, Image: r.image,
		Now: r.Machine.Now(), Memory: r.Machine.Memory(), CPUs: r.Machine.CPUs(),
	})
}

func fetchSecrets(ctx context.Context, client *metadata.Client, m *metadata.Metadata) (map[string]string, error) {
	versions, err := config.Secrets(m)
	if err != nil {
		return nil, err
	}
	secrets := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(versions)) {
		if secrets[key], err = client.Secret(ctx, versions[key]); err != nil {
			return nil, fmt.Errorf("metadata key %s-secret: %w", key, err)
		}
	}
	return secrets, nil
}

// nodeFiles are the node's and the machine's own.
func nodeFiles(node *config.Node) []files.File {
	// A configured worker that boots again starts kubelet without waiting for
	// the metadata server: it must have its name by then, and systemd sets
	// what is in this file.
	return append(node.Files(), files.File{Path: hostnameFile, Content: []byte(node.Name + "\n"), Mode: 0o644})
}

// write makes the files what they should be, and sets the host name.
func (r *run) write(ctx context.Context, node *config.Node) error {
	again, err := rejoin(r.Root, node)
	if err != nil {
		return err
	}
	if again.Why != "" {
		r.Status("asking the API server whether kubelet may join anew")
		if err := r.MayBootstrap(ctx, again.Access); err != nil {
			return again.Refused(err)
		}
		r.logf("%s: it will ask for another", report.OneLine(again.Why))
	}
	want := append(nodeFiles(node), again.Files...)
	plan, err := files.Plan(r.Root, want)
	if err != nil {
		return err
	}
	// Before the first is written: should this attempt end between here and the
	// restart of what uses them, the next one finds nothing to write any more.
	if err := r.pending(plan); err != nil {
		return err
	}
	if len(plan) > 0 {
		r.logf("writing %d files", len(plan))
	}
	if _, err := files.Apply(r.Root, want, r.wrote); err != nil {
		return err
	}
	if err := r.Machine.SetHostname(node.Name); err != nil {
		return fmt.Errorf("setting the host name to %s: %w", node.Name, err)
	}
	r.state.Phases.Configured = r.uptime()
	return nil
}

// wrote logs a change at once: the line is on the serial console before the
// next file is touched.
func (r *run) wrote(change files.Change) {
	r.state.Changed++
	switch change.What {
	case files.Created, files.Rewritten:
		r.logf("wrote %s", change.Path)
	default:
		r.logf("%s: %s", change.What, change.Path)
	}
}

// pending remembers files whose units have to be restarted.
func (r *run) pending(changes []files.Change) error {
	if len(changes) == 0 {
		return nil
	}
	for _, change := range changes {
		if !slices.Contains(r.state.Pending, change.Path) {
			r.state.Pending = append(r.state.Pending, change.Path)
		}
	}
	return r.reporter.Keep(r.state)
}

// start makes systemd start the node's units, and restart those whose files
// have changed.
func (r *run) start(ctx context.Context, node *config.Node) error {
	manager, err := r.Units(ctx)
	if err != nil {
		return err
	}
	defer manager.Close()
	result, err := manager.Apply(ctx, unitsFor(node, r.state.Pending))
	r.logJobs(result.Jobs)
	if err != nil {
		return err
	}
	r.wantReload(result)
	r.state.Pending = nil
	r.state.Phases.Enqueued = r.uptime()

	// The health unit starts last, and runs again after any restart, and what is
	// healthy already he has reported.
	restarted := len(result.Jobs) > 0
	if !restarted && r.reporter.IsReady() {
		return nil
	}
	if restarted {
		if err := r.reporter.Unready(); err != nil {
			return err
		}
	}
	if err := r.reporter.Keep(r.state); err != nil {
		return err
	}
	result, err = manager.Apply(ctx, []services.Unit{{Name: healthUnit, Restart: restarted}})
	r.wantReload(result)
	return err
}

// wantReload leaves to Health what would take systemd's time now.
func (r *run) wantReload(result services.Result) {
	if result.Enabled {
		r.logReport(r.reporter.WantReload())
	}
}

// unitsFor says which of the node's units are to be restarted if they run.
func unitsFor(node *config.Node, changed []string) []services.Unit {
	var units []services.Unit
	for _, u := range node.Units() {
		units = append(units, services.Unit{Name: u.Name, Restart: slices.ContainsFunc(u.Uses, func(path string) bool { return slices.Contains(changed, path) })})
	}
	return units
}

func (r *run) logJobs(jobs []services.Job) {
	for _, job := range jobs {
		r.logf("%s %s", job.What, job.Unit)
	}
}

// swapOff turns swap off: kubelet does not start where there is any. The image
// has none; an operator's fstab or a disk that was attached may.
func (r *run) swapOff() error {
	swaps, err := r.Machine.Swapoff()
	for _, swap := range swaps {
		r.logf("turned swap on %s off", swap)
	}
	return err
}

func (r *run) uptime() int64 { return r.Machine.Uptime().Milliseconds() }

// waiting checks failures that the metadata client repeats.
type waiting struct {
	run    *run
	ctx    context.Context // of Run, for its callback
	reason string
	since  time.Duration
	said   map[string]bool
}

// failed logs each reason once. One that lasts is a failure to people, though
// the client goes on.
func (w *waiting) failed(err error) {
	reason := report.OneLine(err.Error())
	now := w.run.Machine.Uptime()
	if reason != w.reason {
		w.reason, w.since = reason, now
	}
	if !w.said[reason] {
		if w.said == nil {
			w.said = map[string]bool{}
		}
		w.said[reason] = true
		w.run.logf("waiting for the metadata server: %s", reason)
		w.run.Status("waiting for the metadata server: " + reason)
	}
	if now-w.since >= w.run.Patience {
		w.run.failed(w.ctx, fmt.Errorf("waiting for the metadata server: %s (still trying)", reason))
	}
}
