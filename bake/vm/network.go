// Package vm runs an image in QEMU: unprivileged, on a user-mode network of
// its own where the metadata server answers at 169.254.169.254, with the serial
// console as the only output. `bake run` and the tests under test/qemu use it.
//
// It does not emulate a cloud: no disks are attached or detached, no machine
// migrates, no time is served, and there is no IPv6, so that the metadata
// server's second address, fd20:ce::254, can't be tried. Only machines under
// Unix are supported: elsewhere the package compiles, and [FindTools] fails.
package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/nodebake/bake/bake/connect"
	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// Gateway is the gateway of a network that is not told its subnet and, with
// NetworkConfig.HostLoopback, the host's loopback there.
const Gateway = "10.240.0.1"

const (
	defaultSubnet = "10.240.0.0/24" // the guide's network

	// names are given addresses from here (TEST-NET-1, RFC 5737).
	virtualSubnet = "192.0.2.0/24"
)

// Outside is the address from which programs of this host come to machines as
// others do on the internet (of TEST-NET-3, RFC 5737).
const Outside = "203.0.113.254"

// NetworkConfig describes a network. The zero value is one without machines.
type NetworkConfig struct {
	MTU int // announced by DHCP; 1460 where 0

	// Subnet is of IPv4 addresses, 10.240.0.0/24 where zero. Its first address is
	// the gateway's.
	Subnet netip.Prefix

	// Machines maps a machine's host name to its address in the subnet. A
	// full name (worker-0.us-west1-c.c.example.internal) makes DHCP announce
	// its domain, and DNS know its first label as well.
	Machines map[string]netip.Addr

	// Rules say what machines receive unasked, of each other and of the host: with
	// none of them it is nothing.
	Rules []vpc.Rule

	// HostLoopback maps the gateway's address to the host's 127.0.0.1, so that
	// machines reach whatever listens there.
	HostLoopback bool

	// Isolated refuses what would leave the network: connections elsewhere,
	// and names that it does not know. Without it such connections are made
	// from the host, with the host's rights: machines reach the internet.
	Isolated bool

	// LAN lets machines reach more than the internet: private addresses, and
	// the networks that the host is on with its own addresses there, but not
	// its loopback.
	LAN bool
}

// Network is a private network with a gateway, DHCP, DNS and metadata servers,
// laid out as Compute Engine does it: a machine has its address as a /32 and
// reaches the others by the gateway. Machines come and go while it runs, and
// package vpc decides about their packets. The host is on it too, at the
// gateway's address, and reaches machines by [Network.Dial].
type Network struct {
	config    NetworkConfig
	gateway   netip.Addr
	mac       tcpip.LinkAddress // the gateway's
	stack     *stack.Stack
	endpoint  *channel.Endpoint // the stack's
	closers   []func() error
	hostAddrs func() ([]net.Addr, error)
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	now       func() time.Time
	flows     chan struct{} // holds one for each connection that leaves the network

	mu       sync.Mutex
	vpc      *vpc.Network
	machines map[netip.Addr]string   // full names
	ports    map[netip.Addr]*port    // of machines that run
	metadata map[string]http.Handler // by the machine's address
	names    map[string]netip.Addr   // lower case, without the last dot
	virtual  netip.Addr              // the next name's address
}

// NewNetwork starts a network.
func NewNetwork(config NetworkConfig) (*Network, error) {
	if config.MTU == 0 {
		config.MTU = gce.MTU
	}
	if config.MTU < 576 || config.MTU > 65535 {
		return nil, fmt.Errorf("a network's MTU is 576 to 65535, not %d", config.MTU)
	}
	if !config.Subnet.IsValid() {
		config.Subnet = netip.MustParsePrefix(defaultSubnet)
	}
	if !config.Subnet.Addr().Is4() || config.Subnet.Bits() > 30 {
		return nil, fmt.Errorf("a network's subnet has IPv4 addresses for a gateway and a machine, not %s", config.Subnet)
	}
	config.Subnet = config.Subnet.Masked()
	n := &Network{
		config:    config,
		gateway:   config.Subnet.Addr().Next(),
		hostAddrs: net.InterfaceAddrs,
		dial:      new(net.Dialer).DialContext,
		now:       time.Now,
		flows:     make(chan struct{}, maxFlows),

		vpc:      vpc.New(vpc.Config{Subnet: config.Subnet, Metadata: metadataAddress(), Served: served()}),
		machines: map[netip.Addr]string{},
		ports:    map[netip.Addr]*port{},
		metadata: map[string]http.Handler{},
		names:    map[string]netip.Addr{gce.MetadataHost: metadataAddress(), "metadata": metadataAddress()},
		virtual:  netip.MustParsePrefix(virtualSubnet).Addr(),
	}
	n.mac = linkAddress(n.gateway)
	for _, name := range slices.Sorted(maps.Keys(config.Machines)) {
		if err := n.AddMachine(name, config.Machines[name]); err != nil {
			return nil, err
		}
	}
	for _, rule := range config.Rules {
		if err := n.SetRule(rule); err != nil {
			return nil, err
		}
	}
	if err := n.start(); err != nil {
		n.Close()
		return nil, fmt.Errorf("starting the user-mode network: %w", err)
	}
	return n, nil
}

