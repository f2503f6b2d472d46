//go:build unix

package gobuild

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/test/filetest"
)

// secrets are what the environment of a CI may hold and no compiler may see.
func secrets() []string {
	return []string{
		"BAKE_SIGN_PASSWORD=secret", "COSIGN_PASSWORD=secret", "GITHUB_TOKEN=secret", "AWS_SECRET_ACCESS_KEY=secret", "GOOGLE_APPLICATION_CREDENTIALS=secret",
		"CGO_CFLAGS=-O0", "CC=tcc", "GCC_EXEC_PREFIX=/x", "CPATH=/i", "LD_PRELOAD=", "GODEBUG=x=1", "GOEXPERIMENT=", "LANG=de_DE", "SOURCE_DATE_EPOCH=1",
	}
}

// variables returns the names in the output of env(1), sorted, without those
// that shells add.
func variables(t *testing.T, file string) []string {
	t.Helper()
	text := filetest.Read(t, file)
	var names []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		if !slices.Contains([]string{"PWD", "OLDPWD", "SHLVL", "_"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// value returns that of a variable in the output of env(1).
func value(t *testing.T, file, name string) string {
	t.Helper()
	text := filetest.Read(t, file)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return v
		}
	}
	return ""
}

// homeless is a user whose home is dir and who has compiled before.
func homeless(t *testing.T, dir string) []string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"HOME=" + dir, "GOCACHE=" + strings.TrimSpace(string(out))}
}

// spy is a go command that writes its environment and the network interfaces
// that it sees to files in dir, called after what it does, and then does what it was
// asked for.
func spy(t *testing.T, dir string) string {
	return script(t, `case $1 in build|version) what=$1 ;; *) what=fetch ;; esac
env >`+dir+`/$what.env
ip=/proc/self/net/dev
test ! -e $ip || cat $ip >`+dir+`/$what.net
exec go "$@"`)
}

// TestEnvironment looks at what the go command and a C compiler are told.
func TestEnvironment(t *testing.T) {
	toy := newToy(t)
	dir := t.TempDir()
	env := append(toyEnv(t, toy.proxy), secrets()...)
	env = append(append(env, homeless(t, dir)...), "HTTPS_PROXY=http://user:password@127.0.0.1:1", "SSH_AUTH_SOCK=/s", "NETRC=/n", "GOAUTH=netrc", "GOPRIVATE=corp.example.com")
	// What the machine that runs the test has is no concern of it.
	env = slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(fetchVariables(), name) && !slices.Contains([]string{"HTTPS_PROXY", "SSH_AUTH_SOCK", "NETRC"}, name) || name == "USER" || name == "LOGNAME"
	})
	if _, _, err := toy.build(t.Context(), t, Config{Env: env, Go: spy(t, dir)}); err != nil {
		t.Fatal(err)
	}
	common := []string{
		"CGO_ENABLED", "GO111MODULE", "GOARCH", "GOCACHE", "GOENV", "GOFLAGS", "GOMODCACHE", "GOOS", "GOPATH", "GOPROXY", "GOTMPDIR", "GOTOOLCHAIN", "GOWORK",
		"HOME", "LC_ALL", "PATH", "TMPDIR",
	}
	common = append(common, map[string]string{"amd64": "GOAMD64", "arm64": "GOARM64"}[runtime.GOARCH])
	fetch := append(slices.Clone(common), "GOAUTH", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOSUMDB", "HTTPS_PROXY", "NETRC", "SSH_AUTH_SOCK")
	for what, want := range map[string][]string{"fetch": fetch, "build": common} {
		slices.Sort(want)
		if diff := cmp.Diff(want, variables(t, filepath.Join(dir, what+".env"))); diff != "" {
			t.Errorf("variables of the go command for %s (-want +got):\n%s", what, diff)
		}
	}
	if got := value(t, filepath.Join(dir, "build.env"), "GOPROXY"); got != "off" {
		t.Errorf("GOPROXY of go build is %q; want off", got)
	}
	if got := value(t, filepath.Join(dir, "build.env"), "HOME"); got != dir {
		t.Errorf("HOME of go build is %q; want the user's, %s", got, dir)
	}

	cc := script(t, `env >`+dir+`/cc.env
case $1 in
-dumpmachine) echo `+arch.Arch(runtime.GOARCH).Facts().Triplet+` ;;
-print-prog-name=ld) echo false ;;
*) echo cc 1 ;;
esac`)
	toy = toy.clone()
	toy.target.Module.CGO = &manifest.CGO{LDFlags: []string{"-static"}}
	// The linker says nothing and ends badly: all that is asked of cc came before.
	toy.build(t.Context(), t, Config{Env: env, CC: cc})
	if diff := cmp.Diff([]string{"HOME", "LC_ALL", "PATH"}, variables(t, filepath.Join(dir, "cc.env"))); diff != "" {
		t.Errorf("variables of the C compiler (-want +got):\n%s", diff)
	}
}

