// Package report tells people and tests what became of a worker: lines on its
// console, guest attributes, and the state of this boot between the programs
// that take part in it.
//
// The lines are
//
//	firstboot: ready {"node":"worker-0",...}
//	firstboot: failed: metadata key pod-cidr: is missing
//
// and begin at the beginning of a line. Each reason appears once in a boot, and
// ready once for each configuration that was started. Failed may precede ready.
// Everything is kept in one directory, which a reboot must empty: /run/firstboot.
//
// It decides nothing, and logs nothing: what can't be reported comes back as
// an error.
package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Namespace is that of the guest attributes; their keys are "state", which is
// "ready" or "failed", and "report", which is the JSON or the reason.
const Namespace = "firstboot"

// maxReason is the longest reason, in characters: what a person reads on a
// console, and fits in its buffer.
const maxReason = 600

// Phases are moments of the boot in milliseconds since the kernel started; 0
// stands for what has not happened.
type Phases struct {
	Firstboot  int64 `json:"firstboot"`            // firstboot ran for the first time
	Metadata   int64 `json:"metadata,omitempty"`   // the metadata server had answered
	Configured int64 `json:"configured,omitempty"` // every file was what it should be
	Enqueued   int64 `json:"enqueued,omitempty"`   // systemd knew which units to start
	Containerd int64 `json:"containerd,omitempty"` // its socket answered
	Kubelet    int64 `json:"kubelet,omitempty"`    // it said that it is healthy
	Healthy    int64 `json:"healthy,omitempty"`    // so did the runtime, and its network
}

// State is what firstboot knows of this boot. Only firstboot writes it.
type State struct {
	Node        string `json:"node"`        // the worker's name
	Lock        string `json:"lock"`        // digest of the lock that the image was made from
	Credentials string `json:"credentials"` // which of the ways
	Phases      Phases `json:"phases"`      // up to Enqueued, of the last attempt but for Firstboot
	CPU         int64  `json:"cpu_ms"`      // processor time from an answered request to units enqueued
	Attempts    int    `json:"attempts"`    // how often firstboot has run
	Changed     int    `json:"changed"`     // files that were written or removed

	Pending []string `json:"pending,omitempty"` // files that changed, whose units have not been restarted since
}

// Ready is the JSON behind "firstboot: ready".
type Ready struct {
	Node        string `json:"node"`
	Lock        string `json:"lock"`
	Credentials string `json:"credentials,omitempty"`
	// Configuration is "current", or "earlier" where the metadata server has
	// not answered at this boot: the node runs as it did before.
	Configuration string `json:"configuration"`
	Runtime       string `json:"runtime"` // "ready", or "socket only" in an image without crictl
	Proxy         string `json:"proxy"`   // kube-proxy: "ready", or "waiting" for an API server
	Attempts      int    `json:"attempts"`
	Changed       int    `json:"changed"`
	CPU           int64  `json:"cpu_ms"`
	Phases        Phases `json:"phases"`
}

// Reporter reports. Dir and Console are required.
type Reporter struct {
	Dir     string                  // made where missing
	Console func(line string) error // prints one line, whole and from a line's beginning

	// Guest writes a guest attribute; nil where that can't be.
	Guest func(ctx context.Context, namespace, key, value string) error
}

// Failed reports why there is no node. It is false where that was said before
// in this boot. An error is about reporting.
func (r Reporter) Failed(ctx context.Context, reason string) (isNew bool, err error) {
	reason = OneLine(reason)
	said, err := r.said()
	if slices.Contains(said, timeless(reason)) {
		return false, err
	}
	// Better twice on the console than never: what was said is kept last.
	errs := []error{err, r.Console("firstboot: failed: " + reason), r.keepSaid(said, reason)}
	return true, errors.Join(append(errs, r.attributes(ctx, "failed", reason))...)
}

// First says whether line, which is one, is said for the first time in this boot.
func (r Reporter) First(line string) (bool, error) {
	said, err := r.said()
	if slices.Contains(said, timeless(line)) {
		return false, err
	}
	return true, errors.Join(err, r.keepSaid(said, line))
}

