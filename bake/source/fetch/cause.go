package fetch

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Cause is why a file is unavailable, in words that are the same for all files
// of a server.
type Cause struct {
	What string `json:"what"`           // "no such host", "404 Not Found"
	Host string `json:"host,omitempty"` // that it was asked of; "": of none
	Down bool   `json:"down,omitempty"` // the host could not be reached, which is not about the file
}

// Causes returns why e's file is unavailable, and false where that can't be said
// without speaking of the file itself, such as that a server has another one.
func (e *UnreachableError) Causes() ([]Cause, bool) {
	if e.Lacking != "" {
		return []Cause{{What: "not in the mirror " + e.Lacking}}, true
	}
	var causes []Cause
	for _, t := range e.Tried {
		digest, rejected := (*DigestError)(nil), (*rejectedError)(nil)
		if t.Mirror != "" || errors.As(t.Err, &digest) || errors.As(t.Err, &rejected) {
			return nil, false
		}
		causes = append(causes, causeOf(t))
	}
	return uniqueCauses(causes), len(causes) > 0
}

func causeOf(t Attempt) Cause {
	c := Cause{What: t.Err.Error()}
	if u, err := url.Parse(t.URL); err == nil {
		c.Host = u.Host
	}
	dns, op, refused := (*net.DNSError)(nil), (*net.OpError)(nil), (*proxyError)(nil)
	c.Down = errors.As(t.Err, &refused) || errors.As(t.Err, &dns) || unanswered(t.Err)
	switch {
	case dns != nil:
		c.What, c.Host = dns.Err, cmp.Or(dns.Name, c.Host) // after a redirect or with a proxy it is another
	case errors.As(t.Err, &op) && op.Op == "dial":
		c.What = op.Err.Error()
		if inner := errors.Unwrap(op.Err); inner != nil { // "connect: connection refused"
			c.What = inner.Error()
		}
	}
	return c
}

// uniqueCauses returns causes in an order of their own, each once.
func uniqueCauses(causes []Cause) []Cause {
	causes = slices.SortedFunc(slices.Values(causes), func(a, b Cause) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Host, b.Host))
	})
	return slices.Compact(causes)
}

// SayCauses is causes for people: "no such host dl.k8s.io, github.com; 404 Not
// Found at registry.k8s.io".
func SayCauses(causes []Cause) string {
	var texts []string
	causes = uniqueCauses(causes)
	for len(causes) > 0 {
		what := causes[0].What
		var hosts []string
		for len(causes) > 0 && causes[0].What == what {
			if causes[0].Host != "" {
				hosts = append(hosts, causes[0].Host)
			}
			causes = causes[1:]
		}
		switch {
		case len(hosts) == 0:
		case what == noSuchHost:
			what += " " + strings.Join(hosts, ", ")
		default:
			what += " at " + strings.Join(hosts, ", ")
		}
		texts = append(texts, what)
	}
	return strings.Join(texts, "; ")
}

// noSuchHost is what net.DNSError says of a name that there is not.
const noSuchHost = "no such host"

// GroupError is several errors with one cause, said in one line.
type GroupError struct {
	Line string
	Errs []error
}

func (e *GroupError) Error() string   { return e.Line }
func (e *GroupError) Unwrap() []error { return e.Errs }

// Details returns the errors, for people who want to know of each.
func (e *GroupError) Details() []error { return e.Errs }

// group returns errors that say the same as all: where several files are
// unavailable for the same causes, they are one error.
func group(all []*UnreachableError) []error {
	var out []error
	at := map[string]int{} // in out, by causes
	causes := map[string][]Cause{}
	members := map[string][]*UnreachableError{}
	for _, e := range all {
		why, ok := e.Causes()
		if !ok {
			out = append(out, e)
			continue
		}
		key := SayCauses(why)
		if members[key] == nil {
			at[key] = len(out)
			out = append(out, e)
		}
		causes[key], members[key] = why, append(members[key], e)
	}
	for key, files := range members {
		if len(files) == 1 {
			continue
		}
		g := &GroupError{}
		var names []string
		for _, e := range files {
			names = append(names, e.Name)
			g.Errs = append(g.Errs, e)
		}
		g.Line = fmt.Sprintf("%d files are unavailable: %s: %s", len(files), SayCauses(causes[key]), SayNames(names))
		if files[0].Lacking != "" {
			g.Line = fmt.Sprintf("%d files are %s, and nothing else may be asked (--offline): was the mirror made for other versions? "+
				"Run `bake mirror --versions FILE... --output DIR` again where there is a network: %s", len(files), causes[key][0].What, SayNames(names))
		}
		out[at[key]] = g
	}
	return out
}

// SayNames is names for people, of many the first: "bash, dash, tar and 214 more".
func SayNames(names []string) string {
	const most = 8
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
