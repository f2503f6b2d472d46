package smoke

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// hereTime bounds a request from this machine: what a firewall drops gets no answer.
const hereTime = 15 * time.Second

// nodePortStep asks a node port at every node's address, from a pod and from here.
func (r *run) nodePortStep(ctx context.Context) {
	inside := r.ask(ctx, r.insideChecks()...)
	var outside []check
	for i, p := range r.places {
		address := r.address(p)
		c := hereCheck(p, address, r.nodePort(p), inside[i].status)
		c.skip = r.noProxy[p.name]
		if r.Proxy == nil && !r.given(p) && address.IsPrivate() {
			c.judge = privateAddress(p, c.judge)
		}
		outside = append(outside, c)
	}
	for i, o := range r.ask(ctx, outside...) {
		r.add(NodePort, inside[i], o)
	}
	r.noteBroken(inside, false)
}

// insideChecks ask a node port of every node from a pod.
func (r *run) insideChecks() []check {
	var checks []check
	for _, p := range r.places {
		checks = append(checks, r.insideCheck(p, r.backend(p), r.nodePort(p)))
	}
	return checks
}

// backend is the pod to which the port leads that is asked at a node: of another
// node, where there is one whose pods that node's reach.
func (r *run) backend(p place) place {
	if to, ok := r.reachable(p); ok {
		return to
	}
	return p
}

func (r *run) nodePort(p place) int { return r.services[serviceName(r.backend(p).number)].nodePort }

// given says whether we were told how this machine reaches a node.
func (r *run) given(p place) bool { return r.NodeAddresses[p.name].IsValid() || p.external.IsValid() }

// address is where this machine reaches a node.
func (r *run) address(p place) netip.Addr {
	if a := r.NodeAddresses[p.name]; a.IsValid() {
		return a
	}
	if r.Proxy == nil && p.external.IsValid() {
		return p.external
	}
	return p.internal
}

// insideCheck asks from a pod of another node, where there is one.
func (r *run) insideCheck(p, to place, port int) check {
	from := p
	for _, other := range r.others(p.name) {
		if r.broken[other.name] == "" {
			from = other
			break
		}
	}
	url := fmt.Sprintf("http://%s:%d/", p.internal, port)
	return check{
		name: p.name + " from a pod on " + from.name, tries: 3, skip: or(r.broken[from.name], r.noProxy[p.name]),
		call: fetch(r.Namespace, from, url, 10),
		judge: inPod(from, func(o output) finding {
			if o.ok() {
				return passed("%s:%d leads to the pod on %s", p.internal, port, to.name)
			}
			return failed(fmt.Sprintf("%s:%d: %s", p.internal, port, wgetSaid(o)),
				"kube-proxy on "+p.name+" does not serve node ports there, or a firewall keeps nodes from each other",
				"bake smoke --kubeconfig FILE --only pods",
				"gcloud compute ssh "+p.name+" --command 'sudo systemctl status kube-proxy'")
		}),
	}
}

// hereCheck asks from this machine. inside is what became of the same question from
// a pod.
func hereCheck(p place, address netip.Addr, port int, inside Status) check {
	url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(address, uint16(port)))
	return check{
		name: p.name + " from here", call: call{url: url}, tries: 2, limit: hereTime,
		judge: func(o output) finding {
			if o.ok() {
				return judgeHTTP(o, url)
			}
			said := fmt.Sprintf("%s:%d: %s", address, port, oneLine(o.said()))
			switch {
			case strings.Contains(said, "connecting to the proxy"), strings.Contains(said, "asking the proxy: "):
				return failed(said, "--proxy does not serve", "bake cluster list")
			case inside == Failed:
				return failed(said, "it does not answer pods either: see above", "gcloud compute ssh "+p.name+" --command 'sudo systemctl status kube-proxy'")
			case strings.Contains(said, "refused"):
				return failed(said, "it answers pods: from here "+address.String()+" is another machine, or something on the way refuses",
					"gcloud compute instances describe "+p.name+" --format 'value(networkInterfaces[0].accessConfigs[0].natIP)'")
			}
			return failed(said, closedCause, firewallCommand("allow-nginx-service", fmt.Sprintf("tcp:%d", port), ""))
		},
	}
}

// closedCause is that of a port which is open inside, and closed from here.
const closedCause = "it answers pods, so it is closed from here: a firewall rule is missing"

// privateAddress judges as judge does, and says more where this machine may have no
// way to the address at all.
func privateAddress(p place, judge func(output) finding) func(output) finding {
	return func(o output) finding {
		f := judge(o)
		if !f.passed && f.cause == closedCause {
			f.cause += ", or this machine has no way to a private address (--node-address, --proxy)"
			f.next = append(f.next, "gcloud compute instances describe "+p.name+" --format 'value(networkInterfaces[0].accessConfigs[0].natIP)'")
		}
		return f
	}
}
