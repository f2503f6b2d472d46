package smoke

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// podsStep asks pods for each other: their ranges, every ordered pair of nodes, a
// Service of another node, and each pod's own.
func (r *run) podsStep(ctx context.Context) {
	r.askRanges(ctx)
	r.askPairs(ctx)
	r.askServices(ctx)
	r.askHairpins(ctx)
}

// podChecks are what podsStep asks if all is well.
func (r *run) podChecks() []check {
	pairs, _ := r.pairChecks()
	services, _ := r.serviceChecks()
	return slices.Concat(r.rangeChecks(), pairs, services, r.hairpinChecks())
}

func (r *run) rangeChecks() []check {
	var checks []check
	for _, p := range r.places {
		checks = append(checks, check{
			name: "range of " + p.name, skip: r.broken[p.name], tries: 2,
			call:  busybox(r.Namespace, p, "ip", "-4", "route"),
			judge: inPod(p, judgeRange(p)),
		})
	}
	return checks
}

// askRanges reads the range of each node's pods from a pod there. Nodes that have
// the same one are as good as not connected.
func (r *run) askRanges(ctx context.Context) {
	outcomes := r.ask(ctx, r.rangeChecks()...)
	ranges := map[string]netip.Prefix{}
	for i, o := range outcomes {
		if prefix, err := netip.ParsePrefix(o.detail); err == nil && o.passed {
			ranges[r.places[i].name] = prefix
		}
	}
	for i, p := range r.places {
		for _, other := range r.others(p.name) {
			if why := overlap(p, other, ranges); why != "" {
				r.noPath[path{p.name, other.name}] = "pods of " + p.name + " and " + other.name + " have one range"
				outcomes[i].status, outcomes[i].finding = Failed, failed(why, "two workers were given one pod-cidr", overlapNext(other)...)
			}
		}
	}
	r.noteBroken(outcomes, r.add(Pods, outcomes...))
}

// overlap says what two nodes' pods share.
func overlap(a, b place, ranges map[string]netip.Prefix) string {
	switch x, y := ranges[a.name], ranges[b.name]; {
	case a.pod.ip == b.pod.ip:
		return fmt.Sprintf("pods of %s and %s both have %s", a.name, b.name, a.pod.ip)
	case x.IsValid() && y.IsValid() && x.Overlaps(y):
		return fmt.Sprintf("%s of %s and %s of %s overlap", x, a.name, y, b.name)
	}
	return ""
}

func overlapNext(p place) []string {
	return []string{"gcloud compute instances describe " + p.name + " --format 'value(metadata.items)'",
		"bake node " + p.name + " --ip " + p.internal.String() + " --pod-cidr CIDR ..."}
}

// judgeRange finds the pod's own network among its routes.
func judgeRange(p place) func(output) finding {
	return func(o output) finding {
		if !o.ok() {
			return failed("ip says: "+oneLine(o.said()), "busybox has no ip in this image", "kubectl get pods -A -o wide")
		}
		for line := range strings.Lines(o.stdout) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if prefix, err := netip.ParsePrefix(words[0]); err == nil && prefix.Contains(p.pod.ip) && prefix.Bits() < 32 {
				return passed("%s", prefix)
			}
		}
		return passed("%s, by a route of its own", p.pod.ip) // as networks other than the guide's have it
	}
}

// mebibyte is what every pod serves.
const mebibyte = 1 << 20

// mebibyteSum is the digest of that.
func mebibyteSum() string {
	sum := sha256.Sum256([]byte(strings.Repeat("bake-smoke\n", mebibyte/11+1)[:mebibyte]))
	return hex.EncodeToString(sum[:])
}

// transfer asks a pod, or a Service, for who asks it and for 1 MiB.
func transfer(namespace string, p place, host string) call {
	url := fmt.Sprintf("http://%s:%d/", host, testPort)
	return busybox(namespace, p, "sh", "-c",
		"busybox timeout 8 busybox wget -q -O - "+url+"cgi-bin/source && busybox timeout 18 busybox wget -q -O - "+url+"mebibyte | busybox sha256sum")
}

