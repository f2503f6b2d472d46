package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/gce"
)

// The files of an image definition. What is in definitionFiles goes to the
// image at its path below that directory.
const (
	definitionFile  = "image.yaml"
	configureFile   = "configure.yaml"
	differencesFile = "differences.yaml"
	definitionFiles = "files"
)

// Definition says what an image holds beside the components: which OS
// packages, how they are set up, and files of our own. It is a directory:
//
//	image.yaml        packages, kernel, units: what an operator edits
//	configure.yaml    what the packages' maintainer scripts would have done
//	differences.yaml  where the result may differ from a root that they configured; for tests, may be missing
//	files/            files as they stand in the image, owned by root, 0644 unless image.yaml gives a mode
type Definition struct {
	Sum   Digest            // see [ParseDefinition]
	Files map[string][]byte // what Sum is over, by path: all that an image depends on

	Name      string // of the image, before the version: "k8s-worker"
	Packages  []Listed
	Suites    map[string][]Listed // packages for one suite only
	Kernel    Kernel
	Units     UnitPolicy
	Overlay   []OverlayFile    // sorted by path
	Configure []PackageScripts // in the file's order

	Differences []Difference
}

// Kernel is what the boot loader and the initramfs need to know.
type Kernel struct {
	Arguments []string // of the kernel command line, beside the root filesystem's
	Modules   []string // that the initramfs loads, and what they depend on
}

// UnitPolicy says which systemd units start. What it does not name is
// disabled, as the image's preset says; static units are as their packages
// made them.
type UnitPolicy struct {
	Enable []UnitName
	Mask   []UnitName
}

// UnitName names a unit, or for Mask a generator, and says why.
type UnitName struct {
	Name   string
	Reason string
	Pos    Pos
}

// OverlayFile is a file of the definition that goes to the image as it is.
type OverlayFile struct {
	Path    string // in the image, without leading slash
	Mode    uint16
	Content []byte
}

// Difference allows one pattern of paths to differ from a root that the
// packages' own scripts configured.
type Difference struct {
	Path   string // path.Match pattern, absolute; a last element ** stands for everything below
	Only   string // "image" or "scripts": only the one of the two has it; "" for any difference
	Reason string
	Pos    Pos
}

// PackagesFor returns the packages that the definition asks for, in its order.
func (d *Definition) PackagesFor(arch arch.Arch, suite string) ([]PackageRef, error) {
	return packageRefs(slices.Concat(d.Packages, d.Suites[suite]), arch)
}

// ParseDefinition reads a definition from a directory or an embedded copy of
// one; both give the same. dir is what the directory is called in errors; "":
// nothing. Definition.Sum is the digest of every file's path and content but
// differences.yaml, which no image depends on. Modes of the files do not count,
// since an embedded copy has none.
func ParseDefinition(dir string, fsys fs.FS) (*Definition, error) {
	files, err := readDefinition(fsys)
	if err != nil {
		return nil, fmt.Errorf("reading the image definition%s: %w", called(dir), err)
	}
	return ParseDefinitionFiles(dir, files)
}

// called is a name to put after what is called so.
func called(name string) string {
	if name == "" {
		return ""
	}
	return " " + name
}

// ParseDefinitionFiles is ParseDefinition for files in memory, by their
// slash-separated paths.
func ParseDefinitionFiles(dir string, files map[string][]byte) (*Definition, error) {
	if err := checkDefinitionFiles(files); err != nil {
		return nil, fmt.Errorf("reading the image definition%s: %w", called(dir), err)
	}
	d := &Definition{Files: covered(files)}
	d.Sum = sumDefinition(d.Files)
	var errs []error
	for _, part := range []struct {
		file  string
		parse func(top *mapping)
	}{
		{definitionFile, d.parseImage},
		{configureFile, d.parseConfigure},
		{differencesFile, d.parseDifferences},
	} {
		content, ok := files[part.file]
		switch {
		case !ok && part.file == differencesFile:
			continue
		case !ok:
			errs = append(errs, fmt.Errorf("the image definition%s has no %s", called(dir), part.file))
			continue
		}
		doc, top := parseYAML(path.Join(dir, part.file), content)
		if part.file == definitionFile {
			// parseImage gives modes to these.
			d.Overlay = overlay(files)
		}
		part.parse(top)
		errs = append(errs, doc.err())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

// MaxDefinitionSize bounds all files of a definition together, in bytes.
const MaxDefinitionSize = 16 << 20

// maxDefinitionFiles bounds how many there are.
const maxDefinitionFiles = 10_000

func readDefinition(fsys fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	total := int64(0)
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file (write symbolic links in %s)", name, configureFile)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if total += info.Size(); total > MaxDefinitionSize || len(files) == maxDefinitionFiles {
			return errLargeDefinition
		}
		files[name], err = fs.ReadFile(fsys, name)
		return err
	})
	return files, err
}