// Ready reports that the node is healthy. It is false where that was said
// before, and Unready not called since.
func (r Reporter) Ready(ctx context.Context, ready Ready) (isNew bool, err error) {
	if r.IsReady() {
		return false, nil
	}
	data, err := json.Marshal(ready)
	if err != nil {
		return false, fmt.Errorf("encoding the report: %w", err)
	}
	errs := []error{r.Console("firstboot: ready " + string(data)), r.keep("ready.json", append(data, '\n'))}
	return true, errors.Join(append(errs, r.attributes(ctx, "ready", string(data)))...)
}

// IsReady says whether ready was reported in this boot, and holds.
func (r Reporter) IsReady() bool {
	_, err := os.Stat(filepath.Join(r.Dir, "ready.json"))
	return err == nil
}

// Unready takes Ready back: something was restarted.
func (r Reporter) Unready() error {
	if err := os.Remove(filepath.Join(r.Dir, "ready.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("taking back the report: %w", err)
	}
	return nil
}

// WantReload remembers that systemd has to reread its files when there is time.
func (r Reporter) WantReload() error { return r.keep("reload", nil) }

// Reload calls do if that was asked for, and forgets it where do succeeds.
func (r Reporter) Reload(do func() error) error {
	path := filepath.Join(r.Dir, "reload")
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	return os.Remove(path)
}

// State returns what was kept, or the zero State before anything was.
func (r Reporter) State() (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(r.Dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the state of this boot: %w", err)
	}
	return s, nil
}

// Keep keeps s for whoever asks later in this boot.
func (r Reporter) Keep(s State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the state of this boot: %w", err)
	}
	return r.keep("state.json", append(data, '\n'))
}

func (r Reporter) said() ([]string, error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, "reported"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was reported: %w", err)
	}
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == '\n' }), nil
}

func (r Reporter) keepSaid(before []string, line string) error {
	return r.keep("reported", []byte(strings.Join(append(before, timeless(line)), "\n")+"\n"))
}

// keep replaces a file at once, so that nobody reads half of it.
func (r Reporter) keep(name string, data []byte) error {
	err := os.MkdirAll(r.Dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.Dir, name+".new"), data, 0o644)
	}
	if err == nil {
		err = os.Rename(filepath.Join(r.Dir, name+".new"), filepath.Join(r.Dir, name))
	}
	if err != nil {
		return fmt.Errorf("keeping the state of this boot: %w", err)
	}
	return nil
}

// attributes are two requests of the ten that are allowed in a minute. Where
// the first can't be, the second is not tried.
func (r Reporter) attributes(ctx context.Context, state, report string) error {
	if r.Guest == nil {
		return nil
	}
	if err := r.Guest(ctx, Namespace, "state", state); err != nil {
		return err
	}
	return r.Guest(ctx, Namespace, "report", report)
}

// passing is what differs in a reason from one attempt to the next though the
// reason is the same: what the clock reads, and how long something has been so.
var passing = regexp.MustCompile(`clock reads [0-9TZ:+.-]+|, [0-9a-z. ]+ ago\b`)

func timeless(reason string) string { return passing.ReplaceAllString(reason, "…") }

// secrets match what may be a key: PEM with its end or, where that is cut off,
// with what a key is made of after its beginning, and both in base64 once more.
// A boundary that stands alone is the program's own words. They are looked for in
// what is shown: one line, its words with a space between them.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`-----BEGIN .*-----END[^-]*-----`),
	regexp.MustCompile(`-----BEGIN [^-]*-----.*[A-Za-z0-9+/]{24}.*`),
	regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/= ]*`),
}

// OneLine makes a reason fit for a line of a console: one line, printable, of
// bounded length, and without what looks like a private key.
func OneLine(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	line := strings.Join(words, " ")
	for _, secret := range secrets {
		line = secret.ReplaceAllLiteralString(line, "(PEM left out)")
	}
	runes := []rune(line)
	if len(runes) > maxReason {
		return string(runes[:maxReason-1]) + "…"
	}
	return string(runes)
}
