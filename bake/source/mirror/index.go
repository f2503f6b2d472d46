package mirror

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
)

// Index says what a mirror holds. It is kept sorted: sets by name, entries by
// kind, path and digest, names of sets and architectures alphabetically.
type Index struct {
	Schema  int     `json:"schema"`
	Sets    []Set   `json:"sets"`
	Entries []Entry `json:"entries"`
}

// errForm says that an index means something, but was not written by us.
var errForm = errors.New("it is not as `bake mirror` writes it; was it edited or converted? copy it again, or make it again")

// ParseIndex reads mirror.json strictly: unknown keys, other schemas, invalid
// or contradictory entries and anything but the bytes that Encode gives are
// errors.
func ParseIndex(b []byte) (*Index, error) {
	if len(b) > maxIndex {
		return nil, fmt.Errorf("it has %d bytes; at most %d are expected", len(b), maxIndex)
	}
	// The schema first: what a later one has must not be called unknown.
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("it is no index of a mirror: %w", err)
	}
	switch {
	case version.Schema == nil:
		return nil, errors.New("it is no index of a mirror: it has no schema")
	case *version.Schema > Schema:
		return nil, fmt.Errorf("its schema is %d; want %d: a newer bake made it", *version.Schema, Schema)
	case *version.Schema != Schema:
		return nil, fmt.Errorf("its schema is %d; want %d", *version.Schema, Schema)
	}
	x := &Index{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(x); err != nil {
		return nil, err
	}
	if err := x.check(); err != nil {
		if _, ok := errors.AsType[*pathError](err); ok {
			err = fmt.Errorf("%w; `bake mirror` writes no such thing: don't use this mirror, get it from where it was made", err)
		}
		return nil, err
	}
	// This finds what encoding/json forgives: keys that come twice or in
	// another case, null, invalid UTF-8, and something after the end.
	if !bytes.Equal(b, x.encode()) {
		return nil, errForm
	}
	return x, nil
}

// Encode returns the bytes of mirror.json, with a line for each set and entry.
// The same sets and entries give the same bytes, in whatever order they are.
func (x *Index) Encode() ([]byte, error) {
	y := x.clone()
	y.sort()
	if err := y.check(); err != nil {
		return nil, err
	}
	return y.encode(), nil
}

func (x *Index) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"schema\": %d,\n\"sets\": ", x.Schema)
	encodeLines(&b, x.Sets)
	b.WriteString(",\n\"entries\": ")
	encodeLines(&b, x.Entries)
	b.WriteString("\n}\n")
	return b.Bytes()
}

func encodeLines[T any](b *bytes.Buffer, list []T) {
	b.WriteString("[")
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for i, v := range list {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n")
		if err := enc.Encode(v); err != nil {
			panic(fmt.Sprintf("BUG: encoding %v: %v", v, err)) // strings and numbers always encode
		}
		b.Truncate(b.Len() - 1) // the newline that Encode adds
	}
	if len(list) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]")
}

func (x *Index) clone() *Index {
	y := &Index{Schema: x.Schema, Sets: slices.Clone(x.Sets), Entries: slices.Clone(x.Entries)}
	for i := range y.Sets {
		y.Sets[i].Archs = slices.Clone(y.Sets[i].Archs)
	}
	for i := range y.Entries {
		y.Entries[i].Sets = slices.Clone(y.Entries[i].Sets)
	}
	return y
}

func (x *Index) sort() {
	for i := range x.Sets {
		slices.Sort(x.Sets[i].Archs)
	}
	for i := range x.Entries {
		slices.Sort(x.Entries[i].Sets)
	}
	slices.SortFunc(x.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(x.Entries, compareEntries)
}

func compareEntries(a, b Entry) int {
	return cmp.Or(
		cmp.Compare(slices.Index(kinds(), a.Kind), slices.Index(kinds(), b.Kind)),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.SHA256, b.SHA256))
}

// Find returns the entries of a kind that have path at their origin: none, one,
// or several where the origin had other bytes at another time.
func (x *Index) Find(kind Kind, path string) []Entry {
	want := Entry{Kind: kind, Path: path}
	first, _ := slices.BinarySearchFunc(x.Entries, want, compareEntries)
	last := first
	for last < len(x.Entries) && x.Entries[last].Kind == kind && x.Entries[last].Path == path {
		last++
	}
	return x.Entries[first:last:last]
}

// check reports what is wrong with a sorted index.
func (x *Index) check() error {
	if x.Schema != Schema {
		return fmt.Errorf("its schema is %d; want %d", x.Schema, Schema)
	}
	sets := map[string]bool{}
	for i, s := range x.Sets {
		if err := CheckSetName(s.Name); err != nil {
			return fmt.Errorf("set %d: name %w", i+1, err)
		}
		if sets[s.Name] {
			return fmt.Errorf("set %s: it comes twice", s.Name)
		}
		sets[s.Name] = true
	}
	if !slices.IsSortedFunc(x.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) }) {
		return errors.New("its sets are not sorted")
	}
	c := contents{sets: sets, blobs: map[manifest.Digest]Entry{}, has: map[holding]bool{}, inputs: map[string]bool{}}
	for i := range x.Entries {
		e := &x.Entries[i]
		if err := c.add(e); err != nil {
			return fmt.Errorf("entry %d (%q): %w", i+1, e.Name, err)
		}
		if i > 0 {
			switch order := compareEntries(x.Entries[i-1], *e); {
			case order == 0:
				return fmt.Errorf("entry %d (%q): it comes twice", i+1, e.Name)
			case order > 0:
				return fmt.Errorf("entry %d (%q): it is not in order", i+1, e.Name)
			}
		}
		if err := c.addInput(e); err != nil {
			return fmt.Errorf("entry %d (%q): %w", i+1, e.Name, err)
		}
	}
	for _, s := range x.Sets {
		if err := c.checkSet(s); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return nil
}

// contents is what check has seen.
type contents struct {
	sets  map[string]bool
	blobs map[manifest.Digest]Entry
	has   map[holding]bool

	inputs map[string]bool // their paths
}

// holding says that a set has a file as a kind.
type holding struct {
	set  string
	kind Kind
	sum  manifest.Digest
}

func (c *contents) add(e *Entry) error {
	if !slices.Contains(kinds(), e.Kind) {
		return fmt.Errorf("kind %q is none of %v", e.Kind, kinds())
	}
	if err := checkLocal(e.Name); err != nil {
		return fmt.Errorf("name %w", err)
	}
	if err := checkPath(e); err != nil {
		return fmt.Errorf("path %w", err)
	}
	if err := checkSum(e.SHA256, "sha256"); err != nil {
		return err
	}
	if e.SHA512 != "" {
		if err := checkSum(e.SHA512, "sha512"); err != nil {
			return err
		}
	}
	if e.Size < 0 {
		return fmt.Errorf("size %d is negative", e.Size)
	}
	if len(e.Sets) == 0 {
		return errors.New("no set needs it")
	}
	for i, set := range e.Sets {
		if !c.sets[set] {
			return fmt.Errorf("set %q is not in the index", set)
		}
		if i > 0 && e.Sets[i-1] >= set {
			return fmt.Errorf("its sets %q are not sorted", e.Sets)
		}
		c.has[holding{set, e.Kind, e.SHA256}] = true
	}
	before, ok := c.blobs[e.SHA256]
	switch {
	case !ok:
		c.blobs[e.SHA256] = *e
	case before.Size != e.Size:
		return fmt.Errorf("it has %d bytes, and %q with the same digest has %d", e.Size, before.Name, before.Size)
	case before.SHA512 != "" && e.SHA512 != "" && before.SHA512 != e.SHA512:
		return fmt.Errorf("it has another SHA-512 than %q with the same SHA-256", before.Name)
	case before.SHA512 == "":
		c.blobs[e.SHA256] = *e
	}
	return nil
}

// checkPath requires that a path can do no harm, whoever uses it: nothing that
// a mirror names leads out of the directory that it is put below. Only the path
// of a release is a URL.
func checkPath(e *Entry) error {
	if e.Kind == Release {
		if err := checkText(e.Path); err != nil {
			return err
		}
		u, err := url.Parse(e.Path)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return &pathError{fmt.Errorf("%q is no http or https URL", e.Path)}
		}
		return nil
	}
	return checkLocal(e.Path)
}

// IsInput reports whether e is a file of the person who made the set.
func IsInput(e *Entry) bool { return e.Kind == Versions || e.Kind == Lock || e.Kind == Definition }

// addInput requires that every such file can be put at its path: see [Inputs].
func (c *contents) addInput(e *Entry) error {
	if !IsInput(e) {
		return nil
	}
	if c.inputs[e.Path] {
		return &pathError{fmt.Errorf("path %q is that of two files", e.Path)}
	}
	c.inputs[e.Path] = true
	for _, set := range e.Sets {
		if !strings.HasPrefix(e.Path, set+"/") {
			return &pathError{fmt.Errorf("path %q is not below %q, as a file of that set", e.Path, set+"/")}
		}
	}
	return nil
}

func (c *contents) checkSet(s Set) error {
	if err := checkSum(s.Versions, "sha256"); err != nil {
		return fmt.Errorf("versions: %w", err)
	}
	if err := checkSum(s.Lock, "sha256"); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if !c.has[holding{s.Name, Versions, s.Versions}] {
		return fmt.Errorf("its versions file %s is no entry of kind %q", s.Versions, Versions)
	}
	if !c.has[holding{s.Name, Lock, s.Lock}] {
		return fmt.Errorf("its lock %s is no entry of kind %q", s.Lock, Lock)
	}
	if len(s.Archs) == 0 {
		return errors.New("it has no architecture")
	}
	for i, a := range s.Archs {
		if !a.Known() {
			return fmt.Errorf("architecture %q is neither %s", a, arch.Names(" nor "))
		}
		if i > 0 && s.Archs[i-1] >= a {
			return fmt.Errorf("its architectures %q are not sorted", s.Archs)
		}
	}
	return nil
}

func checkSum(s manifest.Digest, algorithm string) error {
	if _, err := manifest.ParseDigest(string(s)); err != nil {
		return err
	}
	if s.Algorithm() != algorithm {
		return fmt.Errorf("%s is no %s", s, algorithm)
	}
	return nil
}

// pathError says that an index names what could do harm: `bake mirror` never
// wrote it.
type pathError struct{ error }

func (e *pathError) Unwrap() error { return e.error }

// CheckSetName says why a set can't have a name, or nil: it is that of a
// directory as well.
func CheckSetName(name string) error {
	if err := checkLocal(name); err != nil {
		return err
	}
	if strings.Contains(name, "/") {
		return &pathError{fmt.Errorf("%q has a slash", name)}
	}
	return nil
}

// CheckPath says why a file of a set can't have a path, or nil.
func CheckPath(p string) error { return checkLocal(p) }

// checkLocal refuses what can't be put below a directory.
func checkLocal(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if err := manifest.CheckLocalPath(s); err != nil {
		return &pathError{err}
	}
	return nil
}

// checkText refuses what can't be shown on one line.
func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case !utf8.ValidString(s):
		return fmt.Errorf("%q is not UTF-8", s)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q has a control character", s)
	}
	return nil
}
