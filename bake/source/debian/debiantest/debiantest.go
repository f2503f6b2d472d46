// Package debiantest publishes archives as Debian does, for tests: indices of
// packages, and Release files with signatures.
package debiantest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/nodebake/bake/test/archivetest"
	"github.com/nodebake/bake/test/must"
)

// Publisher signs archives.
type Publisher struct {
	Keyring []byte // its public key, armored
	key     *openpgp.Entity
}

// NewPublisher makes a key that is valid from a time on.
func NewPublisher(t testing.TB, from time.Time) *Publisher {
	t.Helper()
	key, err := openpgp.NewEntity("archive", "", "archive@debian.example", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return from },
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := must.Get(armor.Encode(&b, openpgp.PublicKeyType, nil))
	must.Do(key.Serialize(w))
	must.Do(w.Close())
	return &Publisher{b.Bytes(), key}
}

// Suite is one suite to publish.
type Suite struct {
	Archive, Name string            // "debian-security", "trixie-security"
	Label         string            // "": Debian's own for the archive
	Codename      string            // "": Name
	Date          time.Time         // valid for a week
	Forever       bool              // valid for ever
	ByHash        bool              // indices are also served by their digests
	Packages      map[string][]byte // stanzas, by architecture
}

// Publish serves the files of a suite, below an archive's URL.
func (p *Publisher) Publish(s Suite, serve func(path string, content []byte)) {
	dist := "/" + s.Archive + "/dists/" + s.Name
	arches := slices.Sorted(maps.Keys(s.Packages))
	var digests strings.Builder
	for _, arch := range arches {
		index, name := s.Packages[arch], "main/binary-"+arch+"/Packages"
		packed := archivetest.Gzip(index)
		fmt.Fprintf(&digests, " %x %d %s\n %x %d %s.gz\n", sha256.Sum256(index), len(index), name, sha256.Sum256(packed), len(packed), name)
		serve(path.Join(dist, name+".gz"), packed)
		if s.ByHash {
			serve(path.Join(dist, path.Dir(name), "by-hash", "SHA256", fmt.Sprintf("%x", sha256.Sum256(packed))), packed)
		}
	}
	serve(dist+"/InRelease", p.sign(s.release(arches)+"SHA256:\n"+digests.String(), s.Date))
}

// release is the Release file of a suite, up to the digests.
func (s *Suite) release(arches []string) string {
	label, codename := s.Label, s.Codename
	if label == "" {
		label = map[string]string{"debian": "Debian", "debian-security": "Debian-Security"}[s.Archive]
	}
	if codename == "" {
		codename = s.Name
	}
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	more := ""
	if !s.Forever {
		more += "Valid-Until: " + s.Date.AddDate(0, 0, 7).Format(layout) + "\n"
	}
	if s.ByHash {
		more += "Acquire-By-Hash: yes\n"
	}
	return fmt.Sprintf("Origin: Debian\nLabel: %s\nSuite: stable\nCodename: %s\nDate: %s\n%sArchitectures: all %s\nComponents: main\n",
		label, codename, s.Date.Format(layout), more, strings.Join(arches, " "))
}

func (p *Publisher) sign(text string, at time.Time) []byte {
	var signed bytes.Buffer
	w := must.Get(clearsign.Encode(&signed, p.key.PrivateKey, &packet.Config{Time: func() time.Time { return at }}))
	must.Get(io.WriteString(w, text))
	must.Do(w.Close())
	return signed.Bytes()
}
