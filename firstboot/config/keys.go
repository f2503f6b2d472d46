package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/firstboot/metadata"
)

// The metadata keys that a worker knows. docs/metadata.md describes them.
const (
	keyPodCIDR             = "pod-cidr"
	keyCA                  = "kubernetes-ca"
	keyCertificate         = "kubelet-certificate"
	keyKey                 = "kubelet-key"
	keyKubeletKubeconfig   = "kubelet-kubeconfig"
	keyProxyKubeconfig     = "kube-proxy-kubeconfig"
	keyBootstrapKubeconfig = "bootstrap-kubeconfig"
	keyClusterCIDR         = "cluster-cidr"
	keyClusterDNS          = "cluster-dns"
	keyClusterDomain       = "cluster-domain"
	keyMTU                 = "mtu"

	secretSuffix = "-secret"
)

// Keys returns every metadata key that a worker knows, sorted. Each can also be
// given with the suffix -secret.
func Keys() []string {
	return []string{
		keyBootstrapKubeconfig,
		keyClusterCIDR,
		keyClusterDNS,
		keyClusterDomain,
		keyProxyKubeconfig,
		keyCertificate,
		keyKey,
		keyKubeletKubeconfig,
		keyCA,
		keyMTU,
		keyPodCIDR,
	}
}

// value is what a key has, and where it comes from.
type value struct {
	key    string
	text   string
	source string // "instance attribute"; empty where the key is not given
	secret bool   // text names a Secret Manager version
}

func (v value) given() bool { return v.source != "" }

func (v value) errorf(example, format string, args ...any) *ValueError {
	return &ValueError{Key: v.key, Source: v.source, Problem: fmt.Sprintf(format, args...), Example: example}
}

// find looks a key up, plain or as a secret: the instance's attributes first,
// then the project's. What only one of the two has, in either form, counts.
func find(m *metadata.Metadata, key string) (value, *ValueError) {
	for _, level := range []struct {
		attributes map[string]string
		source     string
	}{{m.Instance.Attributes, "instance attribute"}, {m.Project.Attributes, "project attribute"}} {
		text, plain := level.attributes[key]
		name, secret := level.attributes[key+secretSuffix]
		v := value{key: key, text: text, source: level.source}
		switch {
		case plain && secret:
			return v, v.errorf("", "%s is given as well; remove one of the two", key+secretSuffix)
		case secret:
			return value{key: key + secretSuffix, text: strings.TrimSpace(name), source: level.source, secret: true}, nil
		case plain:
			return v, nil
		}
	}
	return value{key: key}, nil
}

// Secrets returns the Secret Manager versions to fetch before New, by the key
// whose value they hold. Its errors are of type *ValueError.
func Secrets(m *metadata.Metadata) (map[string]string, error) {
	secrets := map[string]string{}
	for _, key := range Keys() {
		v, err := find(m, key)
		if err != nil {
			return nil, err
		}
		if !v.secret {
			continue
		}
		if problem := checkSecretName(v.text); problem != "" {
			return nil, v.errorf("projects/example/secrets/"+key+"/versions/1", "%s", problem)
		}
		secrets[key] = v.text
	}
	return secrets, nil
}

// checkSecretName wants a resource name of the Secret Manager API:
// projects/P/secrets/S/versions/V, where V may be an alias such as latest.
// The name ends up in a URL.
func checkSecretName(name string) string {
	if name == "" {
		return "is empty"
	}
	part := strings.Split(name, "/")
	if len(part) != 6 || part[0] != "projects" || part[2] != "secrets" || part[4] != "versions" {
		return fmt.Sprintf("%q does not name a secret's version", name)
	}
	for _, p := range []string{part[1], part[3], part[5]} {
		ok := p != "" && len(p) <= 255 && strings.Trim(p, ".") != ""
		for _, c := range []byte(p) {
			// A project of an organization's own domain is example.com:name.
			ok = ok && (isAlphanumeric(c) || strings.IndexByte("-_.:", c) >= 0)
		}
		if !ok {
			return fmt.Sprintf("%q does not name a secret's version: %q can't be part of it", name, p)
		}
	}
	return ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// values reads every key once, so that what is asked for later can't fail but
// for what it says.
type values struct {
	metadata *metadata.Metadata
	secrets  map[string]string
}

// get returns the text of a key with its secret's content for the name.
func (vs values) get(key string) (value, *ValueError) {
	v, err := find(vs.metadata, key)
	if err != nil || !v.given() {
		return v, err
	}
	if v.secret {
		content, ok := vs.secrets[key]
		if !ok {
			return v, v.errorf("", "BUG: the secret %s was not fetched", v.text)
		}
		v = value{key: key, text: content, source: "secret " + v.text, secret: true}
	}
	if strings.TrimSpace(v.text) == "" {
		return v, v.errorf(example(key), "is empty")
	}
	return v, nil
}

// missing is the error for a required key that is nowhere.
func (vs values) missing(key, format string, args ...any) *ValueError {
	problem := fmt.Sprintf(format, args...)
	if near := nearMisses(vs.metadata, key); len(near) > 0 {
		problem += fmt.Sprintf("; there is %s: did you mean %s?", strings.Join(near, " and "), key)
	}
	return &ValueError{Key: key, Problem: problem, Example: example(key)}
}

// nearMisses returns attributes of the instance and the project that look as
// if they were meant to be key. Metadata are shared with other programs, so
// only an error that is one anyway mentions them.
func nearMisses(m *metadata.Metadata, key string) []string {
	known := map[string]bool{}
	for _, k := range Keys() {
		known[k], known[k+secretSuffix] = true, true
	}
	found := map[string]bool{}
	for _, attributes := range []map[string]string{m.Instance.Attributes, m.Project.Attributes} {
		for name := range attributes {
			// Keys have less than 128 bytes; longer ones are not Google's.
			if !known[name] && len(name) < 128 && near(name, key) {
				found[name] = true
			}
		}
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func near(name, key string) bool {
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '-' || r == '_' || r == '.' || r == ' ' {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	a, b := strings.TrimSuffix(plain(name), "secret"), plain(key)
	switch {
	case a == b:
		return true
	case len(a) >= 6 && strings.HasPrefix(b, a): // kubelet-cert
		return true
	case len(b) >= 6 && strings.HasPrefix(a, b): // kubernetes-ca-certificate
		return true
	}
	return distance(a, b) <= len(b)/6
}

// distance is Levenshtein's: how many letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := above
			if a[i] != b[j] {
				cost++
			}
			above = row[j+1]
			row[j+1] = min(cost, above+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// example is a right value of a key, to show in errors.
func example(key string) string {
	switch key {
	case keyPodCIDR:
		return "10.200.0.0/24"
	case keyClusterCIDR:
		return defaultClusterCIDR
	case keyClusterDNS:
		return defaultClusterDNS
	case keyClusterDomain:
		return defaultClusterDomain
	case keyMTU:
		return "1460"
	case keyCA, keyCertificate:
		return "the text of a PEM file that begins with -----BEGIN CERTIFICATE-----"
	case keyKey:
		return "the text of a PEM file that begins with -----BEGIN PRIVATE KEY-----"
	}
	return "the text of a kubeconfig that begins with apiVersion: v1"
}
