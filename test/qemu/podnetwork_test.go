//go:build system

package qemu

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/bake/vm/vpc"
	"github.com/nodebake/bake/test/cluster"
)

// podNetwork are the objects of TestPodNetwork: CoreDNS with a port of the host's
// and behind a Service of which it is the only endpoint.
func podNetwork(reference string) string {
	pod := strings.Replace(corednsPod(reference), "    readinessProbe:", "    ports: [{containerPort: 8080, hostPort: 8081}]\n    readinessProbe:", 1)
	pod = strings.Replace(pod, "metadata: {name: coredns, namespace: default}\nspec:\n  auto", "metadata: {name: coredns, namespace: default, labels: {app: coredns}}\nspec:\n  auto", 1)
	return pod + `---
apiVersion: v1
kind: Service
metadata: {name: health, namespace: default}
spec:
  selector: {app: coredns}
  clusterIP: 10.32.0.80
  ports: [{port: 80, targetPort: 8080}]
`
}

// TestPodNetwork asks from where a pod is, and for it, in every way that a pod's
// network has: its own Service, a port of the host's, what is outside; and what
// it must not have: other addresses than its own, the metadata server.
func TestPodNetwork(t *testing.T) {
	host := theHost(t)
	s := newSite(t, cluster.Current)
	if err := s.Apply(t.Context(), podNetwork(preloadedImage(t, recordOf(t, host), "coredns").Reference)); err != nil {
		t.Fatal(err)
	}
	listener, err := s.network.Listen(knownName, 80)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.RemoteAddr, ":")
		io.WriteString(w, host)
	})}
	t.Cleanup(func() { server.Close() })
	go server.Serve(listener)
	w := boot(t, options{host: host, network: s.network, attributes: s.guideAttributes()})
	w.becomesReady(s)
	s.kubectl("wait", "--for=condition=Ready", "--timeout=5m", "pod/coredns")
	w.login(3 * time.Minute)

	// curl is the node's, in the pod's namespace.
	inPod := "ip netns exec $(ip netns list | sed -n 's/^\\(cni-[^ ]*\\).*/\\1/p') "
	w.expect("ip netns list | grep -c ^cni-", "1")
	pod := s.kubectl("get", "pod", "coredns", "-o", "jsonpath={.status.podIP}")
	w.eventually(inPod+"curl -sS -m 5 http://10.32.0.80/health", time.Minute)
	w.expect(inPod+"curl -sS -m 5 http://10.32.0.80/health", "OK")
	w.expect("curl -sS -m 5 http://"+workerAddress.String()+":8081/health", "OK")
	if !w.isOpen(8081) {
		t.Errorf("nobody answers at %s:8081, the pod's hostPort", workerAddress)
	}

	outside := fmt.Sprintf("$(getent ahostsv4 %s | awk '{print $1; exit}')", knownName)
	w.expect(inPod+"curl -sS -m 5 http://"+outside+"/", workerAddress.String())
	w.run(inPod + "ip addr add 8.8.4.4/32 dev lo")
	for _, from := range []string{pod, "8.8.4.4"} {
		out, err := w.try(inPod + "curl -sS -m 3 -o /dev/null --interface " + from + " http://" + outside + "/")
		if (err == nil) != (from == pod) {
			t.Errorf("a pod at %s that sends from %s: %v: %s", pod, from, err, out)
		}
	}
	for key, want := range map[string]string{"all": "0", "cnio0": "1", w.card(workerAddress): "2"} {
		w.expect("sysctl -n net.ipv4.conf."+key+".rp_filter", want)
	}

	for _, how := range []string{"true", "systemctl start nftables", "systemctl reload nftables", "systemctl stop nftables", "nft -f /etc/nftables.conf"} {
		w.run(how)
		w.expect(inPod+askMetadata, notConnected)
		w.expect(inPod+"curl -sS -m 5 http://"+outside+"/", workerAddress.String())
	}
	save(t, "ruleset", w.run("nft list ruleset"))
	w.nodeMayAsk()
	w.shutDown()
}

// askMetadata prints how curl ends that asks for metadata.
const askMetadata = "curl -s -m 5 -o /dev/null -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/name; echo $?"

// notConnected is curl's exit status where it is refused; it has another where
// nobody answers.
const notConnected = "7"

// nodeMayAsk asks the metadata server's address on the machine itself: root for
// metadata, others for names and leases alone.
func (w *worker) nodeMayAsk() {
	w.t.Helper()
	w.expect(askMetadata, "0")
	w.expect("setpriv --reuid nobody --clear-groups "+askMetadata, notConnected)
	w.run("resolvectl flush-caches")
	w.run("setpriv --reuid nobody --clear-groups getent ahostsv4 " + knownName)
	// What was leased is asked for again, by networkd's user, of the server at that
	// address, which answers.
	w.run(`nft 'table inet seen {
  chain output { type filter hook output priority 0; ip daddr 169.254.169.254 udp dport 67 counter; }
  chain input { type filter hook input priority 0; udp sport 67 counter; }
}'`)
	w.run("networkctl renew " + w.card(workerAddress))
	w.eventually("test $(nft list table inet seen | grep -c 'counter packets [1-9]') -eq 2", time.Minute)
	w.run("nft delete table inet seen")
	// chrony runs as a user of its own. Nobody serves time on this network: that
	// its packets leave is seen in the counters of its source.
	w.expect("ps -o user= -C chronyd | sort -u", "_chrony")
	w.eventually("chronyc -n ntpdata 169.254.169.254 | grep -Eq '^Total TX +: [1-9]'", 2*time.Minute)
}

// card is the machine's name of the network card that has an address.
func (w *worker) card(address netip.Addr) string {
	w.t.Helper()
	return w.run("ip -4 -o addr show to " + address.String() + " | awk '{print $2}'")
}

// TestTwoCards boots with a second network card, in a subnet of its own, and asks
// for the machine in both.
func TestTwoCards(t *testing.T) {
	second := netip.MustParseAddr("10.241.0.20")
	network, err := vm.NewNetwork(vm.NetworkConfig{
		Subnet: netip.MustParsePrefix("10.241.0.0/24"), Machines: map[string]netip.Addr{workerName: second}, Isolated: true,
		Rules: []vpc.Rule{vpc.AllowAll()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	w := boot(t, options{more: []vm.NIC{{Network: network, Address: second}}})
	network.ServeMetadata(second, w.metadata)
	w.login(3 * time.Minute)
	w.eventually("ip -4 -o addr | grep -q 'inet "+second.String()+"/32'", time.Minute)
	w.expect("sysctl -n net.ipv4.conf."+w.card(second)+".rp_filter", "2")
	for _, at := range []struct {
		network *vm.Network
		address netip.Addr
	}{{w.network, workerAddress}, {network, second}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		conn, err := at.network.Dial(ctx, netip.AddrPortFrom(at.address, 22).String())
		cancel()
		if err != nil {
			t.Errorf("nobody answers at %s: %v\n%s", at.address, err, w.run("ip route; ip -br addr"))
			continue
		}
		conn.Close()
	}
	w.shutDown()
}
