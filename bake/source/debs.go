package source

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/source/debian"
	"github.com/nodebake/bake/bake/source/debian/deb"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/tree"
)

// Unpack returns the files of a package, downloading and unpacking it where
// the store does not have them.
func (s *Source) Unpack(ctx context.Context, p manifest.LockedPackage) (*tree.Pack, error) {
	return s.packs.Pack(ctx, debian.PackKey(p.SHA256), "package "+p.Name, func(ctx context.Context, w *tree.PackWriter) error {
		requests, err := debian.Requests(s.DebianMirrors, []manifest.LockedPackage{p}, s.HasOfflineMirror)
		if err != nil {
			return err
		}
		file, err := s.Fetcher.Open(ctx, fetch.Request(requests[0]))
		if err != nil {
			return err
		}
		defer file.Close()
		task := s.Progress.Start("unpack", p.Name+" "+p.Version, p.Size)
		control, err := deb.Unpack(readerFunc(func(b []byte) (int, error) {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			n, err := file.Read(b)
			task.Add(int64(n))
			return n, err
		}), p.Size, w)
		if err == nil {
			err = control.Check(p.Name, p.Version, p.Arch)
		}
		if err != nil {
			task.End("failed")
			return fmt.Errorf("unpacking %s: %w", path.Base(p.Path), err)
		}
		task.End("done")
		return nil
	})
}

// Control returns the control file of a package, downloading and unpacking it
// where the store does not have it.
func (s *Source) Control(ctx context.Context, p manifest.LockedPackage) ([]byte, error) {
	pack, err := s.Unpack(ctx, p)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(pack.Entries, func(e tree.Entry) bool { return e.Path == "DEBIAN/control" && e.Type == tree.File })
	if i < 0 {
		return nil, fmt.Errorf("BUG: the pack of package %s has no control file", p.Name)
	}
	return io.ReadAll(pack.Entries[i].Content())
}

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// fromDebKey identifies the files that a component takes out of a package.
func fromDebKey(c RequiredComponent) string {
	var key strings.Builder
	fmt.Fprintf(&key, "from 2 %s", debian.PackKey(c.extra[0].SHA256))
	for _, f := range c.Package.Files {
		fmt.Fprintf(&key, "\n%q %q %o", f.Member, f.Path, f.Mode)
	}
	return key.String()
}

// fromDeb takes a component's files out of a package, to their install paths.
func (s *Source) fromDeb(ctx context.Context, c RequiredComponent) (*tree.Pack, error) {
	return s.packs.Pack(ctx, fromDebKey(c), "component "+c.Name, func(ctx context.Context, w *tree.PackWriter) error {
		pack, err := s.Unpack(ctx, c.extra[0])
		if err != nil {
			return err
		}
		if err := copyMembers(pack, c.Package.Files, w); err != nil {
			return fmt.Errorf("package %s %s: %w", c.extra[0].Name, c.extra[0].Version, err)
		}
		return nil
	})
}

// copyMembers adds to w what files takes out of the pack of a package. Links are
// taken with what they lead to: a hard link to a file that is not taken is the
// file under its own name, a symbolic one an error.
func copyMembers(pack *tree.Pack, files []manifest.File, w *tree.PackWriter) error {
	content := map[string]tree.Entry{} // files of the package
	taken := map[string]string{}       // where they are installed
	members := map[string]string{}     // by where they are installed
	type link struct {
		manifest.File
		tree.Entry
		to string
	}
	var links []link
	for _, f := range files {
		matches := 0
		for _, e := range pack.Entries {
			ok, err := path.Match(f.Member, e.Path)
			if err != nil {
				return fmt.Errorf("%s: pattern %q: %w", f.Pos, f.Member, err)
			}
			if strings.HasPrefix(e.Path, "DEBIAN/") {
				continue
			}
			if e.Type == tree.File {
				content[e.Path] = e
			}
			if !ok || e.Type == tree.Dir {
				continue
			}
			matches++
			to := strings.TrimPrefix(f.Path, "/")
			if strings.HasSuffix(to, "/") {
				to += path.Base(e.Path)
			}
			if other, ok := members[to]; ok {
				return fmt.Errorf("%s: %q and %q would both become /%s", f.Pos, other, e.Path, to)
			}
			members[to] = e.Path
			file := e
			switch {
			case e.Type == tree.Hardlink && taken[e.Link] == "":
				file = content[e.Link]
			case e.Type != tree.File:
				links = append(links, link{f, e, to})
				continue
			}
			taken[file.Path] = to
			installed := tree.Entry{Path: to, Type: tree.File, Perm: f.Mode, Size: file.Size}
			if err := w.Add(installed, file.Content()); err != nil {
				return err
			}
		}
		if matches == 0 {
			return fmt.Errorf("%s: no file matches %q", f.Pos, f.Member)
		}
	}
	for _, l := range links {
		e := tree.Entry{Path: l.to, Type: tree.Hardlink, Perm: l.Mode, Link: taken[l.Link]}
		if l.Type == tree.Symlink {
			to, ok := linked(pack, l.Entry, taken)
			if !ok {
				return fmt.Errorf("%s: %q is a symbolic link to %q, which is no file that is taken as well", l.Pos, l.Entry.Path, l.Link)
			}
			e.Type, e.Perm, e.Link = tree.Symlink, 0o777, "/"+to
			if path.Dir(to) == path.Dir(l.to) {
				e.Link = path.Base(to)
			}
		}
		if err := w.Add(e, nil); err != nil {
			return err
		}
	}
	return nil
}

// linked returns where the file is installed that a symbolic link of a package
// leads to.
func linked(pack *tree.Pack, e tree.Entry, taken map[string]string) (string, bool) {
	at, err := tree.Follow(e.Path, true, func(p string) (string, bool) {
		i := slices.IndexFunc(pack.Entries, func(e tree.Entry) bool { return e.Path == p && e.Type == tree.Symlink })
		if i < 0 {
			return "", false
		}
		return pack.Entries[i].Link, true
	})
	if err != nil {
		return "", false
	}
	for _, other := range pack.Entries {
		if other.Path == at && other.Type == tree.Hardlink {
			at = other.Link
		}
	}
	to, ok := taken[at]
	return to, ok
}
