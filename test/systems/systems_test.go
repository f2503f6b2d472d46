//go:build system

// Package systems type-checks bake for the systems that it is used on, beside
// the one of the tests. Building it there takes a cold machine minutes for each
// (make cross does).
package systems

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/nodebake/bake/test/must"
)

func TestSystems(t *testing.T) {
	for _, system := range []string{"darwin/arm64", "windows/amd64", "linux/arm64"} {
		t.Run(system, func(t *testing.T) {
			for _, problem := range check(t, system, nil) {
				t.Error(problem)
			}
		})
	}
}

// A file that only Windows has, and that is wrong, is found there.
func TestProblemIsFound(t *testing.T) {
	dir := must.Get(filepath.Abs("../../cmd/bake"))
	problems := check(t, "windows/amd64", map[string][]byte{
		filepath.Join(dir, "broken_windows.go"): []byte("package main\n\nimport \"syscall\"\n\nvar _ = syscall.Kill\n"),
	})
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Error(), "broken_windows.go:5:17: undefined: syscall.Kill") {
		t.Errorf("found %v, not that Windows has no syscall.Kill", problems)
	}
}

// check returns what the type checker says of bake and of all that it imports.
// The overlay has files beside those on disk.
func check(t *testing.T, system string, overlay map[string][]byte) (problems []error) {
	t.Helper()
	goos, goarch, _ := strings.Cut(system, "/")
	checked, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedFiles |
			packages.NeedCompiledGoFiles | packages.NeedSyntax | packages.NeedTypes,
		Env:     append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0"),
		Overlay: overlay,
	}, "github.com/nodebake/bake/cmd/bake")
	if err != nil {
		t.Fatal(err)
	}
	packages.Visit(checked, nil, func(p *packages.Package) {
		for _, problem := range p.Errors {
			problems = append(problems, problem)
		}
	})
	return problems
}
