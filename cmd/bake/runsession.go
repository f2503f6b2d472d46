package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/nodebake/bake/bake/printable"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

const (
	// powerDownTime is what a machine gets to end by itself. Under TCG on a
	// busy host it needs about 20 s.
	powerDownTime = 90 * time.Second
	// graceTime is what it gets when its own time is over.
	graceTime = 10 * time.Second

	leaveKey = 0x1d // Ctrl-]
)

// session is one machine from its disk to its end.
type session struct {
	*runner
	tools   vm.Tools
	dir     *vm.TempDir
	base    string // the disk as it was before the machine
	disk    vm.Disk
	chosen  vm.Accel
	network *vm.Network
	open    []listeningPort
	server  http.Handler // metadata
	closers []func()

	powerDownTime, graceTime time.Duration // constants, but in tests

	terminal *term.State // to restore; nil where it is as it was
}

// listeningPort is a port of this host that is ours.
type listeningPort struct {
	net.Listener
	forwardedPort
}

func (s *session) close() {
	s.restore()
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	if s.network != nil {
		s.network.Close()
	}
	if s.dir != nil {
		s.dir.Remove()
	}
}

// note says something on stderr.
func (s *session) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case s.host.shown.quiet:
	case s.terminal != nil && s.host.shown.form.Form != progress.JSON: // it does not return by itself
		fmt.Fprintf(s.host.stderr, "bake: %s\r\n", printable.String(text))
	default:
		s.host.say(text)
	}
}

// endedError says how a machine ended that was to do something else.
type endedError struct{ what string }

func (e *endedError) Error() string { return e.what }

func (s *session) run(ctx context.Context) error {
	quietNetwork()
	// A signal asks the machine to end, and only then ends us. Writing to a pipe
	// that is closed shall fail, instead of ending us at once.
	signals, pipes := make(chan os.Signal, 4), make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(pipes, syscall.SIGPIPE)
	s.closers = append(s.closers, func() { signal.Stop(signals); signal.Stop(pipes) })
	if err := ctx.Err(); err != nil {
		return err
	}
	machineCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.closers = append(s.closers, cancel)
	if err := s.connect(machineCtx); err != nil {
		return err
	}
	out, unread := s.console()
	m, err := s.tools.Start(machineCtx, vm.Config{
		Name: s.name, Disks: []vm.Disk{s.disk}, Accel: s.chosen, SecureBoot: !s.noSecureBoot,
		CPUs: s.cpus, MemoryMiB: s.memory, Network: s.network, Address: s.address, Console: out,
	})
	if err != nil {
		return s.explainKVM(nil, err)
	}
	s.closers = append(s.closers, m.Kill)
	err = s.watch(machineCtx, m, signals, unread)
	m.Kill()
	s.restore() // what follows is for people again
	out.flush()
	return errors.Join(s.explainKVM(m, err), s.printGuestAttributes())
}

// explainKVM names the remedy where KVM was forced and no kernel came up under it.
func (s *session) explainKVM(m *vm.Machine, err error) error {
	if err == nil || s.accel != string(vm.KVM) || m != nil && kernelRan(m) {
		return err
	}
	const remedy = "no kernel started under KVM; --accel auto tries KVM once, and runs without it where that fails"
	if ended, ok := errors.AsType[*endedError](err); ok {
		return &endedError{ended.what + "\n" + remedy}
	}
	return fmt.Errorf("%w (%s)", err, remedy)
}

func kernelRan(m *vm.Machine) bool {
	return slices.ContainsFunc(m.Console.Lines(), func(l vm.Line) bool { return vm.KernelRuns().MatchString(l.Text) })
}

// listen takes the ports that are forwarded, before anything slow begins.
func (s *session) listen() error {
	for _, p := range s.ports {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.host)))
		if err != nil {
			return fmt.Errorf("forwarding port %d to port %d of the machine: %w (give another; 0 is any that is free)", p.host, p.guest, err)
		}
		s.closers = append(s.closers, func() { l.Close() })
		s.open = append(s.open, listeningPort{l, p})
	}
	return nil
}

