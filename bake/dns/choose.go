package dns

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/kubectl"
)

var errNoNodes = errors.New("no node has joined the cluster, and nothing can run there (kubectl get nodes; --nodes waits for some)")

// choose returns the release for the oldest of the nodes.
func choose(nodes []nodeObject) (Release, error) {
	if len(nodes) == 0 {
		return Release{}, errNoNodes
	}
	var least kubectl.Version
	for i, n := range nodes {
		v, err := kubectl.ParseVersion(n.Status.NodeInfo.KubeletVersion)
		if err != nil {
			return Release{}, fmt.Errorf("node %s: %w", n.Metadata.Name, err)
		}
		if i == 0 || cmp.Or(cmp.Compare(v.Major, least.Major), cmp.Compare(v.Minor, least.Minor)) < 0 {
			least = v
		}
	}
	return For(least), nil
}

// chooseImage returns the image of a release that most nodes have, and which nodes
// lack it; where none has one, the registry's.
func chooseImage(r Release, nodes []nodeObject) (image string, lack []string) {
	count := map[string]int{}
	for _, n := range nodes {
		for _, name := range n.images() {
			if isCoreDNS(name, r.Version) {
				count[name]++
			}
		}
	}
	for name, n := range count {
		if image == "" || n > count[image] || n == count[image] && name < image {
			image = name
		}
	}
	if image == "" {
		image = r.Image
	}
	return image, without(image, nodes)
}

// without returns the nodes that lack an image.
func without(image string, nodes []nodeObject) []string {
	var lack []string
	for _, n := range nodes {
		if !slices.Contains(n.images(), image) {
			lack = append(lack, n.Metadata.Name)
		}
	}
	slices.Sort(lack)
	return lack
}

// isCoreDNS says whether an image's name is that of a version of CoreDNS: its last
// part before the tag is coredns, wherever it is from.
func isCoreDNS(name, version string) bool {
	repository, tag, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	return ok && repository == "coredns" && strings.TrimPrefix(tag, "v") == version
}

// split returns the objects that kubectl prints and that are ours, and an error for
// the others.
func split(out []byte) (ours []json.RawMessage, foreign error, err error) {
	all, err := parseList[json.RawMessage](out)
	if err != nil {
		return nil, nil, err
	}
	var rest []object
	for _, raw := range all {
		var o object
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, nil, fmt.Errorf("reading what kubectl prints: %w", err)
		}
		if o.Metadata.Labels[ownerLabel] == owner {
			ours = append(ours, raw)
		} else {
			rest = append(rest, o)
		}
	}
	return ours, others(rest), nil
}

// others returns an error for objects that are there and are not ours.
func others(existing []object) error {
	var names []string
	for _, o := range existing {
		if o.Metadata.Labels[ownerLabel] != owner {
			name := strings.ToLower(o.Kind) + " " + o.Metadata.Name
			if o.Metadata.Namespace != "" {
				name += " in " + o.Metadata.Namespace
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("somebody else's, without the label %s=%s: %s", ownerLabel, owner, strings.Join(names, ", "))
}

// checkAddress returns an error where a service has the address already, or the
// add-on has another.
func checkAddress(ip netip.Addr, services []serviceObject) error {
	for _, s := range services {
		ours := s.Metadata.Namespace == namespace && s.Metadata.Name == service
		switch {
		case ours && s.Spec.ClusterIP != ip.String():
			return fmt.Errorf("--cluster-ip %s: the service %s has the address %s, and a service keeps its address (`bake dns delete` first)", ip, service, s.Spec.ClusterIP)
		case !ours && s.Spec.ClusterIP == ip.String():
			return fmt.Errorf("--cluster-ip %s: the service %s/%s has this address (give another, and tell kubelets the same: bake node --cluster-dns)", ip, s.Metadata.Namespace, s.Metadata.Name)
		}
	}
	return nil
}

// isOutOfRange says whether the API server refuses an address for its range; since
// 1.33 it does not say which one that is (pkg/registry/core/service/ipallocator).
func isOutOfRange(err error) bool {
	failed, ok := errors.AsType[*kubectl.Error](err)
	return ok && (strings.Contains(failed.Stderr, "the provided network does not match the current range") || strings.Contains(failed.Stderr, "is not in the valid range"))
}

// explainRefusal says in the words of a flag what the API server refuses about the
// service's address.
func explainRefusal(ip netip.Addr, ranges string, err error) error {
	failed, ok := errors.AsType[*kubectl.Error](err)
	if !ok {
		return err
	}
	if m := regexp.MustCompile(`range of valid IPs is ([0-9a-fA-F.:/]+)`).FindStringSubmatch(failed.Stderr); m != nil {
		ranges = m[1]
	}
	const remedy = "tell kubelets the same: bake node --cluster-dns"
	switch {
	case isOutOfRange(err) && ranges != "":
		return &InputError{fmt.Errorf("--cluster-ip %s is out of the range of services, %s (give one of it, and %s)", ip, ranges, remedy)}
	case isOutOfRange(err):
		return &InputError{fmt.Errorf("--cluster-ip %s is out of the range of services (--service-cluster-ip-range of the API server; %s)", ip, remedy)}
	case strings.Contains(failed.Stderr, "provided IP is already allocated"):
		return &InputError{fmt.Errorf("--cluster-ip %s is another service's (give another, and %s)", ip, remedy)}
	}
	return err
}

// InputError is a mistake in what a person asked for, found by asking the cluster.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }
