package smoke

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked is how questions to one pod come back from a shell, with this machine's
// programs as busybox's applets.
func asked(t *testing.T, words ...[]string) []output {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell")
	}
	dir, tmp := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "busybox"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var calls []call
	for _, w := range words {
		calls = append(calls, call{words: append([]string{"busybox"}, w...)})
	}
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(script(calls))
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "TMPDIR=" + tmp}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("the script ends with %v: %s", err, stderr.String())
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the script leaves %v, %v", left, err)
	}
	return parseScript(output{stdout: stdout.String()}, len(words))
}

// outputs are compared, errors by what they say.
func outputs(list []output) []string {
	var all []string
	for _, o := range list {
		all = append(all, fmt.Sprintf("%d %q %q %v", o.code, o.stdout, o.stderr, o.err))
	}
	return all
}

func TestScript(t *testing.T) {
	t.Parallel()
	got := asked(t,
		[]string{"sh", "-c", "until [ -e \"$TMPDIR/late\" ]; do sleep 0.01; done; rm \"$TMPDIR/late\"; echo late"}, // asked at the same time as the last
		[]string{"printf", "answer 1 0 0 0\nno end"},
		[]string{"sh", "-c", "echo out; echo err >&2; exit 7"},
		[]string{"printf", "%s", `it's "quoted" $HOME`},
		[]string{"cat"},
		[]string{"sh", "-c", "touch \"$TMPDIR/late\"; exit 1"},
	)
	want := outputs([]output{
		{stdout: "late\n"}, {stdout: "answer 1 0 0 0\nno end"}, {stdout: "out\n", stderr: "err\ncommand terminated with exit code 7\n", code: 7},
		{stdout: `it's "quoted" $HOME`}, {}, {stderr: "\ncommand terminated with exit code 1\n", code: 1},
	})
	if diff := cmp.Diff(want, outputs(got)); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// TestParseScript has answers that did not come whole.
func TestParseScript(t *testing.T) {
	t.Parallel()
	cutOff := output{err: errCutOff}
	failed := output{code: 1, stderr: "error: unable to upgrade connection: Forbidden\n"}
	for _, test := range []struct {
		name string
		out  output
		want []output
	}{
		{"whole", printed("answer 0 0 3 0\none" + "answer 1 1 0 4\ntwo\n"), []output{{stdout: "one"}, {stderr: "two\ncommand terminated with exit code 1\n", code: 1}}},
		{"no exec", failed, []output{failed, failed}},
		{"nothing", printed(""), []output{cutOff, cutOff}},
		{"cut off", printed("answer 0 0 3 0\none" + "answer 1 0 9 0\ntwo\n"), []output{{stdout: "one"}, cutOff}},
		{"cut off, with the shell's end", output{code: 137, stdout: "answer 0 0 3 0\none", stderr: "command terminated with exit code 137\n"},
			[]output{{stdout: "one"}, {code: 137, stdout: "answer 0 0 3 0\none", stderr: "command terminated with exit code 137\n"}}},
		{"another's words", printed("answer 2 0 0 0\n"), []output{cutOff, cutOff}},
		{"below zero", printed("answer -1 0 0 0\n"), []output{cutOff, cutOff}},
		{"too long", printed("answer 0 0 9223372036854775807 9223372036854775807\n"), []output{cutOff, cutOff}},
	} {
		if diff := cmp.Diff(outputs(test.want), outputs(parseScript(test.out, 2))); diff != "" {
			t.Errorf("%s: answers (-want +got):\n%s", test.name, diff)
		}
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("answer 0 0 3 0\noneanswer 1 1 0 4\ntwo\n")
	f.Add("answer 1 0 9 0\n")
	f.Add("answer 0 0 9223372036854775807 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, o := range parseScript(printed(text), 2) {
			if o.err == nil && o.code == 0 && !strings.Contains(text, o.stdout) {
				t.Errorf("an answer %q is not in %q", o.stdout, text)
			}
		}
	})
}

// TestServe prepares what pods serve where busybox is the only program: an image may
// lack links to its applets.
func TestServe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no shell")
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	bin, tmp := t.TempDir(), t.TempDir()
	fake := "#!" + sh + "\nPATH=" + os.Getenv("PATH") + "\n[ \"$1\" != httpd ] || { shift; echo \"serves $*\"; exit; }\nexec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "busybox"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sh, "-c", serve)
	cmd.Env = []string{"PATH=" + bin, "TMPDIR=" + tmp}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "serves -f -p 8080\n") {
		t.Fatalf("the script: %v\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(tmp, "www", "mebibyte"))
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(content)) != mebibyteSum() {
		t.Errorf("it serves %d bytes, %v; want those of mebibyteSum", len(content), err)
	}
	if info, err := os.Stat(filepath.Join(tmp, "www", "cgi-bin", "source")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("cgi-bin/source: %v, %v; want a program", info, err)
	}
}
