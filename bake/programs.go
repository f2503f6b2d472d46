package bake

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/program"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/bake/tree"
)

// checkPrograms requires that every executable of a component and of an
// assembled image is a program that the image can start, what an image of packages
// starts as well, and no other than the
// versions file says, as far as it says itself what it is. A digest says which
// bytes are right, and not that they are no error page and no other version.
func (b *Baker) checkPrograms(parts *source.Parts, root *tree.Tree) error {
	var errs []error
	check := func(where string, e tree.Entry, root *tree.Tree, static bool, list string) (programRead, error) {
		read, err := b.program(e)
		if err != nil {
			return read, err // of the store
		}
		if err := read.check(root, static, list); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		return read, nil
	}
	for _, c := range parts.Components {
		var says []program.Says
		for _, e := range c.Pack.Entries {
			if e.Type != tree.File || e.Perm&0o111 == 0 {
				continue
			}
			where := fmt.Sprintf("%s: component %s: /%s from %s", c.Pos, c.Name, e.Path, c.From)
			read, err := check(where, e, root, isStatic(c), "the image definition")
			if err != nil {
				return err
			}
			says = append(says, read.Says)
			if err := checkSays(c, "/"+e.Path, read.Says); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", where, err))
			}
		}
		errs = append(errs, checkReports(c, says))
	}
	for _, image := range parts.Images {
		for _, e := range image.Programs {
			if e.Perm&0o111 == 0 {
				continue
			}
			where := fmt.Sprintf("%s: image %s: /%s from %s", image.Pos, image.Name, e.Path, image.From)
			if _, err := check(where, e, root, true, ""); err != nil {
				return err
			}
		}
		if image.Start == "" {
			continue
		}
		where := fmt.Sprintf("%s: images.%s: /%s", image.StartPos, image.Name, image.Start)
		if _, err := check(where, *image.Files.Lookup(image.Start), image.Files, false, "its packages"); err != nil {
			return err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	return nil
}

// checkSays compares what the program at path says with what c is.
func checkSays(c source.Component, path string, says program.Says) error {
	accepted := ""
	if c.Reports != nil {
		accepted = c.Reports.Version
	}
	if err := says.CheckVersion(c.Version, accepted); err != nil {
		return fmt.Errorf("%w (correct the version or its digest; what is meant so is said by reports: see docs/versions.md)", err)
	}
	if c.Module == nil {
		return nil
	}
	for _, p := range c.Module.Programs {
		if p.Path != path {
			continue
		}
		if err := says.CheckPackage(p.Package); err != nil {
			return fmt.Errorf("%w (is the digest that of another file?)", err)
		}
	}
	return nil
}

// checkReports reports an acceptance that nothing needs. What is built may say what
// the release, which the acceptance is for, does not.
func checkReports(c source.Component, says []program.Says) error {
	if c.Reports == nil || c.Origin == source.FromSource && c.Release != nil {
		return nil
	}
	agree := false
	for _, s := range says {
		switch s.Version(c.Version) {
		case program.Disagrees:
			return nil
		case program.Agrees:
			agree = true
		}
	}
	if !agree {
		return nil
	}
	return fmt.Errorf("%s: component %s: its programs say %s themselves, as the versions file does (remove reports)", c.Reports.Pos, c.Name, c.Version)
}

// isStatic says whether the versions file has a component's programs linked
// statically: what is built without C is, and what has the linker's flag.
func isStatic(c source.Component) bool {
	return c.Origin == source.FromSource && c.Module != nil && (c.Module.CGO == nil || len(c.Module.CGO.LDFlags) > 0)
}

// programRead is what the store keeps about an executable.
type programRead struct {
	program.Info
	program.Says
	Problem string `json:"problem,omitempty"`
}

// check says why a program can't be started in root, or nil. list is what packages of
// root are added to.
func (p programRead) check(root *tree.Tree, static bool, list string) error {
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
		return fmt.Errorf("%s is needed to start it and is no program of the image (add the package that has it to %s)", p.Interpreter, list)
	}
	return nil
}

// program reads an executable. The answer is kept under its digest, so that a
// bake that changes nothing reads nothing.
func (b *Baker) program(e tree.Entry) (programRead, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "program 2 for %s: %s", b.config.Arch, e.SHA256))
	var read programRead
	if value, ok := b.access.Store.Get(key); ok && json.Unmarshal(value, &read) == nil {
		return read, nil
	}
	content := tree.NewContentReader(&e)
	var err error
	read = programRead{}
	if read.Info, err = program.Read(content, b.config.Arch); err != nil {
		if content.Err() != nil {
			return read, content.Err() // whatever was made of it
		}
		read.Problem = err.Error()
	} else if read.Says = program.ReadSays(content); content.Err() != nil {
		return read, content.Err()
	}
	b.keepFact(key, read, "what "+e.Path+" is")
	return read, nil
}
