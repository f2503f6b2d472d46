package pki_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nodebake/bake/firstboot/pki"
)

// kubelet says what client-go makes of a kubeconfig, by the calls of kubelet
// 1.36 (pkg/kubelet/certificate/bootstrap) and as far as a connection.
func kubelet(t *testing.T, data []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	loader := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	loaded, err := loader.Load()
	if err != nil {
		return err
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*loaded, loaded.CurrentContext, &clientcmd.ConfigOverrides{}, loader).ClientConfig()
	if err != nil {
		return err
	}
	if _, _, err := rest.DefaultServerUrlFor(config); err != nil {
		return err
	}
	_, err = rest.TransportFor(config)
	return err
}

// TestClientGoAgrees has client-go check the same kubeconfigs. Where only we
// refuse, stricter says why.
func TestClientGoAgrees(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := string(w.files.KubeletKubeconfig)
	notPEM := base64.StdEncoding.EncodeToString([]byte("no PEM"))
	user := func(fields string) func(string) string {
		return replace("    client-key-data:", "    "+fields+"\n    client-key-data:")
	}
	cluster := func(fields string) func(string) string { return replace("    server:", "    "+fields+"\n    server:") }
	top := func(fields string) func(string) string { return replace("preferences: {}", fields) }
	token := func(token string) func(string) string {
		return func(s string) string { return withToken(s, token) }
	}
	server := func(server string) func(string) string { return replace("https://203.0.113.5:6443", server) }
	for _, test := range []struct {
		name     string
		change   func(string) string
		accepted bool   // by client-go
		stricter string // why we refuse it nevertheless
	}{
		{"as kubectl writes it", func(s string) string { return s }, true, ""},
		{"JSON", func(s string) string {
			return `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://api:6443","certificate-authority-data":"` +
				base64.StdEncoding.EncodeToString(w.files.CA) + `"}}],"users":[{"name":"u","user":{"token":"t"}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`
		}, true, ""},
		{"no kind, no version", func(s string) string {
			return replace("kind: Config\n", "")(replace("apiVersion: v1\n", "")(s))
		}, true, ""},
		{"another kind", replace("kind: Config", "kind: Secret"), false, ""},
		{"another version", replace("apiVersion: v1", "apiVersion: v2"), false, ""},
		{"a kind that is a number", replace("kind: Config", "kind: 1"), false, ""},
		{"fields that are not known", top("extra: {a: [1, 2]}\nyes: no"), true, ""},
		{"a field in another case", replace("    server:", "    Server:"), false, ""},
		{"kind in another case", replace("kind: Config", "Kind: Config"), true, "kubelet reads it for one purpose and not for another"},
		{"a list in another case", replace("users:", "Users:"), true, "kubelet ignores it, and would go there as nobody"},
		{"a merge key", func(s string) string {
			return replace("  user:\n    client-certificate-data", "  user:\n    <<: *u\n    client-certificate-data")(top("x: &u {token: ''}")(s))
		}, true, ""},
		{"an anchor", func(s string) string {
			return replace("    user: someone", "    user: *n")(replace("  name: kubernetes-the-hard-way\ncontexts", "  name: kubernetes-the-hard-way\nanchors: &n someone\ncontexts")(s))
		}, true, ""},
		{"a tab", replace("  name: default", "\tname: default"), false, ""},
		{"an open bracket", replace("clusters:\n", "clusters: [\n"), false, ""},
		{"a string", func(string) string { return "/root/kubeconfig" }, false, ""},
		{"a list", func(string) string { return "- a\n- b\n" }, false, ""},
		{"nothing", func(string) string { return "" }, false, ""},
		{"null", func(string) string { return "null\n" }, false, ""},
		{"only a comment", func(string) string { return "# later\n" }, false, ""},
		{"two documents", func(s string) string { return s + "---\n" + s }, true, "kubelet takes the first and is silent about the other"},
		{"a document after a marker", func(s string) string { return "---\n" + s }, true, ""},
		{"a field twice", replace("kind: Config", "kind: Config\nkind: Config"), true, "kubelet takes the last and is silent about the other"},
		{"UTF-16", func(s string) string {
			var b strings.Builder
			b.WriteString("\xff\xfe")
			for _, c := range []byte(s) {
				b.WriteString(string([]byte{c, 0}))
			}
			return b.String()
		}, true, ""},

		{"a number for a token", token("123456.1234567890123456"), false, ""},
		{"the same in quotes", token("'123456.1234567890123456'"), true, ""},
		{"a token in hexadecimal", token("0x1f"), false, ""},
		{"a token in octal", token("0777"), false, ""},
		{"a token with an exponent", token("1e5"), false, ""},
		{"a token with underscores", token("1_000"), false, ""},
		{"a token that is a time", token("12:30:45"), true, ""},
		{"a token that is a date", token("2026-11-01"), true, ""},
		{"a token y", token("y"), false, ""},
		{"a token on", token("on"), false, ""},
		{"a token that is not a number", token(".nan"), false, ""},
		{"a token with an e", token("12345e.f395accd246ae52d"), true, ""},
		{"a token in a block", token("|-\n      abc"), true, ""},
		{"a token with a line break", token("|\n      abc\n"), true, "it ends with a line break, which no header can have"},
		{"no token", token("~"), true, "kubelet would go there as nobody"},
		{"a token that is a list", token("[a]"), false, ""},
		{"a context named by a number", func(s string) string {
			return replace("  name: default", "  name: 1001")(replace("current-context: default", "current-context: 1001")(s))
		}, false, ""},
		{"a user named by a number", func(s string) string {
			return replace("    user: someone", "    user: 1001")(replace("- name: someone", "- name: 1001")(s))
		}, false, ""},
		{"a cluster named true", replace("kubernetes-the-hard-way", "true"), false, ""},
		{"a namespace that is a number", replace("    user: someone", "    user: someone\n    namespace: 1"), false, ""},
		{"a namespace", replace("    user: someone", "    user: someone\n    namespace: default"), true, ""},

		{"two users of a name", replace("users:\n", "users:\n- name: someone\n  user: {}\n"), false, ""},
		{"two clusters of a name", replace("clusters:\n", "clusters:\n- name: kubernetes-the-hard-way\n"), false, ""},
		{"two contexts of a name", replace("contexts:\n", "contexts:\n- name: default\n"), false, ""},
		{"two users without a name", replace("users:\n", "users:\n- user: {}\n- user: {}\n"), false, ""},
		{"two extensions of a name", top("extensions: [{name: a, extension: {}}, {name: a, extension: {}}]"), false, ""},
		{"an extension", top("extensions: [{name: a, extension: {b: 1}}]"), true, ""},
		{"an extension of a number", top("extensions: [{name: a, extension: 1}]"), true, ""},
		{"another user", replace("users:\n", "users:\n- name: admin\n  user: {token: t}\n"), true, ""},
		{"another user who is null", replace("users:\n", "users:\n- name: admin\n  user: null\n"), true, ""},
		{"a list with null", replace("users:\n", "users:\n- null\n"), true, ""},
		{"another user's placeholder", replace("users:\n", "users:\n- name: admin\n  user: {client-key-data: PLACEHOLDER}\n"), false, ""},
		{"another cluster's placeholder", replace("clusters:\n", "clusters:\n- name: b\n  cluster: {certificate-authority-data: <CA>}\n"), false, ""},
		{"another user's wrong type", replace("users:\n", "users:\n- name: admin\n  user: {username: 1}\n"), false, ""},
		{"another user's plugin of a wrong type", replace("users:\n", "users:\n- name: admin\n  user: {exec: {command: a, args: [1]}}\n"), false, ""},
		{"another user's provider of a wrong type", replace("users:\n", "users:\n- name: admin\n  user: {auth-provider: {name: gcp, config: {a: 1}}}\n"), false, ""},
		{"another user's plugin", replace("users:\n", "users:\n- name: admin\n  user: {exec: {command: a, args: [b], env: [{name: c, value: d}]}}\n"), true, ""},
		{"another user's groups of a wrong type", replace("users:\n", "users:\n- name: admin\n  user: {as-groups: a}\n"), false, ""},
		{"another user's extra of a wrong type", replace("users:\n", "users:\n- name: admin\n  user: {as-user-extra: {a: b}}\n"), false, ""},
		{"another user's key as a list of bytes", replace("users:\n", "users:\n- name: admin\n  user: {client-key-data: [65, 66]}\n"), true, "nobody writes that on purpose"},

		{"preferences of a wrong type", top("preferences: []"), false, ""},
		{"colours of a wrong type", top("preferences: {colors: 1}"), false, ""},
		{"no preferences", top("preferences: null"), true, ""},
		{"a flag in quotes", cluster(`disable-compression: "true"`), false, ""},
		{"a flag that YAML 1.1 knows", cluster("disable-compression: yes"), true, ""},
		{"users as a mapping", func(s string) string { head, _, _ := strings.Cut(s, "users:"); return head + "users: {someone: {}}\n" }, false, ""},
		{"clusters that are null", func(s string) string {
			_, rest, _ := strings.Cut(s, "contexts:")
			return "clusters: null\ncontexts:" + rest
		}, false, ""},
		{"no current context", replace("current-context: default", "current-context: ''"), false, ""},
		{"a context that is not there", replace("current-context: default", "current-context: prod"), false, ""},
		{"a cluster that is not there", replace("    cluster: kubernetes-the-hard-way", "    cluster: other"), false, ""},
		{"a user who is not there", replace("    user: someone", "    user: other"), true, "kubelet would go there as nobody"},
		{"nobody", replace("    user: someone", "    user: ''"), true, "kubelet would go there as nobody"},

		{"no server", server("''"), false, ""},
		{"http", server("http://203.0.113.5:8080"), true, "without TLS no certificate is shown"},
		{"no scheme", server("203.0.113.5:6443"), true, "it is read as https by chance of its form"},
		{"a placeholder for a server", server("https://<endpoint-url>"), true, "there is no such host"},
		{"a variable for a server", server("https://$LOADBALANCER:6443"), true, "there is no such host"},
		{"a server twice", server("https://https://10.0.0.1"), true, "there is no such host"},
		{"a port that is none", server("https://10.0.0.1:99999"), true, "there is no such port"},
		{"localhost", server("https://LOCALHOST:6443"), true, "no API server runs on a worker"},
		{"a query", server("https://203.0.113.5:6443/?a=b"), true, "client-go drops it"},
		{"a proxy", cluster("proxy-url: http://10.0.0.1:3128"), true, ""},
		{"a proxy on a laptop", cluster("proxy-url: http://127.0.0.1:8888"), true, "no proxy runs on a worker"},
		{"a proxy of an unknown kind", cluster("proxy-url: ftp://10.0.0.1"), false, ""},
		{"a server's name", cluster("tls-server-name: api.example.com"), true, ""},

		{"a CA that is no PEM", replaceField("certificate-authority-data", "    certificate-authority-data: "+notPEM), false, ""},
		{"a CA that is no base64", replaceField("certificate-authority-data", "    certificate-authority-data: ca.pem"), false, ""},
		{"a CA that was left out", replaceField("certificate-authority-data", "    certificate-authority-data: DATA+OMITTED"), false, ""},
		{"a CA of a wrong type", replaceField("certificate-authority-data", "    certificate-authority-data: 1234"), false, ""},
		{"a CA's file", replaceField("certificate-authority-data", "    certificate-authority: missing/ca.pem"), false, ""},
		{"a CA's file too", cluster("certificate-authority: /dev/null"), false, ""},
		{"no CA", replaceField("certificate-authority-data", ""), true, "the system's CAs are not the cluster's"},
		{"no verification", func(s string) string {
			return cluster("insecure-skip-tls-verify: true")(replaceField("certificate-authority-data", "")(s))
		}, true, "whoever answers would be sent the credentials"},
		{"no verification, with a CA", cluster("insecure-skip-tls-verify: true"), false, ""},

		{"no key", replaceField("client-key-data", ""), false, ""},
		{"a key that is no PEM", replaceField("client-key-data", "    client-key-data: "+notPEM), false, ""},
		{"a certificate that is no PEM", replaceField("client-certificate-data", "    client-certificate-data: "+notPEM), false, ""},
		{"a key's file", replaceField("client-key-data", "    client-key: missing.pem"), false, ""},
		{"a token and a certificate", user("token: abc"), true, "nobody knows which of the two counts"},
		{"a token and a password", user("token: abc\n    username: a\n    password: b"), false, ""},
		{"a plugin without its version", user("exec: {command: a}"), false, ""},
		{"a plugin that is a string", user("exec: a"), false, ""},
		{"impersonation", user("as: admin"), true, "no worker may"},
		{"a group without a user", user("as-groups: [a]"), false, ""},
		{"impersonation of a wrong type", user("as: 1"), false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := []byte(test.change(good))
			theirs := kubelet(t, data)
			if (theirs == nil) != test.accepted {
				t.Errorf("client-go = %v; want it accepted: %t", theirs, test.accepted)
			}
			files := w.files
			if strings.Contains(string(data), "client-certificate-data") {
				files.BootstrapKubeconfig, files.KubeletKubeconfig = nil, data
			} else {
				files.BootstrapKubeconfig = data
			}
			if len(data) == 0 {
				return // a key that is not given
			}
			ours := pki.CheckNode(files)
			if (ours == nil) != (test.accepted && test.stricter == "") {
				t.Errorf("CheckNode = %v; client-go = %v, we are stricter because %q", ours, theirs, test.stricter)
			}
		})
	}
}
