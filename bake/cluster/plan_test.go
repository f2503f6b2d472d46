package cluster

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWorkers(t *testing.T) {
	t.Parallel()
	var got []string
	for _, w := range Workers(3) {
		got = append(got, w.Name+" "+w.IP.String()+" "+w.PodCIDR.String())
	}
	want := []string{"worker-0 10.240.0.20 10.200.0.0/24", "worker-1 10.240.0.21 10.200.1.0/24", "worker-2 10.240.0.22 10.200.2.0/24"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Workers(3) (-want +got):\n%s", diff)
	}
	// The last one has addresses of its own, too.
	last := Workers(maxWorkers)[maxWorkers-1]
	if last.IP.String() != "10.240.0.119" || last.PodCIDR.String() != "10.200.99.0/24" {
		t.Errorf("the last worker is %+v", last)
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	have := Workers(3)
	gap := append(Workers(1), numbered(2, "worker-2"))
	for _, test := range []struct {
		name string
		have []Worker
		want string // address, or a part of the error
	}{
		{"worker-3", have, "10.240.0.23"},
		{"worker-7", have, "10.240.0.27"},
		{"worker-1", gap, "10.240.0.21"},
		{"blue", have, "10.240.0.23"},
		{"blue", gap, "10.240.0.21"},
		{"worker-03", gap, "10.240.0.21"}, // is no number of ours
		{"worker-100", have, "10.240.0.23"},
		{"worker-1", have, "there is a worker worker-1 already (--replace starts it anew on a fresh disk)"},
		{"worker-3", append(have, numbered(3, "blue")), "worker blue has 10.240.0.23, the address of worker-3 (give another name)"},
		{"blue", Workers(maxWorkers), "there are 100 workers, and no more can be"},
		{"Blue", have, `"Blue" can't be a worker's name`},
		{"", have, `"" can't be a worker's name`},
		{"../x", have, `"../x" can't be a worker's name`},
	} {
		w, err := next(test.name, test.have)
		got := w.IP.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, test.want) || err == nil && w.Name != test.name {
			t.Errorf("next(%q) after %d = %+v, %v; want %s", test.name, len(test.have), w, err, test.want)
		}
	}
}
