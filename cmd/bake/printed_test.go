package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// printedCommand matches a command that a message prints, as all of them do.
var printedCommand = regexp.MustCompile(`(?m)\brun: (bake [^\n]+?)(?:\)|$)`)

// printed returns the one command that a message prints.
func printed(t *testing.T, message string) string {
	t.Helper()
	found := printedCommand.FindAllStringSubmatch(message, -1)
	if len(found) != 1 {
		t.Fatalf("the message prints %d commands; want 1:\n%s", len(found), message)
	}
	return found[0][1]
}

// shell runs a command as a person types it, who has bake in his PATH and the
// tiny world for a mirror.
func (p *program) shell(t *testing.T, command string) (stdout, stderr string, code int) {
	t.Helper()
	keyring := filepath.Join(t.TempDir(), "keyring")
	filetest.Write(t, keyring, p.Keyring)
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = p.Dir
	cmd.Env = append(p.Env(), "PATH="+filepath.Dir(p.path)+string(filepath.ListSeparator)+os.Getenv("PATH"), "BAKE_DEBIAN_MIRROR="+p.URL,
		"XDG_CACHE_HOME="+p.cache, nowVariable+"="+p.Now.Format(time.RFC3339), keyringVariable+"="+keyring)
	return outcome(t, cmd)
}

// succeed is shell for a command that must succeed.
func (p *program) succeed(t *testing.T, command string) string {
	t.Helper()
	stdout, stderr, code := p.shell(t, command)
	if code != exitDone {
		t.Fatalf("%s exits with %d: %s", command, code, stderr)
	}
	return stdout
}

// TestPrintedCommands has things go wrong, runs the command that the message
// prints, and wants that what went wrong works then. Names have blanks.
func TestPrintedCommands(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	p.ARM64 = true
	p.Publish()
	must.Do(os.Rename(p.Versions, filepath.Join(p.Dir, "my set.yaml")))
	must.Do(os.Rename(p.LockFile(), filepath.Join(p.Dir, "my set.lock")))
	p.Versions = filepath.Join(p.Dir, "my set.yaml")
	restore := p.Snapshot()
	more := func() {
		p.Edit("definition/image.yaml", "- tool\n", "- tool\n- jq\n")
		p.Packages = append(p.Packages, &baketest.Package{Name: "jq", Version: "1"})
		p.Publish()
	}
	write := func(file, text string) {
		filetest.Write(t, filepath.Join(p.Dir, file), text)
	}
	const image = "bake image --versions 'my set.yaml' --quiet --output out"
	for _, test := range []struct {
		name    string
		change  func()
		command string
		code    int
		want    string // the command that is printed
	}{
		{"no lock", func() {
			if err := os.Remove(p.LockFile()); err != nil {
				t.Fatal(err)
			}
		}, image, exitBadInput, "bake lock --versions 'my set.yaml'"},
		{"stale lock", more, image, exitStale, "bake lock --versions 'my set.yaml'"},
		{"another stale lock", func() {
			more()
			text := filetest.Read(t, p.LockFile())
			write("it's other.lock", string(text))
		}, image + ` --lock "it's other.lock"`, exitStale, `bake lock --versions 'my set.yaml' --output 'it'\''s other.lock'`},
		{"broken lock", func() { write("my set.lock", "<<<<<<< HEAD\n") }, image, exitBadInput, "bake lock --versions 'my set.yaml'"},
		{"architecture that the lock lacks", func() {}, "bake lock check --versions 'my set.yaml' --arch arm64", exitBadInput,
			"bake lock --versions 'my set.yaml' --arch amd64,arm64"},
		{"superseded package", func() {
			p.Remove(p.Package("tool").Pool())
			p.Package("tool").Version = "1.1"
			p.Publish()
		}, image, exitStale, "bake lock --versions 'my set.yaml'"},
		{"security updates", func() {
			p.Packages = append(p.Packages, &baketest.Package{Name: "tool", Version: "1.0+deb13u1", Suite: "trixie-security"},
				&baketest.Package{Name: "shell", Version: "0.6", Suite: "trixie-security", Fields: "Essential: yes\n"})
			p.Publish()
		}, "bake lock check --versions 'my set.yaml'", exitStale, "bake lock --versions 'my set.yaml' --upgrade shell,tool"},
		{"mirror of another lock", func() {
			p.succeed(t, "bake mirror --versions 'my set.yaml' --output 'a mirror' --quiet")
			more()
			p.succeed(t, "bake lock --versions 'my set.yaml'")
		}, image + " --mirror 'a mirror' --offline", exitFailed, "bake mirror --versions 'my set.yaml' --output '" + filepath.Join(p.Dir, "a mirror") + "'"},
		{"damaged mirror", func() {
			p.succeed(t, "bake mirror --versions 'my set.yaml' --output 'a mirror' --quiet")
			p.succeed(t, "f=$(grep -o '\"tool 1.0 amd64\".*sha256:[0-9a-f]*' 'a mirror/mirror.json' | sed 's/.*sha256://'); printf x >>\"a mirror/blobs/sha256/$f\"")
		}, image + " --mirror 'a mirror' --offline", exitFailed, "bake mirror check '" + filepath.Join(p.Dir, "a mirror") + "'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			test.change()
			p := *p
			p.cache = filepath.Join(t.TempDir(), "my cache")
			_, stderr, code := p.shell(t, test.command)
			if code != test.code {
				t.Fatalf("%s exits with %d; want %d: %s", test.command, code, test.code, stderr)
			}
			command := printed(t, stderr)
			if command != test.want {
				t.Errorf("the message prints %s; want %s", command, test.want)
			}
			if strings.Contains(command, " check ") {
				// It finds what is wrong, and that is what it is for.
				if _, stderr, code := p.shell(t, command); code != exitFailed || !strings.Contains(stderr, "tool 1.0 amd64") {
					t.Errorf("%s exits with %d; want that it names the damage: %s", command, code, stderr)
				}
				return
			}
			p.succeed(t, command)
			p.succeed(t, test.command)
		})
	}
}

