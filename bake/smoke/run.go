package smoke

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/manifest"
)

// run is a run under way, and what it learnt.
type run struct {
	Config
	report Report
	began  time.Time
	keys   map[string][]byte // of the encryption configuration, by name

	nodes   []node
	all     string // what `kubectl get nodes` printed
	allTook time.Duration

	made     bool // the namespace, perhaps
	places   []place
	services map[string]service

	api      string // address of the service kubernetes
	noAPI    string // why that is not known
	replicas []pod
	noDNS    string            // why DNS is not asked
	domain   string            // of the cluster
	forwards bool              // CoreDNS asks others for names outside
	early    map[string]answer // what was asked in pods already, by call.key

	broken  map[string]string // by node: why nothing can be asked there
	noPath  map[path]string   // why one node's pods don't reach another's
	noProxy map[string]string // by node: why services fail there
}

// place is a node with this run's pod on it.
type place struct {
	node
	pod    pod
	number int // of its service
}

// path leads from the pods of one node to those of another.
type path struct{ from, to string }

// service is one of this run's.
type service struct {
	ip       netip.Addr
	nodePort int
}

func newRun(config Config) *run {
	return &run{
		Config: config, began: config.Now(), domain: defaultDomain, services: map[string]service{},
		broken: map[string]string{}, noPath: map[path]string{}, noProxy: map[string]string{},
	}
}

func (r *run) proxy() string {
	if r.Proxy == nil {
		return ""
	}
	return r.Proxy.Redacted()
}

// mark is the label of namespaces that are ours, and namePrefix begins their names.
const (
	markKey    = "app.kubernetes.io/managed-by"
	markValue  = "bake-smoke"
	namePrefix = "bake-smoke-"
)

// NewNamespace returns the name of a namespace that is not there.
func NewNamespace() string { return namePrefix + strings.ToLower(rand.Text()[:8]) }

// makeTime bounds what makes or deletes objects.
const makeTime = 30 * time.Second

// graceTime is what a call that makes objects has after an interrupt: of one that is
// cut off, nobody knows whether it comes to the API server yet.
const graceTime = 10 * time.Second

// patient is a context that ends a while after ctx.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	p, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(graceTime, func() { cancel(context.Cause(ctx)) })
	})
	return p, func() {
		stop()
		cancel(nil)
	}
}

// makeNamespace makes the namespace, or says why not.
func (r *run) makeNamespace(ctx context.Context) bool {
	step := Deployment
	if !r.wantsPods() {
		step = Secret
	}
	c := check{
		name: "namespace", limit: makeTime, judge: judgeMade,
		call: call{args: []string{"create", "-f", "-"}, stdin: namespaceObject(r.Namespace)},
	}
	r.made = ctx.Err() == nil
	return r.make(ctx, step, c)
}

// make makes objects, and says whether they are made.
func (r *run) make(ctx context.Context, step string, c check) bool {
	if ctx.Err() == nil {
		var cancel context.CancelFunc
		ctx, cancel = patient(ctx)
		defer cancel()
	}
	_, ok := r.askAll(ctx, step, c)
	return ok
}

// object is one of Kubernetes'.
type object = map[string]any

func namespaceObject(name string) string {
	return encode(object{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": object{"name": name, "labels": object{markKey: markValue}},
	})
}

// encode is without a line break at its end.
func encode(o object) string {
	text, err := json.Marshal(o)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(text)
}

// judgeMade judges `kubectl create`.
func judgeMade(o output) finding {
	if !o.ok() {
		return kubectlFault(o)
	}
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if len(lines) == 1 {
		return passed("%s", lines[0])
	}
	return passed("%d objects created", len(lines))
}

// cleanTime bounds clean-up.
const cleanTime = 2 * time.Minute

// finish deletes the namespace, also where ctx ended.
func (r *run) finish(ctx context.Context) {
	r.report.Namespace = ""
	if !r.made {
		return
	}
	r.report.Namespace = r.Namespace
	if r.Keep && ctx.Err() == nil {
		r.report.Kept = true
		return
	}
	r.delete(context.WithoutCancel(ctx), r.Namespace)
}

// delete deletes namespaces and waits until they are gone. For pods nobody waits:
// those of a node that is gone would stay until somebody forced them, and the
// kubelet of another ends them within a second.
func (r *run) delete(ctx context.Context, names ...string) {
	for _, name := range names {
		began := r.Now()
		args := []string{"delete", "namespace", name, "--ignore-not-found"}
		if r.call(ctx, kubectlCall(append(args, "--wait=false")...), makeTime).ok() { // from now on none is made
			r.call(ctx, inNamespace(name, "delete", "pods", "--all", "--force", "--grace-period", "0", "--wait=false"), makeTime)
		}
		args = append(args, "--timeout", cleanTime.String())
		outcomes := r.ask(ctx, check{name: "namespace " + name, call: kubectlCall(args...), limit: cleanTime + makeTime, judge: judgeDeleted})
		outcomes[0].took = r.Now().Sub(began)
		r.add(cleanUp, outcomes...)
	}
}