// seen is what a transfer gave.
type seen struct {
	source netip.Addr // by which the other pod saw this one
	whole  bool       // the mebibyte came
}

func parseTransfer(text string) seen {
	first, rest, _ := strings.Cut(text, "\n")
	source, _ := netip.ParseAddr(strings.Trim(strings.TrimSpace(first), "[]")) // httpd's address may be IPv4 in IPv6
	return seen{source.Unmap(), strings.HasPrefix(strings.TrimSpace(rest), mebibyteSum()+" ")}
}

// pairChecks ask for every pod from every other, by the paths of the second result.
func (r *run) pairChecks() (checks []check, paths []path) {
	for _, p := range r.places {
		for _, to := range r.others(p.name) {
			c := pairCheck(r.Namespace, p, to)
			c.skip = r.skipPath(p, to)
			checks, paths = append(checks, c), append(paths, path{p.name, to.name})
		}
	}
	return checks, paths
}

func (r *run) askPairs(ctx context.Context) {
	checks, paths := r.pairChecks()
	outcomes := r.ask(ctx, checks...)
	r.noteBroken(outcomes, false)
	reached := r.probeNodes(ctx, paths, outcomes)
	for i, path := range paths {
		if o := &outcomes[i]; o.status == Failed && !o.isAccess() && !o.isBadServer() {
			r.noPath[path] = "pods of " + path.from + " don't reach pods of " + path.to
			if o.cause == "" {
				o.finding = explainPair(o.detail, path, paths, outcomes, r.places, reached)
			}
		}
	}
	r.add(Pods, outcomes...)
	if len(r.places) < 2 {
		r.skip(Pods, "pairs", "there is one node with a pod")
	}
}

// skipPath says why nothing is asked of one node's pods by another's.
func (r *run) skipPath(from, to place) string {
	return or(r.broken[from.name], r.noPath[path{from.name, to.name}])
}

// pairCheck asks one node's pod from another's. A failure for which more must be
// known has no cause yet.
func pairCheck(namespace string, from, to place) check {
	return check{
		name: from.name + " to " + to.name, call: transfer(namespace, from, to.pod.ip.String()), tries: 2,
		judge: inPod(from, func(o output) finding {
			got := parseTransfer(o.stdout)
			switch {
			case !got.source.IsValid() && reached(o):
				return badServer(to, to.pod.ip.String(), o)
			case !got.source.IsValid():
				return finding{detail: to.pod.ip.String() + ": " + wgetSaid(o)}
			case !got.whole:
				return failed(to.pod.ip.String()+": a short answer came, 1 MiB did not", "the path takes only small packets: the MTU of the pods is larger than the network's (bake node --mtu)",
					"gcloud compute networks describe "+network+" --format 'value(mtu)'")
			case got.source == from.pod.ip:
				return passed("1 MiB, seen as %s, the pod's own", got.source)
			case got.source == from.internal:
				return passed("1 MiB, seen as %s, the node's", got.source)
			}
			return failed(fmt.Sprintf("1 MiB came, and it is seen as %s", got.source),
				fmt.Sprintf("something translates addresses: want %s, the pod's, or %s, the node's", from.pod.ip, from.internal), "kubectl get pods -A -o wide")
		}),
	}
}

// probeNodes asks, for pairs that failed, for the kubelet of the other node by the
// node's address: that needs no route for pods.
func (r *run) probeNodes(ctx context.Context, paths []path, outcomes []outcome) map[path]bool {
	var checks []check
	var asked []path
	for i, o := range outcomes {
		if o.status == Failed && o.cause == "" {
			from, to := r.place(paths[i].from), r.place(paths[i].to)
			checks = append(checks, check{
				call: fetch(r.Namespace, from, "http://"+to.internal.String()+":10250/", 8),
				judge: inPod(from, func(o output) finding {
					return finding{passed: reached(o) || wgetSaid(o) == "connection refused"}
				}),
			})
			asked = append(asked, paths[i])
		}
	}
	found := map[path]bool{}
	for i, o := range r.ask(ctx, checks...) {
		found[asked[i]] = o.passed
	}
	return found
}

