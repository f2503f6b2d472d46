package debian

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// archiveKeys holds the public keys that Debian signs its Release files with;
// keys/README.md names them and says where they come from.
//
//go:embed keys/*.asc
var archiveKeys embed.FS

// keyring parses armored, or Debian's own keys where it is nil.
func keyring(armored []byte) (openpgp.EntityList, error) {
	if armored != nil {
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(armored))
		if err != nil {
			return nil, fmt.Errorf("reading the keyring that was given: %w", err)
		}
		return list, nil
	}
	names, err := fs.Glob(archiveKeys, "keys/*.asc")
	if err != nil {
		return nil, fmt.Errorf("BUG: listing the embedded keys: %w", err)
	}
	var all openpgp.EntityList
	for _, name := range names {
		data, err := archiveKeys.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("BUG: reading embedded %s: %w", name, err)
		}
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("BUG: parsing embedded %s: %w", name, err)
		}
		all = append(all, list...)
	}
	return all, nil
}