// connect starts the network, the metadata server and the forwarded ports.
func (s *session) connect(ctx context.Context) error {
	var err error
	if s.network, err = s.newNetwork(); err != nil {
		return err
	}
	s.server = emulator.NewServer(s.instance())
	s.network.ServeMetadata(s.address, s.server)
	for _, p := range s.open {
		to := net.JoinHostPort(s.address.String(), strconv.Itoa(p.guest))
		go s.network.Forward(ctx, p.Listener, to)
		s.note("%s leads to port %d of %s", p.Addr(), p.guest, s.name)
	}
	if !s.ssh {
		return nil
	}
	i := slices.IndexFunc(s.open, func(p listeningPort) bool { return p.guest == 22 })
	command, err := s.writeLogin(s.open[i].Addr().(*net.TCPAddr).Port)
	if err != nil {
		return err
	}
	// It was asked for, whatever is quiet.
	_, err = fmt.Fprintf(s.host.stderr, "bake: to log in, once %s has made the account: %s\n", s.name, command)
	return err
}

// watch waits until the machine has ended, or may be ended.
func (s *session) watch(ctx context.Context, m *vm.Machine, signals <-chan os.Signal, unread <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := s.typing(m)
	var late <-chan time.Time
	if s.timeout > 0 {
		late = time.After(s.timeout)
	}
	var seen chan struct{}
	if s.pattern != nil {
		seen = make(chan struct{})
		go func() {
			if _, err := m.Console.Wait(ctx, s.pattern); err == nil {
				close(seen)
			}
		}()
	}
	var result error    // what to return at the end, whatever else there is to say
	var asked time.Time // when the power button was pressed first
	var patience <-chan time.Time
	powerDown := func(why string, err error, within time.Duration) {
		if asked.IsZero() {
			asked, result, patience = time.Now(), err, time.After(within)
			s.note("%s: powering %s down", why, s.name)
			go m.PowerDown(ctx)
		}
	}
	for {
		select {
		case <-m.Done():
			if result != nil {
				return result
			}
			return s.ended(ctx, m)
		case <-seen:
			seen = nil
			s.note("the console showed %q after %v", s.until, since(m.Started))
			if s.diskFile == "" {
				return nil // what is dropped needs no clean end
			}
			s.pattern = nil
			powerDown("done", nil, s.powerDownTime)
		case <-late:
			if !asked.IsZero() { // it is ending already
				patience = time.After(s.graceTime)
			}
			powerDown("out of time", &endedError{fmt.Sprintf("%s was not done within %v; its console's last lines:\n%s", s.name, s.timeout, m.Console.Tail(20))}, s.graceTime)
		case <-signals:
			// timeout(1), for one, sends a signal twice.
			if !asked.IsZero() && time.Since(asked) > time.Second {
				return &endedError{fmt.Sprintf("interrupted twice; %s's power was cut", s.name)}
			}
			powerDown("interrupted", &endedError{"interrupted; " + s.name + " was powered down"}, s.powerDownTime)
		case <-keys:
			if !asked.IsZero() {
				s.note("the power of %s was cut", s.name)
				return result
			}
			powerDown("Ctrl-]", nil, s.powerDownTime)
		case <-unread:
			unread = nil
			powerDown("nobody reads the console", &endedError{"nobody reads the console any more"}, s.powerDownTime)
		case <-patience:
			return errors.Join(result, &endedError{fmt.Sprintf("%s did not power off within %v; its power was cut", s.name, since(asked))})
		}
	}
}

func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Millisecond) }

// ended says what it means that the machine has ended by itself.
func (s *session) ended(ctx context.Context, m *vm.Machine) error {
	if err := m.Wait(ctx); err != nil {
		return err
	}
	if s.pattern != nil {
		// The line may have been the last.
		if _, err := m.Console.Wait(ctx, s.pattern); err != nil {
			return &endedError{fmt.Sprintf("%s ended after %v, and its console did not show %q; its last lines:\n%s", s.name, since(m.Started), s.until, m.Console.Tail(20))}
		}
	}
	s.note("%s ended after %v", s.name, since(m.Started))
	return nil
}

