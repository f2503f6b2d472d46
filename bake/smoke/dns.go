package smoke

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// kubeDNS selects the pods of the DNS add-on.
var kubeDNS = []string{"-n", "kube-system", "-l", "k8s-app=kube-dns"}

// findReplicas asks where DNS's replicas are, for the first step that was chosen of
// those that need to know.
func (r *run) findReplicas(ctx context.Context) {
	step := Nodes
	if !r.wants(Nodes) {
		step = DNS
	}
	c := check{
		name:  "DNS replicas",
		call:  kubectlCall(append([]string{"get", "pods", "-o", "json"}, kubeDNS...)...),
		judge: judgeReplicas(len(targets(r.nodes))),
	}
	o := r.ask(ctx, check{call: c.call, judge: func(out output) finding {
		r.replicas, _ = parsePods(out.stdout) // judge says what is wrong with it
		return c.judge(out)
	}})[0]
	o.name = c.name
	r.replicas = slices.DeleteFunc(r.replicas, func(p pod) bool { return !p.ready })
	if o.status == Failed {
		r.noDNS = "DNS has no replica that is ready"
		if len(r.replicas) > 0 {
			r.noDNS = ""
		}
		logs := r.call(ctx, kubectlCall(append([]string{"logs", "--tail", "30"}, kubeDNS...)...), makeTime)
		if cause, next := explainCoreDNS(logs.stdout); cause != "" {
			o.cause, o.next = cause, next
		}
	}
	r.add(step, o)
}

func judgeReplicas(nodes int) func(output) finding {
	return func(o output) finding {
		if !o.ok() {
			return kubectlFault(o)
		}
		pods, err := parsePods(o.stdout)
		if err != nil {
			return failed(err.Error(), "kubectl printed something else", "kubectl version")
		}
		if len(pods) == 0 {
			return failed("there is none", "the DNS add-on is not installed", "bake dns apply --kubeconfig FILE")
		}
		on := map[string]bool{}
		var places, not []string
		var waiting string
		for _, p := range pods {
			if !p.ready {
				waiting = or(waiting, or(p.waiting, "it does not answer its readiness probe"))
				not = append(not, fmt.Sprintf("%s on %s is not ready", p.name, or(p.node, "no node")))
				continue
			}
			on[p.node] = true
			places = append(places, p.name+" on "+p.node)
		}
		switch {
		case len(not) > 0:
			return failed(strings.Join(not, "; ")+": "+waiting, "CoreDNS does not start, or does not reach the API server",
				"kubectl -n kube-system describe pods -l k8s-app=kube-dns", "kubectl -n kube-system logs -l k8s-app=kube-dns")
		case len(on) == 1 && len(pods) > 1 && nodes > 1:
			return passed("%s: all on one node, with which DNS would end", strings.Join(places, ", "))
		}
		return passed("%s", strings.Join(places, ", "))
	}
}

// explainCoreDNS knows what CoreDNS logs when it is not ready.
func explainCoreDNS(logs string) (cause string, next []string) {
	has := func(text string) bool { return strings.Contains(logs, text) }
	switch {
	case has(`cannot list resource "endpointslices"`), has(`endpointslices.discovery.k8s.io is forbidden`):
		return "CoreDNS may not list endpointslices: its ClusterRole system:coredns is of an older add-on", []string{"bake dns apply --kubeconfig FILE", "kubectl describe clusterrole system:coredns"}
	case has("is forbidden: User"):
		return "CoreDNS may not list what it needs: its ClusterRole system:coredns, or the binding, is missing", []string{"bake dns apply --kubeconfig FILE", "kubectl describe clusterrole system:coredns"}
	case has("Loop ("):
		return "CoreDNS forwards to itself: kubelet's resolvConf names systemd-resolved's stub, 127.0.0.53", []string{"kubectl -n kube-system get configmap coredns -o yaml"}
	case has(":443: i/o timeout"), has(":443: connect: "):
		return "CoreDNS does not reach the API server by its Service address", []string{"bake smoke --kubeconfig FILE --only nodes"}
	}
	return "", nil
}

