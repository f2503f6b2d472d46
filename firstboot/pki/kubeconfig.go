package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// user is whom a kubeconfig is for.
type user struct {
	name     string              // for errors: user "default"
	certName string              // the same: the client certificate of user "default"
	certs    []*x509.Certificate // nil if there is a token instead
}

// current finds what the current context selects.
func (k *kubeconfig) current() (cluster, authInfo, string, error) {
	fail := func(format string, args ...any) (cluster, authInfo, string, error) {
		return cluster{}, authInfo{}, "", fmt.Errorf(format, args...)
	}
	if k.currentContext == "" {
		return fail("has no current-context")
	}
	context, ok := k.contexts[k.currentContext]
	if !ok {
		return fail("has no context named %q, which current-context selects", shorten(k.currentContext))
	}
	selected, ok := k.clusters[context.cluster]
	if !ok {
		return fail("has no cluster named %q, which context %q refers to", shorten(context.cluster), shorten(k.currentContext))
	}
	user, ok := k.users[context.user]
	if !ok {
		return fail("has no user named %q, whom context %q refers to", shorten(context.user), shorten(k.currentContext))
	}
	return selected, user, context.user, nil
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
	if cluster.server == "" {
		return user{}, c.fail(key, "has no server in its cluster (want https://HOST:6443)")
	}
	if err := CheckServer(cluster.server); err != nil {
		return user{}, c.fail(key, "%v", err)
	}
	if cluster.proxyURL != "" {
		if err := checkProxy(cluster.proxyURL); err != nil {
			return user{}, c.fail(key, "%v", err)
		}
	}
	if err := c.checkAuthority(key, cluster); err != nil {
		return user{}, c.about(key, err)
	}
	u := user{name: fmt.Sprintf("user %q", shorten(userName)), certName: fmt.Sprintf("the client certificate of user %q", shorten(userName))}
	if u.certs, err = c.checkUser(auth); err != nil {
		return user{}, c.fail(key, "%s %v", u.name, err)
	}
	return u, nil
}

// caFile is where firstboot puts kubernetes-ca.
const caFile = "/var/lib/kubernetes/ca.pem"

// checkAuthority checks that the server is verified, by the CA that is known.
func (c *checker) checkAuthority(key string, cl cluster) error {
	switch {
	case cl.insecureSkipTLSVerify:
		return errors.New("says insecure-skip-tls-verify: whoever answers in the API server's place would be sent the node's credentials; remove that line, and embed the CA")
	case cl.certificateAuthority != "" && len(cl.authorityData) > 0:
		return errors.New("has both certificate-authority and certificate-authority-data, of which kubectl refuses one")
	case cl.certificateAuthority == caFile:
		return nil // what kubernetes-ca holds
	case cl.certificateAuthority != "":
		return fileError("certificate-authority", cl.certificateAuthority, "kubectl config set-cluster NAME --certificate-authority=ca.pem --embed-certs=true --kubeconfig=FILE")
	case len(cl.authorityData) == 0:
		return errors.New("has no certificate-authority-data in its cluster, so the API server could not be verified")
	}
	certs, err := ParseCertificates(cl.authorityData)
	if err != nil {
		return fmt.Errorf("its certificate-authority-data: %w", err)
	}
	return c.trusted(key, certs)
}

