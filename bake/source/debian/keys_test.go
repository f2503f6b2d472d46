package debian

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/test/filetest"
)

// fingerprint writes a fingerprint as gpg and the README do.
func fingerprint(b []byte) string {
	var groups []string
	for ; len(b) > 0; b = b[2:] {
		groups = append(groups, fmt.Sprintf("%02X%02X", b[0], b[1]))
	}
	return strings.Join(groups, " ")
}

// TestKeys compares the table of keys/README.md with the embedded keys.
func TestKeys(t *testing.T) {
	readme := filetest.Read(t, "keys/README.md")
	table := make(map[string]string)
	for line := range strings.Lines(string(readme)) {
		if strings.Contains(line, ".asc |") {
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " ")
			table[name] = strings.TrimSuffix(line, "\n")
		}
	}
	files, err := archiveKeys.ReadDir("keys")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]string)
	for _, f := range files {
		data, err := archiveKeys.ReadFile("keys/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || len(list[0].Subkeys) > 1 || list[0].PrivateKey != nil {
			t.Fatalf("%s holds %d keys; want one public key, with at most one subkey", f.Name(), len(list))
		}
		e := list[0]
		sub := ""
		for _, s := range e.Subkeys {
			sub = " " + fingerprint(s.PublicKey.Fingerprint)
		}
		self, _ := e.PrimarySelfSignature()
		end := e.PrimaryKey.CreationTime.Unix() + int64(*self.KeyLifetimeSecs)
		keys[f.Name()] = fmt.Sprintf("| %s | %s |%s | %s |", f.Name(), fingerprint(e.PrimaryKey.Fingerprint), sub, time.Unix(end, 0).UTC().Format(time.DateOnly))

		host := path.Join("/usr/share/keyrings", "debian-archive-"+strings.TrimSuffix(f.Name(), ".asc")+".gpg")
		if b, err := os.ReadFile(host); err == nil {
			compareKeys(t, host, b, e)
		}
	}
	if diff := cmp.Diff(table, keys); diff != "" {
		t.Errorf("keys (-README.md +files):\n%s", diff)
	}
	all, err := keyring(nil)
	if err != nil || len(all) != len(files) {
		t.Errorf("keyring(nil) = %d keys, %v; want %d", len(all), err, len(files))
	}
	if _, err := keyring([]byte("not a key")); err == nil {
		t.Error("keyring of something else: no error")
	}
}

// compareKeys looks for e in a keyring of the host's debian-archive-keyring.
func compareKeys(t *testing.T, name string, b []byte, e *openpgp.Entity) {
	t.Helper()
	list, err := openpgp.ReadKeyRing(bytes.NewReader(b))
	if err != nil {
		t.Errorf("reading %s: %v", name, err)
		return
	}
	for _, h := range list {
		if bytes.Equal(h.PrimaryKey.Fingerprint, e.PrimaryKey.Fingerprint) {
			return
		}
	}
	t.Errorf("%s does not hold key %s", name, fingerprint(e.PrimaryKey.Fingerprint))
}