// typing makes the terminal, if stdin is one, the machine's. What it returns
// receives whenever the key is pressed that is ours.
func (s *session) typing(m *vm.Machine) <-chan struct{} {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) || !isTerminal(s.host.stdout) || s.asJSON {
		return nil
	}
	s.note("Ctrl-] presses the power button, a second Ctrl-] cuts the power")
	state, err := term.MakeRaw(in)
	if err != nil {
		return nil // then nothing is typed
	}
	s.terminal = state
	keys := make(chan struct{}, 4)
	go func() {
		buf := make([]byte, 256)
		for {
			n, err := os.Stdin.Read(buf)
			if err != nil {
				return
			}
			text, pressed := takeLeaveKeys(buf[:n])
			if m.Type(text) != nil {
				return
			}
			for range pressed {
				keys <- struct{}{}
			}
		}
	}()
	return keys
}

// restore ends the terminal's raw mode.
func (s *session) restore() {
	if s.terminal != nil {
		term.Restore(int(os.Stdin.Fd()), s.terminal)
		s.terminal = nil
	}
}

// takeLeaveKeys returns what was typed without our key, and how often it was in it.
func takeLeaveKeys(typed []byte) (string, int) {
	return string(bytes.ReplaceAll(typed, []byte{leaveKey}, nil)), bytes.Count(typed, []byte{leaveKey})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s *session) printGuestAttributes() error {
	switch {
	case !s.guestAttributes:
		return nil
	case s.asJSON:
		all, err := readGuestAttributes(s.server)
		if err != nil {
			return err
		}
		return json.NewEncoder(s.host.stdout).Encode(map[string]any{"guestAttributes": all})
	}
	return printGuestAttributes(s.host.stderr, s.server)
}

// console returns what the machine's serial port is written to, and what is
// closed once that can't be written any more.
func (s *session) console() (*consoleWriter, <-chan struct{}) {
	w := &consoleWriter{out: s.host.stdout, failed: make(chan struct{})}
	started := s.host.now()
	switch {
	case s.asJSON:
		w.line = func(text string) []byte {
			line, err := json.Marshal(struct {
				MS   int64  `json:"ms"`
				Line string `json:"line"`
			}{s.host.now().Sub(started).Milliseconds(), text})
			if err != nil {
				panic("BUG: " + err.Error()) // a string and a number
			}
			return append(line, '\n')
		}
	case !isTerminal(s.host.stdout):
		w.line = func(text string) []byte { return []byte(text + "\n") }
	default:
		w.out = printable.NewConsole(w.out)
	}
	return w, w.failed
}

// consoleWriter passes on what a machine prints: to a terminal as it comes, else
// line by line without terminal escapes.
type consoleWriter struct {
	out    io.Writer
	line   func(string) []byte // nil: as it is
	failed chan struct{}

	mu      sync.Mutex
	pending []byte
	err     error
}

func (w *consoleWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	out := p
	if w.line != nil {
		w.pending = append(w.pending, p...)
		out = nil
		for {
			line, rest, ended := bytes.Cut(w.pending, []byte("\n"))
			if !ended {
				break
			}
			out = append(out, w.line(vm.Plain(string(line)))...)
			w.pending = rest
		}
	}
	w.write(out)
	return len(p), w.err
}

func (w *consoleWriter) write(p []byte) {
	if len(p) == 0 || w.err != nil {
		return
	}
	if _, w.err = w.out.Write(p); w.err != nil {
		close(w.failed)
	}
}

// flush writes a line that did not end.
func (w *consoleWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 && w.line != nil {
		w.write(w.line(vm.Plain(string(w.pending))))
		w.pending = nil
	}
}
