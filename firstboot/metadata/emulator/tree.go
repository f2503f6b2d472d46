package emulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// dir maps a name to a node: a dir, a []any of nodes (entries named 0, 1, ...),
// or a leaf: string, int, uint64, jsonList, lines or computed.
type dir map[string]any

// jsonList is a leaf that is a list, and JSON as text too: tags.
type jsonList []string

// lines is a leaf that is a list, with one entry a line as text: scopes.
type lines []string

// computed is a leaf made when it is asked for, as JSON. Recursive answers
// leave it out: a token.
type computed func() string

// render returns the answer for path. The caller holds s.mu.
func (s *Server) render(path string, recursive bool, alt string) (body, contentType string, status int) {
	const text, jsonType = "application/text", "application/json"
	node, ok := lookup(s.root, strings.TrimSuffix(path, "/"))
	if !ok {
		return "no such key: " + path + "\n", text, http.StatusNotFound
	}
	isDir := isDirectory(node)
	switch {
	case !isDir && strings.HasSuffix(path, "/"):
		return "not a directory: " + path + "\n", text, http.StatusNotFound
	case !isDir:
		if make, ok := node.(computed); ok {
			return make(), jsonType, http.StatusOK
		}
		if alt == "json" {
			return mustJSON(toJSON(node, false)), jsonType, http.StatusOK
		}
		return asText(node), text, http.StatusOK
	case path != "" && !strings.HasSuffix(path, "/"):
		return "", text, http.StatusMovedPermanently
	case recursive && alt == "text":
		var b strings.Builder
		flatten(&b, "", node)
		return b.String(), text, http.StatusOK
	case recursive:
		return mustJSON(toJSON(node, keepsNames(path))), jsonType, http.StatusOK
	}
	return listing(node), text, http.StatusOK
}

func isDirectory(node any) bool {
	switch node.(type) {
	case dir, []any:
		return true
	}
	return false
}

func lookup(node any, path string) (any, bool) {
	if path == "" {
		return node, true
	}
	name, rest, _ := strings.Cut(path, "/")
	switch n := node.(type) {
	case dir:
		child, ok := n[name]
		if !ok {
			return nil, false
		}
		return lookup(child, rest)
	case []any:
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= len(n) {
			return nil, false
		}
		return lookup(n[i], rest)
	}
	return nil, false
}

func children(node any) (names []string, get func(string) any) {
	switch n := node.(type) {
	case dir:
		return slices.Sorted(maps.Keys(n)), func(k string) any { return n[k] }
	case []any:
		for i := range n {
			names = append(names, strconv.Itoa(i))
		}
		return names, func(k string) any { i, _ := strconv.Atoi(k); return n[i] }
	}
	return nil, nil
}

func listing(node any) string {
	var b strings.Builder
	names, get := children(node)
	for _, name := range names {
		b.WriteString(name)
		if isDirectory(get(name)) {
			b.WriteByte('/')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func flatten(b *strings.Builder, prefix string, node any) {
	names, get := children(node)
	for _, name := range names {
		switch child := get(name).(type) {
		case dir, []any:
			flatten(b, prefix+name+"/", child)
		case computed:
		case lines:
			for _, line := range child {
				fmt.Fprintf(b, "%s%s %s\n", prefix, name, line)
			}
		default:
			fmt.Fprintf(b, "%s%s %s\n", prefix, name, asText(child))
		}
	}
}

func asText(leaf any) string {
	switch leaf := leaf.(type) {
	case jsonList:
		return mustJSON(toJSON(leaf, false))
	case lines:
		return strings.Join(leaf, "\n") + "\n"
	}
	return fmt.Sprint(leaf)
}

// keepsNames says whether the names in a directory are the user's, and stay as
// they are in JSON.
func keepsNames(path string) bool {
	name := strings.TrimSuffix(path, "/")
	name = name[strings.LastIndexByte(name, '/')+1:]
	return name == "attributes" || name == "service-accounts"
}

// toJSON renames directories' keys to camel case, as the server does in
// recursive JSON.
func toJSON(node any, verbatim bool) any {
	switch n := node.(type) {
	case dir:
		out := make(map[string]any, len(n))
		for k, v := range n {
			if _, ok := v.(computed); ok {
				continue
			}
			name := k
			if !verbatim {
				name = camel(k)
			}
			out[name] = toJSON(v, keepsNames(k))
		}
		return out
	case []any:
		out := make([]any, len(n))
		for i, v := range n {
			out[i] = toJSON(v, false)
		}
		return out
	case jsonList:
		return append([]string{}, n...) // [], never null
	case lines:
		return append([]string{}, n...)
	}
	return node
}

func camel(key string) string {
	words := strings.Split(key, "-")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // maps, slices, strings and numbers only
	}
	return string(b)
}