// dnsStep asks every replica from every node, and DNS by its Service.
func (r *run) dnsStep(ctx context.Context) {
	if r.noDNS != "" {
		r.skip(DNS, "answers", r.noDNS)
		return
	}
	r.domain = r.askDomain(ctx)
	r.noteBroken(r.askAll(ctx, DNS, r.replicaChecks()...))
	if r.forwards {
		r.noteBroken(r.askAll(ctx, DNS, r.outsideChecks()...))
	} else {
		r.skip(DNS, "name outside", "CoreDNS does not forward")
	}
}

// dnsChecks are what dnsStep asks if all is well, and the domain is the usual one.
func (r *run) dnsChecks() []check {
	if r.noDNS != "" {
		return nil
	}
	checks := r.replicaChecks()
	for _, p := range r.places[:1] {
		checks = append(checks, check{call: askDomain(r.Namespace, p), skip: r.broken[p.name]})
	}
	if r.forwards {
		checks = append(checks, r.outsideChecks()...)
	}
	return checks
}

// replicaChecks ask every replica from every node, and DNS by its Service.
func (r *run) replicaChecks() []check {
	var checks []check
	for _, p := range r.places {
		for _, replica := range r.replicas {
			c := replicaCheck(r.Namespace, p, replica, "kubernetes.default.svc."+r.domain, r.api)
			c.skip = r.skipReplica(p, replica)
			checks = append(checks, c)
		}
		checks = append(checks, r.shortNameCheck(p))
	}
	return checks
}

func (r *run) skipReplica(p place, replica pod) string {
	return or(r.broken[p.name], r.noPath[path{p.name, replica.node}])
}

// askDomain reads the cluster's domain, which a pod's resolv.conf has.
func (r *run) askDomain(ctx context.Context) string {
	for _, p := range r.places {
		if r.broken[p.name] == "" {
			resolvConf := r.ask(ctx, check{call: askDomain(r.Namespace, p), judge: inPod(p, func(o output) finding {
				return finding{passed: o.ok(), detail: o.stdout}
			})})[0]
			return parseDomain(resolvConf.detail)
		}
	}
	return defaultDomain
}

func askDomain(namespace string, p place) call {
	return busybox(namespace, p, "cat", "/etc/resolv.conf")
}

const defaultDomain = "cluster.local"

func parseDomain(resolvConf string) string {
	for line := range strings.Lines(resolvConf) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "search" {
			continue
		}
		for _, word := range words[1:] {
			if domain, ok := strings.CutPrefix(word, "svc."); ok {
				return domain
			}
		}
	}
	return defaultDomain
}

// lookUp asks DNS from the pod of a node. nslookup asks five seconds, and again.
func lookUp(namespace string, p place, args ...string) call {
	return busybox(namespace, p, append([]string{"timeout", "12", "busybox", "nslookup"}, args...)...)
}

// replicaCheck asks one replica, by its own address, from one node.
func replicaCheck(namespace string, p place, replica pod, name, want string) check {
	return check{
		name: replica.name + " from " + p.name, tries: 2,
		call: lookUp(namespace, p, name, replica.ip.String()),
		judge: inPod(p, func(o output) finding {
			f := judgeAnswer(o, name, want)
			if f.passed {
				return passed("%s, %s", want, replica.ip)
			}
			f.detail = "the replica on " + replica.node + " (" + replica.ip.String() + "): " + f.detail
			if f.cause == noAnswer && replica.node != p.name {
				f.cause = "pods of " + p.name + " don't reach those of " + replica.node
				f.next = []string{"bake smoke --kubeconfig FILE --only pods"}
			}
			return f
		}),
	}
}

