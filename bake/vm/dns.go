package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	// maxQuestions bounds how many questions are being answered, each of which
	// may ask a server of the host's. Others are not heard.
	maxQuestions = 128
	questionTime = 10 * time.Second
	silentTime   = 2 * time.Second // how long a connection may be silent (RFC 7766, section 6.2.3: a few seconds)

	// Sizes of a message: at most over UDP where nobody says more (RFC 1035
	// section 2.3.4), what we take (RFC 9715), and what is possible over TCP.
	minMessage = 512
	udpMessage = 1232
	maxMessage = 65535
)

// serveDNS starts a DNS server, UDP and TCP, at an address.
func (n *Network) serveDNS(address string) error {
	at := fullAddress(netip.MustParseAddr(address), 53)
	conn, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, conn.Close)
	listener, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, listener.Close)
	busy := make(chan struct{}, maxQuestions)
	take := func(answer func()) bool {
		select {
		case busy <- struct{}{}:
			go func() {
				defer func() { <-busy }()
				answer()
			}()
			return true
		default:
			return false
		}
	}
	go func() {
		buf := make([]byte, maxMessage)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			question := append([]byte(nil), buf[:size]...)
			take(func() {
				if answer := n.answerDNS(question, minMessage); answer != nil {
					conn.WriteTo(answer, from)
				}
			})
		}
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if !take(func() { n.serveDNSOverTCP(conn) }) {
				conn.Close()
			}
		}
	}()
	return nil
}

// serveDNSOverTCP answers what comes over one connection (RFC 1035 section 4.2.2).
func (n *Network) serveDNSOverTCP(conn net.Conn) {
	defer conn.Close()
	for {
		conn.SetReadDeadline(time.Now().Add(silentTime))
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		answer := n.answerDNS(question, maxMessage)
		if answer == nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(questionTime))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answerDNS returns the answer to a message: nil where it is no question, and
// without its records where they are more than limit bytes.
func (n *Network) answerDNS(message []byte, limit int) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.Response {
		return nil
	}
	reply := dnsmessage.Header{ID: header.ID, Response: true, OpCode: header.OpCode, RecursionDesired: header.RecursionDesired, RecursionAvailable: true}
	question, err := p.Question()
	if err != nil || header.OpCode != 0 {
		reply.RCode = dnsmessage.RCodeFormatError
		if header.OpCode != 0 {
			reply.RCode = dnsmessage.RCodeNotImplemented
		}
		return buildDNS(reply, nil, nil, false)
	}
	size, extended := extension(&p)
	if limit < maxMessage && size > limit {
		limit = min(size, udpMessage)
	}
	ctx, cancel := context.WithTimeout(context.Background(), questionTime)
	defer cancel()
	records, err := n.records(ctx, question)
	var dnsError *net.DNSError
	switch {
	case errors.As(err, &dnsError) && dnsError.IsNotFound:
		reply.RCode = dnsmessage.RCodeNameError
	case err != nil:
		reply.RCode = dnsmessage.RCodeServerFailure
	}
	return fitDNS(reply, &question, records, extended, limit)
}

// fitDNS builds an answer without its records where it would be longer than limit.
func fitDNS(header dnsmessage.Header, question *dnsmessage.Question, records []dnsmessage.ResourceBody, extended bool, limit int) []byte {
	answer := buildDNS(header, question, records, extended)
	if len(answer) > limit {
		header.Truncated = true
		answer = buildDNS(header, question, nil, extended)
	}
	return answer
}

// extension returns the size of messages that the asker takes over UDP, where
// it says so (EDNS, RFC 6891 section 6.1). What can't be read says nothing.
func extension(p *dnsmessage.Parser) (size int, ok bool) {
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 0, false
	}
	for {
		header, err := p.AdditionalHeader()
		if err != nil {
			return 0, false
		}
		if header.Type == dnsmessage.TypeOPT {
			return int(header.Class), true
		}
		if p.SkipAdditional() != nil {
			return 0, false
		}
	}
}

// buildDNS returns nil where a record can't be encoded, because a name in it is
// no DNS name.
func buildDNS(header dnsmessage.Header, question *dnsmessage.Question, records []dnsmessage.ResourceBody, extended bool) []byte {
	m := dnsmessage.Message{Header: header}
	if question != nil {
		m.Questions = []dnsmessage.Question{*question}
		for _, body := range records {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}, Body: body})
		}
	}
	if extended {
		var h dnsmessage.ResourceHeader
		if h.SetEDNS0(udpMessage, dnsmessage.RCodeSuccess, false) == nil {
			m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
		}
	}
	data, err := m.Pack()
	if err != nil {
		return nil
	}
	return data
}

// records answers a question: from the network's own names, then from the
// host's resolver. A name that has no record of the kind has no records.
func (n *Network) records(ctx context.Context, q dnsmessage.Question) ([]dnsmessage.ResourceBody, error) {
	host := q.Name.String()
	name := canonical(host)
	n.mu.Lock()
	addr, ours := n.names[name]
	n.mu.Unlock()
	switch {
	case ours && q.Type == dnsmessage.TypeA:
		return []dnsmessage.ResourceBody{&dnsmessage.AResource{A: addr.As4()}}, nil
	case ours:
		return nil, nil
	case n.config.Isolated || strings.HasSuffix(name, ".internal") || !strings.Contains(name, "."):
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return lookup(ctx, host, q.Type)
}

// lookup asks the host's resolver, for those types that Go's has.
func lookup(ctx context.Context, host string, kind dnsmessage.Type) ([]dnsmessage.ResourceBody, error) {
	var r net.Resolver
	var records []dnsmessage.ResourceBody
	add := func(name string, body func(dnsmessage.Name) dnsmessage.ResourceBody) {
		if n, err := dnsmessage.NewName(name); err == nil {
			records = append(records, body(n))
		}
	}
	switch kind {
	case dnsmessage.TypeA:
		addrs, err := r.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			if addr = addr.Unmap(); addr.Is4() {
				records = append(records, &dnsmessage.AResource{A: addr.As4()})
			}
		}
	case dnsmessage.TypeCNAME:
		name, err := r.LookupCNAME(ctx, host)
		if err != nil {
			return nil, err
		}
		add(name, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.CNAMEResource{CNAME: n} })
	case dnsmessage.TypeMX:
		list, err := r.LookupMX(ctx, host)
		if err != nil {
			return nil, err
		}
		for _, mx := range list {
			add(mx.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.MXResource{Pref: mx.Pref, MX: n} })
		}
	case dnsmessage.TypeNS:
		list, err := r.LookupNS(ctx, host)
		if err != nil {
			return nil, err
		}
		for _, ns := range list {
			add(ns.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.NSResource{NS: n} })
		}
	case dnsmessage.TypeSRV:
		_, list, err := r.LookupSRV(ctx, "", "", host)
		if err != nil {
			return nil, err
		}
		for _, srv := range list {
			add(srv.Target, func(n dnsmessage.Name) dnsmessage.ResourceBody {
				return &dnsmessage.SRVResource{Priority: srv.Priority, Weight: srv.Weight, Port: srv.Port, Target: n}
			})
		}
	case dnsmessage.TypeTXT:
		list, err := r.LookupTXT(ctx, host)
		if err != nil {
			return nil, err
		}
		for _, text := range list {
			var parts []string
			for len(text) > 255 { // RFC 1035 section 3.3.14
				parts, text = append(parts, text[:255]), text[255:]
			}
			records = append(records, &dnsmessage.TXTResource{TXT: append(parts, text)})
		}
	}
	return records, nil
}

// canonical is how names are compared.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
