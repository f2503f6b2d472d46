package routes_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/routes"
)

func prefix(text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(text)
}

// guide are the ranges of the guide.
func guide() routes.Ranges {
	return routes.Ranges{Service: prefix(routes.DefaultService), Subnet: prefix(routes.DefaultSubnet)}
}

// worker reads "worker-0 10.240.0.20 10.200.0.0/24", and the range of all pods
// where one follows.
func worker(text string) routes.Worker {
	f := append(strings.Fields(text), "")
	return routes.Worker{Name: f[0], From: f[0], IP: netip.MustParseAddr(f[1]), PodCIDR: prefix(f[2]), ClusterCIDR: prefix(f[3])}
}

func workers(texts ...string) []routes.Worker {
	var all []routes.Worker
	for _, text := range texts {
		all = append(all, worker(text))
	}
	return all
}

var diffs = gocmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()}

func TestCheck(t *testing.T) {
	t.Parallel()
	const w0, w1 = "worker-0 10.240.0.20 10.200.0.0/24", "worker-1 10.240.0.21 10.200.1.0/24"
	for _, test := range []struct {
		name    string
		workers []routes.Worker
		change  func(*routes.Ranges)
		want    []string
	}{
		{"the guide's", workers(w0, w1, "worker-2 10.240.0.22 10.200.2.0/24"), nil, nil},
		{"of another cluster", workers("a 10.0.0.5 10.8.0.0/20 10.8.0.0/16"), func(r *routes.Ranges) { r.Subnet = prefix("10.0.0.0/20") }, nil},
		{"of another cluster, by a flag", workers("a 10.240.0.5 10.8.0.0/20"), func(r *routes.Ranges) { r.Cluster = prefix("10.8.0.0/16") }, nil},
		{"the same range", workers(w0, "worker-1 10.240.0.21 10.200.0.0/24"), nil, []string{"worker-0 and worker-1 have the same pod-cidr, 10.200.0.0/24: their pods would have the same addresses (give one of them another)"}},
		{"ranges that overlap", workers(w0, "worker-1 10.240.0.21 10.200.0.0/23"), nil, []string{"worker-0 and worker-1 have pod-cidrs that overlap, 10.200.0.0/24 and 10.200.0.0/23 (give one of them another)"}},
		{"the same address", workers(w0, "worker-1 10.240.0.20 10.200.1.0/24"), nil, []string{"worker-0 and worker-1 have the same address, 10.240.0.20 (each instance has its own)"}},
		{"the same name", workers(w0, "worker-0 10.240.0.21 10.200.1.0/24"), nil, []string{"worker-0 and worker-0 have the same name, worker-0"}},
		{"outside of the cluster's range", workers("worker-0 10.240.0.20 10.9.0.0/24"), nil, []string{"worker-0: pod-cidr: 10.9.0.0/24 is not within cluster-cidr, 10.200.0.0/16, which is the default; set cluster-cidr to the range that all pods of the cluster are in"}},
		{"outside of a range that was said", workers(w0), func(r *routes.Ranges) { r.Cluster = prefix("10.8.0.0/16") }, []string{"worker-0: pod-cidr: 10.200.0.0/24 is not within cluster-cidr, 10.8.0.0/16"}},
		{"no range", workers("worker-0 10.240.0.20 10.200.0.7/24"), nil, []string{`worker-0: pod-cidr: "10.200.0.7/24" is an address in a range; a range is named by its first address; right would be: 10.200.0.0/24`}},
		{"its own address in it", workers("worker-0 10.200.0.20 10.200.0.0/24"), func(r *routes.Ranges) { r.Subnet = prefix("10.200.0.0/28") },
			[]string{"worker-0: pod-cidr: 10.200.0.0/24 holds the instance's own address, 10.200.0.20: pods need a range of their own; right would be: 10.200.0.0/24"}},
		{"IPv6", workers("worker-0 fd20::5 10.200.0.0/24"), nil, []string{"worker-0: ip: fd20::5 is IPv6; a worker's node and pods have IPv4 addresses only (want one like 10.240.0.20)"}},
		{"in the subnet and among services", workers("worker-0 10.240.0.20 10.240.0.0/27 10.0.0.0/8", "worker-1 10.240.0.21 10.32.0.128/28 10.0.0.0/8"), func(r *routes.Ranges) { r.Subnet = prefix("10.240.0.16/28") }, []string{
			"worker-0: pod-cidr: 10.240.0.0/27 holds the instance's own address, 10.240.0.20: pods need a range of their own; right would be: 10.200.0.0/24",
			"worker-1: the pod-cidr 10.32.0.128/28 overlaps the range 10.32.0.0/24, whose addresses are services' (--service-cidr)",
		}},
		{"in the subnet", workers("worker-0 10.240.0.20 10.240.0.128/28 10.0.0.0/8"), nil, []string{"worker-0: the pod-cidr 10.240.0.128/28 overlaps the subnet 10.240.0.0/24, whose addresses are instances' (--subnet)"}},
		{"another subnet", workers("worker-0 10.1.0.20 10.200.0.0/24"), nil, []string{"worker-0: the address 10.1.0.20 is not in the subnet 10.240.0.0/24 (--subnet)"}},
		{"two ranges of all pods", workers(w0+" 10.200.0.0/16", w1+" 10.0.0.0/8"), nil, []string{"worker-1: its cluster-cidr is 10.0.0.0/8, and elsewhere it is 10.200.0.0/16 (a cluster has one range for all pods)"}},
		{"several", workers(w0, w0, "worker-1 10.240.0.20 10.200.0.128/25"), nil, []string{
			"worker-0 and worker-0 have the same pod-cidr, 10.200.0.0/24: their pods would have the same addresses (give one of them another)",
			"worker-0 and worker-1 have pod-cidrs that overlap, 10.200.0.0/24 and 10.200.0.128/25 (give one of them another)",
			"worker-0 and worker-1 have pod-cidrs that overlap, 10.200.0.0/24 and 10.200.0.128/25 (give one of them another)",
		}},
	} {
		ranges := guide()
		if test.change != nil {
			test.change(&ranges)
		}
		got := ""
		if err := routes.Check(test.workers, ranges); err != nil {
			got = err.Error()
		}
		if diff := gocmp.Diff(strings.Join(test.want, "\n"), got); diff != "" {
			t.Errorf("%s: Check (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	wanted := routes.Wanted(workers("worker-1 10.240.0.21 10.200.1.0/24", "worker-0 10.240.0.20 10.200.0.0/24"))
	if got, want := wanted[0], (routes.Route{Name: "kubernetes-route-10-200-0-0-24", Destination: prefix("10.200.0.0/24"), NextHop: netip.MustParseAddr("10.240.0.20"), Worker: "worker-0"}); got != want {
		t.Errorf("Wanted()[0] = %+v; want %+v", got, want)
	}
	// NAME DESTINATION HOP [NETWORK]
	existing := func(text string) routes.Existing {
		f := append(strings.Fields(text), "")
		return routes.Existing{Name: f[0], Destination: prefix(f[1]), NextHop: f[2], Network: cmp.Or(f[3], "net")}
	}
	const r0, r1 = "kubernetes-route-10-200-0-0-24 10.200.0.0/24 10.240.0.20", "kubernetes-route-10-200-1-0-24 10.200.1.0/24 10.240.0.21"
	for _, test := range []struct {
		name     string
		existing []string
		want     []string // worker, state and conflict of each
		create   string   // ranges, or the error
		deletes  string
	}{
		{"none is there", []string{"default 0.0.0.0/0 default-internet-gateway", "subnet 10.240.0.0/24 net"}, []string{"worker-0 missing", "worker-1 missing"}, "10.200.0.0/24 10.200.1.0/24", ""},
		{"all are there", []string{r1, r0}, []string{"worker-0 there", "worker-1 there"}, "", "10.200.0.0/24 10.200.1.0/24"},
		{"one, under another name", []string{"mine 10.200.0.0/24 10.240.0.20"}, []string{"worker-0 there", "worker-1 missing"}, "10.200.1.0/24", "10.200.0.0/24"},
		{"one, to the instance", []string{"mine 10.200.0.0/24 worker-0"}, []string{"worker-0 there", "worker-1 missing"}, "10.200.1.0/24", "10.200.0.0/24"},
		{"one in another network", []string{"mine 10.200.0.0/24 10.240.0.20 other"}, []string{"worker-0 missing", "worker-1 missing"}, "10.200.0.0/24 10.200.1.0/24", ""},
		{"to another", []string{"mine 10.200.0.0/24 10.240.0.99"}, []string{"worker-0 other 10.200.0.0/24 leads to 10.240.0.99 by the route mine, and not to 10.240.0.20", "worker-1 missing"},
			"worker-0: 10.200.0.0/24 leads to 10.240.0.99 by the route mine, and not to 10.240.0.20 (delete that one first)", ""},
		{"a part to another", []string{r0, "mine 10.200.0.128/25 vpn", r1}, []string{"worker-0 other 10.200.0.128/25 leads to vpn by the route mine, and not to 10.240.0.20", "worker-1 there"},
			"worker-0: 10.200.0.128/25 leads to vpn by the route mine, and not to 10.240.0.20 (delete that one first)", "10.200.1.0/24"},
		{"more to another", []string{"mine 10.200.0.0/16 10.240.0.99"}, []string{"- extra", "worker-0 missing", "worker-1 missing"}, "10.200.0.0/24 10.200.1.0/24", ""},
		{"the name is taken", []string{"kubernetes-route-10-200-1-0-24 10.200.1.0/24 10.240.0.21 other"}, []string{"worker-0 missing", "worker-1 other the route kubernetes-route-10-200-1-0-24 is there, for 10.200.1.0/24 in the network other"},
			"worker-1: the route kubernetes-route-10-200-1-0-24 is there, for 10.200.1.0/24 in the network other (delete that one first)", ""},
		{"of a worker that is gone", []string{r0, "kubernetes-route-10-200-7-0-24 10.200.7.0/24 10.240.0.27"}, []string{"worker-0 there", "worker-1 missing", "- extra"}, "10.200.1.0/24", "10.200.0.0/24"},
	} {
		var all []routes.Existing
		for _, text := range test.existing {
			all = append(all, existing(text))
		}
		got := routes.Compare("net", wanted, all, prefix(routes.DefaultCluster))
		var lines []string
		for _, r := range got {
			lines = append(lines, strings.TrimSpace(cmp.Or(r.Worker, "-")+" "+string(r.State)+" "+r.Conflict))
		}
		if diff := gocmp.Diff(test.want, lines); diff != "" {
			t.Errorf("%s: Compare (-want +got):\n%s", test.name, diff)
		}
		missing, err := routes.ToCreate(got)
		create := destinations(missing)
		if err != nil {
			create = err.Error()
		}
		if deletes := destinations(routes.ToDelete(got)); create != test.create || deletes != test.deletes {
			t.Errorf("%s: ToCreate = %q, ToDelete = %q; want %q, %q", test.name, create, deletes, test.create, test.deletes)
		}
	}
	// It is deleted by the name that it has.
	renamed := routes.ToDelete(routes.Compare("net", wanted, []routes.Existing{existing("mine 10.200.0.0/24 10.240.0.20")}, prefix(routes.DefaultCluster)))
	if len(renamed) != 1 || renamed[0].Name != "mine" {
		t.Errorf("ToDelete = %v; want the route mine", renamed)
	}
	// What is there is not known.
	if missing, err := routes.ToCreate(wanted); err != nil || destinations(missing) != destinations(wanted) || destinations(routes.ToDelete(wanted)) != destinations(wanted) {
		t.Errorf("ToCreate = %v, %v; want all", missing, err)
	}
}

func destinations(all []routes.Route) string {
	var list []string
	for _, r := range all {
		list = append(list, r.Destination.String())
	}
	return strings.Join(list, " ")
}

func TestClusterRange(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		workers []routes.Worker
		flag    string
		want    string
	}{
		{workers("a 10.240.0.20 10.200.0.0/24"), "", "10.200.0.0/16"},
		{workers("a 10.240.0.20 10.8.0.0/24 10.8.0.0/16"), "", "10.8.0.0/16"},
		{workers("a 10.240.0.20 10.8.0.0/24 10.8.0.0/16"), "10.8.0.0/20", "10.8.0.0/20"},
	} {
		if got := routes.ClusterRange(test.workers, routes.Ranges{Cluster: prefix(test.flag)}); got.String() != test.want {
			t.Errorf("ClusterRange(%v, %q) = %s; want %s", test.workers, test.flag, got, test.want)
		}
	}
}

// TestReadWorker reads what bake node writes.
func TestReadWorker(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, err := node.NewCA(node.CAConfig{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	write := func(change func(*node.Config)) string {
		config := node.Config{
			Name: "worker-0", Server: "https://10.240.0.10:6443", IP: netip.MustParseAddr("10.240.0.20"), PodCIDR: prefix("10.200.0.0/24"), CA: ca, Now: now,
			IPs: []netip.Addr{netip.MustParseAddr("203.0.113.20"), netip.MustParseAddr("10.240.0.99")},
		}
		change(&config)
		values, err := node.New(config)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := node.Write(t.Context(), node.MetadataFiles(values, nil, dir), nil); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, test := range []struct {
		name, dir string
		want      routes.Worker
		err       string
	}{
		{"by default", write(func(*node.Config) {}), worker("worker-0 10.240.0.20 10.200.0.0/24"), ""},
		{"its host name and cluster's range", write(func(c *node.Config) {
			c.Hostname, c.ClusterCIDR, c.IP = "w.example.com", prefix("10.192.0.0/10"), netip.MustParseAddr("10.240.0.30")
		}), worker("w 10.240.0.30 10.200.0.0/24 10.192.0.0/10"), ""},
		{"another subnet", write(func(c *node.Config) { c.IP, c.IPs = netip.MustParseAddr("10.1.0.20"), nil }), routes.Worker{},
			"DIR/kubelet-certificate: the certificate's addresses, [10.1.0.20], are not in the subnet 10.240.0.0/24 (--subnet, or --worker worker-0=IP=10.200.0.0/24 in its place)"},
		{"a bootstrap token", write(func(c *node.Config) { c.BootstrapToken = "07401b.f395accd246ae52d" }), routes.Worker{},
			"DIR: no kubelet-certificate is there to tell the address: give --worker NAME=IP=10.200.0.0/24 in its place"},
		{"another directory", t.TempDir(), routes.Worker{}, "DIR: no pod-cidr is there (want a directory of `bake node --output`)"},
		{"no range", file(t, "pod-cidr", "s3cr3t\n"), routes.Worker{}, "DIR/pod-cidr: is no range like 10.200.0.0/24"},
		{"no certificate", file(t, "kubelet-certificate", "x"), routes.Worker{}, "DIR/kubelet-certificate: holds no PEM block (-----BEGIN ...-----)"},
	} {
		got, err := routes.ReadWorker(test.dir, prefix(routes.DefaultSubnet))
		if err != nil || test.err != "" {
			if err == nil || strings.ReplaceAll(err.Error(), test.dir, "DIR") != test.err {
				t.Errorf("%s: ReadWorker = %v; want %s", test.name, err, test.err)
			}
			continue
		}
		test.want.From = test.dir
		if diff := gocmp.Diff(test.want, got, diffs); diff != "" {
			t.Errorf("%s: ReadWorker (-want +got):\n%s", test.name, diff)
		}
	}
}

// file is a directory with a pod range, and one file that is put into it.
func file(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range [][2]string{{"pod-cidr", "10.200.0.0/24\n"}, {name, text}} {
		if err := os.WriteFile(filepath.Join(dir, f[0]), []byte(f[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParseWorker(t *testing.T) {
	t.Parallel()
	want := worker("worker-0 10.240.0.20 10.200.0.0/24")
	want.From = "--worker worker-0"
	got, err := routes.ParseWorker("worker-0=10.240.0.20=10.200.0.0/24")
	if diff := gocmp.Diff(want, got, diffs); diff != "" || err != nil {
		t.Errorf("ParseWorker: %v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"worker-0":                       `"worker-0": want NAME=IP=CIDR, as in worker-0=10.240.0.20=10.200.0.0/24`,
		"=10.240.0.20=10.200.0.0/24":     `"=10.240.0.20=10.200.0.0/24": want NAME=IP=CIDR, as in worker-0=10.240.0.20=10.200.0.0/24`,
		"w=10.240.0=10.200.0.0/24":       `"w=10.240.0=10.200.0.0/24": "10.240.0" is no address like 10.240.0.20`,
		"w=10.240.0.20=10.200.0.0":       `"w=10.240.0.20=10.200.0.0": "10.200.0.0" is no range like 10.200.0.0/24`,
		"w=10.240.0.20=10.200.0.0/24=24": `"w=10.240.0.20=10.200.0.0/24=24": want NAME=IP=CIDR, as in worker-0=10.240.0.20=10.200.0.0/24`,
	} {
		if _, err := routes.ParseWorker(text); err == nil || err.Error() != want {
			t.Errorf("ParseWorker(%s) = %v; want %s", text, err, want)
		}
	}
}

func TestParseExisting(t *testing.T) {
	t.Parallel()
	const project = "https://www.googleapis.com/compute/v1/projects/p/"
	got, err := routes.ParseExisting([]byte(`[
{"name": "default", "network": "` + project + `global/networks/net", "destRange": "0.0.0.0/0", "nextHopGateway": "` + project + `global/gateways/default-internet-gateway", "priority": 1000, "kind": "compute#route"},
{"name": "r", "network": "` + project + `global/networks/net", "destRange": "10.200.0.0/24", "nextHopIp": "10.240.0.20", "description": "x"},
{"name": "i", "network": "` + project + `global/networks/net", "destRange": "10.200.1.0/24", "nextHopInstance": "` + project + `zones/z/instances/worker-1"},
{"name": "six", "network": "` + project + `global/networks/net", "destRange": "fd20::/64", "nextHopNetwork": "` + project + `global/networks/net"},
{"name": "new", "network": "` + project + `global/networks/net", "destRange": "10.9.0.0/24", "nextHopHub": "x"}]`))
	want := []routes.Existing{
		{Name: "default", Network: "net", Destination: prefix("0.0.0.0/0"), NextHop: "default-internet-gateway"},
		{Name: "r", Network: "net", Destination: prefix("10.200.0.0/24"), NextHop: "10.240.0.20"},
		{Name: "i", Network: "net", Destination: prefix("10.200.1.0/24"), NextHop: "worker-1"},
		{Name: "new", Network: "net", Destination: prefix("10.9.0.0/24"), NextHop: "nothing that is known"},
	}
	if diff := gocmp.Diff(want, got, diffs); diff != "" || err != nil {
		t.Errorf("ParseExisting: %v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"NAME  NETWORK":                    "not what `gcloud compute routes list --format json` prints: want a list of routes",
		`{"name": "x"}`:                    "not what `gcloud compute routes list --format json` prints: want a list of routes",
		`[{"name": "x"}]`:                  "not what `gcloud compute routes list --format json` prints: route 1 has no name, or no destRange",
		`[{"destRange": "10.200.0.0/24"}]`: "not what `gcloud compute routes list --format json` prints: route 1 has no name, or no destRange",
	} {
		if _, err := routes.ParseExisting([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("ParseExisting(%s) = %v; want %s", text, err, want)
		}
	}
}

func FuzzParseExisting(f *testing.F) {
	f.Add([]byte(`[{"name": "r", "network": "a/net", "destRange": "10.200.0.0/24", "nextHopIp": "10.240.0.20"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		existing, err := routes.ParseExisting(data)
		if err != nil {
			return
		}
		wanted := routes.Wanted(workers("worker-0 10.240.0.20 10.200.0.0/24"))
		all := routes.Compare("net", wanted, existing, prefix(routes.DefaultCluster))
		if len(all) == 0 || len(all) > len(wanted)+len(existing) {
			t.Errorf("Compare of %d and %d routes = %d", len(wanted), len(existing), len(all))
		}
	})
}

// table is a network's, which fails from the call on that is told.
type table struct {
	routes map[netip.Prefix]netip.Addr
	calls  []string
	fail   int
}

func (t *table) call(text string) error {
	t.calls = append(t.calls, text)
	if len(t.calls) == t.fail {
		return errors.New("no network")
	}
	return nil
}

func (t *table) Routes(context.Context) (map[netip.Prefix]netip.Addr, error) {
	return maps.Clone(t.routes), t.call("list")
}

func (t *table) SetRoute(_ context.Context, destination netip.Prefix, hop netip.Addr) error {
	t.routes[destination] = hop
	return t.call("set " + destination.String() + " " + hop.String())
}

func (t *table) RemoveRoute(_ context.Context, destination netip.Prefix) error {
	delete(t.routes, destination)
	return t.call("remove " + destination.String())
}

// TestTable applies routes to a network, twice, and takes them out again, twice.
func TestTable(t *testing.T) {
	t.Parallel()
	wanted := routes.Wanted(workers("worker-0 10.240.0.20 10.200.0.0/24", "worker-1 10.240.0.21 10.200.1.0/24"))
	within := prefix(routes.DefaultCluster)
	other, hop := prefix("10.200.7.0/24"), netip.MustParseAddr("10.240.0.27")
	network := &table{routes: map[netip.Prefix]netip.Addr{other: hop}}
	for _, step := range []struct {
		name  string
		do    func(context.Context, routes.Table, []routes.Route, netip.Prefix) ([]routes.Route, error)
		want  string
		calls []string
	}{
		{"create", routes.Create, "10.200.0.0/24 10.200.1.0/24", []string{"list", "set 10.200.0.0/24 10.240.0.20", "set 10.200.1.0/24 10.240.0.21"}},
		{"create again", routes.Create, "", []string{"list"}},
		{"delete", routes.Delete, "10.200.0.0/24 10.200.1.0/24", []string{"list", "remove 10.200.0.0/24", "remove 10.200.1.0/24"}},
		{"delete again", routes.Delete, "", []string{"list"}},
	} {
		network.calls = nil
		got, err := step.do(t.Context(), network, wanted, within)
		if err != nil || destinations(got) != step.want {
			t.Errorf("%s = %q, %v; want %q", step.name, destinations(got), err, step.want)
		}
		if diff := gocmp.Diff(step.calls, network.calls); diff != "" {
			t.Errorf("%s calls (-want +got):\n%s", step.name, diff)
		}
	}
	if diff := gocmp.Diff(map[netip.Prefix]netip.Addr{other: hop}, network.routes, diffs); diff != "" {
		t.Errorf("what is not the workers' (-want +got):\n%s", diff)
	}

	// Where one can't be made, none is.
	network = &table{routes: map[netip.Prefix]netip.Addr{prefix("10.200.1.0/24"): hop}}
	const conflict = "worker-1: 10.200.1.0/24 leads to 10.240.0.27, and not to 10.240.0.21 (delete that one first)"
	if _, err := routes.Create(t.Context(), network, wanted, within); err == nil || err.Error() != conflict || len(network.calls) != 1 {
		t.Errorf("Create = %v after %q; want %s", err, network.calls, conflict)
	}
	if got, err := routes.Delete(t.Context(), network, wanted, within); err != nil || len(got) > 0 || len(network.routes) != 1 {
		t.Errorf("Delete = %v, %v; want that another's route stays", got, err)
	}
	for fail := 1; fail <= 2; fail++ {
		if _, err := routes.Create(t.Context(), &table{routes: map[netip.Prefix]netip.Addr{}, fail: fail}, wanted, within); err == nil || err.Error() != "no network" {
			t.Errorf("Create at a network that fails at call %d = %v", fail, err)
		}
	}
}
