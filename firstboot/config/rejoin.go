package config

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/pki"
)

// What kubelet makes of a bootstrap-kubeconfig and keeps: a kubeconfig with the
// server and CA of that, and links to the certificates that it got, each with
// its key. While the first certificate has not expired, kubelet looks at the
// bootstrap-kubeconfig no more (pkg/kubelet/certificate/bootstrap).
const (
	kubeletClient  = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	kubeletServing = "/var/lib/kubelet/pki/kubelet-server-current.pem"
)

// Joined is what lies on a node that has joined by TLS bootstrap. What is not
// there is empty.
type Joined struct {
	Kubeconfig      []byte // /var/lib/kubelet/kubeconfig
	CA              []byte // /var/lib/kubernetes/ca.pem
	Client, Serving Kept
}

// Kept is a certificate of kubelet's with its key.
type Kept struct {
	Content []byte
	Target  string // the file that the link leads to
}

// JoinedPaths are the files of Joined: kubeconfig, CA, client and serving
// certificate.
func JoinedPaths() [4]string {
	return [4]string{kubeletKubeconfig, caFile, kubeletClient, kubeletServing}
}

// Rejoin is what has to happen to kubelet's own files when metadata changed.
type Rejoin struct {
	Files []files.File // to be applied with the node's

	// Why the certificate goes; empty if it stays. Then the API server must have
	// taken the credentials of Access before anything is written.
	Why    string
	Access pki.Access
}

// Rejoin decides that for a node with TLS bootstrap. A new server or CA is
// written into kubelet's kubeconfig. The certificate goes where it is for
// another name, or where the CA that signed it is no longer in kubernetes-ca:
// nobody would take it.
func (n *Node) Rejoin(j Joined) (Rejoin, error) {
	if n.Credentials != TLSBootstrap {
		return Rejoin{}, nil
	}
	access, err := pki.ReadAccess(n.files.BootstrapKubeconfig)
	if err != nil {
		return Rejoin{}, fmt.Errorf("BUG: metadata key %s: %w", KeyBootstrapKubeconfig, err)
	}
	r := Rejoin{}
	client := certificates(j.Client.Content)
	if len(client) == 0 || n.files.Now.After(client[0].NotAfter) {
		return r, nil // kubelet asks for another by itself
	}
	if r.Why = n.outdated(client, j.CA); r.Why == "" {
		return r, n.repoint(&r, access, j.Kubeconfig)
	}
	r.remove(kubeletClient, j.Client)
	if serving := certificates(j.Serving.Content); len(serving) > 0 && n.outdated(serving, j.CA) != "" {
		r.remove(kubeletServing, j.Serving)
	}
	r.Access = access
	if r.Access.CAFile != "" {
		r.Access.CA = n.files.CA
	}
	return r, nil
}

// outdated says why nobody takes a certificate any more.
func (n *Node) outdated(certs []*x509.Certificate, oldCA []byte) string {
	cn := certs[0].Subject.CommonName
	if want := "system:node:" + n.Name; cn != want {
		return fmt.Sprintf("kubelet's certificate is for %q, and this node must be %q", cn, want)
	}
	// One that kubernetes-ca never vouched for, through an intermediate that is
	// not there, is none of ours to check.
	if !pki.Issued(certs, n.files.CA, n.files.Now) && pki.Issued(certs, oldCA, n.files.Now, certs[0].NotBefore, certs[0].NotAfter) {
		return fmt.Sprintf("kubelet's certificate was signed by %q, which is no longer in %s", certs[0].Issuer.String(), KeyCA)
	}
	return ""
}

func (r *Rejoin) remove(link string, kept Kept) {
	r.Files = append(r.Files, files.File{Path: link, Absent: true})
	if kept.Target != link && path.Dir(kept.Target) == path.Dir(link) {
		r.Files = append(r.Files, files.File{Path: kept.Target, Absent: true})
	}
}

// repoint writes server and CA into the kubeconfig that kubelet wrote, as it
// would write it.
func (n *Node) repoint(r *Rejoin, access pki.Access, kubeconfig []byte) error {
	has, err := pki.ReadAccess(kubeconfig)
	if err != nil || has.ClientCertificateFile != kubeletClient {
		return nil // kubelet will replace it, or we do: it is of other credentials
	}
	if has.Server == access.Server && has.CAFile == access.CAFile && string(has.CA) == string(access.CA) {
		return nil
	}
	authority := "certificate-authority: " + caFile
	if access.CAFile == "" {
		authority = "certificate-authority-data: " + base64.StdEncoding.EncodeToString(access.CA)
	}
	server := access.Server
	if regexp.MustCompile(`[^-A-Za-z0-9:/._~%\[\]]`).MatchString(server) {
		server = strconv.Quote(server)
	}
	content := fmt.Appendf(nil, `apiVersion: v1
clusters:
- cluster:
    %s
    server: %s
  name: default-cluster
contexts:
- context:
    cluster: default-cluster
    namespace: default
    user: default-auth
  name: default-context
current-context: default-context
kind: Config
users:
- name: default-auth
  user:
    client-certificate: %s
    client-key: %[3]s
`, authority, server, kubeletClient)
	r.Files = append(r.Files, files.File{Path: kubeletKubeconfig, Content: content, Mode: private, Theirs: true})
	return nil
}

// Refused is the error for credentials that the API server did not take.
func (r Rejoin) Refused(err error) error {
	return &ValueError{Key: KeyBootstrapKubeconfig, Problem: fmt.Sprintf(
		"%s, so it has to ask for another, and that can't be: %v; nothing was changed: give a token that is valid now (kubectl -n kube-system get secrets, or kubeadm token create)", r.Why, err)}
}

// certificates reads those of a file that has a key as well; none if it can't.
func certificates(data []byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return certs
		}
		if !strings.HasSuffix(block.Type, "CERTIFICATE") {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		certs = append(certs, cert)
	}
}
