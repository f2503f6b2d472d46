package vpc

import (
	"container/list"
	"net/netip"
	"time"
)

const (
	// idleTime is how long a connection is known that nothing is sent on, of
	// whatever protocol (VPC firewall rules, Specifications,
	// cloud.google.com/firewall/docs/firewalls).
	idleTime = 10 * time.Minute

	// maxFlows bounds the connections that are known of a machine, where Compute
	// Engine has 130,000 for each of its processors. The one that was idle longest
	// makes room for another.
	maxFlows = 1 << 16
)

// tracker knows a machine's connections: what it sent is answered, and what was
// allowed once goes on, whatever becomes of the rule.
type tracker struct {
	max    int
	known  map[Flow]*list.Element // of *entry
	recent *list.List             // the last used first
}

type entry struct {
	flow Flow
	last time.Time
}

func newTracker(limit int) *tracker {
	return &tracker{max: limit, known: map[Flow]*list.Element{}, recent: list.New()}
}

// sent takes note of a packet that the machine sends.
func (t *tracker) sent(now time.Time, p Packet) {
	if p.isTracked() {
		t.note(now, p.sent())
	}
}

// admits reports whether the machine receives a packet, and takes note of it.
func (t *tracker) admits(now time.Time, p Packet, r rules) bool {
	switch {
	case p.Cause != nil:
		// RFC 792's answers to what the machine sent.
		return t.knows(now, *p.Cause) || r.allow(p)
	case p.Later:
		return t.knows(now, p.fragments()) || r.allow(p)
	case !t.goesOn(now, p) && !r.allow(p):
		return false
	}
	if p.isTracked() {
		t.note(now, p.received())
	}
	if p.Fragment {
		t.note(now, p.fragments())
	}
	return true
}

// goesOn reports whether a packet belongs to a connection that is known. What
// begins one is judged anew: its ports may have been another's.
func (t *tracker) goesOn(now time.Time, p Packet) bool {
	return p.isTracked() && !p.Opens && t.knows(now, p.received())
}

// isTracked reports whether a packet belongs to something that goes on. Others are
// judged by the rules alone.
func (p Packet) isTracked() bool { return !p.Later && (p.Protocol != ICMP || p.Echo) }

// fragments is what the fragments of one packet have in common.
func (p Packet) fragments() Flow {
	flow := p.received()
	flow.Local = netip.AddrPortFrom(flow.Local.Addr(), 0)
	flow.Remote = netip.AddrPortFrom(flow.Remote.Addr(), p.ID)
	flow.Fragment = true
	return flow
}

func (t *tracker) knows(now time.Time, f Flow) bool {
	e, ok := t.known[f]
	return ok && now.Sub(e.Value.(*entry).last) < idleTime
}

func (t *tracker) note(now time.Time, f Flow) {
	if e, ok := t.known[f]; ok {
		e.Value.(*entry).last = now
		t.recent.MoveToFront(e)
		return
	}
	if t.recent.Len() >= t.max {
		t.forget(t.recent.Back())
	}
	t.known[f] = t.recent.PushFront(&entry{f, now})
	// Two for one: what is idle is gone as soon as what is not has come.
	for range 2 {
		if e := t.recent.Back(); now.Sub(e.Value.(*entry).last) >= idleTime {
			t.forget(e)
		}
	}
}

func (t *tracker) forget(e *list.Element) {
	delete(t.known, e.Value.(*entry).flow)
	t.recent.Remove(e)
}
