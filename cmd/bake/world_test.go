package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/baketest"
	"github.com/nodebake/bake/bake/lock"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

// program is the bake command in a tiny world.
type program struct {
	*baketest.World
	path       string
	cache, out string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	w := baketest.New(t)
	w.Lock()
	self := must.Get(os.Executable())
	dir := t.TempDir()
	p := &program{w, filepath.Join(dir, "bake"), filepath.Join(dir, "cache"), filepath.Join(dir, "out")}
	// Under this name the test is the command: see TestMain.
	filetest.Link(t, self, p.path)
	return p
}

// command is `bake image` with what the world needs, and more arguments.
func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, append([]string{"image", "--versions", "versions.yaml",
		"--debian-mirror", p.URL, "--cache", p.cache, "--output", p.out}, args...)...)
	cmd.Dir = p.Dir
	cmd.Env = p.Env()
	return cmd
}

// outcome returns the output of a command and its exit code.
func outcome(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// wantEmpty fails if the output directory holds anything.
func (p *program) wantEmpty(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(p.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("the output directory holds %s; want nothing", e.Name())
	}
}

// TestImageCommand makes an image, and makes it again.
func TestImageCommand(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	stdout, stderr, code := outcome(t, p.command())
	if code != exitDone {
		t.Fatalf("bake image exits with %d: %s", code, stderr)
	}
	path := filepath.Join(p.out, "tiny-v1-30-0-amd64.tar.gz")
	m := regexp.MustCompile(`^(sha256:[0-9a-f]{64}) (\S+)\n$`).FindStringSubmatch(stdout)
	if m == nil || m[2] != path {
		t.Fatalf("standard output is %q; want one line with digest and %s", stdout, path)
	}
	// A line for each phase that did something, or took long.
	parts := len(p.Packages) + 2 // with two releases
	wantLines(t, stderr, `^plan: done in `, fmt.Sprintf(`^fetch: %d fetched \([0-9.]+ .?B\), %d unpacked \([0-9.]+ .?B\) in `, parts, parts),
		`^compose: done in `, `^write: 1 compressed \([0-9.]+ .?B\) in `)

	stdout, stderr, code = outcome(t, p.command("--json", "--quiet"))
	if code != exitDone || stderr != "" {
		t.Fatalf("bake image --json --quiet exits with %d: %s", code, stderr)
	}
	info := filetest.Stat(t, path)
	want := bake.Result{
		SHA256: manifest.Digest(m[1]), Path: path, Record: filepath.Join(p.out, "tiny-v1-30-0-amd64.json"), Size: info.Size(),
		SPDX: filepath.Join(p.out, "tiny-v1-30-0-amd64.spdx.json"), Provenance: filepath.Join(p.out, "tiny-v1-30-0-amd64.provenance.json"),
	}
	var got bake.Result
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

// wantLines fails if text has other lines than those that patterns match, in their
// order. Which phases take longer than a second nobody knows.
func wantLines(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for line := range strings.Lines(text) {
		for len(patterns) > 0 && !regexp.MustCompile(patterns[0]).MatchString(line) && strings.HasSuffix(patterns[0], ": done in ") {
			patterns = patterns[1:]
		}
		if len(patterns) == 0 || !regexp.MustCompile(patterns[0]).MatchString(line) {
			t.Errorf("standard error has %q; want %q:\n%s", line, patterns, text)
			return
		}
		patterns = patterns[1:]
	}
	if len(patterns) > 0 && !strings.HasSuffix(patterns[0], ": done in ") {
		t.Errorf("standard error lacks %q:\n%s", patterns, text)
	}
}

// TestProgressJSON wants nothing on standard error but JSON, also where the command
// fails.
func TestProgressJSON(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	events := func(stderr string) (all []progress.Event) {
		for line := range strings.Lines(stderr) {
			var e progress.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("standard error has %q: %v", line, err)
			}
			all = append(all, e)
		}
		return all
	}
	stdout, stderr, code := outcome(t, p.command("--progress=json"))
	if code != exitDone || !strings.HasPrefix(stdout, "sha256:") {
		t.Fatalf("bake image --progress=json exits with %d and prints %q: %s", code, stdout, stderr)
	}
	var phases []string
	ended := 0
	for _, e := range events(stderr) {
		switch e.Event {
		case "phase-end":
			phases = append(phases, e.Phase)
		case "end":
			if ended++; e.Result != "done" || e.Ended != ended {
				t.Errorf("event %+v; want the %d. task to be done", e, ended)
			}
		}
	}
	if diff := cmp.Diff([]string{"plan", "fetch", "compose", "write"}, phases); diff != "" {
		t.Errorf("phases that ended (-want +got):\n%s", diff)
	}
	if want := 2*(len(p.Packages)+2) + 1; ended != want { // fetched and unpacked, with two releases; compressed
		t.Errorf("%d tasks ended; want %d", ended, want)
	}

	p.Remove(baketest.KubeletRelease)
	p.cache = filepath.Join(t.TempDir(), "empty")
	_, stderr, code = outcome(t, p.command("--progress=json"))
	all := events(stderr)
	if last := all[len(all)-1]; code != exitFailed || last.Event != "error" || !strings.HasPrefix(last.Text, "component kubelet v1.30.0: ") || last.Seconds <= 0 {
		t.Errorf("bake image exits with %d and ends with %+v; want %d and what is wrong", code, last, exitFailed)
	}
}

// TestProgressTTY has the picture where there is no terminal, too.
func TestProgressTTY(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	cmd := p.command("--progress=tty")
	cmd.Env = append(cmd.Env, "NO_COLOR=1")
	_, stderr, code := outcome(t, cmd)
	parts := len(p.Packages) + 2
	last := regexp.MustCompile(fmt.Sprintf(`(?:^|\r)%d of %d done in [0-9.]+s: %d fetched \(.*\), %d unpacked \(.*\), 1 compressed \(.*\)(\x1b\[K\r\n\x1b\[J|\r\n)$`, 2*parts+1, 2*parts+1, parts, parts))
	if code != exitDone || !last.MatchString(stderr) {
		t.Errorf("bake image --progress=tty exits with %d and ends with %q; want %s", code, stderr, last)
	}
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*m`).FindString(stderr); colour != "" {
		t.Errorf("standard error has the colour %q; want none", colour)
	}
}

// TestForce bakes another image of the same name, under a name of its own, and in
// the old one's place.
func TestForce(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	stdout, stderr, code := outcome(t, p.command("--quiet"))
	old, path, _ := strings.Cut(strings.TrimSpace(stdout), " ")
	if code != exitDone {
		t.Fatalf("bake image exits with %d: %s", code, stderr)
	}
	p.Edit("versions.yaml", "os:\n", "# more\nos:\n")
	p.Lock()
	stdout, stderr, code = outcome(t, p.command("--quiet"))
	want := "bake: writing " + path + ": an image that was made from another versions file is there, " + old +
		" (--force replaces it with all that is beside it; another --name or --output keeps both)\n"
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("bake image exits with %d and prints %q; want %d and %q:\n%s", code, stdout, exitFailed, want, stderr)
	}
	stdout, stderr, code = outcome(t, p.command("--quiet", "--name", "tiny-{inputs}"))
	if name := regexp.MustCompile(`tiny-[0-9a-f]{8}\.tar\.gz\n$`); code != exitDone || stderr != "" || !name.MatchString(stdout) {
		t.Errorf("bake image --name exits with %d and prints %q; want a name with digits:\n%s", code, stdout, stderr)
	}
	stdout, stderr, code = outcome(t, p.command("--quiet", "--force"))
	want = "bake: another image was replaced, " + old + "; where Compute Engine has that one as tiny-v1-30-0-amd64, it refuses the new one under this name (delete that one there, or bake with {inputs} in --name)\n"
	if code != exitDone || strings.HasPrefix(stdout, old) || stderr != want {
		t.Errorf("bake image --force exits with %d and prints %q; want %q:\n%s", code, stdout, want, stderr)
	}
	_, stderr, code = outcome(t, p.command("--quiet", "--name", "Tiny"))
	if want := "bake: --name: image name \"Tiny\" begins with 'T' (want"; code != exitBadInput || !strings.HasPrefix(stderr, want) {
		t.Errorf("bake image --name Tiny exits with %d; want %d and %q:\n%s", code, exitBadInput, want, stderr)
	}
}

// TestBuildMissing takes a release away and wants to be told what is made in its
// place, however little bake is to say.
func TestBuildMissing(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	p.Remove(baketest.KubeletRelease)
	why := "component kubelet v1.30.0: its release is unavailable at " + p.URL + baketest.KubeletRelease + ": 404 Not Found"
	instead := "example.com/kubelet v1.30.0"
	host := strings.TrimPrefix(p.URL, "http://")
	note := "1 release is unavailable: 404 Not Found at " + host + "; built from source instead: kubelet\n"
	summary := "bake: 1 part is built from source: the image has another digest than with releases\n"

	_, stderr, code := outcome(t, p.command("--build-missing=containerd"))
	if want := "bake: " + why + "; --build-missing=kubelet would build it from " + instead + "\n"; code != exitFailed || stderr != want {
		t.Errorf("bake image exits with %d; want %d and %q:\n%s", code, exitFailed, want, stderr)
	}
	_, stderr, code = outcome(t, p.command("--build-missing"))
	if code != exitDone || !strings.Contains(stderr, note) || !strings.HasSuffix(stderr, summary) || strings.Contains(stderr, why) {
		t.Errorf("bake image --build-missing exits with %d; want %q and %q:\n%s", code, note, summary, stderr)
	}
	_, stderr, code = outcome(t, p.command("--build-missing", "--verbose"))
	if want := why + "; built from " + instead + " instead\n"; code != exitDone || !strings.Contains(stderr, want) {
		t.Errorf("bake image --verbose exits with %d; want %q:\n%s", code, want, stderr)
	}
	stdout, stderr, code := outcome(t, p.command("--build-missing=kubelet", "--quiet", "--json"))
	if want := "bake: " + note + summary; code != exitDone || stderr != want {
		t.Errorf("bake image --quiet exits with %d; want %q:\n%s", code, want, stderr)
	}
	var got bake.Result
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := []source.Missing{{
		Name: "component kubelet v1.30.0", Reason: strings.TrimPrefix(why, "component kubelet v1.30.0: "), Else: instead,
		Causes: []fetch.Cause{{What: "404 Not Found", Host: host}},
	}}
	if diff := cmp.Diff(want, got.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// TestImageCommandFails holds exit codes to what scripts make of them.
func TestImageCommandFails(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	restore := p.Snapshot()
	for _, test := range []struct {
		name  string
		wrong func() (args []string)
		code  int
		want  string // in standard error
	}{
		{"package that mirrors have dropped", func() []string {
			p.Remove(p.Package("tool").Pool())
			return nil
		}, exitStale, "bake: locked packages that are unavailable: 1; mirrors drop"},
		{"the same, and a release that is gone", func() []string {
			p.Remove(p.Package("tool").Pool())
			p.Remove(baketest.ContainerdRelease)
			return []string{"--build-missing"}
		}, exitFailed, "bake: component containerd 2.0.0: its release is unavailable at " + p.URL + baketest.ContainerdRelease + ": 404 Not Found"},
		{"one of two mirrors does not answer", func() []string { return []string{"--debian-mirror", "http://127.0.0.1:1"} }, exitDone, ""},
		{"stale lock", func() []string {
			p.Edit("definition/image.yaml", "- tool\n", "- tool\n- jq\n")
			return nil
		}, exitStale, "bake: versions.lock is stale: versions.yaml with the image definition definition asks for jq, which it lacks (run: bake lock --versions versions.yaml)\n"},
		{"architecture that the lock lacks", func() []string { return []string{"--arch", "arm64"} },
			exitBadInput, "bake: versions.lock:1:1: lock: nothing for arm64 (there is: amd64)"},
		{"release that lies", func() []string {
			p.Serve(baketest.KubeletRelease, []byte("x"))
			return nil
		}, exitFailed, "bake: kubelet v1.30.0 from " + p.URL + baketest.KubeletRelease + " is sha256:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer restore()
			p := *p
			p.cache, p.out = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "out")
			stdout, stderr, code := outcome(t, p.command(test.wrong()...))
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("bake image exits with %d; want %d and %q:\n%s", code, test.code, test.want, stderr)
			}
			if test.code == exitDone {
				return
			}
			if stdout != "" {
				t.Errorf("standard output is %q; want nothing", stdout)
			}
			p.wantEmpty(t)
		})
	}
}

// TestExitCodes are those of errors that need Debian's own keys to come about.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	outdated := &lock.OutdatedError{Lock: "versions.lock", Updates: []lock.Update{{Name: "bash", Locked: "1", Available: "2", Suite: "trixie-security"}}}
	stale := &manifest.StaleError{Lock: "versions.lock", VersionsFile: "versions.yaml"}
	for _, err := range []error{outdated, stale, errors.Join(stale, outdated), errors.Join(stale, errors.New("no mirror"))} {
		if got := exitCode(t.Context(), err); got != exitStale {
			t.Errorf("exitCode(%v) = %d; want %d", err, got, exitStale)
		}
	}
}

// TestInterrupt sends the signal of Ctrl-C, and the one that init systems send,
// to a bake that is under way.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for _, test := range []struct {
		name  string
		under func(t *testing.T, p *program) (wait func()) // way
	}{
		{"fetching", func(t *testing.T, p *program) func() {
			pool := p.Package("tool").Pool()
			deb := p.File(pool)
			begun, end := make(chan bool, 10), make(chan bool)
			p.Fault(pool, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(deb)))
				if r.Method == http.MethodGet {
					w.Write(deb[:len(deb)/2])
					w.(http.Flusher).Flush()
					begun <- true
					<-end
				}
			})
			t.Cleanup(func() {
				close(end)
				p.Fault(pool, nil)
			})
			return func() { <-begun }
		}},
		{"writing", func(t *testing.T, p *program) func() {
			return func() {
				for range 10_000 {
					found := must.Get(filepath.Glob(filepath.Join(p.out, ".bake-*")))
					for _, f := range found {
						// The first is a probe.
						if info, err := os.Stat(f); err == nil && info.Size() > 0 {
							return
						}
					}
					time.Sleep(time.Millisecond)
				}
				t.Fatal("nothing is written after 10 s")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := *p
			p.cache, p.out = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "out")
			wait := test.under(t, &p)
			cmd := p.command()
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			defer stop.Stop()
			wait()
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			sent := time.Now()
			cmd.Wait()
			if took := time.Since(sent); took > 10*time.Second {
				t.Errorf("bake ended %v after the signal", took)
			}
			// Between our look and the signal all may have been written.
			if code := cmd.ProcessState.ExitCode(); test.name == "fetching" || code != exitDone {
				if code != exitInterrupted || stdout.Len() > 0 {
					t.Errorf("bake exits with %d and prints %q; want %d and nothing", code, stdout.String(), exitInterrupted)
				}
				if want := "bake: interrupted, run again to continue\n"; !strings.HasSuffix(stderr.String(), want) {
					t.Errorf("standard error does not end with %q:\n%s", want, stderr.String())
				}
				p.wantEmpty(t)
			}
			p.Fault(p.Package("tool").Pool(), nil)
			if _, stderr, code := outcome(t, p.command("--quiet")); code != exitDone {
				t.Errorf("the next bake exits with %d: %s", code, stderr)
			}
		})
	}
}
