package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Accel is how QEMU runs the guest's code.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

// Disk is a disk image file attached to a machine, which writes to it: give
// each machine an overlay of its own (see [Tools.Overlay]).
type Disk struct {
	Path   string
	File   *os.File // if not nil, what QEMU is given for Path, which may be another file by then
	Format string   // "raw" or "qcow2"
	Bus    Bus
	Boot   bool // the firmware tries this one first
}

// Config describes a machine. Name, Disks and Accel are required.
type Config struct {
	Name       string
	Disks      []Disk
	Accel      Accel
	SecureBoot bool // enforcing, with Microsoft's keys; else firmware without Secure Boot
	CPUs       int  // 2 where 0
	MemoryMiB  int  // 2048 where 0
	Network    *Network
	Address    netip.Addr // on Network
	More       []NIC      // further network cards
	SMBIOS     []string   // type 11 strings, such as "io.systemd.credential:NAME=VALUE"
	NoReboot   bool       // a reboot, also by Reset, ends the machine
	RTC        time.Time  // what the machine's clock shows at its start; zero: the host's time
	Console    io.Writer  // a copy of the serial port; may be nil

	// CountInstructions makes the guest's clocks count instructions: 1 ns each,
	// and real time only while all processors are idle. Such a machine is one of
	// 1 GIPS, shared by its processors, whatever the host: times that the guest
	// takes of itself can be compared. It takes TCG, and about nine times as long.
	// The time stamp counter is the nanoseconds since power on.
	CountInstructions bool
}

// NIC is a network card.
type NIC struct {
	Network *Network
	Address netip.Addr // on Network
}

// nics returns the machine's network cards, the first one first.
func (c *Config) nics() []NIC {
	if c.Network == nil {
		return c.More
	}
	return append([]NIC{{c.Network, c.Address}}, c.More...)
}

// Machine is a running virtual machine.
type Machine struct {
	Console *Console
	Started time.Time

	config Config
	tools  Tools
	temp   *TempDir
	dir    string     // its path: sockets and firmware variables; removed at the end
	files  []*os.File // that QEMU inherits, from descriptor 3 on
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	done   chan struct{} // closed when QEMU has ended
	err    error         // QEMU's, valid after done
	stderr strings.Builder
}

// Start starts a machine. It ends when ctx does, at the latest.
func (t Tools) Start(ctx context.Context, config Config) (*Machine, error) {
	if config.CPUs == 0 {
		config.CPUs = 2
	}
	if config.MemoryMiB == 0 {
		config.MemoryMiB = 2048
	}
	temp, err := MakeTempDir()
	if err != nil {
		return nil, fmt.Errorf("making the machine's directory: %w", err)
	}
	m := &Machine{config: config, tools: t, temp: temp, dir: temp.Path, done: make(chan struct{}), Console: newConsole(time.Now, config.Console)}
	if err := m.start(ctx); err != nil {
		temp.Remove()
		return nil, fmt.Errorf("starting machine %s: %w", config.Name, err)
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context) error {
	args, err := m.args()
	if err != nil {
		return err
	}
	netCtx, stopNet := context.WithCancel(ctx)
	for i, nic := range m.config.nics() {
		if !nic.Network.hasMachine(nic.Address) {
			stopNet()
			return fmt.Errorf("its network has no machine at %s", nic.Address)
		}
		listener, err := net.Listen("unix", m.link(i))
		if err != nil {
			stopNet()
			return err
		}
		go func() {
			conn, err := listener.Accept()
			listener.Close()
			if err == nil {
				nic.Network.attach(netCtx, conn, nic.Address)
			}
		}()
		context.AfterFunc(netCtx, func() { listener.Close() })
	}
	m.cmd = exec.CommandContext(ctx, m.tools.QEMU, args...)
	m.cmd.ExtraFiles = m.files
	m.cmd.Stdout = m.Console
	m.cmd.Stderr = &m.stderr
	m.cmd.WaitDelay = 10 * time.Second // for the console's copy, where nobody reads it
	detach(m.cmd)
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		stopNet()
		return err
	}
	m.Started = time.Now()
	if err := m.cmd.Start(); err != nil {
		stopNet()
		return err
	}
	go func() {
		m.err = m.cmd.Wait()
		stopNet()
		m.Console.end()
		m.temp.Remove()
		close(m.done)
	}()
	return nil
}

