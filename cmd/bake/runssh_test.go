package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/vm"
)

// sshRunner is a run with --ssh, and what it says.
func sshRunner(t *testing.T, r runner) (*runner, *bytes.Buffer) {
	t.Helper()
	var notes bytes.Buffer
	r.host = &host{stdout: io.Discard, stderr: &notes, now: time.Now}
	r.name, r.project, r.zone, r.ip, r.ssh = "worker-0", "example", "us-west1-c", "10.240.0.20", true
	r.diskBus, r.accel, r.memory, r.cpus = "scsi", "auto", 2048, 2
	return &r, &notes
}

// TestLoginKey makes keys, and takes those that are there.
func TestLoginKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := ssh.MarshalPrivateKeyWithPassphrase(secret, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"plain": pem.EncodeToMemory(plain), "encrypted": pem.EncodeToMemory(encrypted), "text": []byte("hello\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(own.PublicKey())))
	for _, test := range []struct {
		name, file string
		values     []string
		want       string // the metadata value; KEY is one that was made
		err        string
	}{
		{"a new key", "", nil, "bake:KEY bake\n", ""},
		{"a new key in a file", "new", nil, "bake:KEY bake\n", ""},
		{"a key of the user's", "plain", nil, "bake:" + public + " bake\n", ""},
		{"an encrypted one", "encrypted", nil, "bake:" + public + " bake\n", ""},
		{"beside others", "plain", []string{"ssh-keys=alice:ssh-ed25519 AAAA alice"}, "alice:ssh-ed25519 AAAA alice\nbake:" + public + " bake\n", ""},
		{"no key", "text", nil, "", "--ssh-key " + filepath.Join(dir, "text") + ": it is no private key that ssh takes"},
		{"with OS Login", "", []string{"enable-oslogin=TRUE"}, "", "--ssh: metadata key enable-oslogin is TRUE, with which the guest agent passes over ssh-keys (remove it)"},
	} {
		r, _ := sshRunner(t, runner{metadataValues: test.values})
		if test.file != "" {
			r.sshKey = filepath.Join(dir, test.file)
		}
		err := r.check()
		if _, ok := errors.AsType[*manifest.ArgumentError](err); err != nil && (!ok || err.Error() != test.err) || err == nil && test.err != "" {
			t.Errorf("%s: check = %v; want %s", test.name, err, test.err)
		}
		if err != nil || test.err != "" {
			continue
		}
		got := r.metadata[sshKeys]
		if strings.Contains(test.want, "KEY") {
			signer, err := ssh.ParsePrivateKey(r.login.private)
			if err != nil || signer.PublicKey().Type() != "ssh-ed25519" {
				t.Fatalf("%s: the key that was made: %v, %v", test.name, signer, err)
			}
			test.want = strings.Replace(test.want, "KEY", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), 1)
		}
		if got != test.want {
			t.Errorf("%s: ssh-keys = %q; want %q", test.name, got, test.want)
		}
	}
}

// TestLoginCommand runs what is printed as far as that goes without a machine:
// ssh reads its options, its key and the port.
func TestLoginCommand(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", filepath.Join(t.TempDir(), "a key")} {
		r, notes := sshRunner(t, runner{sshKey: file})
		r.host.shown.quiet = true
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
		s := &session{runner: r}
		var err error
		if s.dir, err = vm.MakeTempDir(); err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if err := s.listen(); err != nil {
			t.Fatal(err)
		}
		if err := s.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(s.open[0].Addr().String())
		key := filepath.Join(s.dir.Path, "ssh-key")
		quoted := key
		if file != "" {
			key, quoted = file, "'"+file+"'"
		}
		command := "ssh -i " + quoted + " -p " + port + " -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=" +
			s.dir.Path + "/known_hosts bake@127.0.0.1"
		if want := "bake: to log in, once worker-0 has made the account: " + command + "\n"; notes.String() != want {
			t.Errorf("stderr is %q; want %q", notes, want)
		}
		info, err := os.Stat(key)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the key's file: %v, %v; want one that its owner alone reads", info, err)
		}
		if _, err := exec.LookPath("ssh"); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("ssh is missing: apt-get install openssh-client")
			}
			t.Log("ssh is missing: apt-get install openssh-client")
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command, "ssh ", "ssh -G ", 1)).CombinedOutput()
		for _, want := range []string{"user bake\n", "hostname 127.0.0.1\n", "port " + port + "\n", "identityfile " + key + "\n", "identitiesonly yes\n",
			"stricthostkeychecking accept-new\n", "userknownhostsfile " + s.dir.Path + "/known_hosts\n"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("ssh understands %s, %v; want %q", out, err, want)
			}
		}
	}
}

// TestKeyIsNotReplaced: what came where the key is to be stays.
func TestKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	r, _ := sshRunner(t, runner{sshKey: file})
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &session{runner: r, dir: &vm.TempDir{Path: t.TempDir()}}
	if command, err := s.writeLogin(22); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("writeLogin = %q, %v; want an error", command, err)
	}
}

func TestLacksForSSH(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ packages, want []string }{
		{[]string{"bash", "google-guest-agent", "openssh-server"}, nil},
		{[]string{"openssh-server"}, []string{"google-guest-agent"}},
		{nil, []string{"openssh-server", "google-guest-agent"}},
	} {
		var rec record.Record
		for _, name := range test.packages {
			rec.Packages = append(rec.Packages, record.Package{Name: name})
		}
		if diff := cmp.Diff(test.want, lacksForSSH(&rec)); diff != "" {
			t.Errorf("lacksForSSH of %q (-want +got):\n%s", test.packages, diff)
		}
	}
}

// TestImageWithoutSSH has a record without what --ssh needs.
func TestImageWithoutSSH(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "image.raw")
	content := writeImage(t, image, false)
	r, notes := sshRunner(t, runner{image: image})
	s := &session{runner: r, base: image, dir: &vm.TempDir{Path: t.TempDir()}}
	err := s.checkLogin(t.Context())
	want := "--ssh: " + image + " has no package openssh-server and no package google-guest-agent, as its record /usr/lib/bake/image.json says (add it to the image definition, lock and bake)"
	if _, ok := errors.AsType[*manifest.ArgumentError](err); !ok || err.Error() != want {
		t.Errorf("checkLogin = %v; want %s", err, want)
	}
	// Of an image without a record nobody knows.
	if err := os.WriteFile(image, content[:1<<20], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.checkLogin(t.Context()); err != nil || !strings.HasPrefix(notes.String(), "bake: whether the machine has an SSH server and Google's guest agent is not known: ") {
		t.Errorf("checkLogin of an image without a record = %v, and says %q", err, notes)
	}
}
