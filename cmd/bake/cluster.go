package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/dns"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/store"
	"github.com/nodebake/bake/bake/vm"
)

// defaultCluster is the name of a cluster that nobody has named.
const defaultCluster = "bake"

// controlPlaneFile is the control plane's versions file in a clone of this project.
const controlPlaneFile = "manifests/modules/controlplane.yaml"

// clusterFlags are the flags of bake cluster as they are given.
type clusterFlags struct {
	host *host
	in   inputFlags

	config         cluster.Config
	versions       string
	accel          string
	noSecureBoot   bool
	metadataValues []string
	detach, asJSON bool
}

func newCluster(h *host) *cobra.Command {
	k := clusterFlags{host: h}
	c := &cobra.Command{
		Use:   "cluster IMAGE [--workers N] [--detach]",
		Short: "Run a cluster here: a control plane, and workers that boot from an image",
		Long: `Run etcd and Kubernetes' control plane, a network as Compute Engine's, and workers
in QEMU that boot from IMAGE and join by their metadata, with the image's CoreDNS as
DNS. It needs no root. It is Ready when the command says how to reach it; Ctrl-C ends
it, or with --detach bake cluster delete. It keeps nothing, and is not for production
(docs/cluster.md).`,
		Example: `  bake cluster out/k8s-worker-v1-36-3-amd64.tar.gz
  bake cluster add worker-3`,
		Annotations: map[string]string{exitCodes: "0 done, 1 failed, or it runs already, 2 wrong usage, 3 bad input, 130 interrupted"},
		Args:        exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			k.config.Image = args[0]
			if err := k.check(); err != nil {
				return err
			}
			return k.run(c)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addClusterName(c, &k.config.Name)
	f.IntVar(&k.config.Workers, "workers", 3, "`NUMBER` of workers")
	f.BoolVar(&k.detach, "detach", false, "return when it is Ready, and leave it running")
	f.DurationVar(&k.config.ReadyTime, "timeout", 10*time.Minute, "`TIME` that a worker may take to be Ready, and then DNS")
	f.StringVar(&k.versions, "versions", "", "versions `FILE` of the control plane (default: of a clone of bake)")
	k.in.addCacheFlag(c)
	f.IntVar(&k.config.CPUs, "cpus", 1, "number of `CPUS` of each worker")
	f.IntVar(&k.config.MemoryMiB, "memory", 2048, "memory of each worker in `MIB`")
	f.StringVar(&k.accel, "accel", "auto", "`HOW` to run the code: auto, kvm or tcg")
	f.BoolVar(&k.noSecureBoot, "no-secure-boot", false, "use firmware without Secure Boot")
	f.StringArrayVar(&k.metadataValues, "metadata-value", nil, "set `KEY=VALUE` in each worker's metadata (may be repeated)")
	f.BoolVar(&k.config.LAN, "lan", false, "let workers reach private addresses and this host's networks")
	f.BoolVar(&k.config.Isolated, "isolated", false, "refuse connections and names beyond the cluster's network")
	f.BoolVar(&k.asJSON, "json", false, "print what runs as JSON")
	h.addShownFlags(c, "show no progress")
	inGroup(f, "Cluster", "name", "workers", "detach", "timeout", "versions", "cache")
	inGroup(f, "Workers", "cpus", "memory", "accel", "no-secure-boot", "metadata-value", "lan", "isolated")
	c.AddCommand(newClusterList(h), newClusterAdd(h), newClusterLogs(h), newClusterDelete(h), newClusterSupervise(h))
	return c
}

func addClusterName(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "name", defaultCluster, "name of the `CLUSTER`")
	inGroup(c.Flags(), "Cluster", "name")
}

// clusterRoot is the directory that has a directory for each cluster, among what
// programs keep for a user (XDG Base Directory Specification).
func (h *host) clusterRoot() (string, error) {
	state := h.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home := h.getenv("HOME")
		if !filepath.IsAbs(home) {
			return "", &usageError{errors.New("there is no directory for clusters: neither XDG_STATE_HOME nor HOME is set")}
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "bake", "clusters"), nil
}

// check turns flags into values.
func (k *clusterFlags) check() error {
	if err := k.config.Check(); err != nil {
		return &usageError{fmt.Errorf("--%w (see `bake cluster --help`)", err)}
	}
	switch k.accel {
	case "auto":
	case string(vm.KVM), string(vm.TCG):
		k.config.Accel = vm.Accel(k.accel)
	default:
		return &usageError{fmt.Errorf("--accel %s is unknown: want auto, kvm or tcg (see `bake cluster --help`)", k.accel)}
	}
	if k.versions == "" {
		k.versions = controlPlaneFile
	}
	k.config.SecureBoot = !k.noSecureBoot
	k.config.Metadata = map[string]string{}
	for _, text := range k.metadataValues {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return &usageError{fmt.Errorf("--metadata-value %q: want KEY=VALUE (see `bake cluster --help`)", text)}
		}
		k.config.Metadata[key] = value
	}
	return nil
}

