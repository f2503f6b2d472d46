package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// hostDial connects as the control plane of this host.
func hostDial(n *Network, address string) dialFunc {
	return func(ctx context.Context) (net.Conn, error) { return n.Dial(ctx, address) }
}

// twoWorkers are machines with a pod each, and the routes to these.
func twoWorkers(t *testing.T, config NetworkConfig) (n *Network, workers [2]*guest, pods [2]netip.Addr) {
	t.Helper()
	a, b, machines := twoMachines()
	config.Machines = machines
	n = newNetwork(t, config)
	pods = [2]netip.Addr{netip.MustParseAddr("10.200.0.5"), netip.MustParseAddr("10.200.1.5")}
	for i, addr := range []netip.Addr{a, b} {
		workers[i] = newGuest(t, n, addr)
		workers[i].add(t, pods[i])
		workers[i].serve(t, addr, 80)
		workers[i].serve(t, pods[i], 80)
		if err := n.SetRoute(netip.PrefixFrom(pods[i], 24).Masked(), addr); err != nil {
			t.Fatal(err)
		}
		canIPForward(t, n, addr, true)
	}
	return n, workers, pods
}

func canIPForward(t *testing.T, n *Network, addr netip.Addr, on bool) {
	t.Helper()
	if err := n.SetCanIPForward(addr, on); err != nil {
		t.Fatal(err)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	workers[0].dialFrom(pods[0], "10.200.1.5:80").isSeen(t, "10.200.0.5")
	workers[1].dialFrom(pods[1], "10.200.0.5:80").isSeen(t, "10.200.1.5")
	workers[0].dialFrom(workers[0].addr, "10.200.1.5:80").isSeen(t, "10.240.0.20")
	workers[0].dialFrom(pods[0], "10.240.0.21:80").isSeen(t, "10.200.0.5")
	hostDial(n, "10.200.1.5:80").isSeen(t, Gateway)
	hostDial(n, "10.240.0.21:80").isSeen(t, Gateway)

	workers[0].dialFrom(pods[0], "10.200.7.5:80").isDropped(t)
	hostDial(n, "10.200.7.5:80").isDropped(t)
	workers[0].dialFrom(workers[0].addr, "10.240.0.99:80").isDropped(t)
	hostDial(n, "10.240.0.99:80").isDropped(t)
	if answered := pings(t, n, "10.200.7.5"); answered {
		t.Error("a ping to where no route leads is answered")
	}
	if answered := pings(t, n, Gateway); !answered {
		t.Error("a ping to the gateway is not answered")
	}
}

// pings sends a ping from a machine of its own, and reports whether it is answered.
func pings(t *testing.T, n *Network, to string) bool {
	t.Helper()
	addr := netip.MustParseAddr("10.240.0.30")
	if err := n.AddMachine("pinger", addr); err != nil {
		t.Fatal(err)
	}
	defer n.RemoveMachine(addr)
	p := linked(t, n, addr)
	n.receive(p, frame(p.mac, gatewayMAC, ipv4.ProtocolNumber, packet(addr.String(), to, header.ICMPv4ProtocolNumber, ping())))
	select {
	case <-p.out:
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

// TestCanIPForward takes it from the second worker, and then gives it back.
func TestCanIPForward(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	addr := workers[1].addr
	sends := workers[1].dialFrom(pods[1], "10.240.0.20:80")
	receives := workers[0].dialFrom(workers[0].addr, "10.200.1.5:80")
	sends.isSeen(t, "10.200.1.5")
	receives.isSeen(t, "10.240.0.20")
	hostDial(n, "10.200.1.5:80").isSeen(t, Gateway)

	canIPForward(t, n, addr, false)
	sends.isDropped(t)
	receives.isDropped(t)
	hostDial(n, "10.200.1.5:80").isDropped(t)
	workers[1].dialFrom(addr, "10.240.0.20:80").isSeen(t, addr.String())
	workers[0].dialFrom(pods[0], addr.String()+":80").isSeen(t, "10.200.0.5")
	workers[1].dialFrom(addr, "10.200.0.5:80").isSeen(t, addr.String())

	canIPForward(t, n, addr, true)
	sends.isSeen(t, "10.200.1.5")
	receives.isSeen(t, "10.240.0.20")
}

func TestRouteIsRemoved(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	dial := workers[0].dialFrom(pods[0], "10.200.1.5:80")
	dial.isSeen(t, "10.200.0.5")
	n.RemoveRoute(netip.MustParsePrefix("10.200.1.0/24"))
	dial.isDropped(t)
	hostDial(n, "10.200.1.5:80").isDropped(t)
	if err := n.SetRoute(netip.MustParsePrefix("10.200.1.0/24"), workers[1].addr); err != nil {
		t.Fatal(err)
	}
	dial.isSeen(t, "10.200.0.5")
	// A longer prefix leads to another machine, where that pod isn't.
	if err := n.SetRoute(netip.MustParsePrefix("10.200.1.4/30"), workers[0].addr); err != nil {
		t.Fatal(err)
	}
	hostDial(n, "10.200.1.5:80").isDropped(t)
}

func setRule(t *testing.T, n *Network, rule vpc.Rule) {
	t.Helper()
	if err := n.SetRule(rule); err != nil {
		t.Fatal(err)
	}
}

// TestFirewall gives a network without rules the guide's, and takes them away
// again while something is said.
func TestFirewall(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{})
	worker := workers[0].dialFrom(workers[0].addr, "10.240.0.21:80")
	pod := workers[0].dialFrom(pods[0], "10.200.1.5:80")
	host := hostDial(n, "10.240.0.21:80")
	for _, dial := range []dialFunc{worker, pod, host} {
		dial.isDropped(t)
	}
	if got, err := workers[0].lookup(t, "udp", "worker-1"); err != nil || got[0] != workers[1].addr {
		t.Errorf("without rules, a machine's name is %v, %v; want %s", got, err, workers[1].addr)
	}

	setRule(t, n, vpc.AllowInternal())
	for _, dial := range []struct {
		dialFunc
		from string
	}{{worker, "10.240.0.20"}, {pod, "10.200.0.5"}, {host, Gateway}} {
		conn := dial.isSeen(t, dial.from)
		n.RemoveRule(vpc.AllowInternal().Name)
		for range 2 { // what is under way goes on
			if _, err := io.WriteString(conn, "again\n"); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 6)
			if _, err := io.ReadFull(conn, line); err != nil || string(line) != "again\n" {
				t.Errorf("after the rule is gone, %q came back to %s, %v; want what was sent", line, dial.from, err)
			}
		}
		dial.isDropped(t)
		setRule(t, n, vpc.AllowInternal())
	}
	if got := n.Rules(); len(got) != 1 {
		t.Errorf("the rules are %v; want one", got)
	}
}

// TestProxy reaches a NodePort of the workers as curl -x does.
func TestProxy(t *testing.T) {
	t.Parallel()
	n, workers, _ := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal(), vpc.AllowExternal()}})
	workers[0].serve(t, workers[0].addr, 30080)
	workers[0].serve(t, workers[0].addr, 22)
	address, err := n.ListenProxy(0)
	if err != nil {
		t.Fatal(err)
	}
	if host, _, err := net.SplitHostPort(address); err != nil || host != "127.0.0.1" {
		t.Errorf("the proxy listens at %s; want the loopback", address)
	}
	outside := func(to string) dialFunc {
		return func(ctx context.Context) (net.Conn, error) { return n.DialOutside(ctx, to) }
	}
	proxied := func(to string) (string, error) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n")
		in := bufio.NewReader(conn)
		if r, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}); err != nil || r.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%v, %w", r, err)
		}
		return in.ReadString('\n')
	}

	outside("10.240.0.20:22").isSeen(t, Outside)
	outside("10.240.0.20:30080").isDropped(t)
	outside("10.200.0.5:80").isDropped(t)
	setRule(t, n, vpc.Rule{Name: "allow-nginx", Sources: vpc.AllowExternal().Sources, Allow: []vpc.Traffic{{Protocol: vpc.TCP, Port: 30080}}})
	outside("10.240.0.20:30080").isSeen(t, Outside)
	if got, err := proxied("10.240.0.20:30080"); got != Outside+"\n" {
		t.Errorf("by the proxy, the machine sees %q, %v; want %s", got, err, Outside)
	}
	setRule(t, n, vpc.AllowAll())
	outside("10.200.0.5:80").isDropped(t) // the internet has no route to it
	n.RemoveRule(vpc.AllowAll().Name)
	n.RemoveRule("allow-nginx")
	outside("10.240.0.20:30080").isDropped(t)

	if _, err := proxied("worker-0:22"); err == nil {
		t.Error("a name is connected to; want an error")
	}
	n.Close()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the proxy listens after the network's end")
	}
}

