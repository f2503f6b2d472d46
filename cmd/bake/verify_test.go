package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/sign"
	"github.com/nodebake/bake/bake/verify"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// verify is `bake verify` with what the world needs, and more arguments.
func (p *program) verify(args ...string) *exec.Cmd {
	cmd := p.command()
	cmd.Args = append([]string{p.path, "verify", "--debian-mirror", p.URL, "--cache", p.cache}, args...)
	return cmd
}

// opensslKeys makes a pair of keys as docs/inspect.md says.
func opensslKeys(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	need.Program(t, "openssl", "openssl")
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private},
		{"pkey", "-in", private, "-pubout", "-out", public},
	} {
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v: %s", args, err, out)
		}
	}
	return private, public
}

// TestVerifyCommand verifies what the image command made and signed.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	keys := t.TempDir()
	private, public := opensslKeys(t, keys, "ours")
	_, stranger := opensslKeys(t, keys, "theirs")
	if _, stderr, code := outcome(t, p.command("--quiet", "--sign", private)); code != exitDone {
		t.Fatalf("bake image exits with %d: %s", code, stderr)
	}
	image := filepath.Join(p.out, "tiny-v1-30-0-amd64.tar.gz")
	bundle := filepath.Join(p.out, "tiny-v1-30-0-amd64.sigstore.json")
	content := filetest.Read(t, image)
	want := func(cmd *exec.Cmd, code int, stdoutPattern, stderrPart string) {
		t.Helper()
		stdout, stderr, got := outcome(t, cmd)
		if got != code || !regexp.MustCompile(stdoutPattern).MatchString(stdout) || !strings.Contains(stderr, stderrPart) {
			t.Errorf("%q exits with %d; want %d, %q on standard output and %q on standard error:\n%s%s",
				cmd.Args[1:], got, code, stdoutPattern, stderrPart, stdout, stderr)
		}
	}
	same := `sha256:[0-9a-f]{64} ` + regexp.QuoteMeta(image) + `: verified: rebuilt byte for byte\n$`
	signed := regexp.QuoteMeta(bundle) + `: signed: tiny-v1-30-0-amd64.tar.gz, tiny-v1-30-0-amd64.json, tiny-v1-30-0-amd64.spdx.json\n`
	want(p.verify(image, "--quiet"), exitBadInput, `^sha256:[0-9a-f]{64} `+regexp.QuoteMeta(image)+`: not verified: inputs not vouched for\n$`,
		"bake: "+image+" is not verified: inputs not vouched for: nothing says that they are harmless (give --key that signed them, --versions that you know, or --trust-inputs)\n")
	want(p.verify(image, "--json"), exitBadInput, `"rebuilt":false,"identical":false,"notVouched":"nothing says that they are harmless `, "not vouched for")
	// Where the store has nothing, the image's URLs are of this machine.
	empty := []string{image, "--trust-inputs", "--quiet", "--cache", filepath.Join(t.TempDir(), "cache")}
	p.Gets()
	want(p.verify(empty...), exitFailed, "^$", p.URL+baketest.KubeletRelease+": 127.0.0.1 is a loopback address, where a URL that comes from an image must not lead (--allow-private-addresses allows it)\n")
	if got := p.Gets(); len(got) > 0 {
		t.Errorf("the server was asked for %q; want nothing", got)
	}
	want(p.verify(append(empty, "--allow-private-addresses")...), exitDone, "^"+same, "")
	want(p.verify(image, "--versions", p.Versions, "--quiet"), exitDone, "^"+same, "")
	want(p.verify(image, "--versions", "missing.yaml"), exitBadInput, "^$", "reading what vouches for the image's inputs: open missing.yaml: ")
	want(p.verify(image, "--key", public, "--quiet"), exitDone, "^"+signed+same, "")
	want(p.verify(image, "--key", public, "--no-rebuild"), exitDone, "^"+signed+"$", "")
	want(p.verify(image, "--key", stranger), exitFailed, "^$", "bake: verifying the signature of "+image+": checking the signature: ")
	want(p.verify(image, "--key", private, "--no-rebuild"), exitFailed, "^$", "public")

	stdout, stderr, code := outcome(t, p.verify(image, "--key", public, "--json", "--quiet"))
	var result verify.Result
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != exitDone || stderr != "" {
		t.Fatalf("bake verify --json exits with %d: %v: %s%s", code, err, stdout, stderr)
	}
	if !result.Identical || !result.Rebuilt || !result.Signature.Valid || len(result.Signature.Files) != 3 || result.Size != int64(len(content)) {
		t.Errorf("result is %+v", result)
	}

	// The same key signed something else.
	other := filepath.Join(keys, "review.json")
	signOther(t, private, other, image, "https://example.com/review/v1\u202e\nbake: all is well")
	want(p.verify(image, "--key", public, "--bundle", other), exitBadInput, "^$", "bake: verifying the signature of "+image+": "+other+
		`: the signed statement is of type "https://example.com/review/v1\u202e\nbake: all is well": it is not provenance of this image (want what `+"`bake image --sign` writes)\n")
	want(p.verify(image, "--key", public, "--bundle", other, "--json"), exitBadInput, `"rebuilt":false.*"valid":false.*"otherStatement":true`, "")

	// The image has its definition, which must be that of a versions file that
	// vouches for it.
	p.Edit("definition/files/etc/tool.conf", "yes", "maybe")
	want(p.verify(image, "--trust-inputs", "--quiet"), exitDone, "^"+same, "")
	want(p.verify(image, "--versions", p.Versions, "--quiet"), exitBadInput, "^sha256:[0-9a-f]{64} "+regexp.QuoteMeta(image)+": not verified: inputs not vouched for\n$",
		"bake: "+image+" is not verified: inputs not vouched for: "+p.Definition()+" is sha256:")
	p.Edit("definition/files/etc/tool.conf", "maybe", "yes")

	// What lies beside the image is signed as well.
	record := filepath.Join(p.out, "tiny-v1-30-0-amd64.json")
	before := filetest.Read(t, record)
	filetest.Write(t, record, bytes.Replace(before, []byte("0.5"), []byte("0.6"), 1))
	want(p.verify(image, "--key", public), exitFailed, "^$", "tiny-v1-30-0-amd64.json is not the one that was signed: ")
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	want(p.verify(image, "--key", public, "--no-rebuild"), exitDone, `signed: tiny-v1-30-0-amd64.tar.gz, tiny-v1-30-0-amd64.spdx.json\n$`, "")

	filetest.Write(t, image, append(content, 0))
	want(p.verify(image, "--trust-inputs"), exitFailed, `: differs\n  archive: the disk is the same, byte by byte; the archive around it is damaged: .*: differs at \d+: want nothing, it has 00\n$`,
		"bake: "+image+" is not what the inputs that it records make")
	want(p.verify(image, "--key", public), exitFailed, "^$", "tiny-v1-30-0-amd64.tar.gz is not the one that was signed: ")
}

