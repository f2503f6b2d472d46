package bake

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nodebake/bake/bake/bom"
	"github.com/nodebake/bake/bake/program"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// checkPrograms requires that every executable of a component and of an
// assembled image is a program that the image can start. A digest says which
// bytes are right, and not that they are no error page.
func (b *Baker) checkPrograms(parts *source.Parts, root *tree.Tree) error {
	var errs []error
	check := func(where string, e tree.Entry, static bool) error {
		read, err := b.program(e)
		if err != nil {
			return err // of the store
		}
		if err := read.check(root, static); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		return nil
	}
	for _, c := range parts.Components {
		for _, e := range c.Pack.Entries {
			if e.Type != tree.File || e.Perm&0o111 == 0 {
				continue
			}
			where := fmt.Sprintf("%s: component %s: /%s from %s", c.Pos, c.Name, e.Path, c.From)
			if err := check(where, e, isStatic(c)); err != nil {
				return err
			}
		}
	}
	for _, image := range parts.Images {
		for _, e := range image.Programs {
			where := fmt.Sprintf("%s: image %s: /%s from %s", image.Pos, image.Name, e.Path, image.From)
			if err := check(where, e, true); err != nil {
				return err
			}
		}
	}
	if len(errs) > 0 {
		return &InputError{errors.Join(errs...)}
	}
	return nil
}

// isStatic says whether the versions file has a component's programs linked
// statically: what is built without C is, and what has the linker's flag.
func isStatic(c source.Component) bool {
	return c.Origin == source.FromSource && c.Module != nil && (c.Module.CGO == nil || len(c.Module.CGO.LDFlags) > 0)
}

// programRead is what the store keeps about an executable.
type programRead struct {
	program.Info
	Problem string `json:"problem,omitempty"`
}

// check says why a program can't be started in root, or nil.
func (p programRead) check(root *tree.Tree, static bool) error {
	switch {
	case p.Problem != "":
		return errors.New(p.Problem)
	case static && p.Interpreter != "":
		return fmt.Errorf("%s is needed to start it; want a program that is linked statically", p.Interpreter)
	case p.Interpreter == "":
		return nil
	}
	found, err := root.Resolve(p.Interpreter)
	if err != nil || found.Type != tree.File || found.Perm&0o111 == 0 {
		return fmt.Errorf("%s is needed to start it and is no program of the image (add the package that has it to the image definition)", p.Interpreter)
	}
	return nil
}

// program reads an executable. The answer is kept under its digest, so that a
// bake that changes nothing reads nothing.
func (b *Baker) program(e tree.Entry) (programRead, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "program 1 for %s: %s", b.config.Arch, e.SHA256))
	var read programRead
	if value, ok := b.store.Get(key); ok && json.Unmarshal(value, &read) == nil {
		return read, nil
	}
	content := bom.NewContent(&e)
	var err error
	read = programRead{}
	if read.Info, err = program.Read(content, b.config.Arch); err != nil {
		if content.Err() != nil {
			return read, content.Err() // whatever was made of it
		}
		read.Problem = err.Error()
	}
	value, err := json.Marshal(read)
	if err == nil {
		err = b.store.Put(key, value)
	}
	if err != nil {
		b.config.Progress.Note("what %s is could not be kept for next time: %v", e.Path, err)
	}
	return read, nil
}
