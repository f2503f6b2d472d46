package smoke

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const wantJUnit = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bake smoke" tests="3" failures="1" skipped="1" time="12.50">
  <testsuite name="nodes" tests="1" failures="0" skipped="0" time="0.25">
    <testcase classname="bake.smoke.nodes" name="ready" time="0.25">
      <system-out>$ kubectl get nodes -o json&#xA;1 Ready: a&amp;b&#xA;</system-out>
    </testcase>
  </testsuite>
  <testsuite name="pods" tests="2" failures="1" skipped="1" time="1.00">
    <testcase classname="bake.smoke.pods" name="a to b" time="1.00">
      <failure message="no \x1banswer">likely: no route&#xA;next: gcloud compute routes list</failure>
      <system-out>$ kubectl exec&#xA;no \x1banswer&#xA;</system-out>
    </testcase>
    <testcase classname="bake.smoke.pods" name="b to a" time="0.00">
      <skipped message="nothing can be run"></skipped>
      <system-out>$ kubectl exec&#xA;not tried: nothing can be run&#xA;</system-out>
    </testcase>
  </testsuite>
</testsuites>
`

func TestWriteJUnit(t *testing.T) {
	t.Parallel()
	report := Report{Seconds: 12.5, Results: []Result{
		{Step: Nodes, Check: "ready", Command: "kubectl get nodes -o json", Status: Passed, Detail: "1 Ready: a&b", Seconds: 0.25},
		{Step: Pods, Check: "a to b", Command: "kubectl exec", Status: Failed, Detail: "no \x1banswer", Cause: "no route", Next: []string{"gcloud compute routes list"}, Seconds: 1},
		{Step: Pods, Check: "b to a", Command: "kubectl exec", Status: Skipped, Detail: "not tried: nothing can be run"},
	}}
	var b bytes.Buffer
	if err := report.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantJUnit, b.String()); diff != "" {
		t.Errorf("WriteJUnit (-want +got):\n%s", diff)
	}
}
