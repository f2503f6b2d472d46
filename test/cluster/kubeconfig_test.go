//go:build system

package cluster

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/node"
)

// commands runs bin/bake and the pinned kubectl as a person does, in a directory
// and a home of their own.
type commands struct {
	dir, bake, kubectl string
	env                []string
}

func newCommands(t *testing.T, kubectl string) *commands {
	t.Helper()
	bake, err := filepath.Abs("../../bin/bake")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bake); err != nil {
		t.Fatalf("%v (make bin/bake builds it)", err)
	}
	dir := t.TempDir()
	return &commands{dir: dir, bake: bake, kubectl: kubectl, env: []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}}
}

func (c *commands) run(t *testing.T, program string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// must runs what must succeed.
func (c *commands) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	stdout, stderr, err := c.run(t, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// TestKubeconfig has the pinned kubectl read what bake writes, and make the same of
// the same files; and a real API server be asked.
func TestKubeconfig(t *testing.T) {
	p := Need(t, Current, "../..")
	ca, err := node.NewCA(node.CAConfig{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(t.Context(), Config{Programs: p, CA: ca, Now: time.Now(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	t.Run("create", func(t *testing.T) { createsKubeconfig(t, c, p.Kubectl) })
	t.Run("refuse", func(t *testing.T) { refusesServer(t, c, p.Kubectl) })
	t.Run("merge", func(t *testing.T) { mergesAsKubectl(t, c, p.Kubectl) })
}

func createsKubeconfig(t *testing.T, c *Cluster, kubectl string) {
	run := newCommands(t, kubectl)
	stdout, stderr, err := run.run(t, run.bake, "kubeconfig", "create", "--server", c.LocalURL(), "--ca-dir", c.config.Dir, "--output", "admin.kubeconfig")
	if err != nil || stderr != "" || !strings.Contains(stdout, "user admin in system:masters") {
		t.Fatalf("bake kubeconfig create = %q, %v: %s", stdout, err, stderr)
	}
	var review struct {
		Status struct {
			UserInfo struct {
				Username string
				Groups   []string
			}
		}
	}
	if err := json.Unmarshal([]byte(run.must(t, kubectl, "--kubeconfig", "admin.kubeconfig", "auth", "whoami", "-o", "json")), &review); err != nil {
		t.Fatal(err)
	}
	if user := review.Status.UserInfo; user.Username != "admin" || user.Groups[0] != "system:masters" {
		t.Errorf("the API server takes the kubeconfig's user for %+v", user)
	}
}

// refusesServer gives what does not fit the server.
func refusesServer(t *testing.T, c *Cluster, kubectl string) {
	run := newCommands(t, kubectl)
	other, err := node.NewCA(node.CAConfig{Now: time.Now(), CommonName: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Write(t.Context(), node.CAFiles(other, filepath.Join(run.dir, "other")), nil); err != nil {
		t.Fatal(err)
	}
	clients, _, err := other.Issue(node.IssueConfig{CommonName: "admin", Client: true, Now: time.Now()})
	if err != nil || len(clients) == 0 {
		t.Fatal(err)
	}
	_, stderr, err := run.run(t, run.bake, "kubeconfig", "create", "--server", c.LocalURL(), "--ca-dir", "other", "--output", "out")
	want := "bake: --server " + c.LocalURL() + `: the server's certificate, of "CN=kubernetes,O=Kubernetes", was signed by "CN=kubernetes", and not by this CA, "CN=other" (give the CA of this server's cluster)` + "\n"
	if err == nil || stderr != want {
		t.Errorf("bake kubeconfig create with another CA: %v: %s; want %s", err, stderr, want)
	}
	if _, err := os.Stat(filepath.Join(run.dir, "out")); err == nil {
		t.Error("a kubeconfig was written")
	}
}

// others is somebody else's kubeconfig.
const others = `# my clusters
apiVersion: v1
kind: Config
x-mine: true
clusters:
- name: work # the one at work
  cluster:
    server: https://work:6443
    x-note: keep me
contexts:
- {name: work, context: {cluster: work, user: me, namespace: web}}
current-context: work
users:
- name: me
  user:
    token: abc
`

// mergesAsKubectl does the guide's four commands beside bake kubeconfig merge, and
// takes the entries out again.
func mergesAsKubectl(t *testing.T, c *Cluster, kubectl string) {
	for name, files := range map[string]map[string]string{
		"home":          {},
		"others":        {"a": others},
		"two files":     {"a": "-", "b": others},
		"none of two":   {"a": "-", "b": "-"},
		"used in first": {"a": "current-context: x\n", "b": others},
		"JSON":          {"a": `{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "x", "cluster": {"server": "https://x:1"}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newCommands(t, kubectl), newCommands(t, kubectl)
			for _, run := range []*commands{ours, theirs} {
				if len(files) > 0 {
					run.env = append(run.env, "KUBECONFIG=a:b")
				}
				for path, text := range files {
					if text != "-" {
						if err := os.WriteFile(filepath.Join(run.dir, path), []byte(text), 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			pem := func(name string) string { return filepath.Join(c.config.Dir, name) }
			cluster := []string{"--server", c.LocalURL(), "--certificate-authority", pem("ca.pem")}
			user := []string{"--client-certificate", pem("admin.pem"), "--client-key", pem("admin-key.pem")}
			merge := append(append([]string{"kubeconfig", "merge", "--use"}, cluster...), user...)
			ours.must(t, ours.bake, merge...)
			if stdout := ours.must(t, ours.bake, merge...); stdout != "" {
				t.Errorf("the second run changes %s", stdout)
			}
			const ourName = "kubernetes-the-hard-way"
			theirs.must(t, kubectl, append([]string{"config", "set-cluster", ourName, "--embed-certs=true"}, cluster...)...)
			theirs.must(t, kubectl, append([]string{"config", "set-credentials", "admin", "--embed-certs=true"}, user...)...)
			theirs.must(t, kubectl, "config", "set-context", ourName, "--cluster", ourName, "--user", "admin")
			theirs.must(t, kubectl, "config", "use-context", ourName)
			sameFiles(t, ours, theirs)
			if got := ours.must(t, kubectl, "get", "--raw", "/readyz"); got != "ok" {
				t.Errorf("/readyz = %q; want ok", got)
			}

			ours.must(t, ours.bake, append([]string{"kubeconfig", "remove"}, cluster...)...)
			theirs.must(t, kubectl, "config", "unset", "current-context")
			theirs.must(t, kubectl, "config", "delete-context", ourName)
			theirs.must(t, kubectl, "config", "delete-user", "admin")
			theirs.must(t, kubectl, "config", "delete-cluster", ourName)
			sameFiles(t, ours, theirs)
		})
	}
}

// sameFiles compares each file as kubectl reads it, and wants a lock left by nobody.
func sameFiles(t *testing.T, ours, theirs *commands) {
	t.Helper()
	read := func(c *commands) map[string]string {
		found := map[string]string{}
		for _, path := range []string{"a", "b", filepath.Join(".kube", "config")} {
			if _, err := os.Stat(filepath.Join(c.dir, path)); err == nil {
				found[path] = c.must(t, c.kubectl, "--kubeconfig", path, "config", "view", "--raw", "-o", "yaml")
			}
			if _, err := os.Stat(filepath.Join(c.dir, path+".lock")); err == nil {
				t.Errorf("there is %s.lock", path)
			}
		}
		return found
	}
	if diff := cmp.Diff(read(theirs), read(ours)); diff != "" {
		t.Errorf("the files (-kubectl +bake):\n%s", diff)
	}
}
