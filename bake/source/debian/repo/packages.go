package repo

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nodebake/bake/bake/decompress"
	"github.com/nodebake/bake/bake/relation"
	"github.com/nodebake/bake/bake/source/debian/deb822"
	"github.com/nodebake/bake/bake/source/debian/resolver"
	"github.com/nodebake/bake/bake/tree"
)

// Verify checks the content of the index against the Release.
func (x Index) Verify(content []byte) error {
	if int64(len(content)) != x.Size {
		return fmt.Errorf("%s has %d bytes, the Release file says %d", x.Path, len(content), x.Size)
	}
	if got := tree.Digest(sha256.Sum256(content)); got != x.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, the Release file says %s", x.Path, got, x.SHA256)
	}
	return nil
}

// Parse decompresses and parses the content of the index, which must have been
// verified.
func (x Index) Parse(content []byte, arch string) ([]resolver.Package, error) {
	format := decompress.None
	switch {
	case strings.HasSuffix(x.Path, ".gz"):
		format = decompress.Gzip
	case strings.HasSuffix(x.Path, ".xz"):
		format = decompress.XZ
	}
	r, err := decompress.NewReader(bytes.NewReader(content), format, decompress.Limits{Bytes: x.Unpacked + 1})
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", x.Path, err)
	}
	defer r.Close()
	// One byte more than there may be tells a longer file from its end.
	limited := &io.LimitedReader{R: r, N: x.Unpacked + 1}
	packages, err := ParsePackages(limited, arch)
	if err == nil && limited.N != 1 {
		err = fmt.Errorf("it does not have the %d bytes that the Release file says", x.Unpacked)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", x.Path, err)
	}
	return packages, nil
}

// ParsePackages parses a Packages index, keeping what closure needs. As apt does,
// it goes on where a stanza is malformed: the package says so, and is an error to
// whoever wants it. A stanza without the name of a package is an error.
func ParsePackages(r io.Reader, arch string) ([]resolver.Package, error) {
	reader := deb822.NewReader(r, "Package", "Version", "Architecture", "Multi-Arch", "Priority", "Essential",
		"Depends", "Pre-Depends", "Conflicts", "Breaks", "Provides", "Filename", "Size", "SHA256")
	var packages []resolver.Package
	for {
		s, err := reader.Next()
		if err == io.EOF {
			return packages, nil
		}
		if _, ok := errors.AsType[*deb822.SyntaxError](err); err != nil && !ok {
			return nil, err
		}
		p, wrong := parsePackage(&s, arch)
		if err != nil {
			wrong = err
			if err := reader.Skip(); err != nil {
				return nil, err
			}
		}
		if wrong != nil {
			if !relation.ValidName(p.Name) {
				return nil, fmt.Errorf("package %q at line %d: %w", s.Get("Package"), s.Line, wrong)
			}
			p.Malformed = fmt.Errorf("line %d: %w", s.Line, wrong)
		}
		packages = append(packages, p)
	}
}

// ParseControl parses the control file of a package, of which an index has the
// stanza with three more fields: Path, Size and SHA256 are the caller's to know.
func ParseControl(content []byte, arch string) (resolver.Package, error) {
	reader := deb822.NewReader(bytes.NewReader(content), "Package", "Version", "Architecture", "Multi-Arch", "Priority", "Essential",
		"Depends", "Pre-Depends", "Conflicts", "Breaks", "Provides")
	s, err := reader.Next()
	if err != nil {
		return resolver.Package{}, fmt.Errorf("reading a control file: %w", err)
	}
	p, err := readFields(&s)
	if err == nil {
		err = checkNamed(&p, arch)
	}
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return p, fmt.Errorf("control file of package %q: %w", p.Name, err)
	}
	return p, nil
}

func parsePackage(s *deb822.Stanza, arch string) (resolver.Package, error) {
	p, wrong := readFields(s)
	switch {
	case wrong != nil:
		return p, wrong
	case p.Size == 0:
		wrong = errors.New("field Size is missing")
	case p.SHA256.IsZero():
		wrong = errors.New("field SHA256 is missing")
	case !strings.HasSuffix(p.Path, ".deb"):
		wrong = fmt.Errorf("field Filename: %q is not the path of a .deb", p.Path)
	}
	if err := checkNamed(&p, arch); err != nil {
		return p, err
	}
	if wrong != nil {
		return p, wrong
	}
	if err := validPath(p.Path); err != nil {
		return p, fmt.Errorf("field Filename: %w", err)
	}
	return p, p.Check()
}

// checkNamed requires that p has a name, and is for arch.
func checkNamed(p *resolver.Package, arch string) error {
	if !relation.ValidName(p.Name) {
		return errors.New("field Package: missing, or not the name of a package")
	}
	if p.Arch != arch && p.Arch != "all" {
		return fmt.Errorf("field Architecture: %q in an index of %s", p.Arch, arch)
	}
	return nil
}

// readFields reads what a stanza has. The error is of the first field that is
// malformed; the others are there all the same.
func readFields(s *deb822.Stanza) (resolver.Package, error) {
	var p resolver.Package
	var wrong error // the first thing; the name and version are wanted all the same
	for _, f := range s.Fields {
		switch strings.ToLower(f.Name) {
		case "package":
			p.Name = f.Value
		case "version":
			p.Version = f.Value
		case "architecture":
			p.Arch = f.Value
		case "multi-arch":
			p.MultiArch = f.Value
		case "priority":
			p.Priority = f.Value
		case "essential":
			p.Essential = f.Value == "yes"
		case "depends":
			p.Depends = f.Value
		case "pre-depends":
			p.PreDepends = f.Value
		case "conflicts":
			p.Conflicts = f.Value
		case "breaks":
			p.Breaks = f.Value
		case "provides":
			p.Provides = f.Value
		case "filename":
			// Some archives write "./pool/...", as dpkg-scanpackages does.
			p.Path = strings.TrimPrefix(f.Value, "./")
		case "size":
			size, err := strconv.ParseUint(f.Value, 10, 63)
			if err != nil || size == 0 {
				wrong = cmp.Or(wrong, fmt.Errorf("field Size: %q is no size", f.Value))
			}
			p.Size = int64(size)
		case "sha256":
			if err := p.SHA256.UnmarshalText([]byte(f.Value)); err != nil {
				wrong = cmp.Or(wrong, fmt.Errorf("field SHA256: %w", err))
			}
		}
	}
	return p, wrong
}
