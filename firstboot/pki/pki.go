// Package pki checks a worker's credentials before anything starts with them:
// certificates, private keys and kubeconfigs, as they come from metadata or
// Secret Manager.
package pki

import (
	"net/netip"
	"time"
)

// NodeFiles are one worker's credentials, by metadata key. What is empty was
// not given.
type NodeFiles struct {
	Host string       // the node's name, a first label: worker-0
	IPs  []netip.Addr // the instance's internal addresses
	Now  time.Time    // what the machine's clock reads

	CA          []byte // kubernetes-ca
	Certificate []byte // kubelet-certificate
	Key         []byte // kubelet-key

	KubeletKubeconfig   []byte // kubelet-kubeconfig
	ProxyKubeconfig     []byte // kube-proxy-kubeconfig
	BootstrapKubeconfig []byte // bootstrap-kubeconfig
}

// Error is what is wrong with the value of one metadata key. It never quotes
// a secret.
type Error struct {
	Key     string // the metadata key: kubelet-certificate
	Problem string // what is wrong, with the values concerned
	Remedy  string // what to do about it
	Clock   bool   // passes when the machine's clock is set right: worth trying again
}

func (e *Error) Error() string { return e.Key + ": " + e.Problem + "; " + e.Remedy }

// CheckNode checks in; its errors are of type *Error.
func CheckNode(in NodeFiles) error { return nil }