// signOther signs a statement about an image that is of another type.
func signOther(t *testing.T, private, bundle, image, predicateType string) {
	t.Helper()
	text := filetest.Read(t, private)
	key, err := sign.ParseKey(private, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	content := filetest.Read(t, image)
	signed, err := sign.Sign(t.Context(), fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":%q,"predicate":{"result":"REJECTED"},"subject":[{"name":%q,"digest":{"sha256":"%x"}}]}`,
		predicateType, filepath.Base(image), sha256.Sum256(content)), key)
	if err != nil {
		t.Fatal(err)
	}
	filetest.Write(t, bundle, signed)
}

// TestVerifyInterrupt ends a verification that waits for a mirror.
func TestVerifyInterrupt(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	if _, stderr, code := outcome(t, p.command("--quiet")); code != exitDone {
		t.Fatalf("bake image exits with %d: %s", code, stderr)
	}
	begun := p.stall(t, p.Package("tool").Pool())
	p.cache = filepath.Join(t.TempDir(), "cache")
	tmp := t.TempDir()
	cmd := p.verify(filepath.Join(p.out, "tiny-v1-30-0-amd64.tar.gz"), "--trust-inputs", "--allow-private-addresses")
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer stop.Stop()
	interrupt(t, cmd, begun)
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || stdout.Len() > 0 || !strings.Contains(stderr.String(), "bake: interrupted, run again to continue") {
		t.Errorf("bake verify exits with %d and prints %q; want %d and nothing:\n%s", code, stdout.String(), exitInterrupted, stderr.String())
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left in the temporary directory: %s", e.Name())
	}
}

// interrupt sends cmd, which is started, Ctrl-C's signal once it has begun, and
// waits for its end.
func interrupt(t *testing.T, cmd *exec.Cmd, begun <-chan bool) {
	t.Helper()
	ended := make(chan bool)
	go func() {
		cmd.Wait()
		close(ended)
	}()
	select {
	case <-begun:
	case <-ended:
		t.Fatalf("%s ended before it was interrupted: %s", cmd, cmd.Stderr)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// stall makes the server send half of a file and wait. What it returns says
// when somebody has begun to fetch it.
func (p *program) stall(t *testing.T, path string) <-chan bool {
	t.Helper()
	content := p.File(path)
	begun, end := make(chan bool, 10), make(chan bool)
	p.Fault(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if r.Method == http.MethodGet {
			w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
			begun <- true
			<-end
		}
	})
	t.Cleanup(func() {
		close(end)
		p.Fault(path, nil)
	})
	return begun
}
