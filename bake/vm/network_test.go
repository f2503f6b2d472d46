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

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
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
		"MTU is 576 to 65535":                        {MTU: 100},
		"machine a: its address 10.240.1.1 is not":   {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("10.240.1.1")}},
		"machine a: its address 10.240.0.1 is not":   {Machines: map[string]netip.Addr{"a": netip.MustParseAddr(Gateway)}},
		"machine a: its address fd20:ce::254 is not": {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("fd20:ce::254")}},
		"have the same address 10.240.0.9":           {Machines: map[string]netip.Addr{"a": netip.MustParseAddr("10.240.0.9"), "b": netip.MustParseAddr("10.240.0.9")}},
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
		r, err := client.Get("http://" + MetadataAddress + "/")
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
			"metadata.google.internal":     MetadataAddress,
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
		{MetadataAddress, true, false},
		{"192.0.2.77", true, false},
		{"10.240.0.99", true, false},
	} {
		t.Run(fmt.Sprintf("%s with loopback %v", test.host, test.loopback), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, NetworkConfig{Machines: machines, HostLoopback: test.loopback})
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
	for _, test := range []struct {
		to       string
		isolated bool
		want     bool
	}{
		{"198.51.100.1", false, true},
		{"198.51.100.1", true, false},
		{"224.0.0.251", false, false},
		{"255.255.255.255", false, false},
		{"169.254.1.1", false, false},
	} {
		n := &Network{config: NetworkConfig{Isolated: test.isolated}}
		if _, got := n.outside(fullAddress(netip.MustParseAddr(test.to), 0).Addr); got != test.want {
			t.Errorf("outside(%s) where isolated is %v = %v; want %v", test.to, test.isolated, got, test.want)
		}
	}
}

// TestMachinesReachEachOther sends through the gateway, as a /32 does.
func TestMachinesReachEachOther(t *testing.T) {
	t.Parallel()
	a, b, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines})
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
	// The switch learns where a machine is from its first packet.
	if _, err := to.lookup(t, "udp", "worker-0"); err != nil {
		t.Fatal(err)
	}
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
