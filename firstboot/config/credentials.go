package config

import (
	"errors"
	"strings"

	"github.com/nodebake/bake/firstboot/pki"
)

// setCredentials finds out which of the three ways is meant, and takes what
// belongs to it. What lies in the files is checked by package pki.
func (n *Node) setCredentials(vs values) *ValueError {
	got := map[string]value{}
	for _, key := range []string{KeyCA, KeyProxyKubeconfig, KeyKubeletCertificate, KeyKubeletKey, KeyKubeletKubeconfig, KeyBootstrapKubeconfig} {
		v, err := vs.get(key)
		if err != nil {
			return err
		}
		if v.given() {
			got[key] = v
		}
	}

	var own, lacking []string
	for _, key := range []string{KeyKubeletCertificate, KeyKubeletKey, KeyKubeletKubeconfig} {
		if got[key].given() {
			own = append(own, key)
		} else {
			lacking = append(lacking, key)
		}
	}
	bootstrap := got[KeyBootstrapKubeconfig]
	switch {
	case bootstrap.given() && len(own) > 0:
		return bootstrap.errorf("", "%s given as well; a node has either credentials of its own or %s to ask for some: remove one of the two",
			areKeys(own), KeyBootstrapKubeconfig)
	case bootstrap.given():
		n.Credentials = TLSBootstrap
	case len(own) == 0:
		// One line has to name all of them: nothing says which way was meant.
		return vs.missing(KeyKubeletCertificate, "is missing, as are %s and %s; a node needs these three, or %s in their place%s",
			KeyKubeletKey, KeyKubeletKubeconfig, KeyBootstrapKubeconfig, vs.hint(append(lacking, KeyBootstrapKubeconfig)...))
	case len(lacking) > 0:
		return vs.missing(lacking[0], "is missing, while %s given; %s, %s and %s go together%s",
			areKeys(own), KeyKubeletCertificate, KeyKubeletKey, KeyKubeletKubeconfig, vs.hint(lacking...))
	case got[KeyKubeletKey].secret:
		n.Credentials = FromSecretManager
	default:
		n.Credentials = FromMetadata
	}
	for _, key := range []string{KeyCA, KeyProxyKubeconfig} {
		if !got[key].given() {
			return vs.missing(key, "is missing%s", vs.hint(key))
		}
	}

	n.files = pki.NodeFiles{
		Host:                n.Name,
		CA:                  []byte(got[KeyCA].text),
		Certificate:         []byte(got[KeyKubeletCertificate].text),
		Key:                 []byte(got[KeyKubeletKey].text),
		KubeletKubeconfig:   []byte(got[KeyKubeletKubeconfig].text),
		ProxyKubeconfig:     []byte(got[KeyProxyKubeconfig].text),
		BootstrapKubeconfig: []byte(bootstrap.text),
	}
	if n.IP.IsValid() {
		n.files.IPs = append(n.files.IPs, n.IP)
	}
	return nil
}

func areKeys(keys []string) string {
	if len(keys) == 1 {
		return keys[0] + " is"
	}
	return strings.Join(keys[:len(keys)-1], ", ") + " and " + keys[len(keys)-1] + " are"
}

// credentialError adds to what pki found where the value came from.
func (vs values) credentialError(err error) error {
	var wrong *pki.Error
	if !errors.As(err, &wrong) {
		return err
	}
	v, ferr := vs.get(wrong.Key)
	if ferr != nil {
		return ferr
	}
	problem := wrong.Problem
	if wrong.Remedy != "" {
		problem += "; " + wrong.Remedy
	}
	return &ValueError{Key: wrong.Key, Source: v.source, Problem: problem, Clock: wrong.Clock}
}