// TestReadme does what README says of edits, with its own commands.
func TestReadme(t *testing.T) {
	t.Parallel()
	text := filetest.Read(t, "../../README.md")
	_, part, _ := strings.Cut(string(text), "\n## What you edit\n")
	part, _, _ = strings.Cut(part, "\n## ")
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^    bin/(bake [^#\n]*)`).FindAllStringSubmatch(part, -1) {
		// The tiny world has another package.
		commands = append(commands, strings.Replace(strings.TrimSpace(m[1]), "openssl", "tool", 1))
	}
	if len(commands) != 4 {
		t.Fatalf("README has the commands %q; want 4", commands)
	}
	image, lock, check, upgrade := commands[0], commands[1], commands[2], commands[3]
	p := newProgram(t)
	p.Checkout()
	p.Lock()
	const made = "out/tiny-v1-30-0-amd64.tar.gz"
	p.succeed(t, image+" && mv "+made+" old.tar.gz")
	p.Edit("images/worker/files/etc/tool.conf", "yes", "by me")
	p.succeed(t, image)
	if got, want := p.succeed(t, "bake inspect "+made+" --cat /etc/tool.conf"), "changed = by me\n"; got != want {
		t.Errorf("after an edit /etc/tool.conf is %q; want %q", got, want)
	}
	if got := p.succeed(t, "bake inspect old.tar.gz "+made); !strings.Contains(got, "~ file /etc/tool.conf: ") || strings.Contains(got, "package ") {
		t.Errorf("the images differ in\n%s\nwant /etc/tool.conf, and no package", got)
	}
	if got := p.succeed(t, "bake inspect "+made); !regexp.MustCompile(`(?m)^  definition +sha256:[0-9a-f]{64} \(\.\./images/worker\)$`).MatchString(got) {
		t.Errorf("bake inspect does not say which definition it was:\n%s", got)
	}

	p.Edit("images/worker/image.yaml", "- tool\n", "- tool\n- jq\n")
	fixed := *p.Package("tool")
	fixed.Version, fixed.Suite = "1.0+deb13u1", "trixie-security"
	p.Packages = append(p.Packages, &baketest.Package{Name: "jq", Version: "1"}, &fixed)
	p.Publish()
	_, stderr, code := p.shell(t, image)
	if code != exitStale || printed(t, stderr) != lock {
		t.Errorf("%s exits with %d; want %d and %q: %s", image, code, exitStale, lock, stderr)
	}
	stdout := p.succeed(t, lock)
	if want := "manifests/versions.lock\namd64: + jq 1 (images/worker/image.yaml:7 asks for it)\namd64: 10 packages kept\n"; !strings.HasSuffix(stdout, want) {
		t.Errorf("%s prints %q; want %q at its end", lock, stdout, want)
	}
	p.succeed(t, image)
	_, stderr, code = p.shell(t, check)
	if code != exitStale || printed(t, stderr) != upgrade {
		t.Errorf("%s exits with %d; want %d and %q: %s", check, code, exitStale, upgrade, stderr)
	}
	stdout = p.succeed(t, upgrade)
	if want := "\namd64: tool 1.0 -> 1.0+deb13u1 (--upgrade)\namd64: 10 packages kept\n"; !strings.Contains(stdout, want) {
		t.Errorf("%s prints %q; want %q", upgrade, stdout, want)
	}
	p.succeed(t, check)
	p.succeed(t, image)
}
