//go:build system

// Package minimal tries the commands of README on machines that have nothing but
// what README asks for, because a developer's machine, and CI's, hide what
// scripts/install-tools forgets.
package minimal

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/repo"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
	"github.com/nodebake/bake/test/need"
)

// root is the project's directory, seen from this package.
const root = "../.."

// machine is a Debian system of essential packages, git, make and
// ca-certificates.
type machine struct {
	suite  string
	deb822 bool // apt's sources are in debian.sources, as in newer installations, and not in sources.list
}

func machines() []machine {
	return []machine{{"bookworm", true}, {"trixie", false}}
}

// TestMinimalMachines makes each machine, and has inside.sh set it up from a
// clone, as its only program that is not Debian's.
func TestMinimalMachines(t *testing.T) {
	need.Root(t, "install other systems' packages")
	for _, m := range machines() {
		t.Run(m.suite, func(t *testing.T) {
			t.Parallel()
			dir := m.make(t)
			clone(t, filepath.Join(dir, "src"))
			enter(t, dir)
		})
	}
}

// make returns the directory of m's root filesystem.
func (m machine) make(t *testing.T) string {
	t.Helper()
	mirrors, err := debian.Mirrors(nil, os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	urls, err := mirrors.URLs(repo.Main, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), m.suite)
	run(t, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=git,make,ca-certificates", m.suite, dir, urls[0])
	// What stands between this machine and the network stands before that one too.
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"} {
		content := filetest.Read(t, path)
		write(t, filepath.Join(dir, path), content)
	}
	if m.deb822 {
		if err := os.Remove(filepath.Join(dir, "etc/apt/sources.list")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "etc/apt/sources.list.d/debian.sources"),
			fmt.Appendf(nil, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", urls[0], m.suite))
	}
	return dir
}

// clone clones what is committed here.
func clone(t *testing.T, dir string) {
	t.Helper()
	top := must.Get(filepath.Abs(root))
	if changes := run(t, "git", "-C", top, "status", "--porcelain"); changes != "" {
		t.Logf("what is tried is HEAD, without these changes:\n%s", changes)
	}
	run(t, "git", "clone", "--quiet", "--depth=1", "file://"+top, dir)
}

// enter runs inside.sh with dir for a root, in a mount namespace of its own,
// with Go's caches of this machine: what they spare is compiling and downloading.
func enter(t *testing.T, dir string) {
	t.Helper()
	var binds strings.Builder
	for _, variable := range []string{"GOCACHE", "GOMODCACHE"} {
		cache := strings.TrimSpace(run(t, "go", "env", variable))
		inside := filepath.Join(dir, "cache", variable)
		for _, d := range []string{cache, inside} {
			filetest.Mkdir(t, d)
		}
		fmt.Fprintf(&binds, "mount --bind '%s' '%s'\n", cache, inside)
	}
	script := "set -e\nmount -t proc proc '" + dir + "/proc'\nmount --rbind /dev '" + dir + "/dev'\n" + binds.String() +
		"exec chroot '" + dir + "' /bin/bash /src/test/minimal/inside.sh"
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script)
	cmd.Env = []string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb", "GOCACHE=/cache/GOCACHE", "GOMODCACHE=/cache/GOMODCACHE"}
	for _, variable := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE"} {
		cmd.Env = append(cmd.Env, variable+"="+strings.TrimSpace(run(t, "go", "env", variable)))
	}
	for _, variable := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if value, ok := os.LookupEnv(variable); ok {
			cmd.Env = append(cmd.Env, variable+"="+value)
		}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("inside.sh: %v", err)
	}
	if !bytes.HasSuffix(out, []byte("\nset up\n")) {
		t.Error("inside.sh did not come to its last line")
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	filetest.Write(t, path, content)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return string(out)
}
