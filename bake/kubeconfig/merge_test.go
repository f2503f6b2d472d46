package kubeconfig_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/node"
)

// others is a kubeconfig of somebody else's, with what only people write.
const others = `# my clusters
apiVersion: v1
kind: Config
preferences: {colors: true}
x-mine: [1, 2]   # unknown, and stays

clusters:
# the one at work
- name: work
  cluster:
    server: https://work:6443
    certificate-authority: work.pem
    x-note: "keep me"
contexts:
- {name: work, context: {cluster: work, user: me, namespace: web}}
current-context: work
users:
- name: me
  user:
    token: abc   # of the portal
`

func changes(list ...string) []kubeconfig.Change {
	var all []kubeconfig.Change
	for _, text := range list {
		f := strings.Fields(text) // added a cluster NAME
		all = append(all, kubeconfig.Change{Done: f[0], Entry: kubeconfig.Entry{File: f[1], Kind: f[2], Name: f[3]}})
	}
	return all
}

func TestMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.admin(w.ca)
	const cluster = "- name: kubernetes-the-hard-way\n  cluster:\n    certificate-authority-data: CA\n    server: SERVER\n"
	const context = "- name: kubernetes-the-hard-way\n  context:\n    cluster: kubernetes-the-hard-way\n    user: admin\n"
	const user = "- name: admin\n  user:\n    client-certificate-data: CERT\n    client-key-data: KEY\n"
	const added = "added a cluster kubernetes-the-hard-way; added a user admin; added a context kubernetes-the-hard-way"
	alone := fill("apiVersion: v1\nclusters:\n"+cluster+"contexts:\n"+context+"current-context: \"\"\nkind: Config\nusers:\n"+user, k)
	with := fill(strings.NewReplacer("clusters:\n", "clusters:\n"+cluster, "contexts:\n", "contexts:\n"+context, "users:\n", "users:\n"+user).Replace(others), k)
	again := w.admin(w.ca)
	for _, test := range []struct {
		name    string
		files   []kubeconfig.File
		k       node.Kubeconfig
		use     bool
		want    []kubeconfig.File
		changes string
		current string
	}{
		{"into nothing", []kubeconfig.File{{Path: "a"}}, k, false, []kubeconfig.File{{Path: "a", Content: []byte(alone)}}, added, ""},
		{"into nothing, to be used", []kubeconfig.File{{Path: "a"}}, k, true,
			[]kubeconfig.File{{Path: "a", Content: []byte(strings.Replace(alone, `""`, k.Name, 1))}}, added, k.Name},
		{"beside others", []kubeconfig.File{{Path: "a", Content: []byte(others)}}, k, false, []kubeconfig.File{{Path: "a", Content: []byte(with)}}, added, "work"},
		{"again with another certificate", []kubeconfig.File{{Path: "a", Content: []byte(with)}}, again, false,
			[]kubeconfig.File{{Path: "a", Content: []byte(strings.NewReplacer(fill("CERT", k), fill("CERT", again), fill("KEY", k), fill("KEY", again)).Replace(with))}},
			"replaced a user admin", "work"},
		{"again with the same", []kubeconfig.File{{Path: "a", Content: []byte(with)}}, k, false, nil, "", "work"},
		{"the context alone is gone", []kubeconfig.File{{Path: "a", Content: []byte(strings.Replace(with, fill(context, k), "", 1))}}, k, true,
			[]kubeconfig.File{{Path: "a", Content: []byte(strings.Replace(with, "current-context: work", "current-context: "+k.Name, 1))}},
			"added a context kubernetes-the-hard-way", k.Name},
		{"of two files the user is in the other", []kubeconfig.File{{Path: "a", Content: []byte("users: []\n")}, {Path: "b", Content: []byte("users:\n" + fill(user, k))}}, again, true,
			[]kubeconfig.File{
				{Path: "a", Content: []byte(fill("users: []\nclusters:\n"+cluster+"contexts:\n"+context+"current-context: kubernetes-the-hard-way\n", k))},
				{Path: "b", Content: []byte("users:\n" + fill(user, again))},
			}, "added a cluster kubernetes-the-hard-way; replaced b user admin; added a context kubernetes-the-hard-way", k.Name},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := kubeconfig.Merge(test.files, "a", test.k, test.use)
			if err != nil {
				t.Fatal(err)
			}
			want := &kubeconfig.Result{Files: test.want, Current: test.current}
			if test.changes != "" {
				want.Changes = changes(strings.Split(test.changes, "; ")...)
			}
			if diff := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) }), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Merge (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMergeTaken has every name be something else's.
func TestMergeTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.admin(w.ca)
	stranger := w.admin(w.newCA("other"))
	viewer, _ := w.issue(w.ca, node.IssueConfig{CommonName: "viewer", Client: true})
	const cluster = "clusters:\n- name: kubernetes-the-hard-way\n  cluster: {server: \"%s\", certificate-authority-data: %s}\n"
	const user = "users:\n- name: admin\n  user: {%s}\n"
	const isCluster, isUser = `a:2: the cluster "kubernetes-the-hard-way" is there and is something else: %s (another name: --name NAME)`,
		`a:2: the user "admin" is there and is something else: %s (another name: --user NAME)`
	b64 := base64.StdEncoding.EncodeToString
	for _, test := range []struct{ text, want string }{
		{fmt.Sprintf(cluster, "https://other:6443", b64(k.CA)), fmt.Sprintf(isCluster, `the server "https://other:6443"`)},
		{fmt.Sprintf(cluster, server, b64(stranger.CA)), fmt.Sprintf(isCluster, `the server "https://203.0.113.10:6443" with another CA`)},
		{"clusters:\n- name: kubernetes-the-hard-way\n", fmt.Sprintf(isCluster, `the server ""`)},
		{fmt.Sprintf(user, "token: s3cr3t"), fmt.Sprintf(isUser, "a user without a certificate and its key in it")},
		{fmt.Sprintf(user, "client-certificate-data: "+b64(k.Certificate)+", client-key: admin-key.pem"), fmt.Sprintf(isUser, "a user without a certificate and its key in it")},
		{fmt.Sprintf(user, "client-certificate-data: "+b64(stranger.Certificate)+", client-key-data: eA=="), fmt.Sprintf(isUser, `a certificate for "CN=admin,O=system:masters" by another CA, "CN=other"`)},
		{fmt.Sprintf(user, "client-certificate-data: "+b64(viewer)+", client-key-data: eA=="), fmt.Sprintf(isUser, `a certificate for "CN=viewer"`)},
		{"contexts:\n- name: kubernetes-the-hard-way\n  context: {cluster: c, user: u}\n", `a:2: the context "kubernetes-the-hard-way" is there and is something else: the user "u" of the cluster "c" (another name: --name NAME)`},
	} {
		_, err := kubeconfig.Merge([]kubeconfig.File{{Path: "a", Content: []byte(test.text)}}, "a", k, true)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: Merge = %v; want %s", test.text, err, test.want)
		}
	}
	// All at once, each of its file.
	_, err := kubeconfig.Merge([]kubeconfig.File{
		{Path: "a", Content: fmt.Appendf(nil, user, "token: s3cr3t")},
		{Path: "b", Content: fmt.Appendf(nil, cluster, "https://other:6443", "")},
	}, "a", k, true)
	want := strings.Replace(fmt.Sprintf(isCluster, `the server "https://other:6443"`), "a:2", "b:2", 1) + "\n" + fmt.Sprintf(isUser, "a user without a certificate and its key in it")
	if err == nil || err.Error() != want {
		t.Errorf("Merge = %v; want %s", err, want)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, stranger := w.admin(w.ca), w.admin(w.newCA("other"))
	merged := func(text string, use bool) string {
		result, err := kubeconfig.Merge([]kubeconfig.File{{Path: "a", Content: []byte(text)}}, "a", k, use)
		if err != nil {
			t.Fatal(err)
		}
		return string(result.Files[0].Content)
	}
	file := func(path, text string) kubeconfig.File { return kubeconfig.File{Path: path, Content: []byte(text)} }
	const all = "removed a cluster kubernetes-the-hard-way; removed a context kubernetes-the-hard-way; removed a user admin"
	for _, test := range []struct {
		name    string
		files   []kubeconfig.File
		want    []kubeconfig.File
		changes string
		current string
	}{
		{"what was merged", []kubeconfig.File{file("a", merged(others, false))}, []kubeconfig.File{file("a", others)}, all, "work"},
		{"and is used", []kubeconfig.File{file("a", merged(others, true))}, []kubeconfig.File{file("a", strings.Replace(others, "current-context: work", `current-context: ""`, 1))}, all, ""},
		{"nothing there", []kubeconfig.File{{Path: "a"}}, nil, "", ""},
		{"nothing of ours", []kubeconfig.File{file("a", others)}, nil, "", "work"},
		{"another CA", []kubeconfig.File{file("a", strings.ReplaceAll(merged(others, false), fill("CA", k), fill("CA", stranger)))}, nil, "", "work"},
		{"all renamed", []kubeconfig.File{file("a", strings.NewReplacer("kubernetes-the-hard-way", "mine", "name: admin", "name: boss", "user: admin", "user: boss").Replace(merged(others, false)))},
			[]kubeconfig.File{file("a", others)}, "removed a cluster mine; removed a context mine; removed a user boss", "work"},
		{"a second context leads there, a third needs the user", []kubeconfig.File{file("a", strings.Replace(merged(others, false), "contexts:\n",
			"contexts:\n- {name: mine, context: {cluster: kubernetes-the-hard-way, user: me}}\n- {name: proxied, context: {cluster: work, user: admin}}\n", 1))},
			[]kubeconfig.File{file("a", strings.NewReplacer("contexts:\n", "contexts:\n- {name: proxied, context: {cluster: work, user: admin}}\n",
				"users:\n", fill("users:\n- name: admin\n  user:\n    client-certificate-data: CERT\n    client-key-data: KEY\n", k)).Replace(others))},
			"removed a cluster kubernetes-the-hard-way; removed a context mine; removed a context kubernetes-the-hard-way", "work"},
		{"spread over files", []kubeconfig.File{
			file("a", "current-context: c\n"),
			file("b", fill("clusters: [{name: mine, cluster: {server: SERVER/, certificate-authority-data: CA}}]\ncurrent-context: c\n", k)),
			file("c", fill("contexts:\n- name: c\n  context: {cluster: mine, user: u}\nusers:\n- name: u\n  user: {client-certificate-data: CERT}\n- name: t\n  user: {token: x}\n", k)),
		}, []kubeconfig.File{
			file("a", "current-context: \"\"\n"),
			file("b", "clusters: []\ncurrent-context: \"\"\n"),
			file("c", "contexts: []\nusers:\n- name: t\n  user: {token: x}\n"),
		}, "removed b cluster mine; removed c context c; removed c user u", ""},
		{"hidden by another of its name", []kubeconfig.File{
			file("a", "clusters:\n- name: mine\n  cluster: {server: https://work:6443}\ncontexts:\n- name: c\n  context: {cluster: mine, user: u}\n"),
			file("b", fill("clusters:\n- name: mine\n  cluster: {server: SERVER, certificate-authority-data: CA}\n", k)),
		}, []kubeconfig.File{file("b", "clusters: []\n")}, "removed b cluster mine", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := kubeconfig.Remove(test.files, server, k.CA)
			if err != nil {
				t.Fatal(err)
			}
			want := &kubeconfig.Result{Files: test.want, Current: test.current}
			if test.changes != "" {
				want.Changes = changes(strings.Split(test.changes, "; ")...)
			}
			if diff := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) }), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Remove (-want +got):\n%s", diff)
			}
		})
	}
}
