package vm

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/rfc1035label"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/nodebake/bake/bake/gce"
)

// serveDHCP starts the DHCP server. It knows the configured machines by their
// hardware addresses, and answers nobody else.
func (n *Network) serveDHCP() error {
	var queue waiter.Queue
	ep, tcpErr := n.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if tcpErr != nil {
		return errors.New(tcpErr.String())
	}
	ep.SocketOptions().SetBroadcast(true)
	if err := ep.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpv4.ServerPort}); err != nil {
		return errors.New(err.String())
	}
	server, err := server4.NewServer("", nil, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		if reply := n.answerDHCP(m); reply != nil {
			conn.WriteTo(reply.ToBytes(), peer) // a lost one is asked for again
		}
	}, server4.WithConn(gonet.NewUDPConn(&queue, ep)))
	if err != nil {
		return err
	}
	n.closers = append(n.closers, server.Close)
	go server.Serve()
	return nil
}

// answerDHCP returns what Compute Engine's server tells a machine, but for the
// time server, which there is none of; nil where it would say nothing.
func (n *Network) answerDHCP(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	var kind dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	default:
		return nil
	}
	addr, name, ok := n.machineWith(m.ClientHWAddr.String())
	if !ok {
		return nil
	}
	gateway := net.IP(n.gateway.AsSlice())
	metadata := net.ParseIP(gce.MetadataAddress)
	options := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(addr.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(metadata)),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(24 * time.Hour)),
		dhcpv4.WithOption(dhcpv4.OptSubnetMask(net.CIDRMask(32, 32))),
		dhcpv4.WithOption(dhcpv4.OptRouter(gateway)),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}, Router: net.IPv4zero},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: gateway},
		)),
		dhcpv4.WithOption(dhcpv4.OptDNS(metadata)),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(n.config.MTU)}),
		dhcpv4.WithOption(dhcpv4.OptHostName(name)),
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		options = append(options,
			dhcpv4.WithOption(dhcpv4.OptDomainName(domain)),
			dhcpv4.WithOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{domain, "google.internal"}})))
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, options...)
	if err != nil {
		return nil // no request
	}
	return reply
}

// machineWith returns the machine that has a hardware address.
func (n *Network) machineWith(mac string) (addr netip.Addr, name string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, name := range n.machines {
		if MAC(addr) == mac {
			return addr, name, true
		}
	}
	return netip.Addr{}, "", false
}
