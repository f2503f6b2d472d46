package mirror

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/nodebake/bake/bake/manifest/manifesttest"
	"github.com/nodebake/bake/test/must"
)

// TestPage reads the page with an HTML parser and follows its links on a real
// server.
func TestPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld()
	evil := `<script>alert("1")</script> & "co"`
	w.add(Package, evil, "pool/evil?x=<b>", []byte("evil"), "kthw-1.21")
	w.write(t, dir)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	text, err := fromWeb(t.Context(), server.URL+"/", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	links, downloads, words := map[string]string{}, map[string]string{}, []string{}
	for n := range doc.Descendants() {
		switch {
		case n.Type == html.TextNode:
			words = append(words, strings.TrimSpace(n.Data))
		case n.Type == html.ElementNode && n.Data == "script":
			t.Error("the page has a script")
		case n.Type == html.ElementNode && n.Data == "a":
			attrs := map[string]string{}
			for _, a := range n.Attr {
				attrs[a.Key] = a.Val
			}
			links[n.FirstChild.Data], downloads[n.FirstChild.Data] = attrs["href"], attrs["download"]
		}
	}
	for _, e := range w.index.Entries {
		href, ok := links[e.Name]
		if !ok {
			t.Errorf("the page has no link for %s", e.Name)
			continue
		}
		b, err := fromWeb(t.Context(), server.URL+"/"+href, 1<<20)
		// Blobs of an image have one name, so the last of them is the link's.
		if err != nil || e.Kind != Image && manifesttest.Digest(b) != e.SHA256 {
			t.Errorf("the link %s of %s gives %s, %v; want %s", href, e.Name, manifesttest.Digest(b), err, e.SHA256)
		}
	}
	for name, want := range map[string]string{"bash 5.2 amd64": "bash_5.2_amd64.deb", evil: "evil", "kubelet v1.36.3 amd64": "kubelet"} {
		if downloads[name] != want {
			t.Errorf("%s is saved as %q; want %q", name, downloads[name], want)
		}
	}
	if name := downloads["registry.example.com/pause:3.10"]; !strings.HasPrefix(name, "pause_3.10-") {
		t.Errorf("an image's blob is saved as %q", name)
	}
	all := strings.Join(words, "\n")
	for _, want := range []string{"kubernetes-1.36", "kthw-1.21", "Container images", "Packages", "300.0 kB", "14 files", string(w.index.Sets[0].Versions)} {
		if !strings.Contains(all, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	again := must.Get(encodePage(must.Get(ParseIndex(must.Get(w.index.Encode())))))
	if !bytes.Equal(again, text) {
		t.Error("the same index gives another page")
	}
}

func TestHumanSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_234_567: "1.2 MB", 2_345_678_901: "2.35 GB"} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %q; want %q", n, got, want)
		}
	}
}
