package kubeconfig

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/nodebake/bake/bake/manifest"
)

// The lists of a kubeconfig whose items have names, and what an item is called.
const (
	clusters = "clusters"
	contexts = "contexts"
	users    = "users"
)

func kinds() []string { return []string{clusters, users, contexts} }

// singular names one item of a list.
func singular(kind string) string { return strings.TrimSuffix(kind, "s") }

// document is the text of a kubeconfig. Changes are made in places of the text, so
// that whatever is not ours stays as it is: comments, fields that we don't know,
// order, blank lines. Each is checked: the text must then say what was wanted.
type document struct {
	path string
	text string
	was  string // text before the first change
	top  *yaml.Node
}

// skeleton is a kubeconfig without entries, as kubectl writes one.
const skeleton = `apiVersion: v1
clusters: []
contexts: []
current-context: ""
kind: Config
users: []
`

// newDocument reads a kubeconfig as far as it is changed here; text without
// anything but comments gets a skeleton. What is wrong is a *manifest.InputError.
func newDocument(path, text string) (*document, error) {
	d := &document{path: path, text: text}
	if isEmpty(text) {
		d.text = endLine(text) + skeleton
	}
	d.was = d.text
	return d, d.parse()
}

// isEmpty tells a text without content: comments, or the beginning of a document.
func isEmpty(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line != "---" && line[0] != '#' {
			return false
		}
	}
	return true
}

// endLine has text end with the end of a line, unless there is nothing.
func endLine(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// errorAt is a mistake in the file, at a node of it.
func (d *document) errorAt(n *yaml.Node, key, format string, args ...any) error {
	return &manifest.InputError{Pos: manifest.Pos{File: d.path, Line: n.Line, Column: n.Column}, Key: key, Problem: fmt.Sprintf(format, args...)}
}

// parse reads the text, and refuses what kubectl does not read or reads otherwise
// than it looks.
func (d *document) parse() error {
	var err error
	if d.top, err = manifest.ParseNode(d.path, []byte(d.text)); err != nil {
		return err
	}
	if d.top.Kind != yaml.MappingNode {
		return d.errorAt(d.top, "", "not a kubeconfig: it holds no fields")
	}
	for name, want := range map[string]string{"apiVersion": "v1", "kind": "Config"} {
		if _, value := d.field(name); value != nil && value.Value != "" && value.Value != want {
			return d.errorAt(value, name, "not a kubeconfig: want %s", want)
		}
	}
	seen := map[string]bool{}
	for i := 0; i < len(d.top.Content); i += 2 {
		key := d.top.Content[i]
		if seen[key.Value] {
			return d.errorAt(key, key.Value, "the field is there twice (remove one)")
		}
		seen[key.Value] = true
	}
	for _, kind := range kinds() {
		if err := d.checkList(kind); err != nil {
			return err
		}
	}
	if _, err := decode(d.text); err != nil {
		return d.errorAt(d.top, "", "not a kubeconfig: a field of it is there twice, or its names are no text (kubectl config view shows which)")
	}
	return nil
}

// checkList wants a list of mappings that have names which differ.
func (d *document) checkList(kind string) error {
	_, list := d.field(kind)
	switch {
	case list == nil || list.Tag == "!!null":
		return nil
	case list.Kind != yaml.SequenceNode:
		return d.errorAt(list, kind, "want a list")
	}
	if alias := findAlias(list); alias != nil {
		return d.errorAt(alias, kind, "an alias, which can't be changed in one place (write the value out)")
	}
	lines := map[string]int{}
	for i, item := range list.Content {
		key := fmt.Sprintf("%s[%d]", kind, i)
		name := child(item, "name")
		switch {
		case item.Kind != yaml.MappingNode || name == nil || name.Tag != "!!str" || name.Value == "":
			return d.errorAt(item, key, "want an entry with a name")
		case lines[name.Value] > 0:
			return d.errorAt(name, key, "another %s of this name is on line %d (remove one)", singular(kind), lines[name.Value])
		}
		lines[name.Value] = name.Line
	}
	return nil
}

func findAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n
	}
	for _, c := range n.Content {
		if found := findAlias(c); found != nil {
			return found
		}
	}
	return nil
}