// run prepares a cluster and starts it, in this process or in another.
func (k *clusterFlags) run(c *cobra.Command) error {
	h := k.host
	root, err := h.clusterRoot()
	if err != nil {
		return err
	}
	options, err := k.in.options(c, h)
	if err != nil {
		return err
	}
	ctx, stop := untilHangup(c.Context())
	defer stop()
	sink, stopProgress := h.progress(k.config.Workers)
	defer stopProgress()
	options.Progress = sink
	dir, err := cluster.Claim(root, &k.config, h.now())
	if err != nil {
		return err
	}
	tools, err := cluster.Preparation{
		Host: cluster.ReadHost(), Firmware: vm.FirmwareDirs(), Progress: sink,
		Find: controlplane.Find{Versions: k.versions, Options: options, Dir: filepath.Join(options.Cache, store.ProgramsDir)},
	}.Prepare(ctx, dir, &k.config)
	if err != nil {
		return errors.Join(explainVersions(k.versions, err), dir.Remove())
	}
	s := &clusterSession{
		clusterFlags: k, root: root, dir: dir, client: cluster.NewClient(root, k.config.Name),
		watcher: clusterWatcher{sink: sink, tasks: map[string]progress.Task{}}, stopProgress: stopProgress,
	}
	if k.detach {
		return s.runDetached(ctx)
	}
	return s.runHere(ctx, tools)
}

// explainVersions says where the control plane's versions file is to be found.
func explainVersions(file string, err error) error {
	if _, ok := errors.AsType[*manifest.ArgumentError](err); ok && file == controlPlaneFile && !exists(file) {
		return &manifest.ArgumentError{Err: fmt.Errorf("%w (run it in a clone of this project, or give its file by --versions)", err)}
	}
	return err
}

// printCluster says how a cluster that is Ready is reached.
func (h *host) printCluster(s cluster.Status, asJSON bool) error {
	for _, text := range s.Notes {
		h.note("%s", text)
	}
	if asJSON {
		return json.NewEncoder(h.stdout).Encode(s)
	}
	var l lines
	for _, w := range s.Workers {
		l.add("%s %s, pods %s, console %s", w.Name, w.IP, w.PodCIDR, w.Console)
	}
	if s.DNS != nil {
		l.add("DNS %s, CoreDNS %s on %s", s.DNS.IP, s.DNS.Version, strings.Join(nodesOf(s.DNS.Replicas), ", "))
	}
	l.add("node ports: curl -x %s http://%s:PORT", s.Proxy, s.Workers[0].IP)
	if s.Kubectl != "" {
		l.add("kubectl: %s", s.Kubectl)
	}
	l.add("export KUBECONFIG=%s", manifest.Command(s.Kubeconfig))
	return l.print(h.stdout)
}

// nodesOf are the nodes of replicas, each once.
func nodesOf(replicas []dns.Replica) []string {
	var nodes []string
	for _, r := range replicas {
		nodes = append(nodes, r.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// clusterWatcher shows how far a cluster is.
type clusterWatcher struct {
	sink  progress.Sink
	step  string
	tasks map[string]progress.Task
}

func (w *clusterWatcher) show(s cluster.Status) {
	if s.Step != w.step {
		w.step = s.Step
		progress.Phase(w.sink, s.Step)
	}
	w.showWorkers(s)
}

func (w *clusterWatcher) showWorkers(s cluster.Status) {
	for _, worker := range s.Workers {
		task, known := w.tasks[worker.Name]
		switch {
		case !known && worker.State == cluster.Booting:
			task = w.sink.Start("boot", worker.Name, 0)
			w.tasks[worker.Name] = task
			fallthrough
		case known && worker.State == cluster.Booting:
			progress.Detail(task, worker.Message)
		case known && worker.State == cluster.Ready:
			task.End("done")
		case known:
			task.End(string(worker.State))
		}
	}
}

// watchTime is the pause between two looks at a cluster.
const watchTime = 300 * time.Millisecond

// follow shows how far a cluster is until it runs. It is false where ended or ctx
// come first.
func (w *clusterWatcher) follow(ctx context.Context, client *cluster.Client, ended <-chan struct{}) (cluster.Status, bool) {
	for {
		select {
		case <-ended:
			return cluster.Status{}, false
		case <-ctx.Done():
			return cluster.Status{}, false
		case <-time.After(watchTime):
		}
		s, err := client.Status(ctx)
		if err != nil {
			continue // it ends, or ctx
		}
		w.show(s)
		if s.Phase == cluster.Running {
			return s, true
		}
	}
}