// trusted checks that one of certs is a CA that a connection made now may rest
// on, and that kubernetes-ca vouches for. The others do no harm there. Of one
// that vouches for kubernetes-ca, and not the other way about, nothing is known.
func (c *checker) trusted(key string, certs []*x509.Certificate) error {
	var problem error
	for _, cert := range certs {
		// A CA renewed with the same key counts as the same for Verify, which
		// refuses it above itself.
		known := slices.ContainsFunc(c.roots, func(root *x509.Certificate) bool {
			return bytes.Equal(root.Raw, cert.Raw) || cert.CheckSignatureFrom(root) == nil
		})
		if !known {
			// Whose CA it is does not depend on the time; a root has to be of that time.
			for _, at := range []time.Time{c.Now, cert.NotBefore, cert.NotAfter} {
				_, err := cert.Verify(x509.VerifyOptions{Roots: pool(c.roots), Intermediates: pool(certs), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				known = known || err == nil
			}
		}
		name := fmt.Sprintf("the CA %q in its certificate-authority-data", cert.Subject.String())
		signs, valid := CanSign(cert), c.validity(key, name, cert)
		switch {
		case !known && cert.SignatureAlgorithm == x509.UnknownSignatureAlgorithm && !bytes.Equal(cert.RawIssuer, cert.RawSubject):
			problem = fmt.Errorf("%s %s", name, unchecked)
		case !known:
		case signs != nil:
			problem = fmt.Errorf("its certificate-authority-data: %w", signs)
		case valid != nil:
			problem = valid
		default:
			return nil
		}
	}
	if problem != nil {
		return problem
	}
	return fmt.Errorf("its certificate-authority-data holds %s, another CA than %s (%s)%s", subjects(certs), keyCA, subjects(c.roots), sameName(certs, c.roots))
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
	case a.exec:
		return nil, errors.New("gets its credentials from a program (exec), and the image has none; embed a certificate")
	case a.authProvider:
		return nil, errors.New("gets its credentials from an auth-provider, which Kubernetes has removed; embed a certificate")
	case a.username != "" || a.password != "":
		return nil, errors.New("has a password, which API servers since 1.19 don't take; embed a certificate")
	case a.impersonates:
		return nil, errors.New("impersonates another (as), which no worker may")
	case a.tokenFile != "":
		return nil, fileError("tokenFile", a.tokenFile, "kubectl config set-credentials NAME --token=TOKEN --kubeconfig=FILE")
	}
	hasCert := a.clientCertificate != "" || len(a.certificateData) > 0
	hasKey := a.clientKey != "" || len(a.keyData) > 0
	switch {
	case a.token != "" && (hasCert || hasKey):
		return nil, errors.New("has a token and a client certificate; want one of them")
	case a.token != "":
		return nil, CheckToken(a.token)
	case !hasCert && !hasKey:
		return nil, errors.New("has no credentials: want client-certificate-data and client-key-data, or a token")
	case !hasKey:
		return nil, errors.New("has a client certificate and no client-key-data")
	case !hasCert:
		return nil, errors.New("has a client key and no client-certificate-data")
	}
	certPEM, err := c.content("client-certificate", a.clientCertificate, a.certificateData, fmt.Sprintf("/var/lib/kubelet/%s.pem", c.Host), c.Certificate)
	if err != nil {
		return nil, err
	}
	keyPEM, err := c.content("client-key", a.clientKey, a.keyData, fmt.Sprintf("/var/lib/kubelet/%s-key.pem", c.Host), c.Key)
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
	if err := forTLS(key); err != nil {
		return nil, fmt.Errorf("has a client key that can't be used: %w", err)
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
func (c *checker) content(field, path string, data []byte, known string, written []byte) ([]byte, error) {
	switch {
	case path != "" && len(data) > 0:
		return nil, fmt.Errorf("has both %s and %s-data, of which kubectl refuses one", field, field)
	case len(data) > 0:
		return data, nil
	case path == known && len(written) > 0:
		return written, nil
	}
	return nil, fileError(field, path, "kubectl config set-credentials NAME --client-certificate=CERT --client-key=KEY --embed-certs=true --kubeconfig=FILE")
}

func fileError(field, path, command string) error {
	return fmt.Errorf("refers to the file %q (%s), which is not on the worker; embed its content: `%s`", shorten(path), field, command)
}

// CheckToken knows only what no token is.
func CheckToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("has a token with a space, a line break or another character in it that no token has")
	}
	if strings.ContainsAny(token, "<>{}") || omitted(token) {
		return errors.New("has a placeholder for a token")
	}
	return nil
}