// TestConfined builds what somebody else chose: the same program, compiled
// without a network and without the user's home.
func TestConfined(t *testing.T) {
	toy := newToy(t)
	usual, _, err := toy.build(t.Context(), t, Config{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := append(toyEnv(t, toy.proxy+",direct"), "GOPRIVATE=corp.example.com", "GOVCS=*:all", "GOINSECURE=*")
	env = append(env, homeless(t, dir)...)
	sink := &logSink{t: t}
	confined, _, err := toy.build(t.Context(), t, Config{Env: env, Go: spy(t, dir), Confined: true, Progress: sink})
	if err != nil {
		t.Fatal(err)
	}
	if confined != usual {
		t.Errorf("programs are %s; want those of a usual build, %s", confined, usual)
	}
	fetch, build := filepath.Join(dir, "fetch.env"), filepath.Join(dir, "build.env")
	for name, want := range map[string]string{"GOPROXY": toy.proxy, "GOVCS": "*:off", "GOPRIVATE": "", "GONOPROXY": "", "GOINSECURE": "", "HOME": dir} {
		if got := value(t, fetch, name); got != want {
			t.Errorf("%s of commands that fetch is %q; want %q", name, got, want)
		}
	}
	if got := value(t, build, "GOPROXY"); got != "off" {
		t.Errorf("GOPROXY of go build is %q; want off", got)
	}
	if got := value(t, build, "HOME"); filepath.Base(got) != "home" || got == dir {
		t.Errorf("HOME of go build is %q; want one of its own", got)
	}
	if runtime.GOOS != "linux" {
		return
	}
	interfaces := filetest.Read(t, filepath.Join(dir, "build.net"))
	var names []string
	for line := range strings.Lines(string(interfaces)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	if slices.ContainsFunc(sink.notes, func(n string) bool { return strings.Contains(n, "compilers can reach the network here") }) {
		t.Skipf("no namespaces here: %q", sink.notes)
	}
	if diff := cmp.Diff([]string{"lo"}, names); diff != "" {
		t.Errorf("network interfaces of go build (-want +got):\n%s", diff)
	}
}

// TestNotConfined says so where the host has no namespaces.
func TestNotConfined(t *testing.T) {
	sink := &logSink{t: t}
	b := newBuilder(t, Config{Confined: true, Progress: sink})
	g := &gocmd{path: filepath.Join(t.TempDir(), "no-go"), dir: t.TempDir(), log: filepath.Join(t.TempDir(), "log")}
	for range 2 {
		if s, err := b.separate(t.Context(), g); err != nil || s == nil || s.change != nil {
			t.Fatalf("separate = %v, %v; want what changes nothing", s, err)
		}
	}
	if len(sink.notes) != 1 || !strings.HasPrefix(sink.notes[0], "compilers can reach the network here, although an image's inputs are built: ") {
		t.Errorf("notes are %q; want one that compilers can reach the network", sink.notes)
	}
}

func TestWithoutDirect(t *testing.T) {
	for in, want := range map[string]string{
		"https://proxy.example,direct":         "https://proxy.example",
		"https://a|direct,https://b":           "https://a|https://b",
		"direct,https://a|https://b":           "https://a|https://b",
		"https://a, direct ,file:///b|direct|": "https://a,file:///b",
		"direct":                               "",
		"direct|direct":                        "",
		"":                                     "",
		"off":                                  "off",
		"https://direct.example.com/direct":    "https://direct.example.com/direct",
	} {
		if got := withoutDirect(in); got != want {
			t.Errorf("withoutDirect(%q) = %q; want %q", in, got, want)
		}
	}
}

// TestConfinedProxies leaves nothing to ask where the user has no proxy.
func TestConfinedProxies(t *testing.T) {
	good := newToy(t)
	for _, test := range []struct{ goproxy, want string }{
		{"direct", "GOPROXY=direct names no module proxy, and modules of an image's inputs are fetched from nowhere else (set it to one, or give a mirror)"},
		{"off", "module lookup disabled by GOPROXY=off"},
	} {
		b := newBuilder(t, Config{Env: toyEnv(t, test.goproxy), Confined: true})
		err := b.Preflight(t.Context(), good.target, arch.Arch(runtime.GOARCH), good.modfiles)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("with GOPROXY=%s: Preflight = %v; want %q in it", test.goproxy, err, test.want)
		}
	}
	// A mirror has all that is needed.
	config := noNetwork(t, listToy(t, good))
	config.Env, config.Confined = toyEnv(t, "direct"), true
	if _, _, err := good.preflightAndBuild(t, config); err != nil {
		t.Errorf("with GOPROXY=direct and a mirror: %v", err)
	}
}
