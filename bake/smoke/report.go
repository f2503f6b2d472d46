package smoke

import (
	"slices"
	"time"
)

// Status is how a check ended.
type Status string

// The ways in which a check ends.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped" // it would say nothing: what it stands on is missing
)

// Result is what became of one check.
type Result struct {
	Step    string   `json:"step"`
	Check   string   `json:"check"`
	Command string   `json:"command"` // as a person would type it, with KUBECONFIG set
	Status  Status   `json:"status"`
	Detail  string   `json:"detail"`          // what was seen, or why it was skipped
	Cause   string   `json:"cause,omitempty"` // of a failure, likely
	Next    []string `json:"next,omitempty"`  // commands to go on with after a failure
	Seconds float64  `json:"seconds"`
}

// Report is what became of a run.
type Report struct {
	Server    string   `json:"server"`    // URL of the API server
	Version   string   `json:"version"`   // of the API server
	Kubectl   string   `json:"kubectl"`   // its version
	Namespace string   `json:"namespace"` // "" where none was made
	Kept      bool     `json:"kept"`      // that is there still, as was asked
	Warnings  []string `json:"warnings,omitempty"`
	Results   []Result `json:"results"`
	Seconds   float64  `json:"seconds"`
}

// Count returns how many checks ended so.
func (r *Report) Count(status Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == status {
			n++
		}
	}
	return n
}

// Passed says whether no check failed. One that was skipped stands on one that
// failed, or there was nothing to ask.
func (r *Report) Passed() bool { return r.Count(Failed) == 0 }

// sorted returns results in the order of steps: the run asks in another.
func sorted(results []Result) []Result {
	order := append(Steps(), cleanUp)
	results = slices.Clone(results)
	slices.SortStableFunc(results, func(a, b Result) int {
		return slices.Index(order, a.Step) - slices.Index(order, b.Step)
	})
	return results
}

// seconds are what is shown of a duration.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Millisecond).Seconds() }
