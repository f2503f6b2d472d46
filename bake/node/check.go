package node

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/pki"
)

// InputError is a value of a Config that can't be.
type InputError struct {
	Field string // metadata key, or else the flag of bake node: pod-cidr, san
	Err   error
}

func (e *InputError) Error() string { return e.Field + ": " + e.Err.Error() }

func (e *InputError) Unwrap() error { return e.Err }

// InputErrors returns the mistakes that Check joined.
func InputErrors(err error) []*InputError {
	var all []*InputError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if wrong, ok := errors.AsType[*InputError](e); ok {
				all = append(all, wrong)
			}
		}
	}
	return all
}

// Check returns what is wrong with c but for its CA: an *InputError for each
// mistake, joined.
func (c Config) Check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &InputError{field, fmt.Errorf(format, args...)})
	}
	if !gce.IsName(c.Name) {
		bad("name", "%q can't be an instance's name: want up to 63 lower-case letters, digits and hyphens, a letter first and no hyphen last; a longer name goes to hostname", c.Name)
	}
	if err := checkDNSName(c.Hostname); c.Hostname != "" && err != nil {
		bad("hostname", "%w", err)
	} else if c.Hostname != strings.ToLower(c.Hostname) {
		bad("hostname", "%q has capital letters, which no node's name has", c.Hostname)
	}
	for _, name := range c.Names {
		if err := checkDNSName(name); err != nil {
			bad("san", "%w", err)
		}
	}
	if err := pki.CheckServer(c.Server); err != nil {
		bad("server", "%w", err)
	}
	if !c.IP.IsValid() || c.IP.Zone() != "" || c.IP.IsLoopback() || c.IP.IsUnspecified() || c.IP.IsMulticast() || c.IP.IsLinkLocalUnicast() {
		bad("ip", "%s can't be the instance's internal address (want one like 10.240.0.20)", c.IP)
	} else if !c.IP.Unmap().Is4() {
		bad("ip", "%s is IPv6; a worker's node and pods have IPv4 addresses only (want one like 10.240.0.20)", c.IP)
	}
	if !c.PodCIDR.IsValid() {
		bad("pod-cidr", "is missing (want a range like 10.200.0.0/24)")
	}
	if err := pki.CheckToken(c.BootstrapToken); c.BootstrapToken != "" && err != nil {
		bad("bootstrap-token", "%w", err)
	}
	if c.KeyType != "" && c.KeyType != ECDSA && c.KeyType != RSA {
		bad("key-type", "%q is unknown: want %s or %s", c.KeyType, ECDSA, RSA)
	}
	if c.Validity < 0 {
		bad("validity", "%s ends before it begins", c.Validity)
	}
	return errors.Join(append(errs, c.checkNetwork()...)...)
}

// checkNetwork has the worker's own code check what is about addresses and names.
// It tells of one mistake, whose value is then taken away until nothing is wrong.
func (c Config) checkNetwork() []error {
	values := c.network()
	checked := Config{Name: "worker-0", MTU: c.MTU, Now: c.Now}
	if c.IP.IsValid() {
		checked.IP = c.IP
	}
	var errs []error
	var told []string
	if !c.PodCIDR.IsValid() {
		values[config.KeyPodCIDR] = line(c.someRange())
	}
	for {
		var wrong *InputError
		_, err := check(checked, values)
		_, ours := values[fieldOf(err, &wrong)]
		if !ours || slices.Contains(told, wrong.Field) {
			return errs // it is about what is not here yet
		}
		told = append(told, wrong.Field)
		if wrong.Field != config.KeyPodCIDR || c.PodCIDR.IsValid() {
			errs = append(errs, wrong)
		}
		switch pod := c.PodCIDR.Addr(); {
		case wrong.Field == config.KeyPodCIDR:
			values[config.KeyPodCIDR] = line(c.someRange())
		case wrong.Field == config.KeyClusterCIDR && pod.Is4(): // one that the pods are in
			values[config.KeyClusterCIDR] = line(netip.PrefixFrom(pod, 8).Masked().String())
		default:
			delete(values, wrong.Field)
		}
	}
}

// fieldOf sets wrong to the InputError of err and returns its field.
func fieldOf(err error, wrong **InputError) string {
	if !errors.As(err, wrong) {
		return ""
	}
	return (*wrong).Field
}

// someRange is a range that a pod-cidr may be where the one that was given can't
// be checked: the last of the cluster's.
func (c Config) someRange() string {
	cluster := c.ClusterCIDR
	if !cluster.IsValid() || !cluster.Addr().Is4() || cluster.Bits() > 24 {
		cluster = netip.MustParsePrefix("10.200.0.0/16")
	}
	last := cluster.Masked().Addr().As4()
	for bit := cluster.Bits(); bit < 24; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.PrefixFrom(netip.AddrFrom4(last), 24).String()
}

// checkDNSName checks name as RFC 1123 has host names. A trailing dot may be
// there; it is taken off.
func checkDNSName(name string) error {
	name = trimDot(name)
	if len(name) > 253 {
		return fmt.Errorf("%q has %d characters; a name has 253 at most", name, len(name))
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 {
			return fmt.Errorf("%q has a label of %d characters; 63 is the most (%s)", name, len(label), label)
		}
		if !regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`).MatchString(label) {
			return fmt.Errorf("%q is not a host name: want labels of letters, digits and hyphens, separated by dots", name)
		}
	}
	return nil
}
