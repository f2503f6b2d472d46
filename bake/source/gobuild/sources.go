package gobuild

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/progress"
)

// sourcesVersion is part of the keys of SourcesKey and ToolchainKey. Raise it
// when the same inputs are to give other files.
const sourcesVersion = 2

// File is a file of a module proxy (go.dev/ref/mod#goproxy-protocol).
type File struct {
	Path   string          // below the proxy's URL: "golang.org/x/sys/@v/v0.1.0.zip"
	SHA256 manifest.Digest // of its bytes
	Size   int64           // bytes
}

// Sources calls add once for every file that [Builder.Build] takes from a module
// proxy to build each of ts for archs, sorted by path. ts have the same
// module directory, module and toolchain. open, which gives the file's
// content, works until add returns. The files were verified by go.sum. They are
// found by doing what a build does before it compiles, with a module cache of its
// own that is filled from the user's and, where that lacks something, from the
// network.
//
// What bounds it is that the go command unpacks each archive that it takes into a
// module cache. For Kubernetes that is 135 archives with 35000 files, and 50 times
// the work of a `go list` that finds them there: so it is done once for all of ts.
// The user's module cache has them unpacked, but would not tell which are needed.
//
// The one information file (.info), of ts' module, is as the proxy gave it. It
// says when the version was made and where it was found, decides nothing, and may
// differ from proxy to proxy.
func (b *Builder) Sources(ctx context.Context, ts []Target, archs []arch.Arch, modfiles fs.FS, add func(f File, open func() (io.ReadCloser, error)) error) error {
	recipes, err := listRecipes(ts, archs, modfiles)
	if err == nil {
		err = b.inTurn(ctx, func() error { return b.sources(ctx, recipes, add) })
	}
	return findingError(ts, err)
}

// SourcesKey identifies what Sources adds, but for the information file.
func SourcesKey(ts []Target, archs []arch.Arch, modfiles fs.FS) (string, error) {
	recipes, err := listRecipes(ts, archs, modfiles)
	if err != nil {
		return "", findingError(ts, err)
	}
	type batchKey struct {
		Tags     []string `json:"tags,omitempty"`
		Packages []string `json:"packages"`
	}
	type listKey struct {
		Env     []string   `json:"env"`
		Batches []batchKey `json:"batches"`
	}
	first := recipes[0]
	identity := struct {
		Version   int       `json:"version"`
		Module    string    `json:"module"`
		Toolchain string    `json:"toolchain"`
		GoMod     string    `json:"go.mod"`
		GoSum     string    `json:"go.sum"`
		Lists     []listKey `json:"lists"`
	}{
		Version:   sourcesVersion,
		Module:    first.module.String(),
		Toolchain: first.toolchain,
		GoMod:     fmt.Sprintf("%x", sha256.Sum256(first.goMod)),
		GoSum:     fmt.Sprintf("%x", sha256.Sum256(first.goSum)),
	}
	for _, r := range recipes {
		list := listKey{Env: r.env()}
		for _, batch := range r.batches() {
			list.Batches = append(list.Batches, batchKey{batch.tags, batch.packages})
		}
		identity.Lists = append(identity.Lists, list)
	}
	key, err := json.Marshal(identity)
	if err != nil {
		panic("BUG: an identity that cannot be encoded: " + err.Error())
	}
	return "gomod sources " + string(key), nil
}

func findingError(ts []Target, err error) error {
	if err == nil {
		return nil
	}
	var names []string
	for _, t := range ts {
		names = append(names, t.Name+" "+t.Version)
	}
	return fmt.Errorf("finding the Go modules of %s: %w", strings.Join(names, ", "), err)
}

