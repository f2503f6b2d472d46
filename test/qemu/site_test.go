package qemu

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/test/cluster"
)

// site is a control plane on the host, and the network that its workers are on.
type site struct {
	*cluster.Cluster
	t       *testing.T
	ca      *node.CA
	network *vm.Network
}

// newSite starts a control plane, which ends with the test.
func newSite(t *testing.T, version cluster.Version) *site {
	t.Helper()
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ca: ca, network: newNetwork(t)}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	programs, err := cluster.Find{
		Version: version, Root: root, Store: filepath.Join(cache, "bake"),
		Dir: filepath.Join(cache, "bake-test"), Env: os.Environ(),
	}.Programs(ctx)
	if err != nil {
		unavailable(t, err)
	}
	started := time.Now()
	s.Cluster, err = cluster.Start(ctx, cluster.Config{
		Programs: programs, Now: time.Now(), Dir: t.TempDir(), CA: ca, Dial: s.network.Dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	t.Logf("control plane %s answers after %.1f s", programs.Version, time.Since(started).Seconds())
	return s
}

// guideAttributes are worker-0's metadata with everything in attributes.
func (s *site) guideAttributes() map[string]string {
	s.t.Helper()
	return s.attributes(node.Config{})
}

// attributes makes worker-0's metadata. c says what differs from the guide's.
func (s *site) attributes(c node.Config) map[string]string {
	s.t.Helper()
	c.Name, c.Server, c.CA = "worker-0", s.URL(), s.ca
	c.IP, c.PodCIDR, c.Now = workerAddress, netip.MustParsePrefix("10.200.0.0/24"), time.Now()
	keys, err := node.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	attributes := map[string]string{}
	for key, value := range keys {
		attributes[key] = string(value)
	}
	return attributes
}

// kubectl runs kubectl as the cluster's administrator.
func (s *site) kubectl(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := s.Kubectl(ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// nodeStatus is the part of a node that tests look at.
type nodeStatus struct {
	Metadata struct{ Name, UID string }
	Spec     struct{ PodCIDR string }
	Status   struct {
		Conditions []struct{ Type, Status, Reason, Message string }
		NodeInfo   struct{ KubeletVersion, ContainerRuntimeVersion, OSImage, BootID string }
		Addresses  []struct{ Type, Address string }
	}
}

func (n nodeStatus) ready() bool {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// waitReady waits until worker-0 is Ready, and no other node is there.
func (s *site) waitReady(timeout time.Duration) nodeStatus {
	s.t.Helper()
	last := "no node"
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(time.Second) {
		var list struct{ Items []nodeStatus }
		last = s.kubectl("get", "nodes", "-o", "json")
		if err := json.Unmarshal([]byte(last), &list); err != nil {
			s.t.Fatalf("decoding %q: %v", last, err)
		}
		if len(list.Items) > 1 || len(list.Items) == 1 && list.Items[0].Metadata.Name != "worker-0" {
			s.t.Fatalf("nodes are %s; want worker-0 alone", last)
		}
		if len(list.Items) == 1 && list.Items[0].ready() {
			return list.Items[0]
		}
	}
	s.t.Fatalf("worker-0 is not Ready within %v; the API server says:\n%s", timeout, last)
	return nodeStatus{}
}
