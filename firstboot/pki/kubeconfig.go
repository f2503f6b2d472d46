package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kubeconfig is the file of k8s.io/client-go/tools/clientcmd/api/v1, as far as
// it matters here. JSON is YAML too.
type kubeconfig struct {
	APIVersion     string `yaml:"apiVersion"`
	Kind           string `yaml:"kind"`
	CurrentContext string `yaml:"current-context"`
	Clusters       []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string   `yaml:"name"`
		User authInfo `yaml:"user"`
	} `yaml:"users"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
}

type cluster struct {
	Server                string `yaml:"server"`
	CertificateAuthority  string `yaml:"certificate-authority"`
	AuthorityData         string `yaml:"certificate-authority-data"`
	InsecureSkipTLSVerify bool   `yaml:"insecure-skip-tls-verify"`
}

type authInfo struct {
	ClientCertificate string `yaml:"client-certificate"`
	CertificateData   string `yaml:"client-certificate-data"`
	ClientKey         string `yaml:"client-key"`
	KeyData           string `yaml:"client-key-data"`
	Token             string `yaml:"token"`
	TokenFile         string `yaml:"tokenFile"`
	Username          string `yaml:"username"`
	Password          string `yaml:"password"`
	As                string `yaml:"as"`
	AuthProvider      any    `yaml:"auth-provider"`
	Exec              any    `yaml:"exec"`
}

// user is whom a kubeconfig is for.
type user struct {
	name     string              // for errors: user "default"
	certName string              // the same: the client certificate of user "default"
	certs    []*x509.Certificate // nil if there is a token instead
}

// parseKubeconfig decodes data. Errors name lines and never quote them, as a
// library's errors would: there may be keys in them.
func parseKubeconfig(data []byte) (*kubeconfig, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("is empty")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := dec.Decode(&document); err != nil {
		return nil, fmt.Errorf("is not YAML%s", place(err))
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("is not a kubeconfig: it holds no fields")
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	var k kubeconfig
	if err := document.Decode(&k); err != nil {
		return nil, fmt.Errorf("is not a kubeconfig: a field has the wrong type or comes twice%s", place(err))
	}
	if k.APIVersion != "" && k.APIVersion != "v1" || k.Kind != "" && k.Kind != "Config" {
		return nil, fmt.Errorf("is a %q of %q, not a kubeconfig (kind Config, apiVersion v1)", k.Kind, k.APIVersion)
	}
	return &k, nil
}

// place takes the line out of an error of the YAML library.
func place(err error) string {
	if m := regexp.MustCompile(`line [0-9]+`).FindString(err.Error()); m != "" {
		return " (" + m + ")"
	}
	return ""
}

// current finds what the current context selects.
func (k *kubeconfig) current() (cluster, authInfo, string, error) {
	fail := func(format string, args ...any) (cluster, authInfo, string, error) {
		return cluster{}, authInfo{}, "", fmt.Errorf(format, args...)
	}
	if k.CurrentContext == "" {
		return fail("has no current-context")
	}
	var contexts, clusters, users []int
	for i := range k.Contexts {
		if k.Contexts[i].Name == k.CurrentContext {
			contexts = append(contexts, i)
		}
	}
	if len(contexts) != 1 {
		return fail("has %d contexts named %q, which current-context selects; want one", len(contexts), k.CurrentContext)
	}
	context := k.Contexts[contexts[0]].Context
	for i := range k.Clusters {
		if k.Clusters[i].Name == context.Cluster {
			clusters = append(clusters, i)
		}
	}
	if len(clusters) != 1 {
		return fail("has %d clusters named %q, which context %q refers to; want one", len(clusters), context.Cluster, k.CurrentContext)
	}
	for i := range k.Users {
		if k.Users[i].Name == context.User {
			users = append(users, i)
		}
	}
	if len(users) != 1 {
		return fail("has %d users named %q, whom context %q refers to; want one", len(users), context.User, k.CurrentContext)
	}
	return k.Clusters[clusters[0]].Cluster, k.Users[users[0]].User, context.User, nil
}

// kubeconfig checks everything in a kubeconfig but whose it is.
func (c *checker) kubeconfig(key string, data []byte) (user, error) {
	k, err := parseKubeconfig(data)
	if err != nil {
		return user{}, c.fail(key, "%v", err)
	}
	cluster, auth, userName, err := k.current()
	if err != nil {
		return user{}, c.fail(key, "%v", err)
	}
	if cluster.Server == "" {
		return user{}, c.fail(key, "has no server in its cluster (want https://HOST:6443)")
	}
	if err := CheckServer(cluster.Server); err != nil {
		return user{}, c.fail(key, "%v", err)
	}
	if err := c.checkAuthority(cluster); err != nil {
		return user{}, c.fail(key, "%v", err)
	}
	u := user{name: fmt.Sprintf("user %q", userName), certName: fmt.Sprintf("the client certificate of user %q", userName)}
	if u.certs, err = c.checkUser(auth); err != nil {
		return user{}, c.fail(key, "%s %v", u.name, err)
	}
	return u, nil
}

// CheckServer checks an API server's URL as a worker wants it.
func CheckServer(server string) error {
	if strings.Contains(server, "@") {
		return errors.New("the server's URL has a user name in it, which Kubernetes ignores")
	}
	fail := func(what string) error {
		return fmt.Errorf("the server %q %s (want https://HOST:6443)", shorten(server), what)
	}
	u, err := url.Parse(server)
	switch {
	case err != nil:
		return fail("is not a URL")
	case u.Scheme != "https":
		return fail("is not an https URL, and without TLS no certificate is shown")
	case u.Hostname() == "":
		return fail("names no host")
	case u.RawQuery != "" || u.Fragment != "":
		return fail("has more than a host, a port and a path")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified()) {
		return fail("is the worker itself, where no API server runs; it must be an address that the worker reaches")
	}
	return nil
}

// shorten cuts what may be anything.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// caFile is where firstboot puts kubernetes-ca.
const caFile = "/var/lib/kubernetes/ca.pem"

// checkAuthority checks that the server is verified, by the CA that is known.
func (c *checker) checkAuthority(cl cluster) error {
	switch {
	case cl.InsecureSkipTLSVerify:
		return errors.New("says insecure-skip-tls-verify: whoever answers in the API server's place would be sent the node's credentials; remove that line, and embed the CA")
	case cl.CertificateAuthority != "" && cl.AuthorityData != "":
		return errors.New("has both certificate-authority and certificate-authority-data, of which kubectl refuses one")
	case cl.CertificateAuthority == caFile:
		return nil // what kubernetes-ca holds
	case cl.CertificateAuthority != "":
		return fileError("certificate-authority", cl.CertificateAuthority, "kubectl config set-cluster NAME --certificate-authority=ca.pem --embed-certs=true --kubeconfig=FILE")
	case cl.AuthorityData == "":
		return errors.New("has no certificate-authority-data in its cluster, so the API server could not be verified")
	}
	data, err := decode("certificate-authority-data", cl.AuthorityData)
	if err != nil {
		return err
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return fmt.Errorf("its certificate-authority-data: %w", err)
	}
	if same(certs, c.roots) || related(certs, c.roots) {
		return nil
	}
	return fmt.Errorf("its certificate-authority-data holds %s, another CA than %s (%s)%s", subjects(certs), keyCA, subjects(c.roots), sameName(certs, c.roots))
}

// related says whether a certificate is in both lists, or signed by one of the
// other list.
func related(a, b []*x509.Certificate) bool {
	for _, x := range a {
		for _, y := range b {
			if bytes.Equal(x.Raw, y.Raw) || x.CheckSignatureFrom(y) == nil || y.CheckSignatureFrom(x) == nil {
				return true
			}
		}
	}
	return false
}

func sameName(a, b []*x509.Certificate) string {
	for _, x := range a {
		if slices.ContainsFunc(b, func(y *x509.Certificate) bool { return bytes.Equal(x.RawSubject, y.RawSubject) }) {
			return ": the name is the same, the key is not"
		}
	}
	return ""
}

// checkUser returns the client certificates of a user, whose key is the user's,
// or nil where there is a token.
func (c *checker) checkUser(a authInfo) ([]*x509.Certificate, error) {
	switch {
	case a.Exec != nil:
		return nil, errors.New("gets its credentials from a program (exec), and the image has none; embed a certificate")
	case a.AuthProvider != nil:
		return nil, errors.New("gets its credentials from an auth-provider, which Kubernetes has removed; embed a certificate")
	case a.Username != "" || a.Password != "":
		return nil, errors.New("has a password, which API servers since 1.19 don't take; embed a certificate")
	case a.As != "":
		return nil, errors.New("impersonates another (as), which no worker may")
	case a.TokenFile != "":
		return nil, fileError("tokenFile", a.TokenFile, "kubectl config set-credentials NAME --token=TOKEN --kubeconfig=FILE")
	}
	hasCert := a.ClientCertificate != "" || a.CertificateData != ""
	hasKey := a.ClientKey != "" || a.KeyData != ""
	switch {
	case a.Token != "" && (hasCert || hasKey):
		return nil, errors.New("has a token and a client certificate; want one of them")
	case a.Token != "":
		return nil, checkToken(a.Token)
	case !hasCert && !hasKey:
		return nil, errors.New("has no credentials: want client-certificate-data and client-key-data, or a token")
	case !hasKey:
		return nil, errors.New("has a client certificate and no client-key-data")
	case !hasCert:
		return nil, errors.New("has a client key and no client-certificate-data")
	}
	certPEM, err := c.content("client-certificate", a.ClientCertificate, a.CertificateData, fmt.Sprintf("/var/lib/kubelet/%s.pem", c.Host), c.Certificate)
	if err != nil {
		return nil, err
	}
	keyPEM, err := c.content("client-key", a.ClientKey, a.KeyData, fmt.Sprintf("/var/lib/kubelet/%s-key.pem", c.Host), c.Key)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("has a client certificate that can't be read: %w", err)
	}
	var key crypto.Signer
	if key, err = ParsePrivateKey(keyPEM); err != nil {
		return nil, fmt.Errorf("has a client key that can't be read: %w", err)
	}
	if !KeyMatches(certs[0], key) {
		return nil, fmt.Errorf("has a client key that is not the one of its client certificate (subject %q)", certs[0].Subject.String())
	}
	if slices.Contains(certs[0].Subject.Organization, adminGroup) {
		return nil, fmt.Errorf("is an administrator of the cluster (O=%s); a worker must not hold that", adminGroup)
	}
	return certs, nil
}

// content returns what a field of a user refers to: embedded, or in the one file
// that firstboot writes for this.
func (c *checker) content(field, path, data, known string, written []byte) ([]byte, error) {
	switch {
	case path != "" && data != "":
		return nil, fmt.Errorf("has both %s and %s-data, of which kubectl refuses one", field, field)
	case data != "":
		return decode(field+"-data", data)
	case path == known && len(written) > 0:
		return written, nil
	}
	return nil, fileError(field, path, "kubectl config set-credentials NAME --client-certificate=CERT --client-key=KEY --embed-certs=true --kubeconfig=FILE")
}

func fileError(field, path, command string) error {
	return fmt.Errorf("refers to the file %q (%s), which is not on the worker; embed its content: `%s`", shorten(path), field, command)
}

func decode(field, data string) ([]byte, error) {
	decoded, err := base64.StdEncoding.DecodeString(data)
	switch {
	case omitted(data):
		return nil, fmt.Errorf("has %s instead of %s: it was printed by kubectl config view, which needs --raw", data, field)
	case err == nil:
		return decoded, nil
	case strings.Contains(data, "-----BEGIN"):
		return nil, fmt.Errorf("has PEM in %s, where base64 of it belongs (`base64 -w0 FILE`)", field)
	}
	return nil, fmt.Errorf("has something in %s that is not base64 (`base64 -w0 FILE`)", field)
}

// omitted tells what kubectl config view prints in the place of credentials.
func omitted(data string) bool { return data == "DATA+OMITTED" || data == "REDACTED" }

// checkToken knows only what no token is.
func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("has a token with a space, a line break or another character in it that no token has")
	}
	if strings.ContainsAny(token, "<>{}") || omitted(token) {
		return errors.New("has a placeholder for a token")
	}
	return nil
}
