package gobuild

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

// recipeVersion is part of every key. Raise it when the same inputs are to
// give other bytes: another flag, another environment.
const recipeVersion = 2

// recipe is all that decides what a build gives.
type recipe struct {
	target    string // its name
	arch      arch.Arch
	module    module.Version
	sum       string // of the module's content: "h1:..."
	toolchain string
	goMod     []byte
	goSum     []byte
	programs  []program
	tags      []string
	stamps    []stamp
	cgo       *cgo
	dir       string // where go.mod and go.sum were found, for errors
}

// program is a main package and the path of its executable in the pack.
type program struct {
	Package string   `json:"package"`
	Path    string   `json:"path"`
	Tags    []string `json:"tags,omitempty"` // beside the recipe's
}

// cgo is the part of the recipe that needs a C compiler.
type cgo struct {
	cc       string // path of the compiler on this host: not part of the identity
	compiler string // what it and its linker call themselves
	packages []manifest.LockedPackage
	ldflags  []string
	tools    []Tool // cc and its linker: no part of the identity either
}

func newRecipe(t Target, a arch.Arch, modfiles fs.FS) (*recipe, error) {
	m := t.Module
	if m == nil {
		return nil, fmt.Errorf("%s names no Go module (give the component a module, or make its release reachable)", t.Name)
	}
	r := &recipe{
		target:    t.Name,
		arch:      a,
		module:    module.Version{Path: m.Path, Version: m.Version},
		toolchain: m.Toolchain,
		tags:      m.Tags,
		dir:       m.Dir,
	}
	if _, err := arch.Parse(string(a)); err != nil {
		return nil, err
	}
	if err := manifest.CheckToolchain(m.Toolchain); err != nil {
		return nil, fmt.Errorf("toolchain %w", err)
	}
	if m.CGO != nil {
		for _, flag := range m.CGO.LDFlags {
			if err := manifest.CheckLDFlag(flag); err != nil {
				return nil, fmt.Errorf("linker flag %w", err)
			}
		}
	}
	var err error
	if r.programs, err = programs(m.Programs); err != nil {
		return nil, err
	}
	if r.stamps, err = sortStamps(m.Stamp); err != nil {
		return nil, err
	}
	return r, r.readModfiles(modfiles)
}