// child returns the value of a mapping's key, or nil.
func child(mapping *yaml.Node, name string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// field returns a key of the top and its value, or nil.
func (d *document) field(name string) (key, value *yaml.Node) {
	for i := 0; i < len(d.top.Content); i += 2 {
		if d.top.Content[i].Value == name {
			return d.top.Content[i], d.top.Content[i+1]
		}
	}
	return nil, nil
}

// items returns the entries of a list.
func (d *document) items(kind string) []*yaml.Node {
	if _, list := d.field(kind); list != nil {
		return list.Content
	}
	return nil
}

// inBlocks says whether every entry has lines of its own; JSON has not.
func (d *document) inBlocks() bool {
	if d.top.Style&yaml.FlowStyle != 0 {
		return false
	}
	for _, kind := range kinds() {
		if _, list := d.field(kind); list != nil && list.Style&yaml.FlowStyle != 0 && len(list.Content) > 0 {
			return false
		}
	}
	return true
}

// begin makes a document one that can be changed, and returns what it says: JSON,
// and lists in brackets, are written as kubectl would write them.
func (d *document) begin() (map[string]any, error) {
	// YAML counts lines by these too.
	if strings.ContainsAny(strings.ReplaceAll(d.text, "\r\n", "\n"), "\r\u0085\u2028\u2029") {
		return nil, d.errorAt(d.top, "", "has line breaks of another kind than Unix' or Windows' (replace them)")
	}
	if !d.inBlocks() {
		if err := d.toBlocks(); err != nil {
			return nil, err
		}
	}
	return decode(d.text)
}

func (d *document) toBlocks() error {
	var clear func(n *yaml.Node)
	clear = func(n *yaml.Node) {
		n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle
		for _, c := range n.Content {
			clear(c)
		}
	}
	clear(d.top)
	text, err := encode(d.top)
	if err != nil {
		return err
	}
	for line := range strings.Lines(d.text) {
		if _, comment, ok := strings.Cut(line, "#"); ok && !strings.Contains(text, strings.TrimSpace(comment)) {
			return d.errorAt(d.top, "", "written in brackets and with a comment that would get lost (write it as kubectl does, or remove the comment)")
		}
	}
	want, err := decode(d.text)
	if err != nil {
		return err
	}
	return d.change(text, want)
}

// encode writes a node as kubectl does.
func encode(n *yaml.Node) (string, error) {
	var b strings.Builder
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(n); err != nil {
		return "", err
	}
	return b.String(), e.Close()
}

func decode(text string) (map[string]any, error) {
	var data map[string]any
	err := yaml.Unmarshal([]byte(text), &data)
	return data, err
}

// change takes a new text, which must say what is wanted.
func (d *document) change(text string, want map[string]any) error {
	changed := &document{path: d.path, text: text, was: d.was}
	got, err := decode(text)
	if err == nil {
		err = changed.parse()
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		return d.errorAt(d.top, "", "written so that it can't be changed in one place (kubectl config writes it anew, without comments)")
	}
	*d = *changed
	return nil
}

// lines are those of the text, each with its end; the last has one too.
func (d *document) lines() []string { return strings.SplitAfter(endLine(d.text), "\n") }

// newline is how lines end.
func (d *document) newline() string {
	if first, _, ok := strings.Cut(d.text, "\n"); ok && strings.HasSuffix(first, "\r") {
		return "\r\n"
	}
	return "\n"
}

// add puts an entry at the beginning of a list: there is no doubt where that is.
func (d *document) add(kind string, item *yaml.Node) error {
	want, err := d.begin()
	if err != nil {
		return err
	}
	var entry map[string]any
	if err := item.Decode(&entry); err != nil {
		return err
	}
	list, _ := want[kind].([]any)
	want[kind] = append([]any{entry}, list...)

	text, err := encode(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{item}})
	if err != nil {
		return err
	}
	key, value := d.field(kind)
	if key == nil {
		indent := d.top.Column - 1
		return d.change(d.appended(kind+":\n"+text, indent), want)
	}
	lines := d.lines()
	indent := key.Column - 1
	if len(value.Content) > 0 {
		indent = value.Column - 1
	} else if lines[key.Line-1], err = d.setOnLine(key, ""); err != nil {
		return err
	}
	lines = slices.Insert(lines, key.Line, d.indented(text, indent))
	return d.change(strings.Join(lines, ""), want)
}

// indented moves lines to the right, and gives them the file's ends.
func (d *document) indented(text string, by int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", by) + strings.TrimSuffix(line, "\n") + d.newline())
	}
	return b.String()
}

// appended returns the document with lines at its end.
func (d *document) appended(text string, indent int) string {
	lines := d.lines()
	end := slices.IndexFunc(lines, func(line string) bool { return strings.TrimRight(line, " \r\n") == "..." })
	if end < 0 {
		end = len(lines) - 1 // behind the last line there is an empty string
	}
	return strings.Join(slices.Insert(lines, end, d.indented(text, indent)), "")
}

// setOnLine returns the line of a key whose value is nothing, an empty list or an
// empty text there, with another value.
func (d *document) setOnLine(key *yaml.Node, value string) (string, error) {
	line := d.lines()[key.Line-1]
	m := regexp.MustCompile(`^(.{` + fmt.Sprint(key.Column-1) + `}["']?` + regexp.QuoteMeta(key.Value) + `["']?[ \t]*:)[ \t]*(?:\[[ \t]*\]|null|~|""|'')?([ \t]*(?:[ \t]#.*)?\r?\n)$`).FindStringSubmatch(line)
	if m == nil {
		return "", d.errorAt(key, key.Value, "its value is written so that it can't be changed in its line (write it behind the key)")
	}
	if value != "" {
		value = " " + value
	}
	return m[1] + value + m[2], nil
}

