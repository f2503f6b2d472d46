package debian

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/need"
)

// TestURLsAsApt has apt and us ask a server for the same packages, and compares
// what it sees.
func TestURLsAsApt(t *testing.T) {
	t.Parallel()
	apt := need.Program(t, "apt-get", "apt")
	var index strings.Builder
	var names, paths []string
	for i, path := range []string{
		"pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb", "pool/main/g/gcc-14/libstdc++6_14.2.0-19_amd64.deb", "pool/main/g++/x_1~rc1+deb13u1_amd64.deb",
		"pool/main/c/colon_1:2-3_amd64.deb", "pool/main/p/percent_1%3a2_amd64.deb", "pool/main/u/under_score_1.0_amd64.deb",
	} {
		name := fmt.Sprintf("package%d", i)
		fmt.Fprintf(&index, "Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: x\nFilename: %s\nSize: 10\nSHA256: %064x\nDescription: x\n\n", name, path, i+1)
		names, paths = append(names, name), append(paths, path)
	}
	var mu sync.Mutex
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Packages") {
			_, _ = w.Write([]byte(index.String()))
			return
		}
		if strings.HasSuffix(r.URL.Path, ".deb") {
			mu.Lock()
			seen = append(seen, r.RequestURI)
			mu.Unlock()
		}
		http.NotFound(w, r)
	}))
	defer server.Close()

	dir := t.TempDir()
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "state/lists/partial", "cache/archives/partial"} {
		filetest.Mkdir(t, filepath.Join(dir, d))
	}
	for name, text := range map[string]string{
		"etc/sources.list": "deb [trusted=yes] " + server.URL + "/de+b~ian ./\n", "state/status": "", "apt.conf": "",
	} {
		filetest.Write(t, filepath.Join(dir, name), text)
	}
	run := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), apt, append([]string{"-qq", "-o", "Dir::Etc=" + dir + "/etc", "-o", "Dir::Etc::sourceparts=-",
			"-o", "Dir::State=" + dir + "/state", "-o", "Dir::State::status=" + dir + "/state/status", "-o", "Dir::Cache=" + dir + "/cache",
			"-o", "Debug::NoLocking=1", "-o", "APT::Architecture=amd64", "-o", "APT::Sandbox::User=", "-o", "Acquire::http::Proxy=DIRECT", "-o", "Acquire::Retries=0"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "APT_CONFIG="+dir+"/apt.conf")
		if out, err := cmd.CombinedOutput(); err != nil && args[0] == "update" {
			t.Fatalf("apt-get %s: %v\n%s", args[0], err, out)
		}
	}
	run("update")
	for _, name := range names {
		run("download", name) // it fails: the server has no packages
	}
	apts := seen
	seen = nil
	list, err := Mirrors([]string{"debian=" + server.URL + "/de+b~ian"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		urls, err := list.URLs("debian", path)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(urls[0])
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		u, err := url.Parse(urls[0])
		if err != nil || u.Path != "/de+b~ian/"+path {
			t.Errorf("%s is the URL of %q, %v; want of %s", urls[0], u.Path, err, path)
		}
	}
	if diff := cmp.Diff(apts, seen); diff != "" || len(apts) != len(paths) {
		t.Errorf("requests (-apt +ours):\n%s", diff)
	}
}
