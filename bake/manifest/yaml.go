package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFileSize bounds what is parsed, in bytes. A lock of two architectures and
// 400 packages has 120 kB.
const maxFileSize = 1 << 20

// maxProblems is how many mistakes one error tells of. A person corrects some
// and runs again; a file that is not ours at all need not fill the screen.
const maxProblems = 20

// document is a YAML file that is being read. Every mistake found on the way
// is kept, and err returns them all; the values that a mistaken file gives are
// zero, so that reading code needs no error checks of its own:
//
//	doc, top := parseYAML(file, data)
//	os := top.required("os").mapping()
//	v.OS.Suite = os.required("suite").text()
//	for _, item := range os.optional("packages").list() { ... item.text() ... }
//	return v, doc.err()
//
// A key that was never asked for is an error, as are YAML's anchors, aliases,
// merge keys and tags: a file that a person reviews should say what it says in
// the place where it says it.
type document struct {
	file     string
	problems []*InputError
	mappings []*mapping // all that were opened: err looks for keys nobody asked for
}

// parseYAML parses data, which must hold one document with a mapping at its
// top. file is for errors only.
func parseYAML(file string, data []byte) (*document, *mapping) {
	d := &document{file: file}
	root, err := parseNode(data)
	if err != nil {
		d.report(err.pos(file), "", err.problem)
		return d, &mapping{document: d, closed: true}
	}
	if d.forbid(root, ""); len(d.problems) > 0 {
		return d, &mapping{document: d, closed: true}
	}
	return d, value{document: d, node: root, at: root}.mapping()
}

// syntaxError is what is wrong with a file before any key is known.
type syntaxError struct {
	line    int
	problem string
}

func (e *syntaxError) pos(file string) Pos { return Pos{file, e.line, 1} }

// ParseNode parses the one YAML document of a file that is not ours, for who
// changes it in places. What is wrong is an *InputError.
func ParseNode(file string, data []byte) (*yaml.Node, error) {
	node, err := parseNode(data)
	if err != nil {
		return nil, &InputError{Pos: err.pos(file), Problem: err.problem}
	}
	return node, nil
}

func parseNode(data []byte) (*yaml.Node, *syntaxError) {
	if len(data) > maxFileSize {
		return nil, &syntaxError{1, fmt.Sprintf("file has %d bytes, more than the %d that are read", len(data), maxFileSize)}
	}
	if !utf8.Valid(data) {
		return nil, &syntaxError{1, "file is not UTF-8"}
	}
	var root, next yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, &syntaxError{1, "file is empty"}
	case err != nil:
		return nil, newSyntaxError(err)
	}
	top := root.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, &syntaxError{1, "file is empty"}
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
		return top, nil
	case err != nil:
		return nil, newSyntaxError(err)
	}
	return nil, &syntaxError{next.Line, "a second YAML document starts here (a file holds one)"}
}

// newSyntaxError takes apart the YAML library's "yaml: line 3: found ...",
// which has no column.
func newSyntaxError(err error) *syntaxError {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line, problem := 0, text
	if number, rest, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok {
		if n, err := strconv.Atoi(number); err == nil {
			line, problem = n, rest
		}
	}
	// The library counts the lines of its scanner's errors from 1 and those
	// of its parser's from 0, leaving 0 out (decode.go, func fail).
	switch problem {
	case "did not find expected <document start>", "did not find expected node content",
		"did not find expected '-' indicator", "did not find expected key",
		"did not find expected ',' or ']'", "did not find expected ',' or '}'":
		line++
	}
	return &syntaxError{max(line, 1), "not YAML: " + problem}
}

