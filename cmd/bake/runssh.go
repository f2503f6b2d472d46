package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

const (
	// sshKeys is the metadata key with a line USER:KEY for each key that may log
	// in (Compute Engine: "Add SSH keys to VMs that use metadata-based SSH keys").
	sshKeys = "ssh-keys"
	// osLogin makes Google's guest agent pass over ssh-keys where it is TRUE.
	osLogin = "enable-oslogin"
	// sshUser is whom --ssh logs in as. Google's guest agent makes the account.
	sshUser = "bake"

	// recordPath is where images hold the record of what is in them.
	recordPath = "usr/lib/bake/image.json"
)

// login is what --ssh logs in with.
type login struct {
	private []byte // in OpenSSH's form, of a key that was made; nil: it is in file
	file    string // where the private key is, or is to be; "": in the run's own directory
}

// prepareLogin reads the key of --ssh or makes one, and adds it to the metadata.
func (r *runner) prepareLogin() error {
	if !r.ssh {
		return nil
	}
	if strings.EqualFold(r.metadata[osLogin], "true") {
		return &manifest.ArgumentError{Err: fmt.Errorf("--ssh: metadata key %s is %s, with which the guest agent passes over %s (remove it)", osLogin, r.metadata[osLogin], sshKeys)}
	}
	r.login.file = r.sshKey
	var public ssh.PublicKey
	text, err := os.ReadFile(r.sshKey)
	switch {
	case r.sshKey == "" || errors.Is(err, fs.ErrNotExist):
		r.login.private, public, err = newLoginKey()
	case err == nil:
		public, err = publicOf(text)
	}
	if err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("--ssh-key %s: %w", r.sshKey, err)}
	}
	line := fmt.Sprintf("%s:%s %s\n", sshUser, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), sshUser)
	if before := r.metadata[sshKeys]; before != "" {
		line = strings.TrimSuffix(before, "\n") + "\n" + line
	}
	r.metadata[sshKeys] = line
	return nil
}

func newLoginKey() (private []byte, public ssh.PublicKey, err error) {
	key, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(secret, sshUser)
	if err != nil {
		return nil, nil, err
	}
	public, err = ssh.NewPublicKey(key)
	return pem.EncodeToMemory(block), public, err
}

// publicOf returns the public key of a private one, which may be encrypted: the
// password is for ssh to ask.
func publicOf(private []byte) (ssh.PublicKey, error) {
	signer, err := ssh.ParsePrivateKey(private)
	var encrypted *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return signer.PublicKey(), nil
	case errors.As(err, &encrypted) && encrypted.PublicKey != nil:
		return encrypted.PublicKey, nil
	case errors.As(err, &encrypted):
		return nil, errors.New("it is encrypted in a form that does not tell its public key (ssh-keygen -p -f FILE writes OpenSSH's)")
	}
	return nil, errors.New("it is no private key that ssh takes")
}

// lacksForSSH names the packages that --ssh needs and a record does not have.
func lacksForSSH(rec *record.Record) []string {
	var lacking []string
	for _, name := range []string{"openssh-server", "google-guest-agent"} {
		if !slices.ContainsFunc(rec.Packages, func(p record.Package) bool { return p.Name == name }) {
			lacking = append(lacking, name)
		}
	}
	return lacking
}

// checkLogin looks into the machine's disk for what --ssh needs. An image of
// somebody else's says nothing about itself.
func (s *session) checkLogin(ctx context.Context) error {
	if !s.ssh {
		return nil
	}
	rec, err := s.readRecord(ctx)
	if err != nil {
		s.note("whether the machine has an SSH server and Google's guest agent is not known: %v", err)
		return nil
	}
	if lacking := lacksForSSH(rec); len(lacking) > 0 {
		return &manifest.ArgumentError{Err: fmt.Errorf("--ssh: %s has no package %s, as its record /%s says (add it to the image definition, lock and bake)", s.image, strings.Join(lacking, " and no package "), recordPath)}
	}
	return nil
}

// readRecord reads the record that the machine's disk holds.
func (s *session) readRecord(ctx context.Context) (*record.Record, error) {
	m, err := inspect.OpenFile(s.base)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Unpack(ctx, s.dir.Path); err != nil {
		return nil, err
	}
	text, err := m.Fragment(recordPath)
	if err != nil {
		return nil, fmt.Errorf("reading /%s in %s: %w", recordPath, s.base, err)
	}
	return record.Read("/"+recordPath+" in "+s.base, bytes.NewReader(text))
}

// writeLogin writes the key, and returns the command that logs in with it.
func (s *session) writeLogin(port int) (string, error) {
	file := s.login.file
	if file == "" {
		file = filepath.Join(s.dir.Path, "ssh-key")
	}
	if s.login.private != nil {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", fmt.Errorf("writing the key of --ssh: %w", err)
		}
		_, err = f.Write(s.login.private)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("writing the key of --ssh: %w", err)
		}
	}
	// The machine makes its host keys at its first boot, so there is nothing to
	// compare them with, and nothing that should be kept when it is gone.
	return manifest.Command(
		"ssh", "-i", file, "-p", strconv.Itoa(port), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=accept-new",
		"-o", "UserKnownHostsFile="+filepath.Join(s.dir.Path, "known_hosts"), sshUser+"@127.0.0.1",
	), nil
}