// listRecipes returns a recipe for each environment that ts are built in for
// archs, with the programs of all of ts. They are good for finding modules, not for
// building. But for their names they do not depend on the order of ts and archs.
//
// Programs that are listed together need the modules that each of them needs, and
// no others: go.mod alone decides about versions.
func listRecipes(ts []Target, archs []arch.Arch, modfiles fs.FS) ([]*recipe, error) {
	if len(ts) == 0 || len(archs) == 0 {
		return nil, errors.New("BUG: no target or no architecture is given")
	}
	var out []*recipe
	for _, arch := range archs {
		for _, t := range ts {
			r, err := newRecipe(t, arch, modfiles)
			if err != nil {
				return nil, err
			}
			if t.Module.CGO != nil {
				r.cgo = &cgo{ldflags: t.Module.CGO.LDFlags}
			}
			for i, p := range r.programs {
				r.programs[i] = program{Package: p.Package, Tags: slices.Concat(r.tags, p.Tags)}
			}
			r.tags = nil
			if len(out) > 0 && (r.dir != out[0].dir || r.module != out[0].module || r.toolchain != out[0].toolchain) {
				return nil, fmt.Errorf("BUG: %s and %s are built from different modules", out[0].target, r.target)
			}
			i := slices.IndexFunc(out, func(o *recipe) bool { return slices.Equal(o.env(), r.env()) })
			if i < 0 {
				out = append(out, r)
			} else {
				out[i].join(r)
			}
		}
	}
	for _, r := range out {
		slices.SortFunc(r.programs, func(a, b program) int {
			return cmp.Or(slices.Compare(a.Tags, b.Tags), strings.Compare(a.Package, b.Package))
		})
		r.programs = slices.CompactFunc(r.programs, func(a, b program) bool {
			return a.Package == b.Package && slices.Equal(a.Tags, b.Tags)
		})
	}
	slices.SortFunc(out, func(a, b *recipe) int { return slices.Compare(a.env(), b.env()) })
	return out, nil
}

// join adds the programs of another recipe for the same environment.
func (r *recipe) join(other *recipe) {
	r.programs = append(r.programs, other.programs...)
	if !slices.Contains(strings.Split(r.target, "+"), other.target) {
		r.target += "+" + other.target
	}
}

func (b *Builder) sources(ctx context.Context, recipes []*recipe, add func(f File, open func() (io.ReadCloser, error)) error) error {
	first := recipes[0]
	return b.scratch(first.target, func(dir string) error {
		g, err := b.newGo(ctx, first.toolchain, dir, nil)
		if err != nil {
			return err
		}
		g.record()
		// As Preflight and Build do it.
		if err := g.lookFor(ctx, first); err != nil {
			return err
		}
		progress.Expect(b.Progress, len(recipes)) // fetching modules
		common := g.env
		for _, r := range recipes {
			g.env = slices.Concat(common, r.env())
			if _, err := b.list(ctx, g, r); err != nil {
				return err
			}
		}
		info, err := proxyPath(first.module, ".info")
		if err != nil {
			return err
		}
		return addFiles(ctx, g.downloads(), func(file string) bool { return file == info || isPinned(file) }, add)
	})
}

// UnverifiedError says that a toolchain can't be mirrored, because the user's
// go asks no checksum database: nobody could say that it is the right one.
type UnverifiedError struct{ Toolchain string }

func (e *UnverifiedError) Error() string {
	return fmt.Sprintf("the toolchain %s can't be verified with GOSUMDB=off and is left out: the go of whoever builds must be %s itself", e.Toolchain, e.Toolchain)
}

// Toolchain calls add, as Sources does, for every file of a module proxy that a
// go command of another version needs to switch to a toolchain such as
// "go1.26.8". host is what it runs on, "linux-amd64". Besides the toolchain these
// are the answers of the checksum database by which the go command verifies it;
// they were verified with the database's key. Where the user's go asks no such
// database the error is an *UnverifiedError.
func (b *Builder) Toolchain(ctx context.Context, toolchain, host string, add func(f File, open func() (io.ReadCloser, error)) error) error {
	err := manifest.CheckToolchain(toolchain)
	if err == nil {
		err = checkHost(host)
	}
	if err == nil {
		err = b.inTurn(ctx, func() error { return b.fetchToolchain(ctx, toolchain, host, add) })
	}
	if err != nil {
		return fmt.Errorf("fetching the toolchain %s for %s: %w", toolchain, host, err)
	}
	return nil
}

