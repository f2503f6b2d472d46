package gobuild

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// stamp is a string variable that the linker sets (go doc cmd/link, -X).
type stamp struct {
	Variable string // "k8s.io/component-base/version.gitVersion"
	Value    string
}

// sortStamps returns a module's stamps, sorted by variable.
func sortStamps(module map[string]string) ([]stamp, error) {
	var out []stamp
	for _, variable := range slices.Sorted(maps.Keys(module)) {
		if err := manifest.CheckStamp(variable, module[variable]); err != nil {
			return nil, fmt.Errorf("stamp %s: %w", variable, err)
		}
		out = append(out, stamp{variable, module[variable]})
	}
	return out, nil
}

// split returns the package and the name of s's variable.
func (s stamp) split() (pkg, name string) {
	i := strings.LastIndexByte(s.Variable, '.')
	return s.Variable[:i], s.Variable[i+1:]
}

// checkStamps makes sure that every stamp meets a variable. The linker ignores
// a -X without one, and the node then reports v0.0.0.
func checkStamps(ctx context.Context, stamps []stamp, packages []*goPackage) error {
	for _, s := range stamps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		pkg, name := s.split()
		seen, met := false, false
		for _, p := range packages {
			// The linker calls every program's package main.
			if p.ImportPath == pkg || pkg == "main" && p.Name == "main" {
				seen = true
				declares, err := p.declares(name)
				if err != nil {
					return fmt.Errorf("looking for the stamped variable %s: %w", s.Variable, err)
				}
				met = met || declares
			}
		}
		if !seen {
			return fmt.Errorf("stamp %s: no program imports the package %s", s.Variable, pkg)
		}
		if !met {
			return fmt.Errorf("stamp %s: package %s has no variable %s", s.Variable, pkg, name)
		}
	}
	return nil
}

// declares reports whether one of p's files declares the variable.
func (p *goPackage) declares(variable string) (bool, error) {
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return false, err
		}
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, spec := range vars.Specs {
				for _, ident := range spec.(*ast.ValueSpec).Names {
					if ident.Name == variable {
						return true, nil
					}
				}
			}
		}
	}
	return false, nil
}
