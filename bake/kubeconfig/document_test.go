package kubeconfig

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/nodebake/bake/bake/manifest"
)

// item is an entry of a list.
func item(t testing.TB, text string) *yaml.Node {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return n.Content[0]
}

// TestDocument changes texts, and wants nothing else of them to change.
func TestDocument(t *testing.T) {
	t.Parallel()
	add := func(d *document) error { return d.add(users, item(t, "name: new\nuser:\n  token: t\n")) }
	remove := func(d *document) error { return d.remove(users, "ours") }
	set := func(d *document) error { return d.set(users, "ours", "token", "bmV3") }
	use := func(d *document) error { return d.setCurrent("a: b") }
	for _, test := range []struct {
		name   string
		change func(*document) error
		text   string
		want   string
	}{
		{"nothing there", add, "", strings.Replace(skeleton, "users: []", "users:\n- name: new\n  user:\n    token: t", 1)},
		{"comments alone", add, "# mine\n---", "# mine\n---\n" + strings.Replace(skeleton, "users: []", "users:\n- name: new\n  user:\n    token: t", 1)},
		{"no list", add, "kind: Config # why\nx: 1", "kind: Config # why\nx: 1\nusers:\n- name: new\n  user:\n    token: t\n"},
		{"no list, further in", add, "  kind: Config\n...\n", "  kind: Config\n  users:\n  - name: new\n    user:\n      token: t\n...\n"},
		{"null", add, "users: null # none\nkind: Config\n", "users: # none\n- name: new\n  user:\n    token: t\nkind: Config\n"},
		{"nothing behind the key", add, "users:\nkind: Config\n", "users:\n- name: new\n  user:\n    token: t\nkind: Config\n"},
		{"empty, quoted", add, "\"users\": [ ]\n", "\"users\":\n- name: new\n  user:\n    token: t\n"},
		{"before others", add, "users: # all\n\n  # she\n  - name: her # x\n    user: {}\n\n# end\n", "users: # all\n  - name: new\n    user:\n      token: t\n\n  # she\n  - name: her # x\n    user: {}\n\n# end\n"},
		{"other line ends", add, "users:\r\n- name: her\r\n", "users:\r\n- name: new\r\n  user:\r\n    token: t\r\n- name: her\r\n"},
		{"JSON", add, `{"users": [{"name": "her", "user": {"token": "1"}}], "extra": [true, "true"]}`, "users:\n- name: new\n  user:\n    token: t\n- name: her\n  user:\n    token: \"1\"\nextra:\n- true\n- \"true\"\n"},

		{"the only one", remove, "kind: Config\nusers: # all\n# his\n- name: ours\n  user: {token: t}\n  # deep\n# end\ncontexts: []\n", "kind: Config\nusers: [] # all\n  # deep\n# end\ncontexts: []\n"},
		{"the first", remove, "users:\n- name: ours\n  user:\n    token: t\n\n# her\n- name: her\n", "users:\n\n# her\n- name: her\n"},
		{"between", remove, "users:\n- name: her\n# ours\n# indeed\n- user:\n    token: t\n  name: ours\n\n- name: him\n", "users:\n- name: her\n\n- name: him\n"},
		{"the last", remove, "users:\n  -\n    name: her\n  -\n    name: ours\n    x: |\n      # text\n\n      more\n  # about all\n", "users:\n  -\n    name: her\n  # about all\n"},
		{"the last of a document", remove, "---\nusers:\n- name: her\n- name: ours\n...\n", "---\nusers:\n- name: her\n...\n"},
		{"without an end of the line", remove, "users:\n- name: her\n- name: ours", "users:\n- name: her\n"},
		{"in brackets", remove, "users:\n- {name: her}\n- {name: ours,\n   user: {}}\n", "users:\n- {name: her}\n"},

		{"plain", set, "users:\n- name: ours\n  user:\n    token: b2xk # old\n", "users:\n- name: ours\n  user:\n    token: bmV3 # old\n"},
		{"quoted, behind others", set, "users:\n- {\"user\": {ä: é, \"token\": \"b2xk\", x: y}, name: ours}\n", "users:\n- {\"user\": {ä: é, \"token\": bmV3, x: y}, name: ours}\n"},

		{"none was", use, "kind: Config", "kind: Config\ncurrent-context: 'a: b'\n"},
		{"empty", use, "current-context: \"\" # none\nusers: []\n", "current-context: 'a: b' # none\nusers: []\n"},
		{"null", use, "current-context:\nusers: []\n", "current-context: 'a: b'\nusers: []\n"},
		{"another", use, "current-context: other # was\n", "current-context: 'a: b' # was\n"},
		{"another, quoted", use, "current-context: 'other'\n", "current-context: 'a: b'\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, err := newDocument("config", test.text)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(d); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, d.text); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDocumentRefuses is about what is not changed.
func TestDocumentRefuses(t *testing.T) {
	t.Parallel()
	add := func(d *document) error { return d.add(users, item(t, "{name: new}")) }
	set := func(d *document) error { return d.set(users, "ours", "token", "bmV3") }
	for _, test := range []struct {
		change func(*document) error
		text   string
		want   string
	}{
		{add, "users: [", "config:2:1: not YAML: did not find expected node content"},
		{add, "a: 1\nusers: -\n  - x\n", "config:2:1: not YAML: block sequence entries are not allowed in this context"},
		{add, "kind: Config\n---\nkind: Config\n", "config:2:1: a second YAML document starts here (a file holds one)"},
		{add, "- a\n", "config:1:1: not a kubeconfig: it holds no fields"},
		{add, "token\n", "config:1:1: not a kubeconfig: it holds no fields"},
		{add, "kind: Secret\n", "config:1:7: kind: not a kubeconfig: want Config"},
		{add, "apiVersion: v2\n", "config:1:13: apiVersion: not a kubeconfig: want v1"},
		{add, "users: []\nkind: Config\nusers: []\n", "config:3:1: users: the field is there twice (remove one)"},
		{add, "users: {}\n", "config:1:8: users: want a list"},
		{add, "users:\n- user: {}\n", "config:2:3: users[0]: want an entry with a name"},
		{add, "users:\n- name: 1\n", "config:2:3: users[0]: want an entry with a name"},
		{add, "users:\n- name: a\n- name: a\n", "config:3:9: users[1]: another user of this name is on line 2 (remove one)"},
		{add, "x: &x {name: a}\nusers:\n- *x\n", "config:3:3: users: an alias, which can't be changed in one place (write the value out)"},
		{add, "users:\n- name: a\n  user: {token: s3cr3t, token: s3cr3t}\n", "config:1:1: not a kubeconfig: a field of it is there twice, or its names are no text (kubectl config view shows which)"},
		{add, "{users: [{name: a}], # comment\n}\n", "config:1:1: written in brackets and with a comment that would get lost (write it as kubectl does, or remove the comment)"},
		{add, "users: # why\n  []\n", "config:1:1: written so that it can't be changed in one place (kubectl config writes it anew, without comments)"},
		{func(d *document) error { return d.setCurrent("new") }, "current-context: &a old\nx-mine: *a\n", "config:1:18: current-context: written so that it can't be changed in its line (write it in one line)"},
		{func(d *document) error { return d.change("users: []\n", map[string]any{}) }, "kind: Config\n", "config:1:1: written so that it can't be changed in one place (kubectl config writes it anew, without comments)"},
		{set, "users:\n- name: ours\n  user:\n    token: >-\n      s3cr3t\n", "config:4:12: users.token: written so that it can't be changed in its line (write it in one line)"},
		{set, "users:\n- name: ours\n  user:\n    token: s3cr3t\n     again\n", "config:4:12: users.token: written so that it can't be changed in its line (write it in one line)"},
	} {
		d, err := newDocument("config", test.text)
		if err == nil {
			before := d.text
			if err = test.change(d); d.text != before && err != nil {
				t.Errorf("%q was changed to %q", before, d.text)
			}
		}
		if err == nil || err.Error() != test.want {
			t.Errorf("%q: %v; want %s", test.text, err, test.want)
		}
		if _, ok := errors.AsType[*manifest.InputError](err); !ok {
			t.Errorf("%q: the error is %T; want a *manifest.InputError", test.text, err)
		}
	}
}

// FuzzDocument adds an entry to whatever a document is, and takes it out again:
// then the text says what it said, and has the comments that it had.
func FuzzDocument(f *testing.F) {
	for _, text := range []string{
		"", "# c\n", skeleton, "users: null\n", "users:\n- name: her # c\n  user: {}\n# c\n",
		"users:\n\n  # c\n  -\n    name: x\n    user: |\n      # c\n\ncontexts: []\n", `{"users": [{"name": "her"}]}`, "users: # c\r\n- name: x\r\n...\r\n",
		"  users:\n  - {name: a,\n     user: {}}\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := newDocument("config", text)
		if err != nil {
			return
		}
		before, err := decode(d.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range d.items(users) {
			if child(item, "name").Value == "new" {
				return
			}
		}
		if err := d.add(users, item(t, "name: new\nuser:\n  token: t\n")); err != nil {
			return
		}
		if err := d.remove(users, "new"); err != nil {
			t.Fatalf("%q: what was added can't be removed: %v", text, err)
		}
		after, err := decode(d.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []map[string]any{before, after} {
			if list, _ := data[users].([]any); len(list) == 0 {
				delete(data, users)
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%q says %v afterwards; want %v", text, after, before)
		}
		if d.was != text {
			return // it was JSON, or nothing
		}
		if diff := cmp.Diff(comments(text), comments(d.text)); diff != "" {
			t.Errorf("%q has other comments afterwards (-want +got):\n%s", text, diff)
		}
	})
}

// comments counts the lines that are comments.
func comments(text string) map[string]int {
	found := map[string]int{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			found[line]++
		}
	}
	return found
}