// remove takes an entry out of a list.
func (d *document) remove(kind, name string) error {
	want, err := d.begin()
	if err != nil {
		return err
	}
	list, _ := want[kind].([]any)
	items := d.items(kind)
	at := slices.IndexFunc(items, func(item *yaml.Node) bool { return child(item, "name").Value == name })
	if at < 0 || at >= len(list) {
		return fmt.Errorf("BUG: %s has no %s %q", d.path, singular(kind), name)
	}
	want[kind] = slices.Delete(list, at, at+1)

	key, value := d.field(kind)
	lines := d.lines()
	begin, end := d.span(key, value, at, lines)
	lines = slices.Delete(lines, begin, end)
	if len(items) == 1 {
		if lines[key.Line-1], err = d.setOnLine(key, "[]"); err != nil {
			return err
		}
	}
	return d.change(strings.Join(lines, ""), want)
}

// span returns the lines of an entry: from the comment that stands directly above
// it to its last, without comments behind it.
func (d *document) span(key, list *yaml.Node, at int, lines []string) (begin, end int) {
	dash := func(item *yaml.Node) int {
		at := item.Line - 1
		for at > list.Line-1 && !strings.HasPrefix(strings.TrimLeft(lines[at], " "), "-") {
			at--
		}
		return at
	}
	begin, end = dash(list.Content[at]), d.endOf(list, lines)
	if at+1 < len(list.Content) {
		end = dash(list.Content[at+1])
	}
	for end > begin+1 && (strings.TrimSpace(lines[end-1]) == "" || isComment(lines, end-1)) {
		end--
	}
	for begin > key.Line && strings.HasPrefix(strings.TrimSpace(lines[begin-1]), "#") {
		begin--
	}
	return begin, end
}

// isComment reports whether a line is one, and no part of a text of several lines:
// without it the document says the same.
func isComment(lines []string, at int) bool {
	if !strings.HasPrefix(strings.TrimSpace(lines[at]), "#") {
		return false
	}
	with, err := decode(strings.Join(lines, ""))
	if err != nil {
		return false
	}
	without, err := decode(strings.Join(slices.Delete(slices.Clone(lines), at, at+1), ""))
	return err == nil && reflect.DeepEqual(with, without)
}

// endOf returns the line behind a list.
func (d *document) endOf(list *yaml.Node, lines []string) int {
	for i := 0; i < len(d.top.Content); i += 2 {
		if key := d.top.Content[i]; key.Line > list.Line {
			return key.Line - 1
		}
	}
	if end := slices.IndexFunc(lines, func(line string) bool { return strings.TrimRight(line, " \r\n") == "..." }); end >= 0 {
		return end
	}
	return len(lines) - 1
}

// set gives a field of an entry another text, which must be one of letters,
// digits and the signs of base64.
func (d *document) set(kind, name, field, value string) error {
	want, err := d.begin()
	if err != nil {
		return err
	}
	for _, item := range d.items(kind) {
		if child(item, "name").Value != name {
			continue
		}
		node := child(child(item, singular(kind)), field)
		if node == nil {
			return fmt.Errorf("BUG: %s: %s %q has no %s", d.path, singular(kind), name, field)
		}
		for _, entry := range want[kind].([]any) {
			if entry := entry.(map[string]any); entry["name"] == name {
				entry[singular(kind)].(map[string]any)[field] = value
			}
		}
		return d.replace(node, kind+"."+field, value, want)
	}
	return fmt.Errorf("BUG: %s has no %s %q", d.path, singular(kind), name)
}

// replace writes another text in the place of a scalar.
func (d *document) replace(node *yaml.Node, key, value string, want map[string]any) error {
	lines := d.lines()
	line := []rune(lines[node.Line-1])
	before, rest := string(line[:node.Column-1]), string(line[node.Column-1:])
	for _, written := range []string{`"` + node.Value + `"`, `'` + node.Value + `'`, node.Value} {
		if after, ok := strings.CutPrefix(rest, written); ok && written != "" {
			lines[node.Line-1] = before + value + after
			return d.change(strings.Join(lines, ""), want)
		}
	}
	return d.errorAt(node, key, "written so that it can't be changed in its line (write it in one line)")
}

// current returns the current context.
func (d *document) current() string {
	if _, value := d.field("current-context"); value != nil && value.Tag != "!!null" {
		return value.Value
	}
	return ""
}

// setCurrent selects a context, or none.
func (d *document) setCurrent(name string) error {
	want, err := d.begin()
	if err != nil {
		return err
	}
	want["current-context"] = name
	text, err := encode(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name})
	if err != nil {
		return err
	}
	text = strings.TrimSuffix(text, "\n")
	key, value := d.field("current-context")
	switch {
	case key == nil:
		return d.change(d.appended("current-context: "+text+"\n", d.top.Column-1), want)
	case value.Value != "" && value.Tag != "!!null":
		return d.replace(value, "current-context", text, want)
	}
	lines := d.lines()
	if lines[key.Line-1], err = d.setOnLine(key, text); err != nil {
		return err
	}
	return d.change(strings.Join(lines, ""), want)
}