// link is the socket of a network card.
func (m *Machine) link(card int) string { return filepath.Join(m.dir, "net"+strconv.Itoa(card)) }

// CommandLine returns what was started, to run again by hand.
func (m *Machine) CommandLine() string {
	quoted := make([]string, len(m.cmd.Args))
	for i, a := range m.cmd.Args {
		if strings.ContainsAny(a, " ;'\"$") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted[i] = a
	}
	return strings.Join(quoted, " ")
}

// Type sends text to the serial port.
func (m *Machine) Type(text string) error {
	_, err := io.WriteString(m.stdin, text)
	return err
}

// Dial connects to a TCP port of the machine, trying until ctx ends.
func (m *Machine) Dial(ctx context.Context, port int) (net.Conn, error) {
	address := net.JoinHostPort(m.config.Address.String(), strconv.Itoa(port))
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := m.config.Network.Dial(attempt, address)
		cancel()
		if err == nil {
			return conn, nil
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-m.done:
			return nil, fmt.Errorf("connecting to %s: the machine ended", address)
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting to %s: %w", address, errors.Join(err, ctx.Err()))
		}
	}
}

// Reset presses the reset button: the guest begins again without warning, with
// the memory's content lost and the disks as they are.
func (m *Machine) Reset() error {
	if err := m.qmp("system_reset"); err != nil {
		return fmt.Errorf("resetting machine %s: %w", m.config.Name, err)
	}
	return nil
}

// Kill ends the machine at once, as a power cut does: what the guest has not
// flushed may be lost, what it has is on the disk. [Tools.Start] with the same
// Config is the power coming back; only the firmware's variables are new, and
// nothing in an image depends on them.
func (m *Machine) Kill() {
	m.cmd.Process.Kill()
	<-m.done
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait waits until the machine has ended and returns QEMU's error.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for machine %s to end: %w; its console's last lines:\n%s", m.config.Name, ctx.Err(), m.Console.Tail(40))
	}
	if m.err != nil {
		return fmt.Errorf("machine %s: %w: %s", m.config.Name, m.err, strings.TrimSpace(m.stderr.String()))
	}
	return nil
}

// PowerDown presses the power button until the machine has ended cleanly: a
// guest that is still starting may miss it.
func (m *Machine) PowerDown(ctx context.Context) error {
	for {
		if err := m.qmp("system_powerdown"); err != nil {
			select {
			case <-m.done:
				return m.Wait(ctx)
			default:
				return fmt.Errorf("powering machine %s down: %w", m.config.Name, err)
			}
		}
		select {
		case <-m.done:
			return m.Wait(ctx)
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
			return m.Wait(ctx)
		}
	}
}

// qmp sends one command by the QEMU Machine Protocol.
func (m *Machine) qmp(command string) error {
	conn, err := net.Dial("unix", filepath.Join(m.dir, "qmp"))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	decoder := json.NewDecoder(conn)
	var greeting json.RawMessage
	if err := decoder.Decode(&greeting); err != nil {
		return err
	}
	for _, c := range []string{"qmp_capabilities", command} {
		if _, err := fmt.Fprintf(conn, `{"execute":%q}`+"\n", c); err != nil {
			return err
		}
		for {
			var reply struct {
				Return json.RawMessage
				Error  *struct{ Desc string }
			}
			if err := decoder.Decode(&reply); err != nil {
				return err
			}
			if reply.Error != nil {
				return fmt.Errorf("%s: %s", c, reply.Error.Desc)
			}
			if reply.Return != nil {
				break // events come between
			}
		}
	}
	return nil
}

// Overlay makes a copy-on-write disk of size bytes (0: the base's size) over a
// raw image, which stays as it is.
func (t Tools) Overlay(ctx context.Context, path, base string, size int64) (Disk, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return Disk{}, err
	}
	args := []string{"create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path}
	if size > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	if out, err := exec.CommandContext(ctx, t.QEMUImg, args...).CombinedOutput(); err != nil {
		return Disk{}, fmt.Errorf("making an overlay of %s: %w: %s", base, err, out)
	}
	return Disk{Path: path, Format: "qcow2"}, nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
