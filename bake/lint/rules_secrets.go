package lint

import (
	"fmt"
	"path"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

func secretRules() []Rule {
	return []Rule{{
		ID:    "ssh-host-keys",
		Must:  "there are no SSH host keys",
		Why:   "every machine would have the same ones, and who has the image has them too " + fromConfig,
		needs: needsRoot,
		check: func(s *subject) []string {
			return s.named("etc/ssh", func(name string) bool { return strings.HasPrefix(name, "ssh_host_") })
		},
	}, {
		ID:    "ssh-user-keys",
		Must:  "there are no authorized_keys and no private keys below /root and /home",
		Why:   "keys come with the instance's metadata; one in the image opens every machine " + fromConfig,
		needs: needsRoot,
		check: func(s *subject) []string {
			key := func(name string) bool {
				return strings.HasPrefix(name, "authorized_keys") || strings.HasPrefix(name, "id_") && !strings.HasSuffix(name, ".pub")
			}
			return append(s.named("root", key), s.named("home", key)...)
		},
	}, {
		ID:    "passwords",
		Must:  "no account has a password, or none to log in with",
		Why:   "it would be the same on every machine, and guessed on the serial console " + fromConfig,
		needs: needsRoot,
		check: checkPasswords,
	}, {
		ID:    "ssh-passwords",
		Must:  "sshd takes no passwords",
		Why:   "an account that gets one later must not be open to the internet " + fromConfig,
		needs: needsRoot,
		check: checkSSHD,
	}, {
		ID:    "machine-id",
		Must:  "/etc/machine-id is an empty file, and D-Bus has no other",
		Why:   "systemd makes one at the first boot; a fixed one gives all machines one DHCP identity and one node.status.nodeInfo.machineID, a missing file makes presets run " + fromSystemd,
		needs: needsRoot,
		check: checkMachineID,
	}, {
		ID:    "machine-secrets",
		Must:  "there is no random seed and no credential key",
		Why:   "two machines that start from one seed may make the same keys " + fromSystemd,
		needs: needsBoot,
		check: func(s *subject) []string {
			var p problems
			for _, path := range []string{"var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/urandom/random-seed"} {
				if s.files.Lookup(path) != nil {
					p.add("there is /%s", path)
				}
			}
			if _, err := s.Boot.Find("loader/random-seed"); err == nil {
				p.add("there is loader/random-seed on the EFI system partition")
			}
			return p
		},
	}, {
		ID:    "hostname",
		Must:  "there is no /etc/hostname, or it is empty or localhost",
		Why:   "the name is the instance's, and comes with its metadata " + fromSystemd,
		needs: needsRoot,
		check: func(s *subject) []string {
			lines, err := s.files.Lines("etc/hostname")
			if err != nil {
				return wrong(err)
			}
			if len(lines) > 0 && lines[0] != "localhost" {
				return []string{fmt.Sprintf("/etc/hostname is %q", lines[0])}
			}
			return nil
		},
	}}
}

// named lists the files below dir whose names are wanted.
func (s *subject) named(dir string, wanted func(name string) bool) []string {
	var p problems
	for n := range s.files.Below(dir) {
		if n.Type != tree.Dir && wanted(path.Base(n.Path)) {
			p.add("there is /%s", n.Path)
		}
	}
	return p
}

// checkPasswords accepts "*" and "!" where a hash would stand, which no
// password has, and refuses an empty field, which none is needed for. A
// locked hash ("!" before it) is a hash all the same.
func checkPasswords(s *subject) []string {
	var p problems
	for _, file := range []struct {
		path   string
		fields int
		allow  string
	}{
		{"etc/shadow", 9, "*!"},
		{"etc/gshadow", 4, "*!"},
		{"etc/passwd", 7, "x*!"},
		{"etc/group", 4, "x*!"},
	} {
		lines, err := s.files.fields(file.path, file.fields)
		p.err(err)
		for _, fields := range lines {
			switch name, hash := fields[0], fields[1]; {
			case hash == "" && file.path == "etc/group" || hash == "" && file.path == "etc/gshadow":
				// nobody joins a group without a password (newgrp(1))
			case hash == "":
				p.add("/%s: %s needs no password", file.path, name)
			case strings.Trim(hash, file.allow) != "":
				p.add("/%s: %s has a password", file.path, name)
			}
		}
	}
	return p
}

// checkSSHD reads sshd's configuration as far as the keyword is concerned. The
// first value counts (sshd_config(5)); files are included where Include stands.
// Blocks that Match begins may not allow passwords either.
func checkSSHD(s *subject) []string {
	if !s.files.Exists("usr/sbin/sshd") {
		return nil
	}
	var p problems
	value := ""
	var read func(file string, depth int)
	read = func(file string, depth int) {
		lines, err := s.files.Lines(file)
		p.err(err)
		match := false
		for _, line := range lines {
			words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '=' })
			if len(words) < 2 {
				continue
			}
			switch strings.ToLower(words[0]) {
			case "match":
				match = true
			case "include":
				for _, pattern := range words[1:] {
					if !strings.HasPrefix(pattern, "/") {
						pattern = "/etc/ssh/" + pattern
					}
					for n := range s.files.In(path.Dir(pattern)[1:]) {
						if ok, _ := path.Match(path.Base(pattern), path.Base(n.Path)); ok && depth < 8 {
							read(n.Path, depth+1)
						}
					}
				}
			case "passwordauthentication":
				if match && words[1] != "no" {
					p.add("/%s allows passwords in a Match block", file)
				}
				if !match && value == "" {
					value = words[1]
				}
			}
		}
	}
	read("etc/ssh/sshd_config", 0)
	if value != "no" {
		p.add("sshd's PasswordAuthentication is %q; want no", orDefault(value, "yes, by default"))
	}
	return p
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func checkMachineID(s *subject) []string {
	var p problems
	switch n := s.files.Lookup("etc/machine-id"); {
	case n == nil:
		p.add("there is no /etc/machine-id")
	case n.Type != tree.File:
		p.add("/etc/machine-id is a %s", n.Type)
	case n.Size != 0:
		p.add("/etc/machine-id has %d bytes", n.Size)
	}
	if n := s.files.Lookup("var/lib/dbus/machine-id"); n != nil && n.Type == tree.File && n.Size != 0 {
		p.add("/var/lib/dbus/machine-id has %d bytes", n.Size)
	}
	return p
}
