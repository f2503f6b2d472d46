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
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm/vpc"
)

const worker0 = "worker-0.us-west1-c.c.example.internal"

func newNetwork(t *testing.T, config NetworkConfig) *Network {
	t.Helper()
	n, err := NewNetwork(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func twoMachines() (worker, other netip.Addr, machines map[string]netip.Addr) {
	worker, other = netip.MustParseAddr("10.240.0.20"), netip.MustParseAddr("10.240.0.21")
	return worker, other, map[string]netip.Addr{worker0: worker, "worker-1": other}
}

func TestNetworkRefuses(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]NetworkConfig{
		"MTU is 576 to 65535": {MTU: 100},
		"subnet has IPv4 addresses for a gateway and a machine, not 10.0.0.0/31": {Subnet: netip.MustParsePrefix("10.0.0.0/31")},
		"subnet has IPv4 addresses for a gateway and a machine, not fd00::/64":   {Subnet: netip.MustParsePrefix("fd00::/64")},
		"machine a: its address 10.1.2.1 is not":                                 {Subnet: netip.MustParsePrefix("10.1.2.0/24"), Machines: map[string]netip.Addr{"a": netip.MustParseAddr("10.1.2.1")}},
		"machine a: its address 10.240.1.1 is not":                               {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("10.240.1.1")}},
		"machine a: its address 10.240.0.1 is not":                               {Machines: map[string]netip.Addr{"a": netip.MustParseAddr(Gateway)}},
		"machine a: its address fd20:ce::254 is not":                             {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("fd20:ce::254")}},
		"a firewall rule needs a name":                                           {Rules: []vpc.Rule{{}}},
		"machine b: its address 10.240.0.9 is another":                           {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("10.240.0.9"), "b": netip.MustParseAddr("10.240.0.9")}},
	} {
		if _, err := NewNetwork(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewNetwork(%+v) = %v; want an error with %q", config, err, want)
		}
	}
}

// TestMetadataGoesByAddress asks the network's metadata server as two machines.
func TestMetadataGoesByAddress(t *testing.T) {
	t.Parallel()
	known, unknown, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines})
	n.ServeMetadata(known, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "yes") }))
	get := func(from netip.Addr) (string, error) {
		client := &http.Client{Transport: &http.Transport{DialContext: newGuest(t, n, from).dial}}
		r, err := client.Get("http://" + gce.MetadataAddress + "/")
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return string(body), err
	}
	if body, err := get(known); body != "yes" {
		t.Errorf("the machine with a server got %q, %v; want an answer", body, err)
	}
	if body, err := get(unknown); err == nil {
		t.Errorf("the machine without a server got %q; want a closed connection", body)
	}
}

// TestSilentQuestions: a connection to the name server on which nothing is asked
// ends soon, with and without the beginning of a question.
func TestSilentQuestions(t *testing.T) {
	t.Parallel()
	worker, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	g := newGuest(t, n, worker)
	for _, begin := range []string{"", "\x00\x40\x12"} {
		conn, err := g.dial(t.Context(), "tcp", gce.MetadataAddress+":53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("after %q the server sends %q, %v; want the end", begin, rest, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	worker, other, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	g := newGuest(t, n, worker)
	listener, err := n.Listen("SecretManager.googleapis.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if second, err := n.Listen("secretmanager.googleapis.com.", 80); err != nil {
		t.Errorf("listening at a second port: %v", err)
	} else {
		second.Close()
	}
	for _, transport := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			worker0:                        worker.String(),
			"worker-0":                     worker.String(),
			"Worker-1.":                    other.String(),
			"metadata.google.internal":     gce.MetadataAddress,
			"secretmanager.googleapis.com": "192.0.2.1",
			"storage.googleapis.com":       "",
			"worker-7":                     "",
			"worker-7.c.example.internal":  "",
		} {
			got, err := g.lookup(t, transport, name)
			var noHost *net.DNSError
			switch {
			case want == "" && !(errors.As(err, &noHost) && noHost.IsNotFound):
				t.Errorf("%s over %s = %v, %v; want that it is not found", name, transport, got, err)
			case want != "" && (err != nil || len(got) != 1 || got[0].String() != want):
				t.Errorf("%s over %s = %v, %v; want %s", name, transport, got, err, want)
			}
		}
	}
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			fmt.Fprintf(conn, "hello %s\n", conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	}()
	conn, err := g.dial(t.Context(), "tcp", "192.0.2.1:443")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello 10.240.0.20\n" {
		t.Errorf("at the name's address: %q, %v; want a greeting with the machine's address", line, err)
	}
}