// errLargeDefinition says that a definition is larger than any.
var errLargeDefinition = fmt.Errorf("it has more than %d bytes, or more than %d files", MaxDefinitionSize, maxDefinitionFiles)

// checkDefinitionFiles checks names and sizes of files that may be from anywhere.
func checkDefinitionFiles(files map[string][]byte) error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		total += len(files[name])
		known := name == definitionFile || name == configureFile || name == differencesFile ||
			strings.HasPrefix(name, definitionFiles+"/")
		switch {
		case !fs.ValidPath(name):
			return fmt.Errorf("%q is not the path of a file", name)
		case !known && !strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".go"):
			return fmt.Errorf("unexpected file %s (files for the image go below %s/)", name, definitionFiles)
		}
	}
	if total > MaxDefinitionSize || len(files) > maxDefinitionFiles {
		return errLargeDefinition
	}
	return nil
}

// covered returns the files that an image depends on.
func covered(files map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, content := range files {
		if strings.HasSuffix(name, ".yaml") && name != differencesFile || strings.HasPrefix(name, definitionFiles+"/") {
			out[name] = content
		}
	}
	return out
}

func sumDefinition(files map[string][]byte) Digest {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		// Lengths keep one file from being taken for two.
		fmt.Fprintf(h, "%d %s %d\n", len(name), name, len(files[name]))
		h.Write(files[name])
	}
	return SHA256([sha256.Size]byte(h.Sum(nil)))
}

func overlay(files map[string][]byte) []OverlayFile {
	var out []OverlayFile
	for name, content := range files {
		if p, ok := strings.CutPrefix(name, definitionFiles+"/"); ok {
			out = append(out, OverlayFile{Path: p, Mode: 0o644, Content: content})
		}
	}
	slices.SortFunc(out, func(a, b OverlayFile) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func (d *Definition) parseImage(top *mapping) {
	d.Name = top.required("name").text()
	if d.Name != "" && !gce.IsName(d.Name) {
		top.required("name").errorf("%q cannot begin an image's name (lower-case letters, digits and hyphens, beginning with a letter)", d.Name)
	}
	d.Packages = top.required("packages").packages()
	d.Suites = map[string][]Listed{}
	for _, suite := range top.optional("suites").mapping().entries() {
		if err := checkSuite(suite.name); err != nil {
			suite.errorf("%v", err)
		}
		d.Suites[suite.name] = suite.mapping().required("packages").packages()
	}
	kernel := top.required("kernel").mapping()
	d.Kernel.Arguments = kernel.required("arguments").kernelArguments()
	d.Kernel.Modules = kernel.required("modules").texts()
	units := top.required("units").mapping()
	d.Units.Enable = units.required("enable").unitNames()
	d.Units.Mask = units.required("mask").unitNames()
	for _, mode := range top.optional("modes").mapping().entries() {
		p, ok := strings.CutPrefix(mode.name, "/")
		i := slices.IndexFunc(d.Overlay, func(f OverlayFile) bool { return f.Path == p })
		if !ok || i < 0 {
			mode.errorf("no such file (want the path in the image of a file below %s/)", definitionFiles)
			continue
		}
		d.Overlay[i].Mode = mode.mode()
	}
}

// unitNames reads a mapping of unit names to reasons.
func (v value) unitNames() []UnitName {
	var out []UnitName
	for _, item := range v.mapping().entries() {
		if strings.ContainsAny(item.name, "/ ") || path.Ext(item.name) == "" && !strings.HasSuffix(item.name, "-generator") {
			item.errorf("%q is not the name of a unit, such as ssh.service", item.name)
			continue
		}
		out = append(out, UnitName{item.name, item.text(), item.pos()})
	}
	return out
}

func (d *Definition) parseDifferences(top *mapping) {
	for _, item := range top.required("differences").list() {
		m := item.mapping()
		difference := Difference{Path: m.required("path").text(), Reason: m.required("reason").text(), Pos: item.pos()}
		difference.Only = m.optional("only").oneOf("image", "scripts")
		pattern := strings.TrimSuffix(difference.Path, "/**")
		if _, err := path.Match(pattern, ""); err != nil || !strings.HasPrefix(pattern, "/") || strings.Contains(pattern, "**") {
			m.required("path").errorf("%q is not an absolute path.Match pattern", difference.Path)
			continue
		}
		d.Differences = append(d.Differences, difference)
	}
}
