package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/firstboot/pki"
)

// The metadata keys that a worker knows. docs/metadata.md describes them.
const (
	KeyPodCIDR             = "pod-cidr"
	KeyCA                  = "kubernetes-ca"
	KeyKubeletCertificate  = "kubelet-certificate"
	KeyKubeletKey          = "kubelet-key"
	KeyKubeletKubeconfig   = "kubelet-kubeconfig"
	KeyProxyKubeconfig     = "kube-proxy-kubeconfig"
	KeyBootstrapKubeconfig = "bootstrap-kubeconfig"
	KeyClusterCIDR         = "cluster-cidr"
	KeyClusterDNS          = "cluster-dns"
	KeyClusterDomain       = "cluster-domain"
	KeyMTU                 = "mtu"

	// SecretSuffix makes a key whose value names a Secret Manager version.
	SecretSuffix = "-secret"
)

// Keys returns every metadata key that a worker knows, sorted. Each can also be
// given with the suffix -secret.
func Keys() []string {
	return []string{
		KeyBootstrapKubeconfig,
		KeyClusterCIDR,
		KeyClusterDNS,
		KeyClusterDomain,
		KeyProxyKubeconfig,
		KeyKubeletCertificate,
		KeyKubeletKey,
		KeyKubeletKubeconfig,
		KeyCA,
		KeyMTU,
		KeyPodCIDR,
	}
}

// value is what a key has, and where it comes from.
type value struct {
	key    string
	text   string
	source string // "instance attribute"; empty where the key is not given
	secret bool   // text names a Secret Manager version

	project bool // it is given for the whole project
}

// quote shows what was given, unless it may be a credential that somebody put
// under the wrong key: what is neither an address nor a range is shown where it
// is a short word without digits, or may be a domain.
func (v value) quote() string {
	text := strings.TrimSpace(v.text)
	_, notRange := netip.ParsePrefix(text)
	_, notAddr := netip.ParseAddr(text)
	numbers := len(text) <= 64 && strings.Trim(text, "0123456789./, -") == "" || !strings.Contains(text, "%") && (notRange == nil || notAddr == nil)
	words := len(text) < 16 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz-.") == "" || v.key == KeyClusterDomain && len(text) <= 64 && !strings.ContainsAny(text, "\r\n") && !pki.MayBeSecret(text)
	if v.secret || !numbers && !words {
		return fmt.Sprintf("a value of %d characters", len(text))
	}
	return strconv.Quote(text)
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
		name, secret := level.attributes[key+SecretSuffix]
		project := level.source == "project attribute"
		v := value{key: key, text: text, source: level.source, project: project}
		switch {
		case plain && secret:
			return v, v.errorf("", "%s is given as well; remove one of the two", key+SecretSuffix)
		case secret:
			return value{key: key + SecretSuffix, text: strings.TrimSpace(name), source: level.source, secret: true, project: project}, nil
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
	if !strings.HasPrefix(name, "projects/") || len(name) > 800 {
		// It is not shown: people put the secret itself here.
		return fmt.Sprintf("a value of %d characters does not name a secret's version", len(name))
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
		v = value{key: key, text: content, source: "secret " + v.text, secret: true, project: v.project}
	}
	if strings.TrimSpace(v.text) == "" {
		return v, v.errorf(example(key), "is empty")
	}
	return v, nil
}

// missing is the error for a required key that is nowhere.
func (vs values) missing(key, format string, args ...any) *ValueError {
	return &ValueError{Key: key, Problem: fmt.Sprintf(format, args...), Example: example(key)}
}

// hint names attributes of the instance and the project that look as if they
// were meant to be one of keys, for an error that says that these are missing.
func (vs values) hint(keys ...string) string {
	var b strings.Builder
	for _, key := range keys {
		for _, name := range vs.strangers() {
			if alike(name, key) || beginning(name, key) {
				fmt.Fprintf(&b, "; there is %s: did you mean %s?", name, key)
			}
		}
	}
	return b.String()
}

// warnings is the same for keys that may be missing. Metadata are shared with
// other programs, so it is content with less.
func (vs values) warnings() []string {
	var found []string
	for _, key := range Keys() {
		if v, err := find(vs.metadata, key); err != nil || v.given() {
			continue
		}
		for _, name := range vs.strangers() {
			if alike(name, key) {
				found = append(found, fmt.Sprintf("metadata key %s means nothing here: did you mean %s?", name, key))
			}
		}
	}
	return found
}

// strangers are the attributes of the instance and the project that a worker
// does not know, sorted.
func (vs values) strangers() []string {
	known := map[string]bool{}
	for _, k := range Keys() {
		known[k], known[k+SecretSuffix] = true, true
	}
	var names []string
	for _, attributes := range []map[string]string{vs.metadata.Instance.Attributes, vs.metadata.Project.Attributes} {
		for name := range attributes {
			// Longer ones are not Compute Engine's.
			if !known[name] && len(name) < 128 {
				known[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// alike: podcidr, Pod_CIDR, pod-cird.
func alike(name, key string) bool {
	a, b := letters(name), letters(key)
	return a == b || distance(a, b) <= len(b)/6
}

// beginning: kubelet-cert, kubernetes-ca-certificate.
func beginning(name, key string) bool {
	a, b := letters(name), letters(key)
	return len(a) >= 6 && strings.HasPrefix(b, a) || len(b) >= 6 && strings.HasPrefix(a, b)
}

// letters leaves out what tells spellings of a key apart.
func letters(key string) string {
	key = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(key))
	return strings.TrimSuffix(key, "secret")
}

// distance is how many letters to insert, remove, replace or swap with the next
// one to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := last[j]
			if a[i] != b[j] {
				cost++
			}
			cost = min(cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, before[j-1]+1)
			}
			row[j+1] = cost
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// example is a right value of a key, to show in errors.
func example(key string) string {
	switch key {
	case KeyPodCIDR:
		return "10.200.0.0/24"
	case KeyClusterCIDR:
		return defaultClusterCIDR
	case KeyClusterDNS:
		return defaultClusterDNS
	case KeyClusterDomain:
		return defaultClusterDomain
	case KeyMTU:
		return "1460"
	case KeyCA, KeyKubeletCertificate:
		return "the text of a PEM file that begins with -----BEGIN CERTIFICATE-----"
	case KeyKubeletKey:
		return "the text of a PEM file that begins with -----BEGIN PRIVATE KEY-----"
	}
	return "the text of a kubeconfig that begins with apiVersion: v1"
}
