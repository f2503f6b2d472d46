package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
)

// An exec takes seconds where a machine is emulated, and what is asked in a pod far
// less. So all that is asked in one pod at a time goes there in one call, as a
// script: what is shown of each check asks the same alone.

// answer is what a call gave.
type answer struct {
	output
	took time.Duration
}

// answers makes the calls of some of the checks. They are in the order of which.
func (r *run) answers(ctx context.Context, checks []check, which []int) []answer {
	all := make([]answer, len(which))
	byPod := map[string][]int{}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for j, i := range which {
		c := checks[i].call
		if c.words != nil {
			if early, ok := r.early[c.key()]; ok {
				delete(r.early, c.key())
				all[j] = early
			} else {
				byPod[c.pod] = append(byPod[c.pod], j)
			}
		} else {
			g.Go(func() error {
				began := r.Now()
				out := r.call(ctx, c, checks[i].limit)
				all[j] = answer{out, r.Now().Sub(began)}
				return nil
			})
		}
	}
	for _, asked := range byPod {
		g.Go(func() error {
			var calls []call
			for _, j := range asked {
				calls = append(calls, checks[which[j]].call)
			}
			for n, a := range r.askPod(ctx, calls) {
				all[asked[n]] = a
			}
			return nil
		})
	}
	_ = g.Wait() // none returns an error
	return all
}

// key is the same for calls that ask the same in a pod.
func (c call) key() string { return c.pod + "\x00" + strings.Join(c.words, "\x00") }

// askPod makes calls of one pod together.
func (r *run) askPod(ctx context.Context, calls []call) []answer {
	exec := inNamespace(calls[0].namespace, "exec", "-i", calls[0].pod, "-c", "busybox", "--", "busybox", "sh")
	exec.stdin = script(calls)
	began := r.Now()
	out := r.call(ctx, exec, 0)
	all := make([]answer, len(calls))
	for n, o := range parseScript(out, len(calls)) {
		all[n] = answer{o, r.Now().Sub(began)}
	}
	return all
}

// script asks everything at the same time, as what is dropped on its way takes as
// long as it may, and prints the answers in their order. It is one command to the
// shell: one that is cut off does nothing.
func script(calls []call) string {
	var b strings.Builder
	b.WriteString(`{
dir=${TMPDIR:-/tmp}/bake-smoke.$$
busybox mkdir "$dir"
ask() {
	number=$1
	shift
	"$@" </dev/null >"$dir/$number.out" 2>"$dir/$number.err"
	echo $? >"$dir/$number.code"
}
tell() {
	echo "answer $1 $(busybox cat "$dir/$1.code") $(busybox wc -c <"$dir/$1.out") $(busybox wc -c <"$dir/$1.err")"
	busybox cat "$dir/$1.out" "$dir/$1.err"
}
`)
	for n, c := range calls {
		fmt.Fprintf(&b, "ask %d %s &\n", n, manifest.Command(c.words...))
	}
	b.WriteString("wait\n")
	for n := range calls {
		fmt.Fprintf(&b, "tell %d\n", n)
	}
	b.WriteString("busybox rm -r \"$dir\"\n}\n")
	return b.String()
}

// errCutOff is why a question has no answer, where others have one.
var errCutOff = errors.New("the call of kubectl ended before the answer came")

// parseScript reads the answers, in the form in which `kubectl exec` would have
// given each. A call that failed is the answer to all questions.
func parseScript(out output, count int) []output {
	all := make([]output, count)
	for n := range all {
		if all[n] = out; out.ok() {
			all[n] = output{err: errCutOff}
		}
	}
	rest := []byte(out.stdout)
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		words := strings.Fields(string(line))
		if !ok || len(words) != 5 || words[0] != "answer" {
			return all
		}
		var numbers [4]int
		for i := range numbers {
			var err error
			if numbers[i], err = strconv.Atoi(words[i+1]); err != nil || numbers[i] < 0 {
				return all
			}
		}
		n, code, stdout, stderr := numbers[0], numbers[1], numbers[2], numbers[3]
		if n >= count || stdout > len(after) || stderr > len(after)-stdout {
			return all
		}
		all[n] = output{stdout: string(after[:stdout]), stderr: string(after[stdout : stdout+stderr]), code: code}
		if code != 0 {
			all[n].stderr = fmt.Sprintf("%s\ncommand terminated with exit code %d\n", strings.TrimSuffix(all[n].stderr, "\n"), code)
		}
		rest = after[stdout+stderr:]
	}
}

// askEarly asks in pods what steps will ask if all is well, in one call for each
// pod. Steps that come to ask something else do so then.
func (r *run) askEarly(ctx context.Context) {
	var checks []check
	for _, step := range []struct {
		name   string
		checks func() []check
	}{{Nodes, r.serviceAddressChecks}, {Pods, r.podChecks}, {DNS, r.dnsChecks}, {NodePort, r.insideChecks}, {Metadata, r.metadataChecks}} {
		if r.wants(step.name) {
			checks = append(checks, step.checks()...)
		}
	}
	var which []int
	for i, c := range checks {
		if c.skip == "" {
			which = append(which, i)
		}
	}
	early := map[string]answer{}
	for j, a := range r.answers(ctx, checks, which) {
		early[checks[which[j]].call.key()] = a
	}
	r.early = early
}