// TestWhatLeavesTheNetwork listens on the host's loopback.
func TestWhatLeavesTheNetwork(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() }) // after the parallel ones
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	worker, _, machines := twoMachines()
	for _, test := range []struct {
		host     string
		loopback bool
		reached  bool
	}{
		{Gateway, true, true},
		{Gateway, false, false},
		{"127.0.0.1", true, false},
		{"0.0.0.0", true, false},
		{gce.MetadataAddress, true, false},
		{"192.0.2.77", true, false},
		{"10.240.0.99", true, false},
		{Outside, true, false},
	} {
		t.Run(fmt.Sprintf("%s with loopback %v", test.host, test.loopback), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, NetworkConfig{Machines: machines, HostLoopback: test.loopback, Rules: []vpc.Rule{vpc.AllowInternal()}})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if !test.reached { // some are dropped without an answer
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			conn, err := newGuest(t, n, worker).dial(ctx, "tcp", fmt.Sprintf("%s:%d", test.host, port))
			if (err == nil) != test.reached {
				t.Fatalf("connecting: %v; want success: %v", err, test.reached)
			}
			if err != nil {
				return
			}
			defer conn.Close()
			// A half-closed connection still brings the answer.
			go func() {
				io.WriteString(conn, strings.Repeat("x", 1<<20))
				conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			if got, err := io.ReadAll(conn); len(got) != 1<<20 || err != nil {
				t.Errorf("%d bytes came back, %v; want all", len(got), err)
			}
		})
	}
}

func TestOutside(t *testing.T) {
	t.Parallel()
	_, office, _ := net.ParseCIDR("203.0.113.0/28") // a LAN without private addresses
	hostAddrs := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(203, 0, 113, 5), Mask: office.Mask}, &net.IPNet{IP: net.IPv4(198, 51, 100, 9), Mask: net.CIDRMask(0, 32)}, &net.UnixAddr{}}, nil
	}
	for _, test := range []struct {
		to                 string
		internet, lan, off bool // by default, with LAN, isolated
	}{
		{"198.51.100.1", true, true, false},
		{"8.8.8.8", true, true, false},
		{"203.0.113.16", true, true, false},
		{"203.0.113.15", false, true, false},
		{"203.0.113.5", false, true, false},  // the host
		{"198.51.100.9", false, true, false}, // the host, and its network says nothing
		{"10.0.0.1", false, true, false},
		{"172.16.0.1", false, true, false},
		{"172.31.255.255", false, true, false},
		{"172.32.0.1", true, true, false},
		{"192.168.1.1", false, true, false},
		{"100.64.0.1", false, true, false},
		{"100.127.255.255", false, true, false},
		{"100.128.0.1", true, true, false},
		{"198.18.0.1", false, true, false},
		{"240.0.0.1", false, true, false},
		{"169.254.1.1", false, false, false},
		{gce.MetadataAddress, false, false, false}, // not that of a cloud that the host is in
		{"127.0.0.2", false, false, false},
		{"0.0.0.0", false, false, false},
		{"0.0.0.1", false, false, false},
		{"224.0.0.251", false, false, false},
		{"255.255.255.255", false, false, false},
		{"10.240.0.77", false, false, false},
		{"192.0.2.9", false, false, false},
		{Outside, false, false, false},
		{Gateway, false, false, false},
	} {
		ask := func(c NetworkConfig) bool {
			n := newNetwork(t, c)
			n.hostAddrs = hostAddrs
			_, ok := n.outside(fullAddress(netip.MustParseAddr(test.to), 0).Addr)
			return ok
		}
		got := [3]bool{ask(NetworkConfig{}), ask(NetworkConfig{LAN: true}), ask(NetworkConfig{Isolated: true, LAN: true})}
		if want := [3]bool{test.internet, test.lan, test.off}; got != want {
			t.Errorf("outside(%s) by default, with LAN and isolated = %v; want %v", test.to, got, want)
		}
	}
	n := &Network{hostAddrs: func() ([]net.Addr, error) { return nil, errors.New("no") }}
	if _, ok := n.outside(fullAddress(netip.MustParseAddr("8.8.8.8"), 0).Addr); ok {
		t.Error("outside(8.8.8.8) is allowed where the host's own addresses are unknown")
	}
	for addr, want := range map[string]bool{"fd20:ce::254": true, "fe80::1": true, "::1": true, "2001:4860:4860::8888": false} {
		if got := isPrivate(netip.MustParseAddr(addr)); got != want {
			t.Errorf("isPrivate(%s) = %v; want %v", addr, got, want)
		}
	}
}

