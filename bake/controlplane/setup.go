package controlplane

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nodebake/bake/bake/node"
)

// The guide's networks.
const (
	serviceRange = "10.32.0.0/24"
	serviceIP    = "10.32.0.1" // of the service "kubernetes"
	podRange     = "10.200.0.0/16"
)

// The names of the guide's files.
const (
	admin             = "admin"
	apiServer         = "kubernetes"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
	serviceAccounts   = "service-account"

	certSuffix       = ".pem"
	keySuffix        = "-key.pem"
	kubeconfigSuffix = ".kubeconfig"

	caFile         = "ca.pem"
	caKeyFile      = "ca-key.pem"
	encryptionFile = "encryption-config.yaml"
	egressFile     = "egress-config.yaml"
	egressSocket   = "egress"
)

func (c *ControlPlane) file(name string) string { return filepath.Join(c.config.Dir, name) }

// certificates are what the guide has the CA issue for a control plane.
func (c *ControlPlane) certificates() map[string]node.IssueConfig {
	return map[string]node.IssueConfig{
		admin:             {CommonName: "admin", Organizations: []string{"system:masters"}, Client: true},
		controllerManager: {CommonName: "system:kube-controller-manager", Organizations: []string{"system:kube-controller-manager"}, Client: true},
		scheduler:         {CommonName: "system:kube-scheduler", Organizations: []string{"system:kube-scheduler"}, Client: true},
		serviceAccounts:   {CommonName: "service-accounts", Organizations: []string{"Kubernetes"}, Client: true},
		// The API server shows it to its clients, and to kubelets.
		apiServer: {
			CommonName: "kubernetes", Organizations: []string{"Kubernetes"}, Client: true, Server: true,
			DNSNames: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster", "kubernetes.default.svc.cluster.local",
			},
			IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr(Address), netip.MustParseAddr(serviceIP)},
		},
	}
}

// writeFiles writes all that doesn't depend on the API server's port.
func (c *ControlPlane) writeFiles() error {
	files := map[string][]byte{
		caFile:         c.config.CA.CertificatePEM(),
		caKeyFile:      c.config.CA.KeyPEM(),
		encryptionFile: encryptionConfig(),
		egressFile:     egressConfig(),
	}
	for name, issue := range c.certificates() {
		issue.Now = c.config.Now
		cert, key, err := c.config.CA.Issue(issue)
		if err != nil {
			return err
		}
		files[name+certSuffix], files[name+keySuffix] = cert, key
	}
	for name, content := range files {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return err
		}
	}
	var err error
	c.client, err = makeClient(files[caFile], files[admin+certSuffix], files[admin+keySuffix])
	return err
}

// encryptionConfig has secrets encrypted in etcd, and read also where they are
// not.
func encryptionConfig() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return fmt.Appendf(nil, `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: %s
      - identity: {}
`, base64.StdEncoding.EncodeToString(key))
}

// egressConfig has the API server reach kubelets and pods by a proxy. The socket's
// path is relative to the API server's directory, since an absolute one can be
// too long for a socket.
func egressConfig() []byte {
	return []byte(`apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
  - name: cluster
    connection:
      proxyProtocol: HTTPConnect
      transport:
        uds:
          udsName: ` + egressSocket + "\n")
}

// writeKubeconfigs writes those of the host's clients.
func (c *ControlPlane) writeKubeconfigs() error {
	for _, name := range []string{admin, controllerManager, scheduler} {
		cert, err := os.ReadFile(c.file(name + certSuffix))
		if err != nil {
			return err
		}
		key, err := os.ReadFile(c.file(name + keySuffix))
		if err != nil {
			return err
		}
		content, err := node.Kubeconfig{
			Server: c.LocalURL(), CA: c.config.CA.CertificatePEM(), User: name, Certificate: cert, Key: key,
		}.Encode()
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.file(name+kubeconfigSuffix), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// The URLs of etcd's sockets. It takes host names for relative paths, and would
// take a real path for an error.
const (
	etcdClients = "unix://etcd.sock:0"
	etcdPeers   = "unix://etcd-peer.sock:0"
)

func (c *ControlPlane) etcdFlags() []string {
	return []string{
		"--data-dir=" + c.file("etcd"),
		"--listen-client-urls=" + etcdClients, "--advertise-client-urls=" + etcdClients,
		"--listen-peer-urls=" + etcdPeers, "--initial-advertise-peer-urls=" + etcdPeers,
		"--initial-cluster=default=" + etcdPeers,
		"--unsafe-no-fsync",
	}
}

func (c *ControlPlane) apiServerFlags() []string {
	flags := []string{
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.port),
		"--advertise-address=" + Address, // so pods reach it too
		"--tls-cert-file=" + c.file(apiServer+certSuffix), "--tls-private-key-file=" + c.file(apiServer+keySuffix),
		"--client-ca-file=" + c.file(caFile),
		"--etcd-servers=" + etcdClients,
		"--encryption-provider-config=" + c.file(encryptionFile),

		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth",
		"--allow-privileged",

		"--service-account-issuer=" + c.URL(),
		"--service-account-key-file=" + c.file(serviceAccounts+certSuffix),
		"--service-account-signing-key-file=" + c.file(serviceAccounts+keySuffix),
		"--service-cluster-ip-range=" + serviceRange,
		"--service-node-port-range=30000-32767",

		"--kubelet-certificate-authority=" + c.file(caFile),
		"--kubelet-client-certificate=" + c.file(apiServer+certSuffix),
		"--kubelet-client-key=" + c.file(apiServer+keySuffix),
		// This host resolves no worker's name, and a worker's certificate has its address.
		"--kubelet-preferred-address-types=InternalIP",

		"--profiling=false",
	}
	if c.egress != nil {
		flags = append(flags, "--egress-selector-config-file="+c.file(egressFile))
	}
	return flags
}

func (c *ControlPlane) controllerManagerFlags() []string {
	return []string{
		"--kubeconfig=" + c.file(controllerManager+kubeconfigSuffix),
		"--secure-port=0",
		"--leader-elect=false", // there is no other
		"--cluster-name=kubernetes",
		"--cluster-cidr=" + podRange, // nodes bring theirs, as in the guide
		"--service-cluster-ip-range=" + serviceRange,
		"--cluster-signing-cert-file=" + c.file(caFile), "--cluster-signing-key-file=" + c.file(caKeyFile),
		"--root-ca-file=" + c.file(caFile),
		"--service-account-private-key-file=" + c.file(serviceAccounts+keySuffix),
		"--use-service-account-credentials",
		"--profiling=false",
	}
}

func (c *ControlPlane) schedulerFlags() []string {
	return []string{
		"--kubeconfig=" + c.file(scheduler+kubeconfigSuffix),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
	}
}