// TestAnswersNeedNoRule connects to the internet, of which a server of this host
// is a part, and to what the network serves.
func TestAnswersNeedNoRule(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{})
	n.dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			io.WriteString(far, "internet\n")
			far.Close()
		}()
		return near, nil
	}
	listener, err := n.Listen("storage.googleapis.com", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "storage\n")
			conn.Close()
		}
	}()
	n.ServeMetadata(workers[0].addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metadata") }))
	workers[0].dialFrom(workers[0].addr, "8.8.8.8:80").isSeen(t, "internet")
	workers[0].dialFrom(workers[0].addr, "192.0.2.1:80").isSeen(t, "storage")
	client := &http.Client{Transport: &http.Transport{DialContext: workers[0].dial}}
	if r, err := client.Get("http://" + gce.MetadataAddress + "/"); err != nil {
		t.Errorf("asking for metadata: %v", err)
	} else {
		r.Body.Close()
	}
	// What a pod sends is masqueraded, or lost.
	workers[0].dialFrom(pods[0], "8.8.8.8:80").isDropped(t)
	workers[0].dialFrom(pods[0], "192.0.2.1:80").isDropped(t)
	workers[0].dialFrom(pods[0], gce.MetadataAddress+":80").isDropped(t)
}

// TestMachineIsReplaced: another machine takes the address of one that is gone, or
// whose link has not ended yet. Routes lead to the new one.
func TestMachineIsReplaced(t *testing.T) {
	t.Parallel()
	n, workers, pods := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	addr := workers[1].addr
	old := workers[1].dialFrom(pods[1], "10.200.0.5:80")
	old.isSeen(t, "10.200.1.5")
	another := func() *guest {
		t.Helper()
		g := newGuest(t, n, addr)
		g.add(t, pods[1])
		g.serve(t, pods[1], 81)
		return g
	}

	replacement := another() // as with a machine that is started again
	workers[0].dialFrom(pods[0], "10.200.1.5:81").isSeen(t, "10.200.0.5")
	replacement.dialFrom(pods[1], "10.200.0.5:80").isSeen(t, "10.200.1.5")
	old.isDropped(t)

	n.RemoveMachine(addr)
	workers[0].dialFrom(pods[0], "10.200.1.5:81").isDropped(t)
	replacement.dialFrom(pods[1], "10.200.0.5:80").isDropped(t)
	if got, err := workers[0].lookup(t, "udp", "worker-1"); err == nil {
		t.Errorf("the name of a machine that is removed is %v; want none", got)
	}
	if err := n.AddMachine("worker-1", addr); err != nil {
		t.Fatal(err)
	}
	another()
	workers[0].dialFrom(pods[0], "10.200.1.5:81").isDropped(t) // may it forward?
	canIPForward(t, n, addr, true)
	workers[0].dialFrom(pods[0], "10.200.1.5:81").isSeen(t, "10.200.0.5")
	if got, err := workers[0].lookup(t, "udp", "worker-1"); err != nil || got[0] != addr {
		t.Errorf("the name of the new machine is %v, %v; want %s", got, err, addr)
	}
}