// ToolchainKey identifies what Toolchain adds, but for the answers of the
// checksum database, which grows.
func ToolchainKey(toolchain, host string) string {
	return fmt.Sprintf("gomod toolchain %d %s %s", sourcesVersion, toolchain, host)
}

func checkHost(host string) error {
	if !regexp.MustCompile(`^[a-z0-9]+-[a-z0-9]+$`).MatchString(host) {
		return fmt.Errorf("host %q is not one (want GOOS-GOARCH, such as linux-amd64)", host)
	}
	return nil
}

func (b *Builder) fetchToolchain(ctx context.Context, toolchain, host string, add func(f File, open func() (io.ReadCloser, error)) error) error {
	return b.scratch("toolchain", func(dir string) (err error) {
		g, err := b.newGo(ctx, anyToolchain, dir, nil)
		if err != nil {
			return err
		}
		database, _ := checksumDatabase(g.settings["GOSUMDB"])
		if database == "" {
			return &UnverifiedError{Toolchain: toolchain}
		}
		g.record()
		// With the user's GOPATH, what he knows of the database decides which
		// tiles are asked for.
		g.env = append(g.env, "GOFLAGS=-mod=mod", "GOPATH="+filepath.Join(dir, "gopath"))
		if err := g.writeModule([]byte("module bake.invalid/toolchain\n"), nil); err != nil {
			return err
		}
		m := toolchainModule(toolchain, host)
		progress.Expect(b.Progress, 1)
		task := b.Progress.Start("fetch", "toolchain "+toolchain+" for "+host, 0)
		defer func() { task.End(result(err)) }()
		// Why it failed is in its output.
		out, err := g.run(ctx, "mod", "download", "-json", m.String())
		var got struct{ Error string }
		if jsonErr := json.Unmarshal(out, &got); jsonErr == nil && got.Error != "" {
			return errors.New(got.Error)
		} else if err != nil {
			return err
		}
		// Switching asks for the archive alone.
		archive, err := proxyPath(m, ".zip")
		if err != nil {
			return err
		}
		return addFiles(ctx, g.downloads(), func(file string) bool {
			return file == archive || strings.HasPrefix(file, "sumdb/"+database+"/")
		}, add)
	})
}

// inTurn calls do when no build and no other call of it runs.
func (b *Builder) inTurn(ctx context.Context, do func() error) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// record has g put all that it needs into a module cache of its own. What the
// user's has is not downloaded again.
func (g *gocmd) record() {
	g.network = append(g.network, "GOPROXY="+userProxies(g.settings))
	g.isolate()
}

// downloads returns the directory of what was recorded.
func (g *gocmd) downloads() string { return filepath.Join(g.modules(), "cache", "download") }

// isPinned reports whether a file of the go command's downloads is one whose
// content go.sum pins. Of the others, builds ask only for the information file of
// the module that Preflight looks for: there are locks, lists of versions, and
// hashes that the go command computed.
func isPinned(file string) bool {
	ext := filepath.Ext(file)
	return (ext == ".mod" || ext == ".zip") && !strings.HasPrefix(file, "sumdb/")
}

// addFiles calls add for the files below dir that wanted is true for.
func addFiles(ctx context.Context, dir string, wanted func(file string) bool, add func(f File, open func() (io.ReadCloser, error)) error) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !d.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		f := File{Path: filepath.ToSlash(rel)}
		if !wanted(f.Path) {
			return nil
		}
		if err := f.sum(name); err != nil {
			return fmt.Errorf("reading %s: %w", f.Path, err)
		}
		return add(f, func() (io.ReadCloser, error) { return os.Open(name) })
	})
}

// sum fills in f's size and digest from the file called name.
func (f *File) sum(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if f.Size, err = io.Copy(h, file); err != nil {
		return err
	}
	f.SHA256 = manifest.SHA256([sha256.Size]byte(h.Sum(nil)))
	return nil
}
