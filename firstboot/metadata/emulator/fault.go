package emulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong with requests, for the first Times of them,
// for a time, or for both, whichever ends first; without either, for good. Of
// several faults that apply to a request the first one happens.
type Fault struct {
	Kind  FaultKind
	Path  string        // of the requests that it applies to: a prefix; every path where empty
	Times int           // number of requests; 0: any
	For   time.Duration // from when the fault was set; 0: without end

	Status     int           // of the kind Status; 503 where 0
	RetryAfter int           // seconds, in a header of the kind Status; none where 0
	Delay      time.Duration // of the kind Slow: how long the answer takes; of Hang: how long nothing happens, 0 for ever
}

// FaultKind is one way to fail.
type FaultKind string

// The ways to fail.
const (
	Status   FaultKind = "status"    // the server's own error, by Status
	Reset    FaultKind = "reset"     // the connection is reset without an answer
	Truncate FaultKind = "truncate"  // the connection ends in the middle of the body
	CutJSON  FaultKind = "cut-json"  // half the body, as if that were all
	Hang     FaultKind = "hang"      // the request is taken and not answered
	Slow     FaultKind = "slow"      // the right answer, in pieces over Delay
	Portal   FaultKind = "portal"    // a captive portal: 200 and a web page
	Redirect FaultKind = "redirect"  // a captive portal: 302 to its login page
	NoFlavor FaultKind = "no-flavor" // the right answer without Metadata-Flavor: Google
	Corrupt  FaultKind = "corrupt"   // the right answer with one letter changed in the middle
	TooLarge FaultKind = "too-large" // 200 and 8 MiB of spaces
)

// faults decides and does what goes wrong, and keeps what was asked. The zero
// value is none.
type faults struct {
	mu       sync.Mutex
	list     []*pending
	requests []string // "METHOD URL", in order
}

type pending struct {
	Fault
	left    int
	expired bool
	timer   *time.Timer
}

// SetFaults replaces what goes wrong; without arguments all is well again.
// Counting and time begin again.
func (f *faults) SetFaults(list ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.list {
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	f.list = nil
	for _, fault := range list {
		p := &pending{Fault: fault, left: fault.Times}
		if fault.For > 0 {
			p.timer = time.AfterFunc(fault.For, func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				p.expired = true
			})
		}
		f.list = append(f.list, p)
	}
}

// Requests returns the requests seen so far as "METHOD URL", those that met a
// fault among them.
func (f *faults) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// next returns the fault for r.
func (f *faults) next(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.String())
	for _, p := range f.list {
		if p.expired || p.Times > 0 && p.left == 0 || !strings.HasPrefix(r.URL.Path, p.Path) {
			continue
		}
		p.left--
		return p.Fault, true
	}
	return Fault{}, false
}

// answer answers r by handler, or by what goes wrong.
func (f *faults) answer(w http.ResponseWriter, r *http.Request, handler http.HandlerFunc) {
	fault, ok := f.next(r)
	if !ok {
		handler(w, r)
		return
	}
	switch fault.Kind {
	case Status:
		code := fault.Status
		if code == 0 {
			code = http.StatusServiceUnavailable
		}
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		w.Header().Set("Metadata-Flavor", "Google")
		http.Error(w, http.StatusText(code), code)
	case Reset:
		reset(w)
	case Hang:
		pause(r.Context(), fault.Delay)
		panic(http.ErrAbortHandler)
	case Portal:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!DOCTYPE html><title>Welcome</title><p>Please accept our terms.")
	case Redirect:
		http.Redirect(w, r, "http://portal.example/login", http.StatusFound)
	case TooLarge:
		w.Header().Set("Metadata-Flavor", "Google")
		w.Header().Set("Content-Type", "application/json")
		io.Copy(w, io.LimitReader(spaces{}, 8<<20))
	case Truncate, CutJSON, Slow, NoFlavor, Corrupt:
		rec := &recorder{header: http.Header{}, code: http.StatusOK}
		handler(rec, r)
		rec.spoil(w, r, fault)
	default:
		panic("emulator: unknown kind of fault " + string(fault.Kind))
	}
}

// recorder keeps an answer, to spoil it.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// spoil passes the kept answer on, as fault has it.
func (r *recorder) spoil(w http.ResponseWriter, req *http.Request, fault Fault) {
	maps.Copy(w.Header(), r.header)
	body := r.body.Bytes()
	length := len(body)
	switch fault.Kind {
	case NoFlavor:
		w.Header().Del("Metadata-Flavor")
	case CutJSON:
		body = body[:len(body)/2]
		length = len(body)
	case Truncate:
		body = body[:len(body)/2]
	case Corrupt:
		for i := len(body) / 2; i < len(body); i++ {
			if c := body[i]; c >= 'a' && c < 'z' || c >= 'A' && c < 'Z' {
				body[i] = c + 1
				break
			}
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(r.code)
	flush := http.NewResponseController(w).Flush
	const pieces = 10
	if fault.Kind == Slow {
		flush()
		for i := range pieces {
			pause(req.Context(), max(fault.Delay/pieces, 1))
			w.Write(body[len(body)*i/pieces : len(body)*(i+1)/pieces])
			flush()
		}
		return
	}
	w.Write(body)
	if fault.Kind == Truncate {
		flush()
		panic(http.ErrAbortHandler)
	}
}

// pause waits for d, or until ctx ends where d is 0.
func pause(ctx context.Context, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// reset ends the connection by a reset where it is the kernel's, and by closing
// it otherwise.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
