package pki_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/pki"
)

// data matches one of a kubeconfig's fields in base64, with its value.
func data(field string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^ *` + field + `: .*$`)
}

func replace(old, new string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("BUG: the kubeconfig does not contain " + old)
		}
		return strings.ReplaceAll(s, old, new)
	}
}

func replaceField(field, new string) func(string) string {
	return func(s string) string { return data(field).ReplaceAllLiteralString(s, new) }
}

// TestBadKubeconfigs changes a good one.
func TestBadKubeconfigs(t *testing.T) {
	t.Parallel()
	pemInBase64 := base64.StdEncoding.EncodeToString([]byte("no PEM"))
	for _, test := range []struct {
		name   string
		change func(string) string
		want   string
	}{
		{"no YAML", replace("clusters:\n", "clusters: [\n"), "is not YAML (line "},
		{"a tab", replace("  name: default", "\tname: default"), "is not YAML (line "},
		{"a string", func(string) string { return "/root/kubeconfig" }, "is not a kubeconfig: it holds no fields"},
		{"only space", func(string) string { return " \n" }, "is empty"},
		{"two documents", func(s string) string { return s + "---\n" + s }, "more than one YAML document"},
		{"a field twice", replace("kind: Config", "kind: Config\nkind: Config"), "has a field twice (line "},
		{"a list for a map", replace("clusters:\n- cluster:", "clusters:\n  cluster:"), "has a mapping in clusters, and kubelet wants a list"},
		{"another kind", replace("kind: Config", "kind: Secret"), `is a "Secret" of "v1"`},
		{"no current context", replace("current-context: default", "current-context: ''"), "has no current-context"},
		{"a context that is not there", replace("current-context: default", "current-context: prod"), `no context named "prod"`},
		{"a cluster that is not there", replace("    cluster: kubernetes-the-hard-way", "    cluster: other"), `no cluster named "other", which context "default"`},
		{"a user who is not there", replace("    user: someone", "    user: other"), `no user named "other"`},
		{"two users of a name", replace("users:\n", "users:\n- name: someone\n  user: {}\n"), `two users named "someone"`},

		{"a number for a token", func(s string) string { return withToken(s, "123456.1234567890123456") },
			"has a number in users[0].user.token, and kubelet wants a string: write it in quotes"},
		{"a number for a name", replace("name: default", "name: 1001"), "has a number in contexts[0].name, and kubelet wants a string: write it in quotes"},
		{"a word that YAML 1.1 takes for true", replace("    user: someone", "    user: yes"), "has true or false in contexts[0].context.user, and"},
		{"a list for a user", replace("  user:\n    client-certificate-data", "  user:\n  - client-certificate-data"), "has a list in users[0].user, and kubelet wants a mapping"},
		{"a placeholder for another user's key", replace("users:\n", "users:\n- name: admin\n  user: {client-key-data: PLACEHOLDER}\n"), "has something in users[0].user.client-key-data that is not base64"},
		{"preferences of a wrong type", replace("preferences: {}", "preferences: {colors: 1}"), "has a number in preferences.colors, and kubelet wants true or false"},
		{"two contexts of a name", replace("contexts:\n", "contexts:\n- name: default\n"), `has two contexts named "default"`},
		{"a kind in capitals", replace("kind: Config", "Kind: Secret"), "has a field Kind, which must be spelt kind"},
		{"a proxy on a laptop", replace("    server:", "    proxy-url: http://127.0.0.1:8888\n    server:"), "has a proxy-url that is the worker itself"},
		{"a proxy of an unknown kind", replace("    server:", "    proxy-url: ftp://root:f395accd246ae52d@10.0.0.1\n    server:"), "neither http, https nor socks5"},

		{"no server", replace("    server: https://203.0.113.5:6443\n", ""), "has no server"},
		{"http", replace("https://203", "http://203"), `"http://203.0.113.5:6443" is not an https URL`},
		{"no scheme", replace("https://203", "203"), "is not a"},
		{"no host", replace("https://203.0.113.5:6443", "https://:6443"), "names no host"},
		{"a query", replace(":6443", ":6443/?a=b"), "more than a host"},
		{"a password", replace("https://203", "https://root:f395accd246ae52d@203"), "has a user name in it"},
		{"a token for a server", replace("https://203.0.113.5:6443", bootstrapToken), "the server (23 characters) is not an https URL"},
		{"loopback", replace("203.0.113.5", "127.0.0.1"), "is the worker itself"},
		{"localhost", replace("203.0.113.5", "localhost"), "is the worker itself"},

		{"no verification", replace("    server:", "    insecure-skip-tls-verify: true\n    server:"), "insecure-skip-tls-verify"},
		{"no CA", replaceField("certificate-authority-data", ""), "has no certificate-authority-data"},
		{"a CA's file", replaceField("certificate-authority-data", "    certificate-authority: ca.pem"), `refers to the file "ca.pem" (certificate-authority)|--embed-certs=true`},
		{"a CA's file too", replace("    server:", "    certificate-authority: /var/lib/kubernetes/ca.pem\n    server:"), "has both"},
		{"a CA in PEM", replaceField("certificate-authority-data", "    certificate-authority-data: |\n      -----BEGIN CERTIFICATE-----"), "has PEM in clusters[0].cluster.certificate-authority-data, where base64 of it belongs"},
		{"a CA that is no base64", replaceField("certificate-authority-data", "    certificate-authority-data: ca.pem"), "is not base64"},
		{"a CA that was left out", replaceField("certificate-authority-data", "    certificate-authority-data: DATA+OMITTED"), "which needs --raw"},
		{"a token that was left out", func(s string) string { return withToken(s, "REDACTED") }, "a placeholder for a token"},
		{"a CA that is no PEM", replaceField("certificate-authority-data", "    certificate-authority-data: "+pemInBase64), "certificate-authority-data: holds no PEM block"},

		{"no credentials", func(s string) string {
			return replaceField("client-key-data", "")(replaceField("client-certificate-data", "    client-certificate-dat: x")(s))
		}, `user "someone" has no credentials`},
		{"no key", replaceField("client-key-data", ""), "a client certificate and no client-key-data"},
		{"no certificate", replaceField("client-certificate-data", ""), "a client key and no client-certificate-data"},
		{"a key's file", replaceField("client-key-data", "    client-key: /home/me/worker-0-key.pem"), `refers to the file "/home/me/worker-0-key.pem" (client-key)`},
		{"another node's file", replaceField("client-certificate-data", "    client-certificate: /var/lib/kubelet/worker-1.pem"), `refers to the file "/var/lib/kubelet/worker-1.pem"`},
		{"a certificate that is no PEM", replaceField("client-certificate-data", "    client-certificate-data: "+pemInBase64), "a client certificate that can't be read: holds no PEM block"},
		{"a key that is no PEM", replaceField("client-key-data", "    client-key-data: "+pemInBase64), "a client key that can't be read: holds no PEM block"},
		{"a token too", replace("    client-key-data:", "    token: "+bootstrapToken+"\n    client-key-data:"), "want one of them"},
		{"a token's file", replace("    client-key-data:", "    tokenFile: /var/run/token\n    client-key-data:"), `"/var/run/token" (tokenFile)`},
		{"a password for the user", replace("    client-key-data:", "    username: a\n    password: f395accd246ae52d\n    client-key-data:"), "has a password"},
		{"a plugin", replace("    client-key-data:", "    exec: {command: gke-gcloud-auth-plugin}\n    client-key-data:"), "from a program (exec)"},
		{"an auth provider", replace("    client-key-data:", "    auth-provider: {name: gcp}\n    client-key-data:"), "auth-provider"},
		{"impersonation", replace("    client-key-data:", "    as: admin\n    client-key-data:"), "impersonates"},

		{"a placeholder for a token", func(s string) string { return withToken(s, "<TOKEN>") }, "a placeholder for a token"},
		{"a token of two words", func(s string) string { return withToken(s, "f395accd246ae52d f395accd246ae52d") }, "a token with a space"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.files.KubeletKubeconfig = []byte(test.change(string(w.files.KubeletKubeconfig)))
			checkProblem(t, w, "kubelet-kubeconfig", test.want)
		})
	}
}

// TestCheckServer has what each server is told.
func TestCheckServer(t *testing.T) {
	t.Parallel()
	const (
		none = "has a host that is neither an address nor a DNS name"
		self = "is the worker itself, where nothing of the kind runs; it must be an address that the worker reaches"
		port = "has a port that is none (1 to 65535)"
	)
	for _, test := range []struct{ server, want string }{
		{"https://10.240.0.10:6443", ""},
		{"https://10.240.0.10", ""},
		{"https://[fd20::5]:6443/", ""},
		{"https://api.example.com.:443/k8s/clusters/c-1", ""},
		{"https://API_1.internal:6443", ""},
		{"https://<endpoint-url>", "has a placeholder in it"},
		{"https://$LOADBALANCER:6443", "has a placeholder in it"},
		{"https://{{ip}}:6443", "has a placeholder in it"},
		{"https://https://10.0.0.1", "has https:// twice, or an empty part in its path"},
		{"https://10.0.0.1:99999", port},
		{"https://10.0.0.1:0", port},
		{"https://10.0.0.1:", port},
		{"https://10.0.0.1:6443:6443", "is not a URL"},
		{"https://LOCALHOST:6443", self},
		{"https://api.localhost.:6443", self},
		{"https://[::ffff:127.0.0.1]:6443", self},
		{"https://0.0.0.0:6443", self},
		{"https://127.1:6443", none},
		{"https://10.240.0.256:6443", none},
		{"https://10.240.0:6443", none},
		{"https://api..example.com", none},
		{"https://-api.example.com", none},
		{"https://endpoint,other:6443", none},
		{"https://169.254.169.254:6443", "is an address that no server has"},
		{"https://224.0.0.1:6443", "is an address that no server has"},
		{"https://10.0.0.1:6443?", "has more than a host, a port and a path"},
	} {
		want := ""
		if test.want != "" {
			want = fmt.Sprintf("the server %q %s (want https://HOST:6443)", test.server, test.want)
		}
		got := ""
		if err := pki.CheckServer(test.server); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("CheckServer(%q) (-want +got):\n%s", test.server, diff)
		}
	}
}

func FuzzKubeconfig(f *testing.F) {
	w := newWorld(f)
	f.Add(string(w.files.KubeletKubeconfig))
	f.Add(string(w.files.BootstrapKubeconfig))
	f.Add("")
	f.Add("{}")
	f.Add("a: &a [*a]\n")
	f.Add("users: [{name: 1, user: {client-key-data: x, as-user-extra: {a: [b]}, exec: {env: [{name: c}]}}}]\n")
	f.Add("1: &a {yes: .nan, <<: *a}\npreferences: {colors: on, extensions: [~]}\n")
	f.Add("current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://h'}}]\nusers: [{name: u, user: {token: t}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		files := pki.NodeFiles{Host: "worker-0", Now: now, CA: w.files.CA, BootstrapKubeconfig: []byte(text)}
		err := pki.CheckNode(files)
		checkFuzzed(t, err, "bootstrap-kubeconfig")
		if err == nil && text != "" && !strings.Contains(text, "https") {
			t.Errorf("accepted without an https server: %q", text)
		}
	})
}

// checkFuzzed wants err to be one line about key, or nil.
func checkFuzzed(t *testing.T, err error, key string) {
	t.Helper()
	if err == nil {
		return
	}
	if problem, ok := errors.AsType[*pki.Error](err); !ok || problem.Key != key || problem.Problem == "" || strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("CheckNode = %q; want one line about %s", err, key)
	}
}
