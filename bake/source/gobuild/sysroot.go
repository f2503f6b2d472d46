package gobuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/tree"
)

// sysroot is a directory with the headers and static libraries of a cgo
// build, C library included: the compiler takes none from the host.
type sysroot struct {
	dir     string
	triplet string
}

// unpackSysroot writes the packages of r.cgo to dir, which must not exist.
func (b *Builder) unpackSysroot(ctx context.Context, r *recipe, dir string) (*sysroot, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the sysroot: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the sysroot: %w", err)
	}
	defer root.Close()
	var links []string
	for _, p := range r.cgo.packages {
		pack, err := b.Unpack(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, e := range pack.Entries {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err := unpackEntry(root, e); err != nil {
				return nil, fmt.Errorf("unpacking %s of %s for cgo: %w", e.Path, p.Name, err)
			}
			if e.Type == tree.Symlink {
				links = append(links, e.Path)
			}
		}
	}
	// The compiler, unlike root, would follow what leads to the host's files.
	for _, name := range links {
		if _, err := root.Stat(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := root.Remove(name); err != nil {
			return nil, fmt.Errorf("removing the link %s, which leads out of the sysroot: %w", name, err)
		}
	}
	if _, err := root.Stat("usr/include/stdio.h"); err != nil {
		return nil, errors.New("cgo's packages have no C library to compile and link against (add libc6-dev and linux-libc-dev to the component's cgo packages)")
	}
	s := &sysroot{dir: dir, triplet: r.arch.Facts().Triplet}
	return s, s.writePkgConfig(root)
}

// unpackEntry writes the part of a package that a compiler reads: what is
// below usr/include, usr/lib and usr/share/pkgconfig.
func unpackEntry(root *os.Root, e tree.Entry) error {
	if !strings.HasPrefix(e.Path, "usr/include/") && !strings.HasPrefix(e.Path, "usr/lib/") && !strings.HasPrefix(e.Path, "usr/share/pkgconfig/") {
		return nil
	}
	switch e.Type {
	case tree.Dir:
		return root.MkdirAll(e.Path, 0o777)
	case tree.File:
		if err := root.MkdirAll(path.Dir(e.Path), 0o777); err != nil {
			return err
		}
		f, err := root.Create(e.Path)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, e.Content())
		return errors.Join(err, f.Close())
	case tree.Symlink:
		// An absolute one would lead out of the sysroot: libm.so and its
		// like, which static linking has no use for.
		if path.IsAbs(e.Link) {
			return nil
		}
		if err := root.MkdirAll(path.Dir(e.Path), 0o777); err != nil {
			return err
		}
		return root.Symlink(e.Link, e.Path)
	case tree.Hardlink:
		return root.Link(e.Link, e.Path)
	}
	return nil
}

// pkgConfigScript answers cgo, which asks pkg-config for the flags of a
// library (go doc cmd/cgo, "#cgo pkg-config"): `pkg-config --cflags -- NAME`
// and `pkg-config --libs -- NAME`. The answers are files that lie beside it.
const pkgConfigScript = `#!/bin/sh
for arg in "$@"; do
	case $arg in
	--cflags|--libs) want=$arg ;;
	--*) ;;
	*) cat "${0%/*}/$arg$want" || exit 1 ;;
	esac
done
`

// writePkgConfig writes a stand-in for pkg-config, so that neither the host's
// pkg-config nor the libraries it knows are used.
func (s *sysroot) writePkgConfig(root *os.Root) error {
	const dir = "pkg-config"
	if err := root.Mkdir(dir, 0o777); err != nil {
		return err
	}
	if err := root.WriteFile(path.Join(dir, "pkg-config"), []byte(pkgConfigScript), 0o777); err != nil {
		return err
	}
	for _, where := range []string{path.Join("usr/lib", s.triplet, "pkgconfig"), "usr/lib/pkgconfig", "usr/share/pkgconfig"} {
		found, err := fs.ReadDir(root.FS(), where)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("reading the sysroot's pkg-config files: %w", err)
		}
		for _, entry := range found {
			name, isPC := strings.CutSuffix(entry.Name(), ".pc")
			if !isPC {
				continue
			}
			text, err := root.ReadFile(path.Join(where, entry.Name()))
			if err != nil {
				return fmt.Errorf("reading the sysroot's pkg-config files: %w", err)
			}
			cflags, libs := parsePC(string(text))
			for suffix, flags := range map[string][]string{"--cflags": cflags, "--libs": libs} {
				if err := root.WriteFile(path.Join(dir, name+suffix), []byte(s.relocate(flags)), 0o666); err != nil {
					return fmt.Errorf("writing the flags of %s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// relocate puts the sysroot in front of the directories that flags name, as
// PKG_CONFIG_SYSROOT_DIR does, and quotes each for the go command.
func (s *sysroot) relocate(flags []string) string {
	var out []string
	for _, f := range flags {
		for _, option := range []string{"-I", "-L"} {
			if dir, ok := strings.CutPrefix(f, option+"/"); ok {
				f = option + filepath.Join(s.dir, filepath.FromSlash(path.Clean("/"+dir))) // no .. leads out
			}
		}
		out = append(out, goQuote(f))
	}
	return strings.Join(out, " ") + "\n"
}

// env gives the settings that make cgo use s.
func (s *sysroot) env(c *cgo) []string {
	root := "--sysroot=" + s.dir
	lib := filepath.Join(s.dir, "usr", "lib", s.triplet)
	// Compilers that were not built for Debian do not know its multiarch
	// directories: -idirafter and -B name them. -g is left out: nothing of
	// it would survive the linker's -s, and it names directories.
	cflags := []string{"-O2", root, "-idirafter", filepath.Join(s.dir, "usr", "include", s.triplet)}
	ldflags := []string{"-O2", root, "-B" + lib, "-L" + lib}
	return []string{
		"CC=" + goQuote(c.cc),
		"CGO_CFLAGS=" + goQuote(cflags...),
		"CGO_CPPFLAGS=",
		"CGO_LDFLAGS=" + goQuote(ldflags...),
		"PKG_CONFIG=" + filepath.Join(s.dir, "pkg-config", "pkg-config"),
	}
}

// goQuote joins words as the go command splits them: at white space, unless a
// word is in quotes (cmd/internal/quoted).
func goQuote(words ...string) string {
	var out []string
	for _, w := range words {
		switch {
		case !strings.ContainsAny(w, " \t\n\r'\""):
		case !strings.Contains(w, "'"):
			w = "'" + w + "'"
		default:
			w = `"` + w + `"`
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// parsePC reads a .pc file (pkg-config(1), "METADATA FILE SYNTAX"): the
// compiler's flags, and the linker's for static linking. Libraries that it
// requires are not followed.
func parsePC(text string) (cflags, libs []string) {
	vars := map[string]string{}
	expand := func(s string) string {
		return os.Expand(s, func(name string) string { return vars[name] })
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.IndexAny(line, "=:")
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		name, value := strings.TrimSpace(line[:i]), expand(strings.TrimSpace(line[i+1:]))
		switch {
		case line[i] == '=':
			vars[name] = value
		case name == "Cflags":
			cflags = append(cflags, strings.Fields(value)...)
		case name == "Libs", name == "Libs.private":
			libs = append(libs, strings.Fields(value)...)
		}
	}
	return cflags, libs
}
