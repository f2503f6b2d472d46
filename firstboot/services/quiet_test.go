package services

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// message encodes one with godbus.
func message(t *testing.T, kind dbus.Type, body string) []byte {
	t.Helper()
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf("")),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/example")),
		dbus.FieldInterface:   dbus.MakeVariant("org.example"),
		dbus.FieldMember:      dbus.MakeVariant("Said"),
		dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)),
	}, Body: []any{body}}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	// A serial is what a connection gives: any but 0.
	raw := b.Bytes()
	binary.LittleEndian.PutUint32(raw[8:], 7)
	return raw
}

// TestQuietConn passes signals over, wherever they stand and however reads are
// cut, and changes nothing else.
func TestQuietConn(t *testing.T) {
	t.Parallel()
	signal := message(t, dbus.TypeSignal, strings.Repeat("s", 5000))
	first, second := message(t, dbus.TypeMethodReply, "one"), message(t, dbus.TypeMethodReply, strings.Repeat("two", 3000))
	const auth = "OK 0123\r\n"
	for _, size := range []int{1, 16, 17, 4096, 1 << 20} {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			io.WriteString(there, auth)
			io.ReadFull(there, make([]byte, len("BEGIN\r\n")))
			for _, m := range [][]byte{signal, first, signal, signal, second, signal} {
				there.Write(m)
			}
		}()
		c := newQuietConn(here)
		line := make([]byte, len(auth))
		if _, err := io.ReadFull(c, line); err != nil || string(line) != auth {
			t.Fatalf("reading the authentication: %q, %v; want %q", line, err, auth)
		}
		io.WriteString(c, "BEGIN\r\n")
		var got bytes.Buffer
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{c}, make([]byte, size)); err != nil {
			t.Fatalf("reads of %d bytes: %v", size, err)
		}
		if want := append(bytes.Clone(first), second...); !bytes.Equal(got.Bytes(), want) {
			t.Errorf("reads of %d bytes: got %d bytes; want the two replies, %d bytes", size, got.Len(), len(want))
		}
	}
}

func TestQuietConnRefusesMessagesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"l\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\x00\x00\x00\x00", "B\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff"} {
		here, there := net.Pipe()
		go func() {
			io.ReadFull(there, make([]byte, len("BEGIN\r\n")))
			io.WriteString(there, header)
		}()
		c := newQuietConn(here)
		io.WriteString(c, "BEGIN\r\n")
		if n, err := c.Read(make([]byte, 64)); err == nil || !strings.Contains(err.Error(), "D-Bus allows") {
			t.Errorf("Read of a header with too large a length = %d, %v; want an error", n, err)
		}
		here.Close()
		there.Close()
	}
}
