package smoke

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nodebake/bake/bake/manifest"
)

// call is what a check asks: kubectl, or a URL from this machine.
type call struct {
	program string // "": kubectl
	args    []string
	stdin   string
	url     string // in place of a program: HEAD

	// Of a command in the container busybox of a pod: see questions.
	namespace, pod string
	words          []string // the end of args
}

// kubectlCall is a call of kubectl.
func kubectlCall(args ...string) call { return call{args: args} }

// inNamespace is a call of kubectl about what is in a namespace.
func inNamespace(namespace string, args ...string) call {
	return kubectlCall(append([]string{"-n", namespace}, args...)...)
}

// shown returns the call as a person would type it.
func (c call) shown(proxy string) string {
	switch {
	case c.url != "" && proxy != "":
		return manifest.Command("curl", "--head", "--proxytunnel", "--proxy", proxy, c.url)
	case c.url != "":
		return manifest.Command("curl", "--head", c.url)
	case c.program != "":
		return manifest.Command(append([]string{c.program}, c.args...)...)
	}
	if c.args == nil {
		return ""
	}
	text := manifest.Command(append([]string{"kubectl"}, c.args...)...)
	if strings.HasSuffix(c.stdin, "\n") && strings.Count(c.stdin, "\n") == 1 {
		text = "echo " + manifest.Command(strings.TrimSuffix(c.stdin, "\n")) + " | " + text
	}
	return text
}

// output is what a call printed, and how it ended.
type output struct {
	stdout, stderr string
	code           int   // the exit code; that of the program in the pod for `kubectl exec`
	err            error // it could not be asked, or gave no answer in time
}

func (o output) ok() bool { return o.err == nil && o.code == 0 }

// finding is what a call's output means.
type finding struct {
	passed bool
	detail string
	cause  string
	next   []string
}

func passed(format string, args ...any) finding {
	return finding{passed: true, detail: fmt.Sprintf(format, args...)}
}

func failed(detail, cause string, next ...string) finding {
	return finding{detail: detail, cause: cause, next: next}
}

// check is one thing to be asked.
type check struct {
	name  string
	call  call
	judge func(output) finding
	skip  string // why it is not asked
	tries int    // how often it is asked until it passes; 0: once
	limit time.Duration
}

// callTime bounds one call: an exec into a pod of a machine that is emulated takes
// seconds, and what it does there at most 30.
const callTime = 60 * time.Second

// pause is the time between tries: kube-proxy learns of changes within a second or two.
const pause = 2 * time.Second

// atOnce is how many checks run at the same time.
const atOnce = 4

// outcome is a check with what became of it.
type outcome struct {
	check
	finding
	status Status
	took   time.Duration
}

// ask asks checks, some at a time, and returns what became of each in their order.
// What fails is asked again, as often as each allows.
func (r *run) ask(ctx context.Context, checks ...check) []outcome {
	outcomes := make([]outcome, len(checks))
	var open []int
	for i, c := range checks {
		outcomes[i] = outcome{check: c, status: Skipped}
		if c.skip != "" {
			outcomes[i].finding = finding{detail: "not tried: " + c.skip}
		} else {
			open = append(open, i)
		}
	}
	for try := 1; len(open) > 0 && ctx.Err() == nil; try++ {
		var again []int
		for j, a := range r.answers(ctx, checks, open) {
			o := &outcomes[open[j]]
			o.took += a.took
			o.status = Failed
			if o.finding = o.judge(a.output); o.passed {
				o.status = Passed
			} else if try < o.tries {
				again = append(again, open[j])
			}
		}
		if open = again; len(open) == 0 || !sleep(ctx, pause) {
			break
		}
	}
	for _, i := range open {
		if outcomes[i].status == Skipped {
			outcomes[i].finding = finding{detail: "not tried: " + context.Cause(ctx).Error()}
		}
	}
	return outcomes
}

// sleep is false where ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// add reports outcomes as results of a step, and says whether all passed.
func (r *run) add(step string, outcomes ...outcome) bool {
	all := true
	for _, o := range outcomes {
		all = all && o.status == Passed
		result := Result{
			Step: step, Check: o.name, Command: o.call.shown(r.proxy()), Status: o.status,
			Detail: o.detail, Cause: o.cause, Next: o.next, Seconds: seconds(o.took),
		}
		r.report.Results = append(r.report.Results, result)
		if r.Show != nil {
			r.Show(result)
		}
	}
	return all
}

// askAll asks checks of a step and reports them.
func (r *run) askAll(ctx context.Context, step string, checks ...check) ([]outcome, bool) {
	outcomes := r.ask(ctx, checks...)
	return outcomes, r.add(step, outcomes...)
}

// skip reports that a check, or several under one name, were not tried.
func (r *run) skip(step, name, why string) {
	r.add(step, outcome{check: check{name: name}, status: Skipped, finding: finding{detail: "not tried: " + why}})
}
