package kubeconfig_test

import (
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/test/filetest"
	"github.com/nodebake/bake/test/must"
)

const server = "https://203.0.113.10:6443"

// world is a cluster's CA, and its administrator.
type world struct {
	t   testing.TB
	now time.Time
	ca  *node.CA
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Now()}
	w.ca = w.newCA("kubernetes")
	return w
}

func (w *world) newCA(name string) *node.CA {
	w.t.Helper()
	ca := must.Get(node.NewCA(node.CAConfig{CommonName: name, Now: w.now}))
	return ca
}

// admin is what the commands make by default, by a CA.
func (w *world) admin(ca *node.CA) node.Kubeconfig {
	w.t.Helper()
	cert, key, err := kubeconfig.Issue(ca, node.ECDSA, 0, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return node.Kubeconfig{Server: server, CA: ca.CertificatePEM(), Name: kubeconfig.DefaultName, User: kubeconfig.DefaultUser, Certificate: cert, Key: key}
}

func (w *world) issue(ca *node.CA, c node.IssueConfig) (cert, key []byte) {
	w.t.Helper()
	if c.Now.IsZero() {
		c.Now = w.now
	}
	cert, key, err := ca.Issue(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert, key
}

// fill puts what is in a kubeconfig into a text: SERVER, CA, CERT and KEY.
func fill(text string, k node.Kubeconfig) string {
	encode := base64.StdEncoding.EncodeToString
	return strings.NewReplacer("SERVER", k.Server, "CA", encode(k.CA), "CERT", encode(k.Certificate), "KEY", encode(k.Key)).Replace(text)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	filetest.Mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data := filetest.Read(t, path)
	return string(data)
}

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}
