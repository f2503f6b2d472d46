package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/test/filetest"
)

var update = flag.Bool("update", false, "write testdata/*/root and units anew")

// golden is one directory of testdata: an image's record, the metadata server's
// whole answer, the secrets if there are any; root is what comes of it. In all of
// them @KEY@ stands for a credential, which is made when the test runs.
type golden struct {
	dir     string
	input   config.Input
	secrets map[string]string // names by key
	made    map[string]string
}

func goldens(t *testing.T) []golden {
	t.Helper()
	dirs, err := filepath.Glob("testdata/*/metadata.json")
	if err != nil || len(dirs) < 8 {
		t.Fatalf("testdata has %d cases: %v", len(dirs), err)
	}
	made := credentials(t)
	all := make([]golden, len(dirs))
	for i, name := range dirs {
		g := golden{dir: filepath.Dir(name), made: made}
		read := func(file string) []byte {
			data := filetest.Read(t, filepath.Join(g.dir, file))
			return data
		}
		m, err := metadata.Parse(read("metadata.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, attributes := range []map[string]string{m.Instance.Attributes, m.Project.Attributes} {
			fill(attributes, made)
		}
		img, err := config.ParseImage(read("image.json"))
		if err != nil {
			t.Fatal(err)
		}
		if g.secrets, err = config.Secrets(m); err != nil {
			t.Fatal(err)
		}
		g.input = config.Input{Metadata: m, Image: img, Now: now, Memory: 8149504 << 10, CPUs: 2}
		if len(g.secrets) > 0 {
			mustJSON(t, read("secrets.json"), &g.input.Secrets)
			fill(g.input.Secrets, made)
		}
		all[i] = g
	}
	return all
}

func fill(values, made map[string]string) {
	for key, value := range values {
		if strings.HasPrefix(value, "@") {
			values[key] = made[strings.Trim(value, "@")]
		}
	}
}

func (g golden) node(t *testing.T) *config.Node {
	t.Helper()
	n, err := config.New(g.input)
	if err != nil {
		t.Fatalf("%s: %v", g.dir, err)
	}
	return n
}

// TestGolden makes the files of each case of testdata. -update writes them.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		n := g.node(t)
		got := map[string]string{}
		for _, f := range n.Files() {
			content := string(f.Content)
			for key, value := range g.made {
				if content == value && value != "" && key != "pod-cidr" {
					content = "@" + key + "@\n"
				}
			}
			got["root"+f.Path] = content
		}
		got["node"] = describe(g, n)
		if *update {
			filetest.Remove(t, filepath.Join(g.dir, "root"))
			for name, content := range got {
				name = filepath.Join(g.dir, name)
				filetest.Write(t, name, content)
			}
		}
		if diff := cmp.Diff(readTree(t, g.dir), got); diff != "" {
			t.Errorf("%s (-testdata +got):\n%s", g.dir, diff)
		}
		if again := g.node(t); !cmp.Equal(again.Files(), n.Files()) {
			t.Errorf("%s: the same input made other files", g.dir)
		}
		early, err := config.Early(g.input.Image)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range early {
			if !cmp.Equal(find(n.Files(), f.Path), f) {
				t.Errorf("%s: %s is another file early than later", g.dir, f.Path)
			}
		}
	}
}

func find(all []files.File, name string) files.File {
	for _, f := range all {
		if f.Path == name {
			return f
		}
	}
	return files.File{}
}

// describe writes down everything of a node that is no file's content.
func describe(g golden, n *config.Node) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "name %s\nip %s\npods %s of %s\ndns %s %s\nmtu %d\ncredentials %s\n",
		n.Name, n.IP, n.PodCIDR, n.ClusterCIDR, n.ClusterDNS, n.ClusterDomain, n.MTU, n.Credentials)
	for _, key := range config.Keys() {
		if name, ok := g.secrets[key]; ok {
			fmt.Fprintf(&b, "secret %s: %s\n", key, name)
		}
	}
	for _, f := range n.Files() {
		fmt.Fprintf(&b, "file %v %s\n", f.Mode, f.Path)
	}
	for _, u := range n.Units() {
		fmt.Fprintf(&b, "unit %s uses %s\n", u.Name, strings.Join(u.Uses, " "))
	}
	return b.String()
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".json") && filepath.Dir(name) == dir {
			return err
		}
		content, err := os.ReadFile(name)
		found[strings.TrimPrefix(name, dir+"/")] = string(content)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// TestUnitsUseFiles wants every file that a unit uses to be among the node's, and
// every file but CNI's to be used.
func TestUnitsUseFiles(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		n := g.node(t)
		used := map[string]bool{}
		for _, u := range n.Units() {
			for _, name := range u.Uses {
				used[name] = true
				// kubelet's own, which firstboot changes only where metadata did
				theirs := n.Credentials == config.TLSBootstrap && (name == "/var/lib/kubelet/kubeconfig" || name == "/var/lib/kubelet/pki/kubelet-client-current.pem")
				if find(n.Files(), name).Path == "" && !theirs {
					t.Errorf("%s: %s uses %s, which is no file of the node's", g.dir, u.Name, name)
				}
			}
		}
		for _, f := range n.Files() {
			if !used[f.Path] && !strings.HasPrefix(f.Path, "/etc/cni/net.d/") {
				t.Errorf("%s: no unit uses %s", g.dir, f.Path)
			}
		}
	}
}

// TestKeysArePrivate wants whatever holds a key or a token readable by root only.
func TestKeysArePrivate(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		for _, f := range g.node(t).Files() {
			secret := bytes.Contains(f.Content, []byte("PRIVATE KEY")) || bytes.Contains(f.Content, []byte("client-key")) || bytes.Contains(f.Content, []byte("token"))
			want := fs.FileMode(0o644)
			if secret || strings.HasSuffix(f.Path, "-config.yaml") {
				want = 0o600
			}
			if f.Mode != want || f.Secret != secret {
				t.Errorf("%s: %s has mode %v, secret: %t; want %v, %t", g.dir, f.Path, f.Mode, f.Secret, want, secret)
			}
			if want := fs.FileMode(0o700); strings.HasPrefix(f.Path, "/var/lib/kubelet/") != (f.DirMode == want) {
				t.Errorf("%s: the directory of %s gets mode %v; want %v for the kubelet's alone", g.dir, f.Path, f.DirMode, want)
			}
		}
	}
}
