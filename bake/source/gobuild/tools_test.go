package gobuild

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

// TestGoTools finds the toolchain where it is the host's own, and where it came
// as a module.
func TestGoTools(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no links")
	}
	dir := t.TempDir()
	host := runtime.GOOS + "-" + runtime.GOARCH
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		filetest.Script(t, path, content)
		return path
	}
	filetest.Mkdir(t, filepath.Join(dir, "bin"))
	filetest.Link(t, write("root/bin/go", "#!/bin/sh\n"), filepath.Join(dir, "bin", "go"))
	write("root/VERSION", "go1.26.8\ntime 2026-01-01T00:00:00Z\n")
	for _, cache := range []string{"home/go/pkg/mod", "path/pkg/mod", "cache"} {
		write(cache+"/cache/download/golang.org/toolchain/@v/v0.0.1-go1.26.9."+host+".ziphash", "h1:"+cache)
	}
	tool := func(name string) Tool {
		return Tool{Name: "cmd/" + name, Version: "1.26.8", Path: filepath.Join(dir, "root/pkg/tool", runtime.GOOS+"_"+runtime.GOARCH, name)}
	}
	module := func(sum string) []Tool {
		return []Tool{{Name: "golang.org/toolchain", Version: "v0.0.1-go1.26.9." + host, Sum: "h1:" + sum}}
	}
	path, home := "PATH="+filepath.Join(dir, "bin"), "HOME="+filepath.Join(dir, "home")
	for _, test := range []struct {
		name, toolchain string
		env             []string
		want            []Tool
	}{
		{"the host's own", "go1.26.8", []string{path, home}, []Tool{tool("compile"), tool("link")}},
		{"a module", "go1.26.9", []string{path, home}, module("home/go/pkg/mod")},
		{"a module below GOPATH", "go1.26.9", []string{path, home, "GOPATH=" + filepath.Join(dir, "path") + ":/other"}, module("path/pkg/mod")},
		{"a module in GOMODCACHE", "go1.26.9", []string{path, home, "GOPATH=/other", "GOMODCACHE=" + filepath.Join(dir, "cache")}, module("cache")},
		{"no go at all", "go1.26.9", []string{"PATH=/nonexistent", home}, module("home/go/pkg/mod")},
		{"neither", "go1.26.7", []string{path, home}, nil},
	} {
		b := &Builder{Config: Config{Env: test.env}}
		if diff := cmp.Diff(test.want, b.goTools(test.toolchain)); diff != "" {
			t.Errorf("%s: goTools (-want +got):\n%s", test.name, diff)
		}
	}
}
