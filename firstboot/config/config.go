// Package config works out a worker's configuration: metadata become a Node,
// and a Node becomes files and the units that use them.
package config

import (
	"errors"
	"net/netip"
	"time"

	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/metadata"
)

// Input is all that a configuration depends on.
type Input struct {
	Metadata *metadata.Metadata
	Secrets  map[string]string // content by key, of every key that Secrets named
	Image    Image
	Now      time.Time // what the machine's clock reads
	Memory   uint64    // bytes
	CPUs     int
}

// Credentials says how a node proves who it is.
type Credentials string

// The three ways.
const (
	FromMetadata      Credentials = "metadata"       // certificate and key in metadata attributes
	FromSecretManager Credentials = "secret-manager" // the key in Secret Manager
	TLSBootstrap      Credentials = "tls-bootstrap"  // signed by the cluster, and rotated
)

// Node is a worker as its metadata describe it. Every value is valid.
type Node struct {
	Name          string       // "worker-0": the node's and the machine's name
	IP            netip.Addr   // of the first network interface
	PodCIDR       netip.Prefix // masked
	ClusterCIDR   netip.Prefix // masked; holds PodCIDR
	ClusterDNS    netip.Addr
	ClusterDomain string // "cluster.local"
	MTU           int    // of the bridge that pods are on
	Credentials   Credentials
}

// Unit is a service of the node's.
type Unit struct {
	Name string   // "kubelet.service"
	Uses []string // files that it reads only when it starts
}

// ValueError says which metadata key is wrong, and what would be right.
type ValueError struct {
	Key     string // "pod-cidr (instance attribute)"
	Problem string
	Example string // of a right value; empty where the problem says what to do
	Clock   bool   // passes when the machine's clock is set right
}

func (e *ValueError) Error() string { return e.Key + ": " + e.Problem }

var errTodo = errors.New("not written yet")

// Secrets returns the Secret Manager versions to fetch before New, by the key
// whose value they hold.
func Secrets(m *metadata.Metadata) (map[string]string, error) { return nil, errTodo }

// Early returns the files that need no metadata.
func Early(img Image) ([]files.File, error) { return nil, errTodo }

// New works out the node; its errors are of type *ValueError.
func New(in Input) (*Node, error) { return nil, errTodo }

// Files returns every file of the node's configuration, those of Early too.
func (n *Node) Files() []files.File { return nil }

// Units returns the node's services in the order in which they start.
func (n *Node) Units() []Unit { return nil }
