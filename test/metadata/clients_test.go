//go:build system && linux

package metadata

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
	"github.com/nodebake/bake/test/filetest"
)

const (
	address4 = "169.254.169.254"
	address6 = "fd20:ce::254"

	publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKYqyYlCkHG4WjfTBnSg6JHnLHDLXyuIxtPfmHfsMtZN"
)

func newServer() *emulator.Server {
	return emulator.NewServer(emulator.Instance{
		Name: "worker-0", ID: 7876421912356789123, Project: "example", Zone: "us-west1-c", IP: "10.240.0.20",
		Attributes: map[string]string{
			"enable-guest-attributes": "TRUE",
			"ssh-keys":                "debian:" + publicKey + " debian@example.com\nalice:" + publicKey + " alice@example.com",
			"user-data":               "#cloud-config\n{}\n",
		},
		ProjectAttributes: map[string]string{"ssh-keys": "debian:" + publicKey + " project@example.com"},
		ServiceAccounts:   []emulator.ServiceAccount{{Email: "worker@example.iam.gserviceaccount.com"}},
	})
}

// suites are those whose programs are tried: the worker's, and in long runs the
// one before it.
func suites() []string {
	if testing.Short() {
		return []string{"trixie"}
	}
	return []string{"trixie", "bookworm"}
}

// askCloudInit has the GCE data source read its metadata, as cloud-init does at
// boot once the network is up, and prints what it found.
const askCloudInit = `
import json
from cloudinit import distros, helpers
from cloudinit.sources import DataSourceGCE
paths = helpers.Paths({"run_dir": "/run/cloud-init", "cloud_dir": "/var/lib/cloud"})
config = {"users": ["default"], "default_user": {"name": "debian"}}
source = DataSourceGCE.DataSourceGCE(config, distros.fetch("debian")("debian", config, paths), paths)
found = source.get_data()
source.publish_host_keys([("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5")])
print(json.dumps({
    "found": found,
    "id": source.get_instance_id(),
    "hostname": getattr(source.get_hostname(), "hostname", None) or source.get_hostname(),
    "keys": source.get_public_ssh_keys(),
    "zone": source.availability_zone,
    "user-data": source.get_userdata_raw().decode(),
}))
`

func TestCloudInit(t *testing.T) {
	for _, suite := range suites() {
		t.Run(suite, func(t *testing.T) {
			root := debianRoot(t, suite)
			t.Log(version(root, "cloud-init"))
			server := newServer()
			enterNamespace(t)
			addAddress(t, address4)
			serve(t, address4, server)

			var stderr bytes.Buffer
			cmd := inRoot(t, root, "/usr/bin/python3", "-c", askCloudInit)
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("cloud-init's data source: %v: %s\nrequests:\n%s", err, stderr.String(), strings.Join(server.Requests(), "\n"))
			}
			var got map[string]any
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			want := map[string]any{
				"found": true, "id": "7876421912356789123", "hostname": "worker-0", "zone": "us-west1-c", "user-data": "#cloud-config\n{}\n",
				"keys": []any{publicKey + " debian@example.com", publicKey + " project@example.com"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what cloud-init found (-want +got):\n%s\nrequests:\n%s", diff, strings.Join(server.Requests(), "\n"))
			}
			if key, _ := server.GuestAttribute("hostkeys", "ssh-ed25519"); key != "AAAAC3NzaC1lZDI1NTE5" {
				t.Errorf("the host key that cloud-init published = %q; want the one given", key)
			}
		})
	}
}

