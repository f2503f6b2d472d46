//go:build system

package qemu

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/nodebake/bake/test/cluster"
)

// powerCuts is how often each of the tests below cuts the power.
const powerCuts = 10

// seed makes the moments of power cuts. BAKE_SEED repeats a run.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("BAKE_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("BAKE_SEED: %v", err)
		}
	}
	t.Logf("BAKE_SEED=%d repeats this", n)
	return n
}

// TestPowerCutWhileWriting cuts the power while firstboot writes: a moment
// after it says that it begins, when files are staged, or that it put one of
// them in place. The worker then starts and is Ready, whatever is on its disk.
func TestPowerCutWhileWriting(t *testing.T) {
	s := newSite(t, cluster.Current)
	base := seed(t)
	for i := range powerCuts {
		t.Run(fmt.Sprintf("%02d", i+1), func(t *testing.T) {
			random := rand.New(rand.NewPCG(base, uint64(i)))
			line, delay := `firstboot: writing \d+ files`, time.Duration(random.Int64N(int64(2*time.Second)))
			if i%2 == 1 {
				line = "firstboot: wrote " + regexp.QuoteMeta(written()[random.IntN(len(written()))])
				delay = time.Duration(random.Int64N(int64(30 * time.Millisecond)))
			}
			s := s.with(t)
			w := boot(t, options{network: s.network, attributes: s.guideAttributes()})
			w.waitFor(line, 5*time.Minute)
			time.Sleep(delay)
			w.Kill()
			t.Logf("power cut %v after that", delay.Round(time.Millisecond))
			w.recovers(s)
		})
	}
}

// TestPowerCutAnytime cuts the power at random moments from the kernel's start
// to a little after the node is Ready.
func TestPowerCutAnytime(t *testing.T) {
	s := newSite(t, cluster.Current)
	base := seed(t)
	for i := range powerCuts {
		t.Run(fmt.Sprintf("%02d", i+1), func(t *testing.T) {
			random := rand.New(rand.NewPCG(base, uint64(i)))
			at := time.Duration(random.Int64N(int64(50 * time.Second)))
			s := s.with(t)
			w := boot(t, options{network: s.network, attributes: s.guideAttributes()})
			time.Sleep(at)
			last := w.Console.Tail(1)
			w.Kill()
			t.Logf("power cut %v after the kernel's start; the console's last line was %q", at.Round(time.Millisecond), last)
			w.recovers(s)
		})
	}
}

// written is what firstboot writes once metadata have answered.
func written() []string {
	return []string{
		"/etc/cni/net.d/10-bridge.conflist", "/etc/cni/net.d/99-loopback.conf", "/etc/default/kubelet", "/etc/hostname",
		"/var/lib/kube-proxy/kube-proxy-config.yaml", "/var/lib/kube-proxy/kubeconfig", "/var/lib/kubelet/kubeconfig",
		"/var/lib/kubelet/kubelet-config.yaml", "/var/lib/kubelet/worker-0-key.pem", "/var/lib/kubelet/worker-0.pem", "/var/lib/kubernetes/ca.pem",
	}
}

// recovers starts a machine after a power cut, waits until the node is Ready,
// and requires a configuration without traces of what was interrupted.
func (w *worker) recovers(s *site) {
	w.t.Helper()
	s.kubectl("delete", "node", "worker-0", "--ignore-not-found")
	w.startAgain()
	w.becomesReady(s)
	if lines := w.failures(); lines != nil {
		w.t.Errorf("firstboot failed after a power cut: %s", lines)
	}
	w.Kill()
	s.kubectl("delete", "node", "worker-0")
}

// with returns the site for a subtest.
func (s *site) with(t *testing.T) *site {
	c := *s
	c.t = t
	return &c
}
