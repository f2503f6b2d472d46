// Package embedded has the programs of bake's own that go into images:
// firstboot, which configures a worker, and init, the initramfs's PID 1, into
// every one; pause, a pod sandbox's PID 1, into one whose sandbox image is
// assembled because its registry can't be reached.
//
// `make` builds them into bin/ARCH/ before bake itself is built, which embeds
// them, and writes their digests to digests.txt, which is committed. What `go
// install` makes of bake's module lacks the programs and has the digests: Open
// builds them then, from the module in the version that this bake is of, exactly
// as `make` does. Either way no program is handed out whose digest is another
// than the committed one, so a version of bake is one set of bytes.
package embedded

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

//go:generate make --no-print-directory -C ../.. bake/embedded/digests.txt

//go:embed all:bin
var bin embed.FS

// digests has a line "SHA256  ARCH/NAME" for each program.
//
//go:embed digests.txt
var digests string

// Programs are the programs that bake has. The zero value has those that are
// embedded.
type Programs struct {
	built fs.FS // ARCH/NAME; nil: nothing was built
}

// Program returns a program ("firstboot", "init" or "pause") for arch.
func (p Programs) Program(name string, a arch.Arch) ([]byte, error) {
	file := path.Join(string(a), name)
	files, at := fs.FS(bin), path.Join("bin", file)
	if p.built != nil {
		files, at = p.built, file
	}
	data, err := fs.ReadFile(files, at)
	if err != nil {
		return nil, fmt.Errorf("this bake was built without the embedded program %s for %s: build it with `make`", name, a)
	}
	if err := check(file, data); err != nil {
		return nil, err
	}
	return data, nil
}

// check requires that data has the digest of ARCH/NAME.
func check(file string, data []byte) error {
	want, err := digestOf(file)
	if err != nil {
		return err
	}
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != want {
		return fmt.Errorf("the embedded program %s has the digest sha256:%x, bake/embedded/digests.txt says %s: build bake with `make`, which writes that file", file, got, want)
	}
	return nil
}

// digestOf returns the SHA-256 of ARCH/NAME, in hexadecimal.
func digestOf(file string) (string, error) {
	for line := range strings.Lines(digests) {
		if digest, name, _ := strings.Cut(strings.TrimSpace(line), "  "); name == file {
			return digest, nil
		}
	}
	return "", fmt.Errorf("bake/embedded/digests.txt has no program %s: build bake with `make`, which writes that file", file)
}

// names are the programs.
func names() []string { return []string{"firstboot", "init", "pause"} }
