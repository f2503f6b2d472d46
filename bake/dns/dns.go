// Package dns decides about a cluster's DNS add-on: which CoreDNS fits, its objects,
// what keeps it from being applied, and what keeps it from being ready. [Apply] and
// [Delete] do it by a kubectl.
//
// The objects are those of two releases: what "Kubernetes the Hard Way" applies, and
// what Kubernetes ships today. They carry a label, by which they are known as ours:
// what somebody else has applied is neither changed nor deleted.
package dns

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/nodebake/bake/bake/kubectl"
	"github.com/nodebake/bake/bake/node"
)

// The guide's values.
const (
	DefaultClusterIP = "10.32.0.10"
	DefaultDomain    = "cluster.local"
	DefaultReplicas  = 2
)

// Where the objects are, and the label that says whose they are.
const (
	namespace  = "kube-system"
	deployment = "coredns"
	service    = "kube-dns"
	podLabel   = "k8s-app=kube-dns"
	ownerLabel = "app.kubernetes.io/managed-by"
	owner      = "bake"
)

//go:embed coredns-1.8.yaml coredns-1.14.yaml
var manifests embed.FS

// Release is one of CoreDNS, with the objects that belong to it.
type Release struct {
	Version    string // "1.14.2"
	Kubernetes string // the release that has it: "1.36"
	Image      string // where registries have it
	file       string
}

// Guide is what the guide applies.
func Guide() Release {
	return Release{"1.8.3", "1.21", "docker.io/coredns/coredns:1.8.3", "coredns-1.8.yaml"}
}

// Current is what Kubernetes ships today.
func Current() Release {
	return Release{"1.14.2", "1.36", "registry.k8s.io/coredns/coredns:v1.14.2", "coredns-1.14.yaml"}
}

// oldest is the first Kubernetes whose nodes get Current: nodes of 1.24 and before
// are as old as the guide's CoreDNS.
func oldest() kubectl.Version { return kubectl.Version{Major: 1, Minor: 25} }

// For returns the release for nodes of a version of Kubernetes.
func For(v kubectl.Version) Release {
	if v.Major < oldest().Major || v.Major == oldest().Major && v.Minor < oldest().Minor {
		return Guide()
	}
	return Current()
}

// Addon is the add-on of one cluster.
type Addon struct {
	Release
	Image     string
	ClusterIP netip.Addr
	Domain    string
	Replicas  int
}

// Check returns what is wrong with a's values, a *node.InputError for each mistake,
// joined: its Field is a flag's name.
func (a Addon) Check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &node.InputError{Field: field, Err: fmt.Errorf(format, args...)})
	}
	// As the worker's own code checks what kubelet is told of DNS.
	config := node.Config{ClusterDNS: a.ClusterIP, ClusterDomain: a.Domain, Now: time.Unix(0, 0)}
	for _, wrong := range node.InputErrors(config.Check()) {
		switch wrong.Field {
		case "cluster-dns":
			bad("cluster-ip", "%w", wrong.Err)
		case "cluster-domain":
			bad("domain", "%w", wrong.Err)
		}
	}
	if !a.ClusterIP.IsValid() {
		bad("cluster-ip", "is missing (want an address like %s)", DefaultClusterIP)
	}
	if a.Domain == "" || strings.HasSuffix(a.Domain, ".") {
		bad("domain", "%q is no domain (want one like %s)", a.Domain, DefaultDomain)
	}
	if a.Replicas < 1 || a.Replicas > 100 {
		bad("replicas", "%d: want 1 to 100", a.Replicas)
	}
	if a.Image != "" && !imageName.MatchString(a.Image) {
		bad("image", "%q is no image (want one like %s)", a.Image, Current().Image)
	}
	return errors.Join(errs...)
}

// imageName is a reference of the distribution project: names of lower-case letters,
// digits and separators, a tag, a digest.
var imageName = regexp.MustCompile(`^[a-z0-9]+([._:/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// YAML returns the objects of an add-on that Check accepted.
func (a Addon) YAML() (string, error) {
	t, err := template.ParseFS(manifests, a.file)
	if err != nil {
		return "", fmt.Errorf("reading the manifest of CoreDNS %s: %w", a.Version, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, a); err != nil {
		return "", fmt.Errorf("filling in the manifest of CoreDNS %s: %w", a.Version, err)
	}
	return b.String(), nil
}
