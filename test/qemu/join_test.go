//go:build system

package qemu

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/cluster"
)

// TestWorker is the whole way of a worker: it boots as a Shielded VM does, on a
// disk larger than the image, is given the guide's credentials by metadata,
// joins, and joins again after a reboot with nothing written again.
func TestWorker(t *testing.T) {
	const diskSize = 10 << 30
	s := newSite(t, cluster.Current)
	attributes := s.guideAttributes()
	attributes["enable-guest-attributes"] = "TRUE"
	w := boot(t, options{diskSize: diskSize, network: s.network, attributes: attributes})
	w.waitFor(`Secure boot enabled`, 3*time.Minute)
	report := w.becomesReady(s)
	save(t, "ready.json", report)
	save(t, "nodes", s.kubectl("get", "nodes", "-o", "wide"))
	if got, ok := w.metadata.GuestAttribute("firstboot", "state"); !ok || got != "ready" {
		t.Errorf("guest attribute firstboot/state = %q; want ready", got)
	}

	w.login(3 * time.Minute)
	w.isHealthy("enabled")
	w.expect("cat /sys/kernel/security/lockdown", "none [integrity] confidentiality")
	w.expect("hostname", "worker-0")
	w.expect("tail -n +2 /proc/swaps", "")
	if args := w.run("cat /proc/cmdline"); !strings.Contains(args, "console=ttyS0,38400n8d") {
		t.Errorf("kernel arguments = %q; want a serial console at 38400", args)
	}
	w.expect("stty speed </dev/ttyS0", "38400")
	w.hasGrownTo(diskSize)
	w.kernelIsReadyForPods()
	w.guardsMetadata()
	save(t, "blame", w.run("systemd-analyze blame --no-pager"))
	save(t, "critical-chain", w.run("systemd-analyze critical-chain --no-pager kubelet.service multi-user.target"))
	save(t, "journal", w.run("journalctl -b -o short-monotonic --no-pager"))
	w.rejoinsAfterReboot(s)
	w.shutDown()
}

// TestCredentials joins with the two other ways to come by credentials; the
// first is TestWorker's.
func TestCredentials(t *testing.T) {
	t.Run("secret manager", func(t *testing.T) {
		s := newSite(t, cluster.Current)
		attributes := s.guideAttributes()
		metadata := newMetadata(nil)
		secrets := emulator.NewSecretServer(metadata)
		for key, value := range attributes {
			if slices.Contains([]string{"kubelet-key", "kubelet-kubeconfig", "kube-proxy-kubeconfig"}, key) {
				metadata.SetAttribute(key+"-secret", secrets.AddVersion("projects/example/secrets/worker-0-"+key, []byte(value)))
			} else {
				metadata.SetAttribute(key, value)
			}
		}
		smbios := s.serveTLS("secretmanager.googleapis.com", secrets)
		w := boot(t, options{network: s.network, metadata: metadata, smbios: smbios})
		w.becomesReady(s)
		w.login(3 * time.Minute)
		w.isHealthy("enabled")
		w.rejoinsAfterReboot(s)
		w.shutDown()
	})
	t.Run("TLS bootstrap", func(t *testing.T) {
		s := newSite(t, cluster.Current)
		token := s.bootstrapToken()
		w := boot(t, options{network: s.network, attributes: s.attributes(node.Config{BootstrapToken: token})})
		// Certificates for serving are approved by an operator.
		s.approveServing(6 * time.Minute)
		w.becomesReady(s)
		w.login(3 * time.Minute)
		w.isHealthy("enabled")
		w.expect("readlink /var/lib/kubelet/pki/kubelet-client-current.pem | grep -c .", "1")
		w.rejoinsAfterReboot(s)
		w.shutDown()
	})
}

// serveTLS serves handler under a public name on the workers' network, and
// returns what makes firstboot there trust its certificate.
func (s *site) serveTLS(name string, handler http.Handler) (smbios []string) {
	s.t.Helper()
	cert, key, err := s.ca.Issue(node.IssueConfig{CommonName: name, DNSNames: []string{name}, Server: true, Now: time.Now()})
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	listener, err := s.network.Listen(name, 443)
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	s.t.Cleanup(func() { server.Close() })
	go server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}}))
	return []string{
		// In the form of tmpfiles.d(5); the file is there before firstboot.
		credential("tmpfiles.extra", "f+ /run/site-ca.pem 0444 root root - "+strings.ReplaceAll(string(s.ca.CertificatePEM()), "\n", `\n`)+"\n"),
		credential("systemd.unit-dropin.firstboot.service", "[Service]\nEnvironment=SSL_CERT_FILE=/run/site-ca.pem\n"),
	}
}