func judgeDeleted(o output) finding {
	if o.ok() {
		return passed("deleted")
	}
	f := kubectlFault(o)
	f.next = append(f.next, "bake smoke clean")
	return f
}

// done ends the report.
func (r *run) done() *Report {
	r.report.Results = sorted(r.report.Results)
	r.report.Seconds = seconds(r.Now().Sub(r.began))
	return &r.report
}

// Clean deletes the namespaces of runs that did not end, or were told to keep
// theirs, also of one that runs now.
func Clean(ctx context.Context, config Config) (*Report, error) {
	r := newRun(config)
	if err := r.findServer(ctx); err != nil {
		return nil, err
	}
	out := r.call(ctx, kubectlCall("get", "namespaces", "-l", markKey+"="+markValue, "-o", "jsonpath={.items[*].metadata.name}"), makeTime)
	if !out.ok() {
		return nil, r.refused(ctx, out)
	}
	names := slices.DeleteFunc(strings.Fields(out.stdout), func(name string) bool { return !strings.HasPrefix(name, namePrefix) })
	slices.Sort(names)
	r.delete(ctx, names...)
	return r.done(), ctx.Err()
}

// preflight looks at what was given before anything is made.
func (r *run) preflight(ctx context.Context) error {
	if err := r.findServer(ctx); err != nil {
		return err
	}
	began := r.Now()
	out := r.call(ctx, kubectlCall("get", "nodes", "-o", "json"), makeTime)
	r.allTook = r.Now().Sub(began)
	if !out.ok() {
		return r.refused(ctx, out)
	}
	nodes, err := parseNodes(out.stdout)
	if err != nil {
		return err
	}
	r.nodes, r.all = nodes, out.stdout
	if err := checkCount(r.Kubeconfig, nodes, r.Nodes); err != nil && r.wantsPods() {
		return err
	}
	if err := checkNames(nodes, r.NodeAddresses); err != nil {
		return err
	}
	return r.checkRights(ctx)
}

// checkRights wants the user to be allowed what is done.
func (r *run) checkRights(ctx context.Context) error {
	list := rights(r.wantsPods())
	outs := make([]output, len(list))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, right := range list {
		g.Go(func() error {
			outs[i] = r.call(ctx, kubectlCall("auth", "can-i", right.verb, right.resource, "--all-namespaces", "--quiet"), makeTime)
			return nil
		})
	}
	_ = g.Wait() // none returns an error
	for i, out := range outs {
		if out.err != nil || ctx.Err() != nil {
			return r.refused(ctx, out)
		}
		if out.code != 0 {
			return r.wrong("this user may not %s %s (the smoke test needs an administrator: bake kubeconfig create makes one)", list[i].verb, list[i].resource)
		}
	}
	return nil
}

// right is what a user must be allowed to do in all namespaces.
type right struct{ verb, resource string }

func rights(pods bool) []right {
	list := []right{{"create", "namespaces"}, {"delete", "namespaces"}}
	if pods {
		list = append(list, right{"create", "deployments.apps"}, right{"create", "pods/exec"})
	}
	return list
}

// wrong is an error about the kubeconfig.
func (r *run) wrong(format string, args ...any) error {
	return &manifest.ArgumentError{Err: fmt.Errorf("%s: %s", r.Kubeconfig, fmt.Sprintf(format, args...))}
}

// refused is an error about a call that the API server must answer.
func (r *run) refused(ctx context.Context, o output) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.wrong("%s", accessProblem(o))
}

// findServer reads where the API server is, and asks for its version.
func (r *run) findServer(ctx context.Context) error {
	out := r.call(ctx, kubectlCall("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"), makeTime)
	switch {
	case out.err != nil && ctx.Err() == nil:
		return &manifest.ArgumentError{Err: fmt.Errorf("running %s: %w (--kubectl names another)", r.Kubectl, out.err)}
	case !out.ok():
		return r.refused(ctx, out)
	case out.stdout == "":
		return r.wrong("it names no server in its current context (bake kubeconfig create makes one that does)")
	}
	r.report.Server = out.stdout
	out = r.call(ctx, kubectlCall("version", "-o", "json", "--request-timeout", "20s"), makeTime)
	if !out.ok() {
		return r.refused(ctx, out)
	}
	var version struct {
		ClientVersion, ServerVersion struct{ GitVersion string }
	}
	if err := json.Unmarshal([]byte(out.stdout), &version); err != nil || version.ServerVersion.GitVersion == "" {
		return r.wrong("what answers at %s is no Kubernetes API server", r.report.Server)
	}
	r.report.Kubectl, r.report.Version = version.ClientVersion.GitVersion, version.ServerVersion.GitVersion
	if v, err := kubectl.ParseVersions([]byte(out.stdout)); err == nil && v.Skewed() {
		r.report.Warnings = append(r.report.Warnings, fmt.Sprintf("kubectl %s and the API server %s are more than one minor version apart, which Kubernetes does not support (--kubectl names another)", r.report.Kubectl, r.report.Version))
	}
	return nil
}

// decodeBase64 is nil where text is none.
func decodeBase64(text string) []byte {
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil
	}
	return data
}
