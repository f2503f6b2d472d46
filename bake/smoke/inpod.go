package smoke

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// busybox is a command in the pod of a node. Applets are called by busybox's name:
// an image may have no links for them.
func busybox(namespace string, p place, args ...string) call {
	words := append([]string{"busybox"}, args...)
	c := inNamespace(namespace, append([]string{"exec", p.pod.name, "-c", "busybox", "--"}, words...)...)
	c.namespace, c.pod, c.words = namespace, p.pod.name, words
	return c
}

// fetch asks a URL from the pod of a node. Debian's wget has no time limit of its
// own, timeout has.
func fetch(namespace string, p place, url string, seconds int) call {
	return busybox(namespace, p, "timeout", strconv.Itoa(seconds), "busybox", "wget", "-q", "-O", "-", url)
}

// terminated is the exit code of what timeout ended: 128 + SIGTERM.
const terminated = 128 + 15

// reached says whether a server answered wget, whatever it said.
func reached(o output) bool {
	return o.ok() || strings.Contains(o.stderr, "server returned error: HTTP/")
}

// wgetSaid is why wget failed, in short.
func wgetSaid(o output) string {
	switch {
	case o.err != nil:
		return o.err.Error()
	case o.code == terminated, strings.Contains(o.stderr, "timed out"):
		return "no answer in time"
	case strings.Contains(o.stderr, "Connection refused"):
		return "connection refused"
	case strings.Contains(o.stderr, "No route to host"):
		return "no route to host"
	case strings.Contains(o.stderr, "bad address"):
		return "the name has no address"
	}
	return oneLine(strings.TrimPrefix(o.said(), "wget: "))
}

// noteBroken remembers nodes whose pods nothing can be asked in, as every check in
// them would fail for the same reason.
func (r *run) noteBroken(outcomes []outcome, _ bool) {
	for _, o := range outcomes {
		for _, p := range r.places {
			if o.status == Failed && o.isAccess() && strings.HasPrefix(o.cause, accessCause+" of "+p.name+":") {
				r.broken[p.name] = "nothing can be run in pods of " + p.name
			}
		}
	}
}

// others are all places but the one with this name.
func (r *run) others(name string) []place {
	var list []place
	for _, p := range r.places {
		if p.name != name {
			list = append(list, p)
		}
	}
	return list
}

// waitTime bounds how long pods may take to be ready: those of an emulated machine
// took 20 s, and an image that is pulled takes longer.
const waitTime = 3 * time.Minute

// pollTime is the pause between two looks at pods.
const pollTime = time.Second

// poll looks until judge is done, time is over, or ctx ends.
func (r *run) poll(ctx context.Context, c check, limit time.Duration, pending func(output) bool) outcome {
	began := r.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	o := outcome{check: c, status: Failed}
	for {
		out := r.call(ctx, c.call, makeTime)
		if ctx.Err() == nil || o.detail == "" {
			o.finding = c.judge(out)
		}
		if ctx.Err() != nil || !pending(out) || !sleep(ctx, pollTime) {
			break
		}
	}
	if o.passed {
		o.status = Passed
	}
	o.took = r.Now().Sub(began)
	return o
}