// forbid reports what a file of ours may not use of YAML. Without aliases no
// document is larger in memory than on disk (no "billion laughs").
func (d *document) forbid(n *yaml.Node, key string) {
	pos := Pos{d.file, n.Line, n.Column}
	switch {
	case n.Kind == yaml.AliasNode:
		d.report(pos, key, fmt.Sprintf("alias *%s is not allowed (write the value out)", n.Value))
	case n.Anchor != "":
		d.report(pos, key, fmt.Sprintf("anchor &%s is not allowed (write the value out where it is used)", n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.report(pos, key, fmt.Sprintf("tag %s is not allowed (remove it)", shown(n.Tag)))
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			d.forbid(item, fmt.Sprintf("%s[%d]", key, i))
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			switch {
			case k.Tag == "!!merge":
				d.report(Pos{d.file, k.Line, k.Column}, joinKey(key, "<<"), "merge key is not allowed (write the keys out)")
			case k.Kind == yaml.SequenceNode || k.Kind == yaml.MappingNode:
				d.report(Pos{d.file, k.Line, k.Column}, key, "a key must be text")
			default:
				d.forbid(k, key)
			}
			d.forbid(n.Content[i+1], joinKey(key, k.Value))
		}
	}
}

// joinKey writes the key of name within parent as errors show it.
func joinKey(parent, name string) string {
	if parent == "" {
		return shown(name)
	}
	return parent + "." + shown(name)
}

// report keeps a problem of the given place.
func (d *document) report(pos Pos, key, problem string) {
	d.problems = append(d.problems, &InputError{Pos: pos, Key: key, Problem: problem})
}

// err returns what was wrong, in the order of the file, as *InputErrors
// joined; nil if nothing was. Reading must be done.
func (d *document) err() error {
	for _, m := range d.mappings {
		m.reportUnknown()
	}
	d.mappings = nil
	slices.SortStableFunc(d.problems, func(a, b *InputError) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	var errs []error
	for i, p := range d.problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("%s: and %d more", d.file, len(d.problems)-maxProblems))
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// mapping is a YAML mapping, or stands for one that is missing, in which case
// nothing of it is there and nothing is reported.
type mapping struct {
	*document
	key    string // of the mapping itself, from the top: "components.kubelet"
	pos    Pos    // of its key
	fields []value
	asked  map[string]bool
	closed bool // unknown and missing keys are not reported
}

// optional returns the value of a key that may be left out.
func (m *mapping) optional(name string) value {
	if m.closed {
		return value{document: m.document}
	}
	m.asked[name] = true
	for _, f := range m.fields {
		if f.name == name {
			return f
		}
	}
	return value{document: m.document, key: joinKey(m.key, name), name: name}
}

// required returns the value of a key that must be there.
func (m *mapping) required(name string) value {
	v := m.optional(name)
	if !v.present() && !m.closed {
		m.report(m.pos, joinKey(m.key, name), "missing (add it)")
	}
	return v
}

// entries returns all values in the file's order, for a mapping whose keys are
// names that the file makes up.
func (m *mapping) entries() []value {
	m.closed = true
	return m.fields
}

// errorf reports a problem of the mapping as a whole. It does nothing for a
// mapping that is not there.
func (m *mapping) errorf(format string, args ...any) {
	if m.pos.Line > 0 {
		m.report(m.pos, m.key, fmt.Sprintf(format, args...))
	}
}

func (m *mapping) reportUnknown() {
	if m.closed {
		return
	}
	known := make([]string, 0, len(m.asked))
	for name := range m.asked {
		known = append(known, name)
	}
	slices.Sort(known)
	for _, f := range m.fields {
		if m.asked[f.name] {
			continue
		}
		remedy := "known here: " + strings.Join(known, ", ")
		if near := nearest(f.name, known); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		m.report(f.pos(), f.key, fmt.Sprintf("unknown key (%s)", remedy))
	}
}

// value is what stands at a key or in a list, or nothing. Its methods that
// convert it report a value of the wrong type and return zero for it, and for
// nothing.
type value struct {
	*document
	key  string     // from the top: "components.kubelet.release.files[0].path"
	name string     // the last part of key; "" in a list
	node *yaml.Node // nil: nothing there
	at   *yaml.Node // where errors point: the key, or the item of a list
}

// present says whether there is a value, of whatever type.
func (v value) present() bool { return v.node != nil }

// pos is where the value's key is, or the item in a list.
func (v value) pos() Pos {
	if v.at == nil {
		return Pos{File: v.file}
	}
	return Pos{v.file, v.at.Line, v.at.Column}
}

// errorf reports a problem at the value itself. It does nothing for a value
// that is not there.
func (v value) errorf(format string, args ...any) {
	if v.node != nil {
		v.report(Pos{v.file, v.node.Line, v.node.Column}, v.key, fmt.Sprintf(format, args...))
	}
}

// mapping opens a mapping. Keys that stand twice are reported; the first counts.
func (v value) mapping() *mapping {
	if !v.isA(yaml.MappingNode, "a mapping") {
		return &mapping{document: v.document, closed: true}
	}
	m := &mapping{document: v.document, key: v.key, pos: v.pos(), asked: map[string]bool{}}
	first := map[string]int{} // the line of each key
	for i := 0; i < len(v.node.Content); i += 2 {
		key, node := v.node.Content[i], v.node.Content[i+1]
		field := value{v.document, joinKey(v.key, key.Value), key.Value, node, key}
		if line, ok := first[key.Value]; ok {
			m.report(field.pos(), field.key, fmt.Sprintf("duplicate key, first on line %d (remove one)", line))
			continue
		}
		first[key.Value] = key.Line
		m.fields = append(m.fields, field)
	}
	v.document.mappings = append(v.document.mappings, m)
	return m
}

// list returns the items of a list.
func (v value) list() []value {
	if !v.isA(yaml.SequenceNode, "a list") {
		return nil
	}
	items := make([]value, len(v.node.Content))
	for i, node := range v.node.Content {
		items[i] = value{v.document, fmt.Sprintf("%s[%d]", v.key, i), "", node, node}
	}
	return items
}

// emptyList says whether v is a list without items.
func (v value) emptyList() bool {
	return v.present() && v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0
}

// text returns a string of one line that is not empty and has no control
// characters.
func (v value) text() string {
	s, ok := v.string()
	switch {
	case !ok:
		return ""
	case s == "":
		v.errorf("empty (write a value, or remove the key)")
	case strings.ContainsFunc(s, unicode.IsControl):
		v.errorf("text has a line break or another control character (write it on one line)")
		return ""
	}
	return s
}

// anyText returns a string of any length and any number of lines.
func (v value) anyText() string {
	s, _ := v.string()
	return s
}

// texts returns a list of strings as text takes them.
func (v value) texts() []string {
	var out []string
	for _, item := range v.list() {
		if s := item.text(); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (v value) string() (string, bool) {
	if !v.isA(yaml.ScalarNode, "text") {
		return "", false
	}
	if v.node.Tag != "!!str" {
		v.errorf("want text, found %s (put it in quotes)", describe(v.node))
		return "", false
	}
	return v.node.Value, true
}

// oneOf returns one of the given texts.
func (v value) oneOf(choices ...string) string {
	s := v.text()
	if s == "" || slices.Contains(choices, s) {
		return s
	}
	if near := nearest(s, choices); near != "" {
		v.errorf("%q is not known (did you mean %q?)", s, near)
	} else {
		v.errorf("%q is not known (choose from: %s)", s, strings.Join(choices, ", "))
	}
	return ""
}

// boolean returns true or false, as YAML 1.2 writes them.
func (v value) boolean() bool {
	if !v.isA(yaml.ScalarNode, "true or false") {
		return false
	}
	if v.node.Tag != "!!bool" || v.node.Value != "true" && v.node.Value != "false" {
		v.errorf("want true or false, found %s", describe(v.node))
		return false
	}
	return v.node.Value == "true"
}

// integer returns a decimal number from low to high.
func (v value) integer(low, high int64) int64 {
	if !v.isA(yaml.ScalarNode, "a number") {
		return 0
	}
	n, err := strconv.ParseInt(v.node.Value, 10, 64)
	if v.node.Tag != "!!int" || err != nil || strconv.FormatInt(n, 10) != v.node.Value {
		v.errorf("want a whole decimal number, found %s", describe(v.node))
		return 0
	}
	switch {
	case n >= low && n <= high:
		return n
	case high == math.MaxInt64:
		v.errorf("%d is out of range (at least %d)", n, low)
	default:
		v.errorf("%d is out of range (%d to %d)", n, low, high)
	}
	return 0
}

// mode returns permission bits, written in octal as chmod takes them: 0755,
// with or without quotes.
func (v value) mode() uint16 {
	if !v.isA(yaml.ScalarNode, "a mode such as 0755") {
		return 0
	}
	s := v.node.Value
	n, err := strconv.ParseUint(s, 8, 16)
	if err != nil || len(s) != 4 || n > 0o7777 {
		v.errorf("want a mode of four octal digits such as 0755, found %s", describe(v.node))
		return 0
	}
	return uint16(n)
}

// isA says whether v is there and of the given kind, and reports one that is
// there and of another.
func (v value) isA(kind yaml.Kind, want string) bool {
	switch {
	case v.node == nil:
		return false
	case v.node.Kind == kind && !(kind == yaml.ScalarNode && v.node.Tag == "!!null"):
		return true
	}
	v.errorf("want %s, found %s", want, describe(v.node))
	return false
}

// describe names a node for an error.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "the number " + shown(n.Value)
	case "!!bool":
		return "the truth value " + shown(n.Value)
	case "!!timestamp":
		return "the date " + shown(n.Value)
	}
	return strconv.Quote(shorten(n.Value))
}

// shown returns a file's text as it may stand in an error: no longer than fits
// there, and nothing that would break the line.
func shown(s string) string {
	s = shorten(s)
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}

func shorten(s string) string {
	const most = 80 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