func programs(list []manifest.Program) ([]program, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("module names no programs")
	}
	var out []program
	names := map[string]string{} // executable name: package
	for _, p := range list {
		if err := module.CheckImportPath(p.Package); err != nil {
			return nil, fmt.Errorf("program %q: %w", p.Package, err)
		}
		name := executable(p.Package)
		if first, taken := names[name]; taken {
			return nil, fmt.Errorf("programs %s and %s are both called %s", first, p.Package, name)
		}
		names[name] = p.Package
		out = append(out, program{p.Package, strings.TrimPrefix(p.Path, "/"), p.Tags})
	}
	slices.SortFunc(out, func(a, b program) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// executable is the name that `go build -o DIR/` gives pkg's program: the last
// element of its path that is not a major version.
func executable(pkg string) string {
	prefix, _, ok := module.SplitPathVersion(pkg)
	if !ok || !strings.HasPrefix(strings.TrimPrefix(pkg, prefix), "/v") {
		prefix = pkg
	}
	return path.Base(prefix)
}

// readModfiles reads go.mod and go.sum and checks that they are about r's
// module: a go.mod that lags behind the versions file would build another.
func (r *recipe) readModfiles(modfiles fs.FS) error {
	for _, f := range []struct {
		name string
		data *[]byte
	}{{"go.mod", &r.goMod}, {"go.sum", &r.goSum}} {
		data, err := fs.ReadFile(modfiles, path.Join(r.dir, f.name))
		if err != nil {
			return fmt.Errorf("reading the pinned dependencies of %s: %w (see manifests/modules/README.md for how to make them)", r.module.Path, err)
		}
		*f.data = data
	}
	name := path.Join(r.dir, "go.mod")
	mod, err := modfile.Parse(name, r.goMod, nil)
	if err != nil {
		return err
	}
	required := ""
	for _, req := range mod.Require {
		if req.Mod.Path == r.module.Path {
			required = req.Mod.Version
		}
	}
	if required != r.module.Version {
		return fmt.Errorf("%s requires %s %q, the versions file says %s (make it again: see manifests/modules/README.md)", name, r.module.Path, required, r.module.Version)
	}
	for _, rep := range mod.Replace {
		if rep.New.Version == "" {
			return fmt.Errorf("%s:%d: %s is replaced by the directory %s, which is not pinned", name, rep.Syntax.Start.Line, rep.Old.Path, rep.New.Path)
		}
		if rep.Old.Path == r.module.Path {
			return fmt.Errorf("%s:%d: %s itself is replaced", name, rep.Syntax.Start.Line, rep.Old.Path)
		}
	}
	for line := range strings.Lines(string(r.goSum)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == r.module.Path && f[1] == r.module.Version {
			r.sum = f[2]
			return nil
		}
	}
	return fmt.Errorf("%s has no line for %s %s (make it again: see manifests/modules/README.md)", path.Join(r.dir, "go.sum"), r.module.Path, r.module.Version)
}

// built describes the build; its key is the JSON of everything that decides
// the result.
func (r *recipe) built() Built {
	type cgoIdentity struct {
		Compiler string   `json:"compiler"`
		Packages []string `json:"packages"`
		LDFlags  []string `json:"ldflags"`
	}
	identity := struct {
		Recipe    int          `json:"recipe"`
		Component string       `json:"component"`
		Module    string       `json:"module"`
		Sum       string       `json:"sum"`
		Toolchain string       `json:"toolchain"`
		GoMod     string       `json:"go.mod"`
		GoSum     string       `json:"go.sum"`
		Programs  []program    `json:"programs"`
		Env       []string     `json:"env"`
		Flags     []string     `json:"flags"`
		CGO       *cgoIdentity `json:"cgo,omitempty"`
	}{
		Recipe:    recipeVersion,
		Component: r.target,
		Module:    r.module.String(),
		Sum:       r.sum,
		Toolchain: r.toolchain,
		GoMod:     fmt.Sprintf("%x", sha256.Sum256(r.goMod)),
		GoSum:     fmt.Sprintf("%x", sha256.Sum256(r.goSum)),
		Programs:  r.programs,
		Env:       r.env(),
		Flags:     r.flags(r.tags),
	}
	built := Built{Module: r.module.Path, Version: r.module.Version, Sum: r.sum, Toolchain: r.toolchain}
	if r.cgo != nil {
		identity.CGO = &cgoIdentity{Compiler: r.cgo.compiler, LDFlags: r.cgo.ldflags}
		for _, p := range r.cgo.packages {
			identity.CGO.Packages = append(identity.CGO.Packages, fmt.Sprintf("%s %s %s %s", p.Name, p.Version, p.Arch, p.SHA256))
		}
		built.Compiler, built.Packages = r.cgo.compiler, r.cgo.packages
	}
	key, err := json.Marshal(identity)
	if err != nil {
		panic("BUG: an identity that cannot be encoded: " + err.Error())
	}
	built.Key = "gomod " + string(key)
	return built
}

// name is what people are shown.
func (r *recipe) name() string { return r.target + " " + r.module.Version }

// env is the part of the go command's environment that decides the result.
// See newGo for the rest.
func (r *recipe) env() []string {
	env := append(r.arch.Facts().GoEnv, "GOOS=linux")
	if r.cgo == nil {
		return append(env, "CGO_ENABLED=0")
	}
	return append(env, "CGO_ENABLED=1")
}

// batch is a set of programs that one go command builds.
type batch struct {
	tags     []string
	packages []string
}

// batches returns r's programs, those with the same build tags together.
func (r *recipe) batches() []batch {
	var out []batch
	for _, p := range r.programs {
		tags := slices.Concat(r.tags, p.Tags)
		i := slices.IndexFunc(out, func(b batch) bool { return slices.Equal(b.tags, tags) })
		if i < 0 {
			i = len(out)
			out = append(out, batch{tags: tags})
		}
		out[i].packages = append(out[i].packages, p.Package)
	}
	return out
}

// flags are those of `go build`.
func (r *recipe) flags(tags []string) []string {
	// -s and -w leave out the symbol table and DWARF, as upstream's releases
	// do: a third of the size. An empty build ID leaves out a hash of the
	// inputs that says no more than go.sum does.
	ldflags := []string{"-s", "-w", "-buildid="}
	flags := []string{"-trimpath", "-buildvcs=false"}
	if r.cgo != nil {
		ldflags = append(ldflags, "-linkmode=external")
		if len(r.cgo.ldflags) > 0 {
			ldflags = append(ldflags, "'-extldflags="+strings.Join(r.cgo.ldflags, " ")+"'")
		}
		if slices.Contains(r.cgo.ldflags, "-static-pie") {
			flags = append(flags, "-buildmode=pie")
		}
	}
	for _, s := range r.stamps {
		ldflags = append(ldflags, "-X", s.Variable+"="+s.Value)
	}
	if len(tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(tags, ","))
	}
	return append(flags, "-ldflags="+strings.Join(ldflags, " "))
}