// TestConnectionsAreTheMachines: what the firewall let through to a machine before
// does not reach the one that is at its address now.
func TestConnectionsAreTheMachines(t *testing.T) {
	t.Parallel()
	n, workers, _ := twoWorkers(t, NetworkConfig{Rules: []vpc.Rule{vpc.AllowInternal()}})
	conn := workers[0].dialFrom(workers[0].addr, "10.240.0.21:80").isSeen(t, "10.240.0.20")
	n.RemoveRule(vpc.AllowInternal().Name)
	newGuest(t, n, workers[1].addr)
	if _, err := io.WriteString(conn, "still there?\n"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Second))
	_, err := conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("the new machine answers: %v; want that it is not asked", err)
	}
}

func TestAddMachineRefuses(t *testing.T) {
	t.Parallel()
	_, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines})
	for _, test := range []struct{ name, addr, want string }{
		{"worker-2", "10.240.0.20", "machine worker-2: its address 10.240.0.20 is another machine's"},
		{"worker-0", "10.240.0.22", "machine worker-0: the network has the name worker-0 already"},
		{"Worker-1.us-west1-c.c.example.internal", "10.240.0.22", "the network has the name worker-1 already"},
		{"metadata", "10.240.0.22", "the network has the name metadata already"},
		{"worker-2", "10.240.1.22", "is not one of 10.240.0.0/24"},
	} {
		if err := n.AddMachine(test.name, netip.MustParseAddr(test.addr)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("AddMachine(%s, %s) = %v; want an error with %q", test.name, test.addr, err, test.want)
		}
	}
	if err := n.AddMachine("worker-2", netip.MustParseAddr("10.240.0.22")); err != nil {
		t.Errorf("AddMachine after what was refused = %v; want success", err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if err := n.attach(t.Context(), theirs, netip.MustParseAddr("10.240.0.99")); err == nil {
		t.Error("a link of no machine is served")
	}
}
