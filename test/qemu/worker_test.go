//go:build system

// Package qemu boots the image that ships. Tests enter it by metadata, SSH and
// SMBIOS credentials only: nothing in the image knows that it is tested.
//
// The image is the one named by BAKE_IMAGE, or the only *.tar.gz in out/.
package qemu

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nodebake/bake/bake/vm"
	"github.com/nodebake/bake/bake/vm/vpc"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

// worker is a booting or booted machine made from the image.
type worker struct {
	*vm.Machine
	t        *testing.T
	host     *host
	config   vm.Config
	network  *vm.Network
	address  netip.Addr
	metadata *emulator.Server
	signer   ssh.Signer
	client   *ssh.Client // after login
	consoles []string    // of starts before this one
}

// options changes a worker from the usual: one SCSI disk of the image's own
// size, Secure Boot enforcing, a metadata server that knows no cluster.
type options struct {
	bus        vm.Bus
	plainUEFI  bool
	diskSize   int64 // bytes; 0: the image's
	twins      int   // further disks made from the same image, attached before the boot disk
	noMetadata bool
	network    *vm.Network       // nil: one of its own
	more       []vm.NIC          // further network cards
	attributes map[string]string // beside the SSH key
	metadata   *emulator.Server  // nil: one with attributes and the SSH key
	late       bool              // the metadata server does not answer yet; see answerMetadata
	smbios     []string
	clock      time.Time // zero: the host's
	host       *host     // nil: of the image that make image made

	countInstructions bool // under TCG, whatever the host has; see vm.Config
}

// workerAddress and workerName are the first worker's of the guide.
var workerAddress = netip.MustParseAddr("10.240.0.20")

const workerName = "worker-0.us-west1-c.c.example.internal"

func newNetwork(t *testing.T) *vm.Network {
	t.Helper()
	network, err := vm.NewNetwork(vm.NetworkConfig{
		Machines:     map[string]netip.Addr{workerName: workerAddress},
		Rules:        []vpc.Rule{vpc.AllowAll()},
		HostLoopback: true, // the cluster's API server listens there
		Isolated:     true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	return network
}

// newMetadata returns worker-0's metadata server.
func newMetadata(attributes map[string]string) *emulator.Server {
	return emulator.NewServer(emulator.Instance{
		Name: "worker-0", Project: "example", Zone: "us-west1-c", IP: workerAddress.String(), Attributes: attributes,
		ServiceAccounts: []emulator.ServiceAccount{{Email: "worker@example.iam.gserviceaccount.com"}},
	})
}

// boot starts a worker and arranges for its end and, where the test failed, for
// the console's tail and the command that reproduces it.
func boot(t *testing.T, o options) *worker {
	t.Helper()
	if o.host == nil {
		o.host = theHost(t)
	}
	if o.network == nil {
		o.network = newNetwork(t)
	}
	if o.bus == "" {
		o.bus = vm.SCSI
	}
	w := &worker{t: t, host: o.host, network: o.network, address: workerAddress, signer: newSigner(t)}
	if !o.noMetadata {
		if o.metadata == nil {
			o.metadata = newMetadata(o.attributes)
		}
		w.metadata = o.metadata
		w.metadata.SetAttribute("ssh-keys", "alice:"+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.signer.PublicKey())))+" alice@example.com")
		if !o.late {
			w.answerMetadata()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var disks []vm.Disk
	for i := range o.twins + 1 {
		disk, err := o.host.tools.Overlay(ctx, filepath.Join(t.TempDir(), fmt.Sprintf("disk%d.qcow2", i)), o.host.disk, o.diskSize)
		if err != nil {
			t.Fatal(err)
		}
		disk.Bus, disk.Boot = o.bus, i == o.twins
		disks = append(disks, disk)
	}
	w.config = vm.Config{
		Name: "worker-0", Disks: disks, Accel: o.host.accel, SecureBoot: !o.plainUEFI,
		Network: w.network, Address: w.address, More: o.more, SMBIOS: o.smbios, NoReboot: true, RTC: o.clock,
	}
	if o.countInstructions {
		w.config.Accel, w.config.CountInstructions = vm.TCG, true
	}
	w.start()
	t.Cleanup(func() {
		w.Kill()
		if t.Failed() {
			t.Logf("console's tail:\n%s\nto reproduce: go test -tags system -run '^%s$' ./test/qemu/\nQEMU was: %s", w.Console.Tail(60), t.Name(), w.CommandLine())
		}
		save(t, "console", strings.Join(append(w.consoles, w.Console.String()), "\n=== started again\n"))
	})
	return w
}

// answerMetadata lets the metadata server answer from now on.
func (w *worker) answerMetadata() { w.network.ServeMetadata(w.address, w.metadata) }

// patience is how long to wait for what usually takes at most d: a machine that
// counts its instructions takes nine times as long, on a host with nothing else
// to do.
func (w *worker) patience(d time.Duration) time.Duration {
	if w.config.CountInstructions {
		return 10 * d
	}
	return d
}

// start starts the machine from its disks as they are. It ends ten minutes
// later at the latest.
func (w *worker) start() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience(10*time.Minute))
	w.t.Cleanup(cancel)
	w.client = nil
	for try := 1; ; try++ {
		var err error
		if w.Machine, err = w.host.tools.Start(ctx, w.config); err != nil {
			w.t.Fatal(err)
		}
		w.waitFor(`Run /init as init process|Kernel panic.*`, 4*time.Minute)
		if try == 3 || !strings.Contains(w.Console.String(), vm.TimerPanic) {
			return
		}
		w.t.Logf("start %d ended in %q, which is QEMU's doing: starting again", try, vm.TimerPanic)
		w.Kill()
	}
}