// noAnswer is the cause of silence.
const noAnswer = "DNS does not answer"

// judgeAnswer judges nslookup by the addresses in its answer. busybox asks every
// domain of the search list, says of each that has not the name that it hasn't, and
// exits with 1 for that, also where another has it
// (docker-library/busybox#48).
func judgeAnswer(o output, name, want string) finding {
	answers := parseAnswers(o.stdout)
	switch {
	case slices.Contains(answers, want):
		return passed("%s is %s", name, want)
	case len(answers) > 0:
		return failed(fmt.Sprintf("%s is %s: want %s", name, strings.Join(answers, ", "), want), "another server answers, or a name outside has hidden the cluster's", "kubectl -n kube-system get configmap coredns -o yaml")
	case o.code == terminated, o.err != nil, strings.Contains(o.stdout+o.stderr, "no servers could be reached"), strings.Contains(o.stdout+o.stderr, "timed out"):
		return failed(name+": no answer", noAnswer, "kubectl -n kube-system logs -l k8s-app=kube-dns")
	case strings.Contains(o.stdout+o.stderr, "SERVFAIL"):
		return failed(name+": SERVFAIL", "CoreDNS has no connection to the API server, or its upstream fails", "kubectl -n kube-system logs -l k8s-app=kube-dns")
	}
	return failed(name+" is unknown", "CoreDNS serves another domain, or does not see services", "kubectl -n kube-system get configmap coredns -o yaml")
}

// parseAnswers returns the addresses that nslookup prints behind a name: the first
// address is the server's.
func parseAnswers(text string) []string {
	var answers []string
	named := false
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case key == "Name":
			named = true
		case named && strings.HasPrefix(key, "Address"): // 1.28 numbers them, and adds a name
			words := strings.Fields(value)
			if len(words) > 0 {
				if _, err := netip.ParseAddr(words[0]); err == nil {
					answers = append(answers, words[0])
				}
			}
		}
	}
	return answers
}

// shortNameCheck asks for a Service of this namespace by its short name, as the
// pod's resolv.conf has it: by DNS's Service, and any of its replicas.
func (r *run) shortNameCheck(p place) check {
	name, ip := serviceName(p.number), r.services[serviceName(p.number)].ip.String()
	c := check{
		name: "short name from " + p.name, call: lookUp(r.Namespace, p, name), tries: 3,
		judge: inPod(p, func(o output) finding { return judgeAnswer(o, name, ip) }),
		skip:  or(r.broken[p.name], r.noProxy[p.name]),
	}
	for _, replica := range r.replicas {
		c.skip = or(c.skip, r.noPath[path{p.name, replica.node}])
	}
	return c
}

// outsideName is a name that is not the cluster's, and what every instance of
// Compute Engine, and every machine of `bake run`, is told of it.
const (
	outsideName    = "metadata.google.internal"
	outsideAddress = "169.254.169.254"
)

// findForward reads whether CoreDNS asks others for names outside.
func (r *run) findForward(ctx context.Context) {
	config := r.call(ctx, kubectlCall("-n", "kube-system", "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}"), 0)
	r.forwards = config.ok() && strings.Contains(config.stdout, "forward ")
}

// outsideChecks ask for a name outside, where CoreDNS forwards.
func (r *run) outsideChecks() []check {
	var checks []check
	for _, p := range r.places {
		inner := r.shortNameCheck(p)
		checks = append(checks, check{
			name: "name outside from " + p.name, call: lookUp(r.Namespace, p, outsideName+"."), tries: 2, skip: inner.skip,
			judge: inPod(p, func(o output) finding {
				f := judgeAnswer(o, outsideName, outsideAddress)
				if !f.passed {
					f.cause = "CoreDNS forwards to a server that does not know it: the resolv.conf that kubelet gives pods (where nodes are no Compute Engine instances: --skip dns)"
				}
				return f
			}),
		})
	}
	return checks
}
