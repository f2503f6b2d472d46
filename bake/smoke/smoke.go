// Package smoke tests a running Kubernetes cluster as the end of "Kubernetes the
// Hard Way" does, from outside and by kubectl alone: nodes, encryption of secrets,
// a deployment with port-forward, logs and exec, pods of every node with each
// other, DNS, node ports, and what pods must not reach. A check that fails says
// what it saw, what is the likely cause, and which command comes next.
//
// Everything that it makes is in one namespace of its own, which is deleted at the
// end, however that comes. [Clean] deletes the namespaces of runs that were killed.
//
// It has steps, which can be chosen, and steps have checks. A check is a command, as
// a person would type it, and a judgement of what it printed: both are pure. A check
// whose ground is known to be missing is skipped, so that one fault fails one step.
// What is asked in one pod goes there together (questions.go), and first all that
// will be asked if nothing is wrong.
//
// It knows IPv4 clusters of up to some dozens of nodes: every ordered pair of nodes
// is a check. It measures nothing, and what it asks from this machine it asks with
// this machine's routes and firewalls.
package smoke

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nodebake/bake/bake/manifest"
)

// The steps, in their order. Clean-up is always done, and can't be chosen.
const (
	Nodes      = "nodes"
	Secret     = "secret"
	Deployment = "deployment"
	Pods       = "pods"
	DNS        = "dns"
	NodePort   = "nodeport"
	Metadata   = "metadata"

	cleanUp = "clean-up"
)

// Steps are the names of all steps that can be chosen.
func Steps() []string {
	return []string{Nodes, Secret, Deployment, Pods, DNS, NodePort, Metadata}
}

// Config says which cluster to test, and how. Kubectl, Kubeconfig, Namespace, Dir,
// Env and Now are required.
type Config struct {
	Kubectl    string // program
	Kubeconfig string // file
	Namespace  string // its name, of [NewNamespace]
	Dir        string // for kubectl's cache
	Env        []string
	Now        func() time.Time

	Only, Skip []string // names of steps
	Keep       bool     // the namespace stays
	Timeout    time.Duration
	Nodes      int // how many must be there; 0: as many as there are

	// Images of the pods. Empty: what the nodes have, or else the guide's.
	NginxImage, BusyboxImage string

	// Etcdctl is a program that reads etcd, with what it needs in Env (ETCDCTL_...).
	// Empty: the API server's count of transformations is asked.
	Etcdctl string
	// Encryption is the API server's encryption configuration, with which what etcd
	// has is decrypted; nil: it is not.
	Encryption []byte

	// Proxy leads to node ports by HTTP's CONNECT; nil: they are asked directly.
	Proxy *url.URL
	// NodeAddresses are those by which this machine reaches nodes, by node.
	NodeAddresses map[string]netip.Addr

	Show func(Result) // is told each result at once; nil: nobody
}

// DefaultTimeout bounds a run without clean-up.
const DefaultTimeout = 10 * time.Minute

// Check says what is wrong with the parts of c that need no cluster.
func (c *Config) Check() error {
	for _, list := range []struct {
		flag  string
		names []string
	}{{"only", c.Only}, {"skip", c.Skip}} {
		for _, name := range list.names {
			if !slices.Contains(Steps(), name) {
				return fmt.Errorf("%s %q is no step: want some of %s", list.flag, name, strings.Join(Steps(), ", "))
			}
		}
	}
	if !slices.ContainsFunc(Steps(), c.wants) {
		return errors.New("skip leaves no step")
	}
	if c.Nodes < 0 {
		return fmt.Errorf("nodes %d: want 1 or more", c.Nodes)
	}
	if c.Timeout < 0 {
		return fmt.Errorf("timeout %s: want more than 0", c.Timeout)
	}
	if c.Proxy != nil && (c.Proxy.Scheme != "http" || c.Proxy.Host == "") {
		return fmt.Errorf("proxy %s: want a URL like http://127.0.0.1:3128", c.Proxy.Redacted())
	}
	return nil
}

// wants says whether a step was chosen.
func (c *Config) wants(step string) bool {
	return (len(c.Only) == 0 || slices.Contains(c.Only, step)) && !slices.Contains(c.Skip, step)
}

// wantsPods says whether a step was chosen that needs pods.
func (c *Config) wantsPods() bool {
	return slices.ContainsFunc(Steps(), func(step string) bool { return step != Secret && c.wants(step) })
}

// Run tests a cluster. An error is about what was given, or says that ctx ended:
// what the cluster does wrong is in the report.
func Run(ctx context.Context, config Config) (*Report, error) {
	if err := config.Check(); err != nil {
		return nil, &manifest.ArgumentError{Err: err}
	}
	key, err := parseEncryption(config.Encryption)
	if err != nil {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("reading --encryption-config: %w", err)}
	}
	r := newRun(config)
	r.keys = key
	if err := r.preflight(ctx); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, r.timeout(), errTimeout)
	defer cancel()
	r.steps(limited)
	r.finish(ctx)
	return r.done(), ctx.Err()
}

// errTimeout is why checks end when the time is over.
var errTimeout = errors.New("the time of --timeout is over")

func (r *run) timeout() time.Duration {
	if r.Timeout > 0 {
		return r.Timeout
	}
	return DefaultTimeout
}

// steps does the steps that were chosen.
func (r *run) steps(ctx context.Context) {
	if r.wants(Nodes) {
		r.nodesStep()
	}
	if r.wants(Secret) || r.wantsPods() {
		if !r.makeNamespace(ctx) {
			return
		}
	}
	created := r.wantsPods() && r.createPods(ctx)
	if r.wants(Secret) { // while the pods start
		r.secretStep(ctx)
	}
	if r.wantsPods() {
		r.podSteps(ctx, created)
	}
}

// podSteps does the steps that ask from pods.
func (r *run) podSteps(ctx context.Context, created bool) {
	if r.wants(Nodes) || r.wants(DNS) {
		r.findReplicas(ctx)
		r.findAPI(ctx)
	}
	if r.wants(DNS) {
		r.findForward(ctx)
	}
	ready := created && r.awaitPods(ctx)
	if ready && r.wants(Deployment) {
		r.execStep(ctx)
	}
	var early sync.WaitGroup
	if ready {
		early.Go(func() { r.askEarly(ctx) })
	}
	for _, step := range []struct {
		name string
		do   func(context.Context)
	}{
		{Deployment, r.deploymentStep},
		{Nodes, r.serviceAddressStep},
		{Pods, r.podsStep},
		{DNS, r.dnsStep},
		{NodePort, r.nodePortStep},
		{Metadata, r.metadataStep},
	} {
		if step.name != Deployment {
			early.Wait()
		}
		switch {
		case !r.wants(step.name):
		case ready && ctx.Err() == nil:
			step.do(ctx)
		case ready:
			r.skip(step.name, "asked from pods", context.Cause(ctx).Error())
		default:
			r.skip(step.name, "asked from pods", "there is no pod to ask from")
		}
	}
}
