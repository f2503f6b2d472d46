package services

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
)

// quietConn is a D-Bus connection without signals. systemd sends every signal to
// everyone on its private socket, hundreds in a second while the machine
// starts, and decoding those that nobody asked for took three quarters of
// firstboot's processor time. They are passed over here unread.
type quietConn struct {
	net.Conn
	in       *bufio.Reader
	messages bool // the authentication, which is lines of text, is over
	left     int  // bytes of the message that is being passed on
}

func newQuietConn(conn net.Conn) *quietConn {
	return &quietConn{Conn: conn, in: bufio.NewReader(conn)}
}

// Write looks for the client's last line of authentication, after which the
// other side sends messages (D-Bus Specification, "Authentication Protocol").
func (c *quietConn) Write(p []byte) (int, error) {
	if !c.messages && bytes.HasSuffix(p, []byte("BEGIN\r\n")) {
		c.messages = true
	}
	return c.Conn.Write(p)
}

// The part of a message's header that has a fixed size, and what is in it
// (D-Bus Specification, "Message Format").
const (
	fixedHeader = 16
	signalType  = 4
	maxMessage  = 128 << 20 // bytes, header included
)

func (c *quietConn) Read(p []byte) (int, error) {
	if !c.messages {
		return c.in.Read(p)
	}
	for c.left == 0 {
		header, err := c.in.Peek(fixedHeader)
		if err != nil {
			return 0, err
		}
		var order binary.ByteOrder = binary.LittleEndian
		if header[0] == 'B' {
			order = binary.BigEndian
		}
		body, fields := uint64(order.Uint32(header[4:])), uint64(order.Uint32(header[12:]))
		length := fixedHeader + (fields+7)/8*8 + body
		if length > maxMessage {
			return 0, fmt.Errorf("reading from systemd: a message of %d bytes; D-Bus allows %d", length, maxMessage)
		}
		if header[1] != signalType {
			c.left = int(length)
		} else if _, err := c.in.Discard(int(length)); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
