package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nodebake/bake/bake/progress"
)

// hosts remembers which servers do not answer, so that one that is down is
// waited for once and not for each of 300 files that others have too.
type hosts struct {
	mu   sync.Mutex
	down map[string]*downHost // by scheme and host
	said map[string]bool      // what noteFirst has shown
}

// downHost is a server that did not answer and has not answered since.
type downHost struct {
	err   error
	spent bool // it was given all patience there is
	noted bool // people know
}

func newHosts() *hosts { return &hosts{down: map[string]*downHost{}, said: map[string]bool{}} }

// noteFirst shows the first of several lines about files that have the same cause
// on the same server. The others are details.
func (f *Fetcher) noteFirst(what, rawURL string, err error, format string, args ...any) {
	key := fmt.Sprint(what, " ", causeOf(Attempt{URL: rawURL, Err: err}))
	f.hosts.mu.Lock()
	said := f.hosts.said[key]
	f.hosts.said[key] = true
	f.hosts.mu.Unlock()
	if said {
		progress.Explain(f.config.Progress, format, args...)
	} else {
		f.config.Progress.Note(format, args...)
	}
}

// hostOf returns scheme and host of a URL; "" for a file.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme == "file" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// unanswered reports whether err says that a server is not there or silent, and
// not merely that it lacks a file.
func unanswered(err error) bool {
	dial, stall := (*net.OpError)(nil), (*stallError)(nil)
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &stall)
}

// blame remembers that the server of rawURL does not answer, if err says so;
// spent says that it was waited for as long as any.
func (f *Fetcher) blame(rawURL string, err error, spent bool) {
	host := hostOf(rawURL)
	if host == "" || !unanswered(err) {
		return
	}
	f.hosts.mu.Lock()
	defer f.hosts.mu.Unlock()
	d := f.hosts.down[host]
	if d == nil {
		d = &downHost{}
		f.hosts.down[host] = d
	}
	d.err, d.spent = err, d.spent || spent
}

// answered remembers that the server of rawURL is there.
func (f *Fetcher) answered(rawURL string) {
	f.hosts.mu.Lock()
	defer f.hosts.mu.Unlock()
	delete(f.hosts.down, hostOf(rawURL))
}

// isDown says whether the server of rawURL did not answer when it was last
// asked, and whether it was given all patience.
func (f *Fetcher) isDown(rawURL string) (down, spent bool) {
	f.hosts.mu.Lock()
	defer f.hosts.mu.Unlock()
	d := f.hosts.down[hostOf(rawURL)]
	return d != nil, d != nil && d.spent
}

// downLast returns urls with those at the end whose servers do not answer, which
// is said once for each.
func (f *Fetcher) downLast(urls []string) []string {
	var up, down []string
	for i, u := range urls {
		if isDown, _ := f.isDown(u); !isDown {
			up = append(up, u)
			continue
		}
		down = append(down, u)
		if slices.ContainsFunc(urls[i+1:], func(other string) bool { d, _ := f.isDown(other); return !d }) {
			f.noteDown(u)
		}
	}
	return append(up, down...)
}

func (f *Fetcher) noteDown(rawURL string) {
	f.hosts.mu.Lock()
	d := f.hosts.down[hostOf(rawURL)]
	noted := d == nil || d.noted
	if !noted {
		d.noted = true
	}
	f.hosts.mu.Unlock()
	if noted {
		return
	}
	name := hostOf(rawURL)
	if mirror := f.mirrorOf(rawURL); mirror != "" {
		name = "the mirror " + mirror
	}
	f.config.Progress.Note("%s does not answer (%v); it is asked last from here on", name, d.err)
}

// turnsTo reports whether one of others, on another server than rawURL, may be
// asked instead of waiting.
func (f *Fetcher) turnsTo(rawURL string, others []string) bool {
	return slices.ContainsFunc(others, func(other string) bool {
		down, _ := f.isDown(other)
		return !down && hostOf(other) != hostOf(rawURL)
	})
}

// patience is how long an answer is awaited: not long where there is another
// server to turn to.
func (f *Fetcher) patience(usual time.Duration, elsewhere bool) time.Duration {
	if elsewhere {
		return min(f.config.Turn, usual)
	}
	return usual
}
