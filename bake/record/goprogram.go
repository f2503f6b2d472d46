package record

import (
	"cmp"
	"debug/buildinfo"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// GoModule is a module as the go command names it.
type GoModule struct {
	Path    string `json:"path"`              // "golang.org/x/sys"
	Version string `json:"version,omitempty"` // "v0.49.0"; absent for a directory on the builder's disk
	Sum     string `json:"sum,omitempty"`     // of its content, as in go.sum: "h1:..."
}

// GoProgram is what the go command wrote into a program about its build.
type GoProgram struct {
	Path      string     `json:"path"`      // in the image, absolute
	Toolchain string     `json:"toolchain"` // "go1.26.8", with experiments after a space
	Main      GoModule   `json:"main"`      // whose program it is
	Deps      []GoModule `json:"deps"`      // all that is linked into it, replacements in the place of what they replace; sorted
}

// Modules returns Main, where the program has it, and Deps.
func (p *GoProgram) Modules() []GoModule {
	if p.Main.Path == "" {
		return p.Deps
	}
	return append([]GoModule{p.Main}, p.Deps...)
}

// ReadGo reads what Go wrote into the program that e holds. It is nil for a
// file that is none of Go's. Only the chunks that tell are read, some megabytes
// of a large program, and verified.
func ReadGo(e *tree.Entry) (*GoProgram, error) {
	if e.Type != tree.File || e.Size == 0 {
		return nil, nil
	}
	r := tree.NewContentReader(e)
	info, err := buildinfo.Read(r)
	if r.Err() != nil {
		return nil, r.Err() // whatever was made of it
	}
	if err != nil {
		return nil, nil // buildinfo's errors say of what kind the file is not
	}
	p := &GoProgram{Path: "/" + e.Path, Toolchain: info.GoVersion, Main: goModule(&info.Main)}
	for _, dep := range info.Deps {
		p.Deps = append(p.Deps, goModule(dep))
	}
	slices.SortFunc(p.Deps, CompareModules)
	p.Deps = slices.Compact(p.Deps)
	return p, nil
}

// CompareModules orders modules by path, version and sum.
func CompareModules(a, b GoModule) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version), strings.Compare(a.Sum, b.Sum))
}

// goModule returns what was linked for m.
func goModule(m *debug.Module) GoModule {
	out := GoModule{m.Path, m.Version, m.Sum}
	if r := m.Replace; r != nil {
		out.Version, out.Sum = r.Version, r.Sum
		// A directory's name says nothing elsewhere (golang.org/ref/mod#go-mod-file-replace).
		if !strings.HasPrefix(r.Path, ".") && !strings.HasPrefix(r.Path, "/") {
			out.Path = r.Path
		}
	}
	if out.Version == "(devel)" {
		out.Version = ""
	}
	return out
}
