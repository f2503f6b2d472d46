package dns

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/progress"
)

// Runner runs kubectl: a [kubectl.Kubectl].
type Runner interface {
	Run(ctx context.Context, input []byte, args ...string) ([]byte, error)
}

// Config says what is to be done with a cluster's add-on.
type Config struct {
	Kubectl  Runner
	Addon    Addon         // Release and Image are chosen where they are not set
	Nodes    int           // that are expected; 0: those that have joined
	OnNodes  bool          // an image that no node has is an ErrNoImage, and not pulled
	Timeout  time.Duration // for all of it
	Every    time.Duration // between two looks; default: 2 s
	Progress progress.Sink
}

// Result is what was done.
type Result struct {
	Version  string    `json:"version,omitempty"` // of CoreDNS
	Image    string    `json:"image,omitempty"`
	Changes  []string  `json:"changes"` // as kubectl names them: "service/kube-dns created"
	Replicas []Replica `json:"replicas,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // what is right and may not be meant so
}

// run is one of Apply or Delete.
type run struct {
	Config
	Result
}

func (c Config) start(ctx context.Context) (*run, context.Context, context.CancelFunc) {
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	if c.Progress == nil {
		c.Progress = progress.Discard{}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	return &run{Config: c}, ctx, cancel
}

func (r *run) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Resolve sets a's release and image by asking the cluster's nodes, where they are
// not set.
func Resolve(ctx context.Context, k Runner, a Addon) (Addon, error) {
	r := &run{Config: Config{Kubectl: k, Addon: a}}
	if a.Version != "" && a.Image != "" {
		return a, nil
	}
	nodes, err := get[nodeObject](ctx, r, "nodes")
	if err != nil {
		return a, err
	}
	err = r.choose(nodes)
	return r.Addon, err
}

// choose sets what depends on nodes.
func (r *run) choose(nodes []nodeObject) error {
	a := &r.Addon
	if a.Release.Version == "" {
		release, err := choose(nodes)
		if err != nil {
			return err
		}
		a.Release = release
	}
	var lack []string
	if a.Image == "" {
		a.Image, lack = chooseImage(a.Release, nodes)
	} else {
		lack = without(a.Image, nodes)
	}
	if len(lack) > 0 {
		r.note("the image %s is not on %s, which pulls it where a replica comes there", a.Image, strings.Join(lack, ", "))
	}
	return nil
}

// Apply applies the add-on, and returns when every replica answers, or why it does
// not. Before anything is changed it waits for as many Ready nodes as there are
// replicas, if so many are expected, so that not all come onto the first; and has
// the API server check everything. Done again it changes nothing.
func Apply(ctx context.Context, c Config) (*Result, error) {
	r, ctx, cancel := c.start(ctx)
	defer cancel()
	progress.Phase(r.Progress, "check")
	if err := r.checkVersions(ctx); err != nil {
		return nil, err
	}
	nodes, err := get[nodeObject](ctx, r, "nodes")
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		if nodes, err = r.waitForFirst(ctx); err != nil {
			return nil, err
		}
	}
	if r.OnNodes {
		if nodes, err = r.waitForImages(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.choose(nodes); err != nil {
		return nil, err
	}
	text, err := r.Addon.YAML()
	if err != nil {
		return nil, err
	}
	if err := r.checkCluster(ctx, text); err != nil {
		return nil, err
	}
	progress.Phase(r.Progress, "nodes")
	if err := r.waitForNodes(ctx, nodes); err != nil {
		return nil, err
	}
	progress.Phase(r.Progress, "apply")
	out, err := r.Kubectl.Run(ctx, []byte(text), "apply", "-f", "-")
	r.changed(out)
	if err != nil {
		return nil, err
	}
	progress.Phase(r.Progress, "rollout")
	if err := r.waitForReplicas(ctx); err != nil {
		return nil, err
	}
	progress.Phase(r.Progress, "")
	r.Result.Version, r.Result.Image = r.Addon.Version, r.Addon.Image
	if node := together(r.Replicas); node != "" {
		r.note("all replicas are on %s: when it stops, no name is found (with more nodes: kubectl -n %s rollout restart deployment %s)", node, namespace, deployment)
	}
	return &r.Result, nil
}

// changed keeps the lines in which kubectl says what it did.
func (r *run) changed(out []byte) {
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, " unchanged") {
			r.Changes = append(r.Changes, line)
		}
	}
}

func (r *run) checkVersions(ctx context.Context) error {
	out, err := r.Kubectl.Run(ctx, nil, "version", "-o", "json")
	if err != nil {
		return err
	}
	v, err := kubectl.ParseVersions(out)
	if err != nil {
		return err
	}
	if v.Skewed() {
		r.note("kubectl is of Kubernetes %s and the API server of %s, more than a minor version apart (--kubectl names another)", v.Client, v.Server)
	}
	return nil
}

// checkCluster refuses what is somebody else's, and has the API server check the
// rest without changing anything.
func (r *run) checkCluster(ctx context.Context, text string) error {
	existing, err := r.existing(ctx, text)
	if err != nil {
		return err
	}
	if foreign := others(existing); foreign != nil {
		return fmt.Errorf("another DNS add-on is there, %w (delete it first)", foreign)
	}
	services, err := get[serviceObject](ctx, r, "services", "--all-namespaces")
	if err != nil {
		return err
	}
	if err := checkAddress(r.Addon.ClusterIP, services); err != nil {
		return &InputError{err}
	}
	if _, err = r.Kubectl.Run(ctx, []byte(text), "apply", "--dry-run=server", "-f", "-"); err != nil {
		return r.explainRefusal(ctx, err)
	}
	return nil
}

// explainRefusal says what the API server refuses, where it is about the address.
func (r *run) explainRefusal(ctx context.Context, err error) error {
	ranges := ""
	if isOutOfRange(err) {
		if out, err := r.Kubectl.Run(ctx, nil, "get", "servicecidrs", "-o", "jsonpath={.items[*].spec.cidrs[*]}"); err == nil {
			ranges = strings.Join(strings.Fields(string(out)), ", ")
		}
	}
	return explainRefusal(r.Addon.ClusterIP, ranges, err)
}

// get asks for objects of one kind.
func get[T any](ctx context.Context, r *run, kind string, args ...string) ([]T, error) {
	out, err := r.Kubectl.Run(ctx, nil, slices.Concat([]string{"get", kind}, args, []string{"-o", "json"})...)
	if err != nil {
		return nil, err
	}
	return parseList[T](out)
}

// existing returns the add-on's objects that are there.
func (r *run) existing(ctx context.Context, text string) ([]object, error) {
	out, err := r.Kubectl.Run(ctx, []byte(text), "get", "-f", "-", "--ignore-not-found", "-o", "json")
	if err != nil {
		return nil, err
	}
	return parseList[object](out)
}

// maxFailures is how often in a row kubectl may fail while something is waited for.
const maxFailures = 5

// poll looks again and again until look says that it is done, or fails for good. It
// returns what was said last when the time is over.
func (r *run) poll(ctx context.Context, name string, look func(ctx context.Context) (done bool, state string, err error)) error {
	task := r.Progress.Start("wait", name, 0)
	failures, last := 0, ""
	for {
		done, state, err := look(ctx)
		switch _, isKubectl := errors.AsType[*kubectl.Error](err); {
		case ctx.Err() == nil && isKubectl && failures < maxFailures:
			failures++
			state = err.Error()
		case ctx.Err() == nil && err != nil:
			task.End("failed")
			return err
		case err == nil && done:
			task.End("done")
			return nil
		default:
			failures = 0
		}
		if ctx.Err() == nil {
			last = state
			progress.Detail(task, state)
		}
		select {
		case <-ctx.Done():
			task.End("failed")
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &timeoutError{fmt.Errorf("waiting for %s: %s are over: %s", name, r.Timeout, last)}
			}
			return ctx.Err()
		case <-time.After(r.Every):
		}
	}
}

// timeoutError says what was waited for in vain.
type timeoutError struct{ error }

// waitForFirst waits for any node where some are expected: what fits is known by
// them.
func (r *run) waitForFirst(ctx context.Context) (nodes []nodeObject, err error) {
	if r.Nodes == 0 {
		return nil, errNoNodes
	}
	err = r.poll(ctx, "a node", func(ctx context.Context) (bool, string, error) {
		nodes, err = get[nodeObject](ctx, r, "nodes")
		return len(nodes) > 0, "none has joined the cluster", err
	})
	return nodes, err
}

// waitForNodes waits for as many Ready nodes as there are replicas, or are expected
// where that is fewer.
func (r *run) waitForNodes(ctx context.Context, nodes []nodeObject) error {
	want := min(r.Addon.Replicas, cmp.Or(r.Nodes, len(nodes)))
	return r.poll(ctx, countNodes(want), func(ctx context.Context) (bool, string, error) {
		now, err := get[nodeObject](ctx, r, "nodes")
		if err != nil {
			return false, "", err
		}
		ready, states := 0, []string{}
		for _, n := range now {
			if n.ready() {
				ready++
			} else {
				states = append(states, n.why())
			}
		}
		state := strings.Join(append([]string{fmt.Sprintf("%d of %d have joined and are Ready", ready, want)}, states...), "; ")
		return ready >= want, state, nil
	})
}

// ErrNoImage says that no node has an image of the add-on.
var ErrNoImage = errors.New("no node has an image of CoreDNS")

// imagesTime is how long nodes that are Ready may take to say which images they
// have: kubelet lists them after its first report, and reports every 10 s.
const imagesTime = time.Minute

// waitForImages waits until a node has an image of the add-on, or each has said
// which it has.
func (r *run) waitForImages(ctx context.Context) (nodes []nodeObject, err error) {
	ctx, cancel := context.WithTimeout(ctx, imagesTime)
	defer cancel()
	found := false
	err = r.poll(ctx, "the nodes' images", func(ctx context.Context) (bool, string, error) {
		if nodes, err = get[nodeObject](ctx, r, "nodes"); err != nil {
			return false, "", err
		}
		chosen := run{Config: r.Config}
		if err := chosen.choose(nodes); err != nil {
			return false, "", err
		}
		found = len(without(chosen.Addon.Image, nodes)) < len(nodes)
		silent := slices.IndexFunc(nodes, func(n nodeObject) bool { return len(n.images()) == 0 })
		if silent >= 0 {
			return found, nodes[silent].Metadata.Name + " has not said which it has", nil
		}
		return true, "", nil
	})
	if _, over := errors.AsType[*timeoutError](err); err == nil && !found || over {
		return nil, ErrNoImage
	}
	return nodes, err
}

func countNodes(n int) string {
	if n == 1 {
		return "1 Ready node"
	}
	return fmt.Sprintf("%d Ready nodes", n)
}

// waitForReplicas waits until all replicas are ready.
func (r *run) waitForReplicas(ctx context.Context) error {
	var last snapshot
	restarts := map[string]int{} // before
	err := r.poll(ctx, "CoreDNS", func(ctx context.Context) (bool, string, error) {
		s, err := r.look(ctx)
		if err != nil {
			return false, "", err
		}
		last = s
		for _, p := range s.pods {
			if _, ok := restarts[p.Metadata.Name]; !ok {
				restarts[p.Metadata.Name] = p.restarts()
			}
		}
		if err := s.failed(r.Addon.Image); err != nil {
			return false, "", err
		}
		if p, ok := s.crashes(restarts); ok {
			return false, "", r.withLog(ctx, fmt.Errorf("%s on %s ends again and again", p.Metadata.Name, p.Spec.NodeName), p, "--previous")
		}
		return s.done(), s.state(), nil
	})
	if p, ok := last.stuck(); ok {
		if timeout, isTimeout := errors.AsType[*timeoutError](err); isTimeout {
			// The time is over; what went wrong is worth another moment.
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			return r.withLog(late, timeout, p)
		}
	}
	r.Replicas = last.replicas()
	return err
}

// withLog adds to an error what a pod's log says of the cause.
func (r *run) withLog(ctx context.Context, err error, p podObject, flags ...string) error {
	out, logErr := r.Kubectl.Run(ctx, nil, slices.Concat([]string{"logs", "-n", namespace, p.Metadata.Name, "--tail=100"}, flags)...)
	if logErr != nil {
		return fmt.Errorf("%w; its log can't be read: %w", err, logErr)
	}
	if why := cause(string(out)); why != "" {
		return fmt.Errorf("%w; %s", err, why)
	}
	return err
}

// look reads the add-on's state.
func (r *run) look(ctx context.Context) (snapshot, error) {
	var s snapshot
	deployments, err := get[deploymentObject](ctx, r, "deployment", deployment, "-n", namespace)
	if err != nil {
		return s, err
	}
	if len(deployments) != 1 {
		return s, fmt.Errorf("kubectl prints %d deployments named %s", len(deployments), deployment)
	}
	s.deployment = deployments[0]
	if s.pods, err = get[podObject](ctx, r, "pods", "-n", namespace, "-l", podLabel); err != nil {
		return s, err
	}
	s.pods = slices.DeleteFunc(s.pods, func(p podObject) bool { return p.Metadata.Deleted != "" })
	s.events, err = get[eventObject](ctx, r, "events", "-n", namespace, "--field-selector=involvedObject.kind=Pod,type=Warning")
	return s, err
}

// Delete deletes the objects of the add-on that are ours, and waits until its pods
// are gone. Where there are none it does nothing.
func Delete(ctx context.Context, c Config) (*Result, error) {
	r, ctx, cancel := c.start(ctx)
	defer cancel()
	// The names are the same in every release.
	names := Addon{Release: Current(), Image: Current().Image, Domain: DefaultDomain, Replicas: 1}
	text, err := names.YAML()
	if err != nil {
		return nil, err
	}
	progress.Phase(r.Progress, "delete")
	out, err := r.Kubectl.Run(ctx, []byte(text), "get", "-f", "-", "--ignore-not-found", "-o", "json")
	if err != nil {
		return nil, err
	}
	ours, foreign, err := split(out)
	if err != nil {
		return nil, err
	}
	if foreign != nil {
		r.note("there is something else, which stays: %v", foreign)
	}
	if len(ours) == 0 {
		return &r.Result, nil
	}
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": ours})
	if err != nil {
		return nil, err
	}
	out, err = r.Kubectl.Run(ctx, list, "delete", "--ignore-not-found", "-f", "-")
	r.changed(out)
	if err != nil || foreign != nil {
		return &r.Result, err
	}
	err = r.poll(ctx, "the end of CoreDNS's pods", func(ctx context.Context) (bool, string, error) {
		pods, err := get[podObject](ctx, r, "pods", "-n", namespace, "-l", podLabel)
		return len(pods) == 0, fmt.Sprintf("%d are there", len(pods)), err
	})
	return &r.Result, err
}
