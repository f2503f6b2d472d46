package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nodebake/bake/firstboot/config"
)

// The names of a CA's files: the guide's, and kubeadm's in /etc/kubernetes/pki.
func caNames() [][2]string {
	return [][2]string{{"ca.pem", "ca-key.pem"}, {"ca.crt", "ca.key"}}
}

// ErrNoCA says that a directory holds no CA.
var ErrNoCA = errors.New("no CA")

// ReadCA loads the CA in dir: ca.pem and ca-key.pem, or ca.crt and ca.key.
func ReadCA(dir string) (*CA, error) {
	for _, names := range caNames() {
		certPath, keyPath := filepath.Join(dir, names[0]), filepath.Join(dir, names[1])
		certPEM, certErr := os.ReadFile(certPath)
		keyPEM, keyErr := os.ReadFile(keyPath)
		if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(certErr, keyErr); err != nil {
			return nil, fmt.Errorf("reading the CA: %w", err)
		}
		ca, err := LoadCA(certPEM, keyPEM)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", certPath, keyPath, err)
		}
		return ca, nil
	}
	return nil, fmt.Errorf("reading the CA: %w in %s: want ca.pem and ca-key.pem there, or ca.crt and ca.key", ErrNoCA, dir)
}

// ReadCACertificates reads what ReadCA has of a CA's certificates, in PEM; its key
// need not be there.
func ReadCACertificates(dir string) ([]byte, error) {
	for _, names := range caNames() {
		switch data, err := os.ReadFile(filepath.Join(dir, names[0])); {
		case err == nil:
			return data, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("reading the CA: %w", err)
		}
	}
	return nil, fmt.Errorf("reading the CA: %w in %s: want ca.pem there, or ca.crt", ErrNoCA, dir)
}

// File is a file to write.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
}

// CAFiles returns what ReadCA reads from dir.
func CAFiles(ca *CA, dir string) []File {
	names := caNames()[0]
	return []File{
		{filepath.Join(dir, names[0]), ca.CertificatePEM(), 0o644},
		{filepath.Join(dir, names[1]), ca.KeyPEM(), 0o600},
	}
}

const secretsDir = "secrets"

// MetadataFiles returns a file in dir for each metadata key, and one in
// dir/secrets for each secret, by the key that it is the value of.
func MetadataFiles(values, secrets map[string][]byte, dir string) []File {
	var files []File
	for _, key := range Keys(values) {
		files = append(files, File{filepath.Join(dir, key), values[key], 0o600})
	}
	for _, key := range Keys(secrets) {
		files = append(files, File{SecretFile(dir, key), secrets[key], 0o600})
	}
	return files
}

// SecretFile returns where the content of the secret for key is.
func SecretFile(dir, key string) string { return filepath.Join(dir, secretsDir, key) }

// Present returns the files in dir that MetadataFiles may name.
func Present(dir string) ([]string, error) {
	var found []string
	for _, key := range keys() {
		for _, path := range []string{filepath.Join(dir, key), filepath.Join(dir, key+config.SecretSuffix), SecretFile(dir, key)} {
			switch _, err := os.Lstat(path); {
			case err == nil:
				found = append(found, path)
			case !errors.Is(err, fs.ErrNotExist):
				return nil, err
			}
		}
	}
	return found, nil
}

// Write writes files and removes what of old is not among them: everything or,
// where it fails or ctx ends, nothing. It replaces only files that old names.
// Directories that are missing are made for their owner alone.
func Write(ctx context.Context, files []File, old []string) error {
	w := &writer{stages: map[string]string{}}
	err := w.write(ctx, files, old)
	if err != nil {
		w.undo()
	}
	w.clean(err != nil)
	if err != nil {
		return fmt.Errorf("writing the worker's files: %w", err)
	}
	return nil
}

type move struct{ from, to string }

type writer struct {
	made   []string          // directories, in the order of their making
	stages map[string]string // by directory: one in it that holds what comes and what goes
	moved  []move
}

func (w *writer) write(ctx context.Context, files []File, old []string) error {
	var moves []move
	for i, f := range files {
		stage, err := w.stage(filepath.Dir(f.Path))
		if err != nil {
			return err
		}
		if _, err := os.Lstat(f.Path); err == nil && !slices.Contains(old, f.Path) {
			return fmt.Errorf("%s exists", f.Path)
		}
		staged := filepath.Join(stage, fmt.Sprintf("new-%d", i))
		if err := writeSynced(staged, f); err != nil {
			return err
		}
		moves = append(moves, move{staged, f.Path})
	}
	var away []move
	for i, path := range old {
		stage, err := w.stage(filepath.Dir(path))
		if err != nil {
			return err
		}
		away = append(away, move{path, filepath.Join(stage, fmt.Sprintf("old-%d", i))})
	}
	// From here on it takes no time.
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, m := range append(away, moves...) {
		if err := os.Rename(m.from, m.to); err != nil {
			return err
		}
		w.moved = append(w.moved, m)
	}
	return nil
}

// stage returns a directory on dir's filesystem, which it makes once.
func (w *writer) stage(dir string) (string, error) {
	if stage, ok := w.stages[dir]; ok {
		return stage, nil
	}
	if err := w.makeDir(dir); err != nil {
		return "", err
	}
	stage, err := os.MkdirTemp(dir, ".bake-node-*")
	if err != nil {
		return "", err
	}
	w.stages[dir] = stage
	return stage, nil
}

func (w *writer) makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := w.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	switch {
	case err == nil:
		w.made = append(w.made, dir)
	case errors.Is(err, fs.ErrExist):
		return nil // or what it is instead of a directory shows at once
	}
	return err
}

func (w *writer) undo() {
	for _, m := range slices.Backward(w.moved) {
		os.Rename(m.to, m.from)
	}
}

// clean removes stages with what is in them, and after a failure directories
// that were made.
func (w *writer) clean(failed bool) {
	for _, stage := range w.stages {
		os.RemoveAll(stage)
	}
	if !failed {
		return
	}
	for _, dir := range slices.Backward(w.made) {
		os.Remove(dir)
	}
}

func writeSynced(path string, f File) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Content)
	_ = out.Chmod(f.Mode) // refused where there are no permissions (FAT, CIFS): the mount decides
	return errors.Join(err, out.Sync(), out.Close())
}

// List names files for a person.
func List(paths []string) string {
	if len(paths) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(paths[:3], ", "), len(paths)-3)
	}
	return strings.Join(paths, ", ")
}
