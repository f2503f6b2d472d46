//go:build system

package qemu

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/cluster"
)

// TestFaults sends one worker through everything that can be wrong with its
// metadata, at one boot: first what passes with time, which firstboot waits out,
// then what does not, which it says in one line each and sees repaired. In the
// end the worker is Ready.
func TestFaults(t *testing.T) {
	s := newSite(t, cluster.Current)
	good := s.guideAttributes()
	metadata := newMetadata(good)
	metadata.DeleteAttribute("pod-cidr")
	w := boot(t, options{network: s.network, metadata: metadata, late: true})

	w.waitFor(`firstboot: waiting for the metadata server`, 4*time.Minute)
	t.Log("the metadata server is late by a minute")
	time.Sleep(time.Minute)
	metadata.SetFaults(emulator.Fault{Kind: emulator.Status, For: 30 * time.Second})
	w.answerMetadata()
	time.Sleep(30 * time.Second)
	for _, kind := range []emulator.FaultKind{emulator.Reset, emulator.Truncate, emulator.CutJSON, emulator.Portal, emulator.Redirect, emulator.NoFlavor} {
		metadata.SetFaults(emulator.Fault{Kind: kind})
		time.Sleep(8 * time.Second)
		if lines := w.failures(); lines != nil {
			t.Fatalf("firstboot gave up on %s, which passes: %s", kind, lines)
		}
	}
	metadata.SetFaults()
	w.fails(`metadata key pod-cidr: `)

	set := func(attributes map[string]string) {
		for key, value := range attributes {
			metadata.SetAttribute(key, value)
		}
	}
	broken := func(c node.IssueConfig) map[string]string {
		if c.Now.IsZero() {
			c.Now = time.Now()
		}
		c.Organizations, c.Client, c.Server, c.IPs = []string{"system:nodes"}, true, true, []netip.Addr{workerAddress}
		cert, key, err := s.ca.Issue(c)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"kubelet-certificate": string(cert), "kubelet-key": string(key)}
	}
	worker0 := node.IssueConfig{CommonName: "system:node:worker-0", DNSNames: []string{"worker-0"}}

	set(good)
	metadata.SetAttribute("kubelet-key", broken(worker0)["kubelet-key"])
	w.fails(`metadata key kubelet-key\b`)

	expired := worker0
	expired.Now, expired.Validity = time.Now().AddDate(-1, 0, 0), 24*time.Hour
	set(broken(expired))
	w.fails(`metadata key kubelet-certificate\b.*expired`)

	set(broken(node.IssueConfig{CommonName: "system:node:worker-1", DNSNames: []string{"worker-1"}}))
	w.fails(`metadata key kubelet-certificate\b.*worker-1`)

	w.login(3 * time.Minute)
	w.run("fallocate -l $(( $(df --output=avail -B1 / | tail -n 1) - 4096 )) /var/tmp/full && cat /dev/zero >/var/tmp/full2 2>/dev/null; df / | tail -n 1")
	set(good)
	w.fails(`(?i).*no space left on device`)
	if left := w.run(`find / -xdev -name '*firstboot*' -newer /var/tmp/full -not -path '/proc/*' -not -path '/var/log/*' -type f -size 0 | head`); left != "" {
		t.Errorf("a full disk left files behind: %s", left)
	}
	w.run("rm /var/tmp/full /var/tmp/full2")
	w.becomesReady(s)
	w.isHealthy("enabled")
	w.saidOnce()
	w.shutDown()
}

// TestClockBehind boots with a clock that is before the certificate's time.
// Nothing of the node starts until the clock is right; then it joins.
func TestClockBehind(t *testing.T) {
	s := newSite(t, cluster.Current)
	w := boot(t, options{network: s.network, attributes: s.guideAttributes(), clock: time.Now().AddDate(0, -2, 0)})
	w.fails(`metadata key \S+.*not (yet )?valid`)
	w.login(3 * time.Minute)
	w.run(fmt.Sprintf("date -s @%d", time.Now().Unix()))
	w.becomesReady(s)
	w.shutDown()
}

// TestChangedMetadata changes what describes a configured worker while it is
// off: it starts as it was, and then becomes what its metadata say.
func TestChangedMetadata(t *testing.T) {
	s := newSite(t, cluster.Current)
	attributes := s.guideAttributes()
	w := boot(t, options{network: s.network, attributes: attributes})
	w.becomesReady(s)
	w.login(3 * time.Minute)
	proxy := w.run("stat -c %i:%Z /var/lib/kube-proxy/kubeconfig")
	w.shutDown()

	s.kubectl("delete", "node", "worker-0")
	w.network.ServeMetadata(w.address, nil)
	w.startAgain()
	w.waitFor(`firstboot: waiting for the metadata server`, 4*time.Minute)
	// Nothing answers, and the node is there nevertheless.
	s.waitReady(4 * time.Minute)

	changed := s.attributes(node.Config{ClusterDNS: netip.MustParseAddr("10.32.0.53")})
	maps.DeleteFunc(changed, func(key, _ string) bool { return key != "cluster-dns" })
	for key, value := range changed {
		w.metadata.SetAttribute(key, value)
	}
	w.answerMetadata()
	w.waitFor(`(?m)^firstboot: ready `, 4*time.Minute)
	w.login(3 * time.Minute)
	w.eventually("grep -q 10.32.0.53 /var/lib/kubelet/kubelet-config.yaml", time.Minute)
	w.expect("stat -c %i:%Z /var/lib/kube-proxy/kubeconfig", proxy)
	w.eventually("test $(journalctl -b -u kubelet --no-pager -o cat | grep -c '^Started kubelet.service') = 2", time.Minute)
	w.expect("journalctl -b -u kube-proxy --no-pager -o cat | grep -c '^Started kube-proxy.service'", "1")
	s.waitReady(time.Minute)
	w.shutDown()
}

// fails waits for firstboot's line about a failure.
func (w *worker) fails(reason string) {
	w.t.Helper()
	w.waitFor(`(?m)^firstboot: failed: .*`+reason+`.*$`, 4*time.Minute)
}

// failures returns firstboot's lines about failures.
func (w *worker) failures() []string {
	var lines []string
	for _, line := range w.Console.Lines() {
		if strings.HasPrefix(line.Text, "firstboot: failed: ") {
			lines = append(lines, line.Text)
		}
	}
	return lines
}

// saidOnce requires that no reason was printed twice.
func (w *worker) saidOnce() {
	w.t.Helper()
	lines := w.failures()
	for i, line := range lines {
		if slices.Contains(lines[:i], line) {
			w.t.Errorf("the console shows twice: %s", line)
		}
	}
}