func (r *run) place(name string) place {
	return r.places[slices.IndexFunc(r.places, func(p place) bool { return p.name == name })]
}

// explainPair names the cause of a pair that failed. reached says of pairs whether
// the other node itself was reached.
//
// Where workers leave pods' addresses as they are between nodes, a route that is
// missing keeps a node's pods from others and others from them, as their answers are
// lost. Where they put the node's in place, only others from them.
func explainPair(detail string, failedPath path, paths []path, outcomes []outcome, places []place, reached map[path]bool) finding {
	find := func(name string) place {
		return places[slices.IndexFunc(places, func(p place) bool { return p.name == name })]
	}
	from, to := find(failedPath.from), find(failedPath.to)
	if !reached[failedPath] {
		return failed(detail+"; nor does "+to.internal.String()+", the node, answer",
			"a firewall: the guide's rule allow-internal lets nodes and pods reach each other",
			"gcloud compute firewall-rules list --filter network="+network,
			firewallCommand("allow-internal", "tcp,udp,icmp", "10.240.0.0/24,10.200.0.0/16"))
	}
	passes := func(match func(path) bool) bool {
		for i, p := range paths {
			if match(p) && outcomes[i].status == Passed {
				return true
			}
		}
		return false
	}
	toIsReached := passes(func(p path) bool { return p.to == to.name })
	fromIsCut := !passes(func(p path) bool { return p.to == from.name || p.from == from.name })
	detail += "; the node itself answers"
	const orForward = ", or it must not forward (it was made without --can-ip-forward)"
	switch {
	case toIsReached && !fromIsCut:
		return failed(detail, "other nodes' pods reach pods of "+to.name+": something on "+from.name+" keeps its own from it",
			"gcloud compute ssh "+from.name+" --command 'sudo nft list ruleset; ip route'")
	case toIsReached:
		return failed(detail, noRoute(from)+", so that answers are lost"+orForward, routeCommands(from)...)
	case fromIsCut:
		return failed(detail, noRoute(to)+" or "+noRoute(from)+orForward, slices.Concat(routeCommands(to), routeCommands(from))...)
	}
	return failed(detail, noRoute(to)+orForward, routeCommands(to)...)
}

func noRoute(p place) string {
	return fmt.Sprintf("no route leads %s to %s, %s", podRange(p), p.internal, p.name)
}

// routeCommands look for the route to a node's pods, and make it.
func routeCommands(p place) []string {
	pods := podRange(p)
	return []string{
		fmt.Sprintf("gcloud compute routes list --filter destRange=%s", pods),
		"gcloud compute instances describe " + p.name + " --format 'value(canIpForward)'",
		fmt.Sprintf("gcloud compute routes create kubernetes-route-%s --network %s --next-hop-address %s --destination-range %s",
			strings.NewReplacer(".", "-", "/", "-").Replace(pods), network, p.internal, pods),
	}
}

// badServer is an answer of a pod's web server, and not the one that it has to give:
// the way there is all right.
func badServer(to place, what string, o output) finding {
	return failed(what+": "+wgetSaid(o), badServerCause+": on "+to.name+" its httpd does not do what it must (--busybox-image names another)", "kubectl get pods -A -o wide")
}

// badServerCause begins the causes of what is not about the network.
const badServerCause = "the pod is reached, and busybox there is of another kind"

// podRange is the range of a node's pods as the guide cuts it.
func podRange(p place) string {
	prefix, err := p.pod.ip.Prefix(24)
	if err != nil {
		return p.pod.ip.String()
	}
	return prefix.String()
}

