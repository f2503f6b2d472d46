package rootfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/accounts"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

// layout is the tree while it is being put together.
type layout struct {
	Config
	*merge.Layout
	accounts accounts.Accounts
	made     *merge.Memory // what is small and rebuilt each time
}

// definitionOrigin is the origin of what the definition brings and declares.
const definitionOrigin = "definition"

func newLayout(c Config) (*layout, error) {
	packages, err := merge.New(c.Packages, definitionOrigin, c.Derive)
	if err != nil {
		return nil, err
	}
	return &layout{Config: c, Layout: packages, made: merge.NewMemory("small files")}, nil
}

// addOverlay puts the definition's files over those of the packages.
func (l *layout) addOverlay() error {
	m := merge.NewMemory("files of the image definition")
	for _, f := range l.Definition.Overlay {
		p := l.Place(f.Path)
		if old, ok := l.Entries[p]; ok {
			if old.Type != tree.File && old.Type != tree.Hardlink && old.Type != tree.Symlink {
				return fmt.Errorf("files/%s: the image has a %s there, from %s", f.Path, old.Type, old.Owner)
			}
			if owner := l.ByOwner[old.Owner]; owner != nil {
				ok, err := owner.IsConffile(&l.Content, "/"+f.Path)
				if err != nil {
					return err
				}
				if !ok {
					return fmt.Errorf("files/%s: the file of %s is not a configuration file, which alone may be changed (configure it by another file, or divert it)", f.Path, old.Owner)
				}
			}
		}
		l.Put(m.Add(tree.Entry{Path: p, Type: tree.File, Perm: f.Mode, Size: int64(len(f.Content)), Owner: definitionOrigin}, f.Content))
	}
	return m.Close()
}

func (l *layout) addComponents() error {
	var errs []error
	components := slices.Clone(l.Components)
	slices.SortFunc(components, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range components {
		for _, e := range c.Pack.Entries {
			e.Owner = "component " + c.Name
			errs = append(errs, l.AddPlaced(e))
		}
	}
	return errors.Join(errs...)
}

func (l *layout) addExtra() error {
	var errs []error
	for _, e := range l.Extra {
		if e.Owner == "" {
			e.Owner = "bake"
		}
		errs = append(errs, l.AddPlaced(e))
	}
	return errors.Join(errs...)
}

// make puts a small file of our own, owned by root.
func (l *layout) make(p string, mode uint16, content []byte) {
	l.makeOwned(p, mode, 0, 0, content)
}

func (l *layout) makeOwned(p string, mode uint16, uid, gid uint32, content []byte) {
	l.Put(l.made.Add(tree.Entry{
		Path: l.Place(p), Type: tree.File, Perm: mode, UID: uid, GID: gid,
		Size: int64(len(content)), Owner: definitionOrigin,
	}, content))
}

// link puts a symbolic link of our own.
func (l *layout) link(p, to string) {
	l.Put(tree.Entry{Path: l.Place(p), Type: tree.Symlink, Perm: 0o777, Link: to, Owner: definitionOrigin})
}

// tree finishes the layout: small files, missing parents and times.
func (l *layout) tree() (*tree.Tree, error) {
	if err := l.made.Close(); err != nil {
		return nil, err
	}
	l.AddParents()
	if err := l.CheckNames(); err != nil {
		return nil, err
	}
	entries := make([]tree.Entry, 0, len(l.Entries))
	for _, e := range l.Entries {
		// The time of a directory says when it was last changed, which is now.
		if e.MTime == 0 || e.MTime > l.Epoch || e.Type == tree.Dir {
			e.MTime = l.Epoch
		}
		entries = append(entries, e)
	}
	return tree.New(entries)
}
