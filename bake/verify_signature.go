package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/sign"
)

// Signature says whether an image is the one that was signed.
type Signature struct {
	Bundle string   `json:"bundle"`          // path
	Valid  bool     `json:"valid"`           //
	Error  string   `json:"error,omitempty"` // why it is not
	Files  []string `json:"files,omitempty"` // names of those that are as they were signed
}

// VerifySignature holds the file at image, and what `bake image` writes beside
// it as far as that is there, against a signature by the owner of publicKey
// (PEM). bundle is the signature's file; "": NAME.sigstore.json beside the image.
// That the signature is wrong or missing is no error. Files must have the names
// under which they were signed.
func VerifySignature(ctx context.Context, image, bundle string, publicKey []byte) (*Signature, error) {
	name, ok := strings.CutSuffix(image, "."+string(TarGz))
	if !ok {
		name = strings.TrimSuffix(image, "."+string(Raw))
	}
	if bundle == "" {
		bundle = name + ".sigstore.json"
	}
	s := &Signature{Bundle: bundle}
	text, err := os.ReadFile(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		s.Error = "there is no signature " + bundle + " (--bundle names another file)"
		return s, nil
	}
	if err != nil {
		return nil, &InputError{fmt.Errorf("reading the signature: %w", err)}
	}
	sums := map[string]manifest.Sum{}
	for _, path := range []string{image, name + ".json", name + ".spdx.json"} {
		sum, err := sumPath(ctx, path)
		if errors.Is(err, fs.ErrNotExist) && path != image {
			continue
		}
		if err != nil {
			return nil, &InputError{fmt.Errorf("reading what was signed: %w", err)}
		}
		sums[filepath.Base(path)] = sum
		s.Files = append(s.Files, filepath.Base(path))
	}
	if _, err := sign.Verify(text, publicKey, sums); err != nil {
		s.Error, s.Files = err.Error(), nil
		return s, nil
	}
	s.Valid = true
	return s, nil
}

// sumPath returns the digest of a file.
func sumPath(ctx context.Context, path string) (manifest.Sum, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() }) // ends a read that is under way
	defer stop()
	sum, err := sumOf(f)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return manifest.SHA256(sum), err
}