// serviceChecks ask for a pod of another node by its Service, from the places of the
// second result.
func (r *run) serviceChecks() (checks []check, from []place) {
	for _, p := range r.places {
		to, ok := r.reachable(p)
		if !ok {
			continue // there is no pair, or it is said above
		}
		c := serviceCheck(r.Namespace, "service from "+p.name, p, to, r.services[serviceName(to.number)].ip.String())
		c.skip = r.broken[p.name]
		checks, from = append(checks, c), append(from, p)
	}
	return checks, from
}

func (r *run) askServices(ctx context.Context) {
	checks, from := r.serviceChecks()
	outcomes := r.ask(ctx, checks...)
	for i, p := range from {
		if o := &outcomes[i]; o.status == Failed && !o.isAccess() && !o.isBadServer() {
			r.noProxy[p.name] = "services fail on " + p.name
			o.finding = r.explainService(ctx, p, o.finding)
		}
	}
	r.noteBroken(outcomes, r.add(Pods, outcomes...))
}

// reachable returns a node whose pods those of p reach.
func (r *run) reachable(p place) (place, bool) {
	for _, to := range r.others(p.name) {
		if r.noPath[path{p.name, to.name}] == "" {
			return to, true
		}
	}
	return place{}, false
}

func serviceCheck(namespace, name string, from, to place, ip string) check {
	return check{
		name: name, call: transfer(namespace, from, ip), tries: 3,
		judge: inPod(from, func(o output) finding {
			if got := parseTransfer(o.stdout); got.source.IsValid() && got.whole {
				return passed("%s gives 1 MiB of %s", ip, to.name)
			}
			if reached(o) {
				return badServer(to, ip+", the Service of a pod on "+to.name, o)
			}
			return failed(ip+", the Service of a pod on "+to.name+": "+wgetSaid(o), "kube-proxy on "+from.name+" does not keep up with services",
				"gcloud compute ssh "+from.name+" --command 'sudo journalctl -u kube-proxy -n 20'")
		}),
	}
}

// explainService asks kube-proxy of a node for its health, from a pod there.
func (r *run) explainService(ctx context.Context, p place, f finding) finding {
	o := r.ask(ctx, check{
		call:  fetch(r.Namespace, p, "http://"+p.internal.String()+":10256/healthz", 8),
		judge: inPod(p, func(o output) finding { return finding{passed: o.ok(), detail: wgetSaid(o)} }),
	})[0]
	if !o.passed {
		f.detail += "; kube-proxy's port 10256: " + o.detail
		f.cause = "kube-proxy on " + p.name + " does not run: services from before it ended go on, new ones don't"
		f.next = []string{"gcloud compute ssh " + p.name + " --command 'sudo systemctl status kube-proxy'"}
	}
	return f
}

// hairpinChecks ask for each pod by its own Service from itself.
func (r *run) hairpinChecks() []check {
	var checks []check
	for _, p := range r.places {
		c := serviceCheck(r.Namespace, p.name+" to itself", p, p, r.services[serviceName(p.number)].ip.String())
		c.skip = or(r.broken[p.name], r.noProxy[p.name])
		checks = append(checks, c)
	}
	return checks
}

func (r *run) askHairpins(ctx context.Context) {
	outcomes := r.ask(ctx, r.hairpinChecks()...)
	for i, p := range r.places {
		o := &outcomes[i]
		if o.status != Failed || o.isAccess() || o.isBadServer() {
			continue
		}
		o.cause = "hairpin mode is off: the bridge does not send a packet back where it came from"
		o.next = []string{"gcloud compute ssh " + p.name + " --command 'grep -r hairpinMode /etc/cni/net.d; bridge -d link show'"}
		if _, ok := r.reachable(p); !ok { // no other Service was asked
			o.finding = r.explainService(ctx, p, o.finding)
		}
	}
	r.noteBroken(outcomes, r.add(Pods, outcomes...))
}
