package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func question(t testing.TB, name string, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if change != nil {
		change(&m)
	}
	data, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func extend(m *dnsmessage.Message) {
	var h dnsmessage.ResourceHeader
	h.SetEDNS0(4096, dnsmessage.RCodeSuccess, false)
	m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
}

func TestAnswerDNS(t *testing.T) {
	t.Parallel()
	_, _, machines := twoMachines()
	n := newNetwork(t, NetworkConfig{Machines: machines, Isolated: true})
	for _, test := range []struct {
		name     string
		question []byte
		want     string
	}{
		{"a machine", question(t, "worker-1.", dnsmessage.TypeA, nil), "RCodeSuccess [[10 240 0 21]] 0"},
		{"with EDNS", question(t, "worker-1.", dnsmessage.TypeA, extend), "RCodeSuccess [[10 240 0 21]] 1"},
		{"its IPv6 address", question(t, "worker-1.", dnsmessage.TypeAAAA, nil), "RCodeSuccess [] 0"},
		{"unknown", question(t, "worker-2.", dnsmessage.TypeA, nil), "RCodeNameError [] 0"},
		{"unknown mail server", question(t, "example.com.", dnsmessage.TypeMX, nil), "RCodeNameError [] 0"},
		{"an update", question(t, "worker-1.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 5 }), "RCodeNotImplemented [] 0"},
		{"no question", question(t, "worker-1.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }), "RCodeFormatError [] 0"},
		{"an answer", question(t, "worker-1.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Response = true }), "none"},
		{"half a header", []byte{0, 1, 0}, "none"},
	} {
		got := "none"
		if data := n.answerDNS(test.question, minMessage); data != nil {
			var m dnsmessage.Message
			if err := m.Unpack(data); err != nil || m.ID != 7 || !m.Response {
				t.Errorf("%s: the answer is %+v, %v", test.name, m, err)
			}
			addrs := []any{}
			for _, a := range m.Answers {
				addrs = append(addrs, a.Body.(*dnsmessage.AResource).A)
			}
			got = fmt.Sprint(m.RCode, " ", addrs, " ", len(m.Additionals))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: the answer differs (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestLongAnswersAreCut: who gets none of the records asks over TCP.
func TestLongAnswersAreCut(t *testing.T) {
	t.Parallel()
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}
	text := &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 255), strings.Repeat("y", 255), strings.Repeat("z", 255)}}
	for limit, want := range map[int]bool{minMessage: true, udpMessage: false} {
		data := fitDNS(dnsmessage.Header{Response: true}, &q, []dnsmessage.ResourceBody{text}, false, limit)
		var m dnsmessage.Message
		if err := m.Unpack(data); err != nil || m.Truncated != want || (len(m.Answers) == 0) != want || len(data) > limit {
			t.Errorf("with at most %d bytes: %d bytes, %d records, truncated %v, %v; want truncated %v", limit, len(data), len(m.Answers), m.Truncated, err, want)
		}
	}
}

func FuzzAnswerDNS(f *testing.F) {
	f.Add(question(f, "worker-1.", dnsmessage.TypeA, nil), false)
	f.Add(question(f, "worker-1.", dnsmessage.TypeTXT, extend), true)
	f.Add([]byte{}, false)
	_, _, machines := twoMachines()
	n, err := NewNetwork(NetworkConfig{Machines: machines, Isolated: true})
	if err != nil {
		f.Fatal(err)
	}
	defer n.Close()
	f.Fuzz(func(t *testing.T, message []byte, tcp bool) {
		limit := minMessage
		if tcp {
			limit = maxMessage
		}
		answer := n.answerDNS(message, limit)
		if answer == nil {
			return
		}
		if len(answer) > max(limit, udpMessage) {
			t.Errorf("the answer to %x has %d bytes; want at most %d", message, len(answer), limit)
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response {
			t.Errorf("the answer to %x is %x: %v", message, answer, err)
		}
	})
}