// becomesReady waits until worker and cluster agree that the node is Ready, and
// the cluster reaches the kubelet. It returns firstboot's JSON.
func (w *worker) becomesReady(s *site) string {
	w.t.Helper()
	report := w.waitFor(`(?m)^firstboot: ready (\{.*\})$`, 8*time.Minute)[1]
	var fields map[string]any
	if err := json.Unmarshal([]byte(report), &fields); err != nil {
		w.t.Errorf("firstboot's report %q: %v", report, err)
	}
	if fields["proxy"] != "ready" {
		w.t.Errorf("firstboot's report says that kube-proxy is %q; want ready", fields["proxy"])
	}
	n := s.waitReady(2 * time.Minute)
	w.t.Logf("%6.1f s  Ready: kubelet %s, %s, %s", time.Since(w.Started).Seconds(), n.KubeletVersion, n.Runtime, n.OSImage)
	// The API server asks the kubelet with its client certificate.
	if got := s.kubectl("get", "--raw", "/api/v1/nodes/worker-0/proxy/healthz"); got != "ok" {
		w.t.Errorf("the kubelet's healthz, asked by the API server, is %q; want ok", got)
	}
	return report
}

// configuration lists everything that firstboot may write: inode, time of
// change, mode, size and path.
func (w *worker) configuration() string {
	w.t.Helper()
	return w.run(`find /etc/cni /etc/containerd /etc/default/kubelet /etc/hostname /etc/systemd/system /var/lib/kubernetes /var/lib/kube-proxy \
		/var/lib/kubelet/kubeconfig /var/lib/kubelet/kubelet-config.yaml /var/lib/kubelet/*.pem -type f -printf '%i %C@ %m %s %p\n' 2>/dev/null | sort -k5`)
}

// rejoinsAfterReboot reboots, and requires the same configuration, untouched,
// and services that were started once.
func (w *worker) rejoinsAfterReboot(s *site) {
	w.t.Helper()
	w.programsIPTables()
	before := w.configuration()
	w.shutDown()
	s.kubectl("delete", "node", "worker-0")
	w.startAgain()
	w.becomesReady(s)
	w.login(3 * time.Minute)
	w.isHealthy("enabled")
	if diff := cmp.Diff(before, w.configuration()); diff != "" {
		w.t.Errorf("the configuration changed with a reboot (-before +after):\n%s", diff)
	}
	if log := w.run("journalctl -b -u firstboot --no-pager -o cat"); strings.Contains(log, "wrote") {
		w.t.Errorf("firstboot wrote files after a reboot:\n%s", log)
	}
	for _, service := range []string{"containerd", "kubelet", "kube-proxy"} {
		// One start: no restart by firstboot, none after a failure.
		if starts := w.run(fmt.Sprintf("journalctl -b -u %s --no-pager -o cat | grep -c '^Started %s.service'", service, service)); starts != "1" {
			w.t.Errorf("%s was started %s times at this boot; want once", service, starts)
		}
	}
	w.programsIPTables()
}

// programsIPTables requires that kube-proxy wrote the rules of the API
// server's own service.
func (w *worker) programsIPTables() {
	w.t.Helper()
	w.eventually("iptables-save -t nat | grep -q 'KUBE-SVC-.*default/kubernetes:https'", time.Minute)
}

// eventually runs a command until it succeeds.
func (w *worker) eventually(command string, timeout time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(timeout); ; time.Sleep(time.Second) {
		out, err := w.try(command)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: %v within %v:\n%s", command, err, timeout, out)
		}
	}
}

// guardsMetadata looks from where pods are: a network namespace on the pods'
// bridge. HTTP to the metadata server is refused there, DNS answers, and the
// machine itself reaches it.
func (w *worker) guardsMetadata() {
	w.t.Helper()
	w.run(`set -e
		jq '.plugins[0] + {cniVersion, name}' /etc/cni/net.d/10-bridge.conflist >/run/bridge.conf
		ip netns add pod
		CNI_COMMAND=ADD CNI_CONTAINERID=guard CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/bridge </run/bridge.conf`)
	ask := "curl -sS -m 5 -o /dev/null -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/name"
	w.run(ask)
	if out, err := w.try("ip netns exec pod " + ask); err == nil {
		w.t.Error("a pod reads the metadata server; want it refused")
	} else {
		w.t.Logf("a pod that asks the metadata server: %s", out)
	}
	w.expect("ip netns exec pod ip link show eth0 | grep -o 'mtu 1460'", "mtu 1460")
	// A name server at the same address: it takes the pod's connection, and ends it
	// where nothing is asked.
	w.run("ip netns exec pod curl -sS -m 15 -o /dev/null telnet://169.254.169.254:53 </dev/null")
	w.run(`CNI_COMMAND=DEL CNI_CONTAINERID=guard CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/bridge </run/bridge.conf; ip netns delete pod`)
}

func (s *site) bootstrapToken() string {
	s.t.Helper()
	token, err := s.BootstrapToken(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// approveServing approves worker-0's request for a serving certificate, as an
// operator does who expects that worker.
func (s *site) approveServing(timeout time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(time.Second) {
		n, err := s.ApproveServing(s.t.Context(), "worker-0")
		if err != nil {
			s.t.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	s.t.Fatalf("no request for a serving certificate within %v", timeout)
}
