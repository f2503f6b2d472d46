package lint

import (
	"debug/elf"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/inspect/inspecttest"
	"github.com/nodebake/bake/bake/record"
)

// TestComponentVersions has a program of a component say its own version.
func TestComponentVersions(t *testing.T) {
	const kubelet = "usr/local/bin/kubelet"
	for _, test := range []struct {
		version string
		reports *record.Reports
		want    []string
	}{
		{"v1.36.9", nil, nil},
		{"v1.36.10", nil, []string{"component kubelet: /" + kubelet + ": it says v1.36.9, and the versions file says v1.36.10"}},
		{"v1.36.10", &record.Reports{Version: "1.36.9", Reason: "it is patched"}, nil},
	} {
		w := inspecttest.New()
		w.Root[kubelet] = inspecttest.File(kubelet, 0o755, inspecttest.GoProgram(elf.EM_X86_64, "example.com/kubelet", "v1.36.9"))
		w.Tamper = func(r *record.Record) {
			for i := range r.Components {
				if r.Components[i].Name == "kubelet" {
					r.Components[i].Version, r.Components[i].Reports = test.version, test.reports
				}
			}
		}
		var got []string
		for _, v := range lint(subjectOf(t, w)).Violations {
			if v.Rule != "component-versions" {
				t.Errorf("%s: %s", test.version, v)
				continue
			}
			got = v.Problems
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("problems of a program that says v1.36.9, of a component at %s (-want +got):\n%s", test.version, diff)
		}
	}
}
