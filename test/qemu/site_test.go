//go:build system

package qemu

import (
	"context"
	"net/netip"
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	programs := cluster.Need(t, version, root)
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

// waitReady waits until worker-0 is Ready, and no other node is there.
func (s *site) waitReady(timeout time.Duration) cluster.Node {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), timeout)
	defer cancel()
	n, err := s.WaitNode(ctx, "worker-0", func(n cluster.Node) bool { return n.Ready })
	if err != nil {
		s.t.Fatalf("worker-0 is not Ready within %v: %v", timeout, err)
	}
	if names := s.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"); names != "worker-0" {
		s.t.Fatalf("nodes are %s; want worker-0 alone", names)
	}
	return n
}