// TestGuestAgent runs the guest agent until it has made a user of the metadata,
// and gives it another one while it waits for a change.
func TestGuestAgent(t *testing.T) {
	for _, suite := range suites() {
		t.Run(suite, func(t *testing.T) {
			root := debianRoot(t, suite)
			t.Log(version(root, "google-guest-agent"))
			// It wants to be first to write these.
			for _, dir := range []string{"etc/sudoers.d", "etc/ssh"} {
				filetest.Mkdir(t, filepath.Join(root, dir))
			}
			server := newServer()
			enterNamespace(t)
			addAddress(t, address4)
			serve(t, address4, server)

			var log buffer
			cmd := inRoot(t, root, "/usr/bin/google_guest_agent")
			cmd.Stdout, cmd.Stderr = &log, &log
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.WaitDelay = 10 * time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Signal(syscall.SIGTERM)
				cmd.Wait()
				if t.Failed() {
					t.Logf("the agent said:\n%s\nrequests:\n%s", log.String(), strings.Join(server.Requests(), "\n"))
				}
			}()
			waiting := func() int {
				n := 0
				for _, r := range server.Requests() {
					if strings.Contains(r, "wait_for_change=true") && strings.Contains(r, "recursive=true") {
						n++
					}
				}
				return n
			}
			authorized := func(user string) func() bool {
				return func() bool {
					keys, _ := os.ReadFile(filepath.Join(root, "home", user, ".ssh/authorized_keys"))
					return strings.Contains(string(keys), publicKey+" "+user+"@example.com")
				}
			}
			eventually(t, "alice may log in", authorized("alice"))
			eventually(t, "the agent waits for a change", func() bool { return waiting() >= 2 })
			before := waiting()
			server.SetAttribute("ssh-keys", "bob:"+publicKey+" bob@example.com")
			eventually(t, "bob may log in, by a change that the agent waited for", authorized("bob"))
			eventually(t, "the agent waits for the next change", func() bool { return waiting() > before })
			if passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd")); err != nil || !strings.Contains(string(passwd), "\nbob:") {
				t.Errorf("/etc/passwd has no bob: %v", err)
			}
			// It says who asked, and so shows that ETags do their work: no storm.
			if n := len(server.Requests()); n > 60 {
				t.Errorf("the agent made %d requests; want a few: it does not wait", n)
			}
		})
	}
}

// client is the environment variable that makes of this program the one that
// asks: firstboot's client, at its real addresses.
const client = "BAKE_TEST_METADATA_CLIENT"

// TestMain is the client where it is asked to be.
func TestMain(m *testing.M) {
	if os.Getenv(client) == "" {
		os.Exit(m.Run())
	}
	c := metadata.New(metadata.Config{Waiting: func(err error) { fmt.Println("waiting:", err) }})
	found, err := c.Get(context.Background())
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("found:", found.Instance.Name)
	os.Exit(0)
}

// TestClientAtTheRealAddresses starts firstboot's client on a machine without a
// network, which comes later, with one of the two addresses.
func TestClientAtTheRealAddresses(t *testing.T) {
	for _, address := range []string{address4, address6} {
		t.Run(address, func(t *testing.T) {
			server := newServer()
			enterNamespace(t)
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), client+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()

			said := bufio.NewScanner(stdout)
			next := func() string {
				t.Helper()
				if !said.Scan() {
					t.Fatalf("the client ended: %v", said.Err())
				}
				return said.Text()
			}
			for range 3 {
				if got := next(); got != "waiting: http://169.254.169.254: network is unreachable" {
					t.Errorf("without a network the client says %q", got)
				}
			}
			from := time.Now()
			addAddress(t, address)
			serve(t, address, server)
			line := next()
			for strings.HasPrefix(line, "waiting: ") {
				line = next()
			}
			took := time.Since(from)
			if line != "found: worker-0" {
				t.Errorf("the client says %q; want that it found worker-0", line)
			}
			if took > 15*time.Second { // 250 ms but for a busy host
				t.Errorf("the client found the server %s after it came", took)
			}
			t.Logf("found %s after the network came", took.Round(time.Millisecond))
			if got, want := server.Requests(), []string{"GET /computeMetadata/v1/?recursive=true&alt=json"}; !slices.Equal(got, want) {
				t.Errorf("requests = %q; want %q", got, want)
			}
		})
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it is still not so that %s", what)
		}
	}
}

// buffer is a bytes.Buffer for a program's output that is read meanwhile.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
