//go:build system

package qemu

import (
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/test/cluster"
)

// TestKubernetesTheHardWay joins with the guide's own versions, but for
// containerd, which is Debian's 1.4.13, and crictl, which is missing; see
// test/kthw/versions.yaml. The control plane is the oldest that can be built
// and accepts such a node.
func TestKubernetesTheHardWay(t *testing.T) {
	host := guidesHost(t)
	s := newSite(t, cluster.Old)
	w := boot(t, options{host: host, network: s.network, attributes: s.guideAttributes()})
	w.becomesReady(s)
	n := s.waitReady(time.Minute)
	if got := n.KubeletVersion; got != "v1.21.0" {
		t.Errorf("kubelet is %s; want v1.21.0", got)
	}
	if got := n.Runtime; !strings.HasPrefix(got, "containerd://1.4.") {
		t.Errorf("container runtime is %s; want containerd 1.4", got)
	}
	w.login(3 * time.Minute)
	w.isHealthy("enabled")
	w.guardsMetadata()
	w.rejoinsAfterReboot(s)
	w.shutDown()
}
