//go:build system

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nodebake/bake/bake/vm"
)

// TestRun boots the image by bake run, as a person does.
func TestRun(t *testing.T) {
	h := theHost(t)
	image := h.image
	t.Run("until", func(t *testing.T) {
		for try := 1; ; try++ {
			r := startRun(t, image, "--until", "^Welcome to Debian", "--timeout", "6m", "--guest-attributes", "--metadata-value", "pod-cidr=10.200.0.0/24")
			code := r.wait(t, 12*time.Minute)
			if try < 3 && strings.Contains(r.stdout.String(), vm.TimerPanic) {
				t.Logf("start %d ended in %q, which is QEMU's doing: starting again", try, vm.TimerPanic)
				continue
			}
			if code != 0 {
				t.Errorf("bake run --until exits with %d; want 0; stderr:\n%s\nconsole:\n%s", code, r.stderr.String(), tail(r.stdout.String(), 60))
			}
			for _, want := range []string{"Secure boot enabled", "Run /init as init process", "(?m)^Welcome to Debian"} {
				if !regexp.MustCompile(want).MatchString(r.stdout.String()) {
					t.Errorf("the console does not show %q:\n%s", want, tail(r.stdout.String(), 60))
				}
			}
			if strings.Contains(r.stdout.String(), "\x1b") {
				t.Error("the console has terminal escapes, and goes to no terminal")
			}
			want := fmt.Sprintf(`(?m)^bake: QEMU %s with (KVM|TCG) \(.+\)$`, regexp.QuoteMeta(h.tools.Version))
			if !regexp.MustCompile(want).MatchString(r.stderr.String()) {
				t.Errorf("stderr is\n%s\nwant a line that matches %q", r.stderr.String(), want)
			}
			r.leavesNothing(t)
			return
		}
	})
	t.Run("interrupt", func(t *testing.T) {
		signer := newSigner(t)
		dir := t.TempDir()
		for name, content := range map[string]string{
			"ssh-keys":      "alice:" + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " alice@example.com\n",
			"ca/ca-key.pem": "not for the machine",
		} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := startRun(t, image, "--metadata", dir, "--ssh", "--accel", string(h.accel), "--timeout", "9m")
		port := r.find(t, `127\.0\.0\.1:(\d+) leads to port 22 of worker-0`, time.Minute)
		client := sshTo(t, "127.0.0.1:"+port, signer, 8*time.Minute)
		for command, want := range map[string]string{
			"getent ahostsv4 metadata.google.internal | head -n 1 | cut -d' ' -f1":                                                  "169.254.169.254",
			"getent ahostsv4 worker-0.us-west1-c.c.example.internal | head -n 1 | cut -d' ' -f1":                                    "10.240.0.20",
			"ip -4 -o address show dev $(ip -4 route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/') | tr -s ' ' | cut -d' ' -f4": "10.240.0.20/32",
			"sudo curl -sS -H Metadata-Flavor:Google http://169.254.169.254/computeMetadata/v1/instance/attributes/":                "ssh-keys",
			"curl -sS -m 5 http://10.240.0.1:22/ 2>/dev/null; echo $?":                                                              "7",
		} {
			session, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := session.CombinedOutput(command)
			session.Close()
			if got := strings.TrimSpace(string(out)); got != want {
				t.Errorf("%s: %q, %v; want %q", command, got, err, want)
			}
		}
		// What is printed works as printed. The agent makes accounts one after the other.
		command := r.find(t, `to log in, once worker-0 has made the account: (.*)`, time.Minute)
		if _, err := exec.LookPath("ssh"); err != nil {
			t.Fatal("ssh is missing: apt-get install openssh-client")
		}
		var out []byte
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end) && string(out) != "bake\n"; time.Sleep(2 * time.Second) {
			out, _ = exec.CommandContext(t.Context(), "sh", "-c", command+" id -un").Output()
		}
		if string(out) != "bake\n" {
			t.Errorf("%s id -un: %q; want bake", command, out)
		}
		r.cmd.Process.Signal(os.Interrupt)
		if code := r.wait(t, 3*time.Minute); code != 130 {
			t.Errorf("an interrupted bake run exits with %d; want 130", code)
		}
		if !strings.Contains(r.stderr.String(), "bake: interrupted; worker-0 was powered down") || !strings.Contains(r.stdout.String(), "reboot: Power down") {
			t.Errorf("the machine did not end cleanly; stderr:\n%s\nconsole:\n%s", r.stderr.String(), tail(r.stdout.String(), 40))
		}
		r.leavesNothing(t)
	})
}

// bakeRun is a bake run under way.
type bakeRun struct {
	cmd            *exec.Cmd
	tmp            string
	stdout, stderr lockedBuffer
	done           chan struct{}
}

func startRun(t *testing.T, image string, args ...string) *bakeRun {
	t.Helper()
	r := &bakeRun{tmp: t.TempDir(), done: make(chan struct{})}
	r.cmd = exec.Command(filepath.Join(root, "bin", "bake"), append([]string{"run", image}, args...)...)
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("%v (make bin/bake builds it)", err)
	}
	go func() {
		r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.done
		save(t, "console", r.stdout.String())
		save(t, "stderr", r.stderr.String())
	})
	return r
}

// wait waits for the end and returns the exit code.
func (r *bakeRun) wait(t *testing.T, timeout time.Duration) int {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(timeout):
		t.Fatalf("bake run did not end within %v; stderr:\n%s\nconsole:\n%s", timeout, r.stderr.String(), tail(r.stdout.String(), 60))
	}
	return r.cmd.ProcessState.ExitCode()
}

// find waits for a line on stderr and returns its first submatch.
func (r *bakeRun) find(t *testing.T, pattern string, timeout time.Duration) string {
	t.Helper()
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(r.stderr.String()); m != nil {
			return m[1]
		}
	}
	t.Fatalf("stderr does not show %q within %v:\n%s", pattern, timeout, r.stderr.String())
	return ""
}

// leavesNothing requires that neither files nor processes are left.
func (r *bakeRun) leavesNothing(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(r.tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the directory for temporary files: %v, %v", left, err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte(r.tmp)) {
			t.Errorf("%s is still running: %q", path, line)
		}
	}
}

// sshTo logs in as alice at a port of the host, trying until it works.
func sshTo(t *testing.T, address string, signer ssh.Signer, timeout time.Duration) *ssh.Client {
	t.Helper()
	config := &ssh.ClientConfig{
		User: "alice", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // made at this boot
		Timeout:         20 * time.Second,
	}
	last := errors.New("none")
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(2 * time.Second) {
		client, err := ssh.Dial("tcp", address, config)
		if err == nil {
			t.Cleanup(func() { client.Close() })
			return client
		}
		if !errors.Is(err, io.EOF) {
			last = err
		}
	}
	t.Fatalf("logging in over SSH at %s: nothing within %v; the last try that was answered: %v", address, timeout, last)
	return nil
}

// lockedBuffer is written and read at the same time.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
