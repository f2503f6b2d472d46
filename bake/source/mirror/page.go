package mirror

import (
	"bytes"
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
)

// pageText is the page for people: plain, without scripts, and the same for
// the same index.
const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Mirror of bake</title>
<style>
body { font-family: sans-serif; margin: 2em; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.1em 1em 0.1em 0; vertical-align: top; }
td.n { text-align: right; white-space: nowrap; }
code { word-break: break-all; }
</style>
</head>
<body>
<h1>Mirror of bake</h1>
<p>What <code>bake image --mirror</code> needs, made by <code>bake mirror</code>: {{.Total.Files}} files, {{.Total.Size}}.
Programs read <a href="mirror.json">mirror.json</a>; the container images are an OCI image layout.</p>
<h2>Sets</h2>
<table>
<tr><th>set</th><th>architectures</th><th>files</th><th>size</th><th>sources</th><th>versions file</th></tr>
{{- range .Sets}}
<tr><td>{{.Name}}</td><td>{{range $i, $a := .Archs}}{{if $i}}, {{end}}{{$a}}{{end}}</td><td class="n">{{.Total.Files}}</td><td class="n">{{.Total.Size}}</td><td>{{if .Sources}}yes{{else}}no{{end}}</td><td><code>{{.Versions}}</code></td></tr>
{{- end}}
</table>
{{- range .Kinds}}
<h2 id="{{.Kind}}">{{.Title}}</h2>
<p>{{.Total.Files}} files, {{.Total.Size}}</p>
<table>
<tr><th>name</th><th>size</th><th>sets</th><th>at its origin</th><th>SHA-256</th></tr>
{{- range .Entries}}
<tr><td><a href="{{.Blob}}" download="{{.File}}">{{.Name}}</a></td><td class="n">{{.Bytes}}</td><td>{{range $i, $s := .Sets}}{{if $i}}, {{end}}{{$s}}{{end}}</td><td><code>{{.Path}}</code></td><td><code>{{.SHA256.Hex}}</code></td></tr>
{{- end}}
</table>
{{- end}}
</body>
</html>
`

// total counts files, each once.
type total struct {
	Files int
	bytes int64
}

// Size returns the bytes for people.
func (t total) Size() string { return humanSize(t.bytes) }

type pageEntry struct {
	Entry
	Blob  string // relative to the page
	File  string // what it is saved as
	Bytes string
}

type pageKind struct {
	Kind    Kind
	Title   string
	Total   total
	Entries []pageEntry
}

type pageSet struct {
	Set
	Total total
}

// encodePage returns index.html for a sorted index.
func encodePage(x *Index) ([]byte, error) {
	var page struct {
		Total total
		Sets  []pageSet
		Kinds []pageKind
	}
	page.Total = count(x.Entries, func(*Entry) bool { return true })
	for _, s := range x.Sets {
		page.Sets = append(page.Sets, pageSet{s, count(x.Entries, func(e *Entry) bool {
			return slices.Contains(e.Sets, s.Name)
		})})
	}
	for _, kind := range kinds() {
		k := pageKind{Kind: kind, Title: title(kind), Total: count(x.Entries, func(e *Entry) bool { return e.Kind == kind })}
		for _, e := range x.Entries {
			if e.Kind == kind {
				k.Entries = append(k.Entries, pageEntry{e, blobPath(e.SHA256), fileName(e), humanSize(e.Size)})
			}
		}
		if len(k.Entries) > 0 {
			page.Kinds = append(page.Kinds, k)
		}
	}
	t, err := template.New(pageFile).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, page); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func count(entries []Entry, of func(*Entry) bool) total {
	var t total
	seen := map[manifest.Digest]bool{}
	for i := range entries {
		if e := &entries[i]; of(e) && !seen[e.SHA256] {
			seen[e.SHA256] = true
			t.Files++
			t.bytes += e.Size
		}
	}
	return t
}

func title(k Kind) string {
	switch k {
	case Versions:
		return "Versions files"
	case Lock:
		return "Locks"
	case Definition:
		return "Image definitions"
	case Release:
		return "Releases"
	case Image:
		return "Container images"
	case Archive:
		return "Package indices"
	case Package:
		return "Packages"
	case Toolchain:
		return "Go toolchains"
	case Module:
		return "Go modules"
	}
	return string(k)
}

// fileName returns a name to save an entry as: the last element of its path,
// with the digest's beginning where that is no name of a file.
func fileName(e Entry) string {
	name, _, _ := strings.Cut(path.Base(e.Path), "?")
	if e.Kind == Image || name == "" || name == "." || name == "/" {
		return strings.NewReplacer(":", "_", "/", "_").Replace(name) + "-" + e.SHA256.Hex()[:12]
	}
	return name
}

// humanSize writes bytes in decimal units, as drives are sold.
func humanSize(n int64) string {
	switch {
	case n < 1e3:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
