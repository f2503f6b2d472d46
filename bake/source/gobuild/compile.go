package gobuild

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/tree"
)

// goPackage is what `go list -json` says of a package (go help list).
type goPackage struct {
	Dir        string
	ImportPath string
	Name       string
	Standard   bool
	GoFiles    []string
	CgoFiles   []string
	CFiles     []string
	SFiles     []string
	Imports    []string
	Module     *goModule // nil: Go's own
}

// goModule is what it says of a module.
type goModule struct {
	Path    string
	Version string
	Dir     string // of what Replace names, where there is one
	Replace *goModule
}

// listFields are the fields of goPackage: asking for no more saves the go
// command from finding out what nobody reads.
const listFields = "Dir,ImportPath,Name,Standard,GoFiles,CgoFiles,CFiles,SFiles,Imports,Module"

// compile fetches r's modules, builds its programs and adds them to w.
func (b *Builder) compile(ctx context.Context, g *gocmd, r *recipe, w *tree.PackWriter) error {
	packages, err := b.list(ctx, g, r)
	if err != nil {
		return err
	}
	if err := checkStamps(ctx, r.stamps, packages); err != nil {
		return err
	}
	if err := b.goBuild(ctx, g, r, packages); err != nil {
		return err
	}
	for _, p := range r.programs {
		if err := addProgram(w, p, filepath.Join(g.dir, "out", executable(p.Package)), r.arch); err != nil {
			return fmt.Errorf("packing %s: %w", p.Package, err)
		}
	}
	return addLicenses(w, r, packages)
}

// list fetches the modules that r's programs need, and no others, and returns
// the packages that they are made of. A package that is in several programs
// may be there several times.
func (b *Builder) list(ctx context.Context, g *gocmd, r *recipe) (packages []*goPackage, err error) {
	task := b.Progress.Start("fetch", "modules of "+r.name(), 0)
	defer func() { task.End(result(err)) }()
	for _, batch := range r.batches() {
		args := []string{"list", "-deps", "-json=" + listFields}
		if len(batch.tags) > 0 {
			args = append(args, "-tags="+strings.Join(batch.tags, ","))
		}
		args = append(args, batch.packages...)
		out, err := g.run(ctx, args...)
		if err != nil {
			return nil, b.explain(g, r, err, args)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			p := new(goPackage)
			if err := dec.Decode(p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading the output of go list: %w", err)
			}
			packages = append(packages, p)
		}
	}
	return packages, nil
}

// result is how a task ended, for progress.
func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "done"
}

func (b *Builder) goBuild(ctx context.Context, g *gocmd, r *recipe, packages []*goPackage) (err error) {
	separate, err := b.separate(ctx, g)
	if err != nil {
		return err
	}
	meter := newMeter(packages)
	meter.task = b.Progress.Start("build", r.name(), meter.total)
	defer func() { meter.task.End(result(err)) }()
	for _, batch := range r.batches() {
		// -v names each package when its compilation starts.
		args := append([]string{"build", "-v"}, r.flags(batch.tags)...)
		args = append(args, "-o", filepath.Join(g.dir, "out")+string(filepath.Separator))
		args = append(args, batch.packages...)
		if err := g.compile(ctx, separate, meter.watch, args...); err != nil {
			return b.explain(g, r, err, args)
		}
	}
	meter.finish()
	return nil
}

// explain adds to the error of a command how to run it by hand, and keeps its
// log. A command that was stopped needs neither.
func (b *Builder) explain(g *gocmd, r *recipe, err error, args []string) error {
	if _, ok := errors.AsType[*commandError](err); !ok {
		return err
	}
	log := filepath.Join(b.Dir, fmt.Sprintf("%s-%s.log", r.target, r.arch))
	if rerr := os.Rename(g.log, log); rerr != nil {
		return errors.Join(err, fmt.Errorf("keeping the build's log: %w", rerr))
	}
	var line []string
	for _, kv := range append([]string{"GOTOOLCHAIN=" + r.toolchain, "GOFLAGS=-mod=readonly"}, r.env()...) {
		line = append(line, quote(kv))
	}
	line = append(line, "go")
	for _, a := range args {
		if strings.HasPrefix(a, g.dir) {
			a = os.DevNull
		}
		line = append(line, quote(a))
	}
	note := ""
	if r.cgo != nil {
		note = "\n\tand CGO_CFLAGS and CGO_LDFLAGS that name libraries like those of the locked packages"
	}
	return fmt.Errorf("%w\nthe whole output is in %s; to run it by hand, in the directory %s beside the versions file:\n\t%s%s",
		err, log, r.dir, strings.Join(line, " "), note)
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return strings.ContainsRune(" '\"$\\*?;&|<>(){}[]~#`!", r) }) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// meter turns the package names that `go build -v` writes into progress. It
// counts bytes of source, which foretell the time better than the number of
// packages does.
type meter struct {
	task     progress.Task
	packages map[string]*goPackage
	size     map[string]int64 // of the packages not yet counted
	total    int64            // bytes
}

func newMeter(packages []*goPackage) *meter {
	m := &meter{packages: map[string]*goPackage{}, size: map[string]int64{}}
	for _, p := range packages {
		if m.packages[p.ImportPath] != nil {
			continue
		}
		var size int64
		for _, files := range [][]string{p.GoFiles, p.CgoFiles, p.CFiles, p.SFiles} {
			for _, name := range files {
				if info, err := os.Stat(filepath.Join(p.Dir, name)); err == nil { // if not, go build will say so
					size += info.Size()
				}
			}
		}
		m.packages[p.ImportPath] = p
		m.size[p.ImportPath] = size
		m.total += size
	}
	return m
}

// watch shows line where it is a package's name, and counts what must be done when
// it appears: the packages that it imports. Those that the build cache has are
// never named.
func (m *meter) watch(line string) bool {
	p, known := m.packages[line]
	if !known {
		return true
	}
	progress.Detail(m.task, line)
	for _, path := range p.Imports {
		m.count(path)
	}
	return false
}

func (m *meter) count(path string) {
	size, waits := m.size[path]
	if !waits {
		return
	}
	delete(m.size, path)
	m.task.Add(size)
	for _, next := range m.packages[path].Imports {
		m.count(next)
	}
}

func (m *meter) finish() {
	for path := range m.size {
		m.count(path)
	}
}

// addProgram packs the executable in file, after a look at what it is.
func addProgram(w *tree.PackWriter, p program, file string, arch arch.Arch) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkStatic(f, arch); err != nil {
		return fmt.Errorf("%s: %w", path.Base(p.Path), err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return w.Add(tree.Entry{Path: p.Path, Type: tree.File, Perm: 0o755, Size: info.Size()}, f)
}

// checkStatic makes sure that r is an executable of arch that asks for no
// dynamic loader (ELF specification, "Program Interpreter"): the image need
// not have the libraries of the host that built it.
func checkStatic(r io.ReaderAt, arch arch.Arch) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	if want := arch.Facts().ELF; f.Machine != want {
		return fmt.Errorf("is for %v, want %v", f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("is linked dynamically (give cgo the linker flag -static or -static-pie, and static libraries)")
		}
	}
	return nil
}