// TestLANIsReachedOnlyWhenAsked: a server of this host stands for those that a
// machine connects to, which are reached or not by their addresses.
func TestLANIsReachedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	packets, err := net.ListenPacket("udp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			packets.WriteTo(buf[:n], from)
		}
	}()
	worker, _, machines := twoMachines()
	for _, test := range []struct {
		name    string
		config  NetworkConfig
		to      string
		reached bool
	}{
		{"internet", NetworkConfig{}, "198.51.100.7:80", true},
		{"LAN", NetworkConfig{}, "192.168.7.9:80", false},
		{"LAN when asked", NetworkConfig{LAN: true}, "192.168.7.9:80", true},
		{"internet when isolated", NetworkConfig{Isolated: true}, "198.51.100.7:80", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.config.Machines = machines
			n := newNetwork(t, test.config)
			var asked sync.Map
			n.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				asked.Store(network+" "+address, true)
				return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
			}
			g := newGuest(t, n, worker)
			var greeting []byte
			conn, err := g.dial(t.Context(), "tcp", test.to)
			if err == nil {
				greeting, err = io.ReadAll(conn)
				conn.Close()
			}
			if (err == nil && string(greeting) == "hello") != test.reached {
				t.Errorf("connecting: %q, %v; want success: %v", greeting, err, test.reached)
			}
			udp, err := g.dial(t.Context(), "udp", test.to)
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			for _, text := range []string{"one", "two"} {
				wait := 10 * time.Second
				if !test.reached {
					wait = 200 * time.Millisecond
				}
				udp.SetDeadline(time.Now().Add(wait))
				io.WriteString(udp, text)
				buf := make([]byte, 100)
				size, err := udp.Read(buf)
				if got := string(buf[:size]); (err == nil && got == text) != test.reached {
					t.Errorf("the answer to %q = %q, %v; want it back: %v", text, got, err, test.reached)
				}
			}
			for _, network := range []string{"tcp4 ", "udp4 "} {
				if _, ok := asked.Load(network + test.to); ok != test.reached {
					t.Errorf("the host was asked for %s%s: %v; want %v", network, test.to, ok, test.reached)
				}
			}
			// What the network serves itself is reached either way.
			if got, err := g.lookup(t, "udp", "metadata.google.internal"); err != nil || got[0].String() != gce.MetadataAddress {
				t.Errorf("the metadata server's name is %v, %v; want %s", got, err, gce.MetadataAddress)
			}
		})
	}
}

func TestFlowsAreBounded(t *testing.T) {
	t.Parallel()
	n := &Network{flows: make(chan struct{}, 2)}
	//lint:ignore SA4000 each call takes one more
	if !n.takeFlow() || !n.takeFlow() || n.takeFlow() {
		t.Error("not two flows were allowed of two")
	}
	if n.endFlow(); !n.takeFlow() {
		t.Error("a flow that ended left no room")
	}
}

// TestMachinesReachEachOther sends through the gateway, as a /32 does.
func TestMachinesReachEachOther(t *testing.T) {
	t.Parallel()
	a, b, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Rules: []vpc.Rule{vpc.AllowInternal()}})
	from, to := newGuest(t, n, a), newGuest(t, n, b)
	listener, err := (&Network{stack: to.stack}).listen(b, 10250)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			conn.Close()
		}
	}()
	conn, err := from.dial(t.Context(), "tcp", "10.240.0.21:10250")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != a.String() {
		t.Errorf("the other machine saw %q, %v; want %s", got, err, a)
	}
	// And the host reaches it.
	conn, err = n.Dial(t.Context(), "10.240.0.21:10250")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != Gateway {
		t.Errorf("the machine saw %q, %v; want the gateway", got, err)
	}
	// Others do by a port of the host.
	forwarded, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer forwarded.Close()
	go n.Forward(t.Context(), forwarded, "10.240.0.21:10250")
	if conn, err = net.Dial("tcp", forwarded.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != Gateway {
		t.Errorf("by the forwarded port the machine saw %q, %v; want the gateway", got, err)
	}
}

func TestDHCP(t *testing.T) {
	t.Parallel()
	worker, other, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, MTU: 1500})
	ask := func(addr netip.Addr) *dhcpv4.DHCPv4 {
		mac, err := net.ParseMAC(MAC(addr))
		if err != nil {
			t.Fatal(err)
		}
		m, err := dhcpv4.NewDiscovery(mac)
		if err != nil {
			t.Fatal(err)
		}
		return n.answerDHCP(m)
	}
	offer := ask(worker)
	if offer == nil {
		t.Fatal("a known machine got no offer")
	}
	mtu, _ := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, offer.Options)
	got := fmt.Sprintf("%s %s/%s via %s, DNS %s, MTU %d, %s, %s, search %s", offer.MessageType(), offer.YourIPAddr, net.IP(offer.SubnetMask()),
		offer.ClasslessStaticRoute(), offer.DNS(), mtu, offer.HostName(), offer.DomainName(), offer.DomainSearch())
	want := "OFFER 10.240.0.20/255.255.255.255 via [route to 10.240.0.1/32 via 0.0.0.0 route to 0.0.0.0/0 via 10.240.0.1], DNS [169.254.169.254], MTU 1500, " +
		worker0 + ", us-west1-c.c.example.internal, search [us-west1-c.c.example.internal google.internal]"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the offer differs (-want +got):\n%s", diff)
	}
	if offer := ask(other); offer == nil || offer.HostName() != "worker-1" || offer.DomainName() != "" {
		t.Errorf("the offer to a machine without a domain = %v", offer)
	}
	if offer := ask(netip.MustParseAddr("10.240.0.77")); offer != nil {
		t.Errorf("an unknown machine was offered %v", offer)
	}
}
