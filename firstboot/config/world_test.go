package config_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/test/must"
)

// now is when all of these tests run.
var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// credentials are worker-0's, by metadata key, rebuilt for each run: nothing
// in testdata is a key.
func credentials(t testing.TB) map[string]string {
	t.Helper()
	ca := must.Get(node.NewCA(node.CAConfig{Now: now}))
	c := node.Config{
		Name: "worker-0", Server: "https://10.240.0.1:6443", CA: ca, Now: now,
		IP: netip.MustParseAddr("10.240.0.20"), PodCIDR: netip.MustParsePrefix("10.200.0.0/24"),
	}
	made := map[string]string{}
	for _, token := range []string{"", "abcdef.0123456789abcdef"} {
		c.BootstrapToken = token
		values, err := node.New(c)
		if err != nil {
			t.Fatal(err)
		}
		// The certificate for the API server's client differs between the two;
		// any will do.
		for key, value := range values {
			made[key] = string(value)
		}
	}
	return made
}

// attributes are a complete set for worker-0, and more where extra says so; an
// empty value removes a key.
func attributes(made map[string]string, extra map[string]string) map[string]string {
	a := map[string]string{"pod-cidr": "10.200.0.0/24"}
	for _, key := range []string{"kubernetes-ca", "kube-proxy-kubeconfig", "kubelet-certificate", "kubelet-key", "kubelet-kubeconfig"} {
		a[key] = made[key]
	}
	maps.Copy(a, extra)
	maps.DeleteFunc(a, func(_, value string) bool { return value == remove })
	return a
}

const remove = "\x00"

func image() config.Image {
	return config.Image{
		Components: map[string]string{"kubelet": "v1.36.3", "kube-proxy": "v1.36.3", "containerd": "2.3.4", "cni-plugins": "v1.9.1"},
		Node:       config.NodeDefaults{RuntimeType: "io.containerd.runc.v2", CgroupDriver: "systemd"},
	}
}

// input is a worker's, with its instance's attributes.
func input(attributes map[string]string) config.Input {
	return config.Input{
		Metadata: &metadata.Metadata{Instance: metadata.Instance{
			Name: "worker-0", Hostname: "worker-0.us-west1-c.c.example.internal", Attributes: attributes,
			NetworkInterfaces: []metadata.NetworkInterface{{IP: "10.240.0.20", MTU: 1460}},
		}},
		Image: image(), Now: now, Memory: 8 << 30, CPUs: 2,
	}
}

func mustJSON(t testing.TB, data []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}
