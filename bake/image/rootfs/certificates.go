package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/tree"
)

const (
	certificateSource = "usr/share/ca-certificates"
	certificateDir    = "etc/ssl/certs"
	certificateBundle = certificateDir + "/ca-certificates.crt"
	certificateList   = "etc/ca-certificates.conf"
)

// addCertificates makes what update-ca-certificates(8) makes when everything
// that the package ships is trusted: one bundle, a link for each certificate,
// and a link named by the hash of its subject, by which OpenSSL finds it.
func (l *layout) addCertificates() error {
	var sources []tree.Entry
	key := sha256.New()
	for _, p := range l.Below(certificateSource) {
		if e, ok := l.File(p); ok && strings.HasSuffix(p, ".crt") {
			sources = append(sources, e)
			fmt.Fprintf(key, "%q %s\n", p, e.SHA256)
		}
	}
	if len(sources) == 0 {
		return nil
	}
	// Names as the list has them, in byte order; paths sort differently only
	// where directories do.
	slices.SortFunc(sources, func(a, b tree.Entry) int { return strings.Compare(a.Path, b.Path) })
	pack, err := l.Derive("trusted certificates 1 "+hex.EncodeToString(key.Sum(nil)), func(w *tree.PackWriter) error {
		return writeCertificates(w, sources)
	})
	if err != nil {
		return err
	}
	for _, e := range pack.Entries {
		e.Owner = "certificates"
		l.Put(e)
	}
	return nil
}

func writeCertificates(w *tree.PackWriter, sources []tree.Entry) error {
	var content merge.Reader
	var bundle, list bytes.Buffer
	list.WriteString("# The certificates below /usr/share/ca-certificates that are trusted, one a line.\n" +
		"# A line that begins with ! names one that is not. See update-ca-certificates(8).\n")
	names := map[string]string{} // PEM names by what they link to
	hashes := map[uint32]int{}   // how many certificates have it
	seen := map[[sha256.Size]byte]bool{}
	var links []tree.Entry
	for _, source := range sources {
		text, err := content.Read(source)
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s\n", strings.TrimPrefix(source.Path, certificateSource+"/"))
		bundle.Write(text)
		if !bytes.HasSuffix(text, []byte("\n")) {
			bundle.WriteByte('\n')
		}
		name := pemName(source.Path)
		if other, ok := names[name]; ok {
			return fmt.Errorf("/%s and /%s would both be %s", other, source.Path, name)
		}
		names[name] = source.Path
		links = append(links, tree.Entry{Path: path.Join(certificateDir, name), Type: tree.Symlink, Perm: 0o777, Link: "/" + source.Path})
	}
	// OpenSSL numbers certificates of one subject in the order of their names.
	for _, name := range sortedKeys(names) {
		i := slices.IndexFunc(sources, func(e tree.Entry) bool { return e.Path == names[name] })
		text, err := content.Read(sources[i])
		if err != nil {
			return err
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return fmt.Errorf("/%s is not a certificate in PEM", names[name])
		}
		if sum := sha256.Sum256(block.Bytes); seen[sum] {
			continue
		} else {
			seen[sum] = true
		}
		hash, err := subjectHash(block.Bytes)
		if err != nil {
			return fmt.Errorf("/%s: %w", names[name], err)
		}
		links = append(links, tree.Entry{
			Path: fmt.Sprintf("%s/%08x.%d", certificateDir, hash, hashes[hash]), Type: tree.Symlink, Perm: 0o777, Link: name,
		})
		hashes[hash]++
	}
	for _, link := range links {
		if err := w.Add(link, nil); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		path    string
		content []byte
	}{{certificateBundle, bundle.Bytes()}, {certificateList, list.Bytes()}} {
		e := tree.Entry{Path: f.path, Type: tree.File, Perm: 0o644, Size: int64(len(f.content))}
		if err := w.Add(e, bytes.NewReader(f.content)); err != nil {
			return err
		}
	}
	return nil
}

// pemName is the name that update-ca-certificates gives to the link to a certificate.
func pemName(source string) string {
	name := strings.TrimSuffix(path.Base(source), ".crt")
	return strings.NewReplacer(" ", "_", "(", "=", ")", "=", ",", "_").Replace(name) + ".pem"
}
