package minimal

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// strict is how every script begins: what fails ends it, and says so.
const strict = `set -Eeuo pipefail
shopt -s inherit_errexit
trap 'echo "$0:$LINENO: this ended with $?: $BASH_COMMAND" >&2' ERR
`

// tree is the project's directory.
const tree = "../.."

// TestScriptsSayWhatFailed looks at every script of the project.
func TestScriptsSayWhatFailed(t *testing.T) {
	count := 0
	walk(t, func(path string) {
		content := filetest.Read(t, path)
		first, _, _ := bytes.Cut(content, []byte("\n"))
		if !regexp.MustCompile(`^#!.*\b(ba)?sh$`).Match(first) {
			return
		}
		count++
		if !bytes.Contains(content, []byte("\n"+strict)) {
			t.Errorf("%s does not begin with these lines:\n%s", path, strict)
		}
	})
	if count < 8 {
		t.Errorf("found %d scripts; want 8 at least", count)
	}
}

// TestStrictLines shows what they do where a command of a pipe, of a function or
// of a substitution fails.
func TestStrictLines(t *testing.T) {
	bash := need.Program(t, "bash", "bash")
	for _, c := range []struct{ line, want string }{
		{`major=$(nothing-like-it --version 2>/dev/null | sed -n 1p)`, "script:5: this ended with 127: major=$(nothing-like-it"},
		{`mirror=$(grep -h x /nonexistent/sources.list 2>/dev/null | head -n 1)`, "script:5: this ended with 2: mirror=$(grep"},
		{`f() { false; true; }; f`, "script:5: this ended with 1: false"},
		{`x=$(false; echo y)`, "script:5: this ended with 1: false"},
	} {
		script := filepath.Join(t.TempDir(), "script")
		filetest.Script(t, script, "#!/bin/bash\n"+strict+c.line+"\necho went on\n")
		out, err := exec.CommandContext(t.Context(), bash, script).CombinedOutput()
		if err == nil || bytes.Contains(out, []byte("went on")) || !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("%s: %v, printed %q; want a failure that prints %q", c.line, err, out, c.want)
		}
	}
}

// TestEveryProgramIsInstalled compares the programs that tests call by name with
// those that scripts/install-tools installs.
func TestEveryProgramIsInstalled(t *testing.T) {
	need.Program(t, "bash", "bash")
	list, err := exec.CommandContext(t.Context(), filepath.Join(tree, "scripts/install-tools"), "--list", "go", "build", "lint", "test", "qemu", "bench").Output()
	if err != nil {
		t.Fatal(err)
	}
	// What every Debian system has, or git, make and Go bring; and what tests
	// make up, or ask for in order not to find it.
	known := strings.Fields("apt-get bash sh cat chmod chroot cp cut echo env false find head id ls mkdir rm sha256sum sleep sync timeout true uname zcat " +
		"git gofmt make /proc/self/exe")
	for line := range strings.Lines(string(list)) {
		known = append(known, strings.Fields(line)[0])
	}
	called := 0
	walk(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") && !(strings.HasPrefix(path, tree+"/test/") && strings.HasSuffix(path, ".go")) {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			name, ok := program(n)
			if ok {
				called++
				if !slices.Contains(known, name) && !strings.Contains(name, "nonexistent") {
					t.Errorf("%s calls %s, which scripts/install-tools does not install", path, name)
				}
			}
			return true
		})
	})
	if called < 20 {
		t.Errorf("found %d calls of programs; want 20 at least", called)
	}
}

// program returns the program that a call of exec.LookPath, exec.Command,
// exec.CommandContext or need.Program names.
func program(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := f.X.(*ast.Ident)
	if !ok || x.Name != "exec" && x.Name+"."+f.Sel.Name != "need.Program" {
		return "", false
	}
	at := 0
	if f.Sel.Name == "CommandContext" || f.Sel.Name == "Program" {
		at = 1
	}
	if len(call.Args) <= at {
		return "", false
	}
	literal, ok := call.Args[at].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(literal.Value)
	return text, err == nil
}

// walk calls visit for every file of the project.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "out", "bin", "testdata"}, d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular():
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