func (n *Network) start() error {
	if err := n.makeStack(); err != nil {
		return err
	}
	if err := n.serveDHCP(); err != nil {
		return fmt.Errorf("serving DHCP: %w", err)
	}
	// Compute Engine's is at the metadata server's address.
	if err := n.serveDNS(gce.MetadataAddress); err != nil {
		return fmt.Errorf("serving DNS: %w", err)
	}
	listener, err := n.listen(netip.MustParseAddr(gce.MetadataAddress), 80)
	if err != nil {
		return fmt.Errorf("listening for metadata requests: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(n.serveMetadata), ReadHeaderTimeout: time.Minute}
	n.closers = append(n.closers, server.Close)
	go server.Serve(listener)
	return nil
}

// Close stops the servers. Machines must have ended.
func (n *Network) Close() error {
	var errs []error
	for _, c := range n.closers {
		errs = append(errs, c())
	}
	n.closers = nil
	if n.stack != nil {
		n.stack.Close()
	}
	return errors.Join(errs...)
}

// MAC returns the hardware address of the machine at addr: 42:01 and the
// address, as Compute Engine forms it.
func MAC(addr netip.Addr) string {
	b := addr.As4()
	return fmt.Sprintf("42:01:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// ServeMetadata lets handler answer the metadata requests of the machine at
// addr. A nil handler closes its connections, as if there were no server.
func (n *Network) ServeMetadata(addr netip.Addr, handler http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.metadata[addr.String()] = handler
}

func (n *Network) serveMetadata(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	n.mu.Lock()
	handler := n.metadata[host]
	n.mu.Unlock()
	if handler == nil {
		panic(http.ErrAbortHandler) // a reset, not an answer
	}
	handler.ServeHTTP(w, r)
}

// Dial opens a TCP connection to a machine, "10.240.0.20:22", or to what a route
// leads to, from the gateway's address: a control plane of this host is a machine
// of the network, under its firewall rules. What they don't allow is not answered.
func (n *Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("connecting to a machine: %w", err)
	}
	return gonet.DialContextTCP(ctx, n.stack, fullAddress(ap.Addr(), int(ap.Port())), ipv4.ProtocolNumber)
}

// DialOutside opens a TCP connection to a machine as somebody on the internet does:
// from the address [Outside], for which the guide's allow-internal does nothing,
// and without routes to pods.
func (n *Network) DialOutside(ctx context.Context, address string) (net.Conn, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("connecting to a machine: %w", err)
	}
	from := fullAddress(netip.MustParseAddr(Outside), 0)
	return gonet.DialTCPWithBind(ctx, n.stack, from, fullAddress(ap.Addr(), int(ap.Port())), ipv4.ProtocolNumber)
}

// ListenProxy serves an HTTP proxy at a port of this host's loopback, 0 for one
// that is free, until Close. It connects by DialOutside. It returns its address,
// "127.0.0.1:3128".
func (n *Network) ListenProxy(port int) (address string, err error) {
	proxy, err := connect.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), n.DialOutside)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, func() error { proxy.Close(); return nil })
	return proxy.Addr().String(), nil
}

// Forward connects whoever comes to l, a listener of the host's, with a TCP port
// of a machine, "10.240.0.20:22". It returns when l is closed.
func (n *Network) Forward(ctx context.Context, l net.Listener, address string) error {
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			ctx, cancel := context.WithTimeout(ctx, dialTime)
			defer cancel()
			out, err := n.Dial(ctx, address)
			if err != nil {
				in.Close() // as a machine does where nothing listens
				return
			}
			join(in, out)
		}()
	}
}

// Listen accepts TCP connections that machines make to a DNS name, such as
// secretmanager.googleapis.com. The name gets an address of its own at the
// first call; the same name may be listened to on several ports. TLS is the
// caller's.
func (n *Network) Listen(name string, port int) (net.Listener, error) {
	addr, err := n.addressOf(canonical(name))
	if err != nil {
		return nil, err
	}
	l, err := n.listen(addr, port)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", net.JoinHostPort(name, strconv.Itoa(port)), err)
	}
	return l, nil
}

func (n *Network) addressOf(name string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr, ok := n.names[name]; ok {
		return addr, nil
	}
	next := n.virtual.Next()
	if !netip.MustParsePrefix(virtualSubnet).Contains(next) {
		return netip.Addr{}, fmt.Errorf("no address is left for %s in %s", name, virtualSubnet)
	}
	n.virtual, n.names[name] = next, next
	return next, nil
}

func (n *Network) listen(addr netip.Addr, port int) (net.Listener, error) {
	return gonet.ListenTCP(n.stack, fullAddress(addr, port), ipv4.ProtocolNumber)
}

func fullAddress(addr netip.Addr, port int) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(addr.As4()), Port: uint16(port)}
}