// startAgain starts a machine that has ended.
func (w *worker) startAgain() {
	w.t.Helper()
	w.consoles = append(w.consoles, w.Console.String())
	w.start()
}

// credential is an SMBIOS string that gives the guest's systemd a credential
// (systemd.system-credentials(7)).
func credential(name, value string) string {
	return "io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString([]byte(value))
}

// save keeps text under out/qemu/ for whoever looks after the run.
func save(t *testing.T, what, text string) {
	dir := filepath.Join(root, "out", "qemu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Error(err)
		return
	}
	name := strings.ReplaceAll(t.Name(), "/", "-") + "." + what
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// waitFor waits for a line on the console.
func (w *worker) waitFor(pattern string, timeout time.Duration) []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience(timeout))
	defer cancel()
	m, err := w.Console.Wait(ctx, regexp.MustCompile(pattern))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%6.1f s  %s", time.Since(w.Started).Seconds(), strings.TrimSpace(m[0]))
	return m
}

// login connects by SSH as alice, whose key is in the metadata, trying until
// the guest agent has made her account.
func (w *worker) login(timeout time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience(timeout))
	defer cancel()
	config := &ssh.ClientConfig{
		User: "alice", Auth: []ssh.AuthMethod{ssh.PublicKeys(w.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // made at this boot
		Timeout:         20 * time.Second,
	}
	var last error
	for ctx.Err() == nil {
		conn, err := w.Dial(ctx, 22)
		if err != nil {
			w.t.Fatalf("%v (before: %v)", err, last)
		}
		conn.SetDeadline(time.Now().Add(w.patience(30 * time.Second)))
		c, channels, requests, err := ssh.NewClientConn(conn, w.address.String(), config)
		if err == nil {
			conn.SetDeadline(time.Time{})
			w.client = ssh.NewClient(c, channels, requests)
			w.t.Logf("%6.1f s  logged in over SSH", time.Since(w.Started).Seconds())
			return
		}
		conn.Close()
		last = err
		time.Sleep(time.Second)
	}
	w.t.Fatalf("logging in over SSH: nothing within %v; the last try: %v", timeout, last)
}

// run runs a command as root and returns its output; a failure ends the test.
func (w *worker) run(command string) string {
	w.t.Helper()
	out, err := w.try(command)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

func (w *worker) try(command string) (string, error) {
	session, err := w.client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	out, err := session.CombinedOutput("sudo -n sh -c " + shellQuote(command))
	return strings.TrimSpace(string(out)), err
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// expect runs a command and compares its output.
func (w *worker) expect(command, want string) {
	w.t.Helper()
	if got := w.run(command); got != want {
		w.t.Errorf("%s: got %q; want %q", command, got, want)
	}
}

// shutDown powers the machine off and requires its clean end.
func (w *worker) shutDown() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), w.patience(2*time.Minute))
	defer cancel()
	if err := w.PowerDown(ctx); err != nil {
		w.t.Error(err)
	}
	if !strings.Contains(w.Console.String(), "reboot: Power down") {
		w.t.Error("the console does not show the kernel's end")
	}
}

// isOpen reports whether a TCP port of the machine answers.
func (w *worker) isOpen(port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	conn, err := w.network.Dial(ctx, net.JoinHostPort(w.address.String(), fmt.Sprint(port)))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("decoding %q: %v", text, err)
	}
	return v
}
