// Package embedded carries the programs of bake's own that go into images:
// firstboot, which configures a worker, and init, the initramfs's PID 1, into
// every one; pause, a pod sandbox's PID 1, into one whose sandbox image is
// assembled because its registry can't be reached.
//
// The programs are built by `make` into bin/ARCH/ before bake itself is, and
// embedded. A bake built without them composes no image and says so.
package embedded

import (
	"embed"
	"fmt"

	"github.com/nodebake/bake/bake/arch"
)

//go:embed all:bin
var bin embed.FS

// Program returns an embedded program ("firstboot", "init" or "pause") for arch.
func Program(name string, arch arch.Arch) ([]byte, error) {
	data, err := bin.ReadFile(fmt.Sprintf("bin/%s/%s", arch, name))
	if err != nil {
		return nil, fmt.Errorf("this bake was built without the embedded program %s for %s: build it with `make`", name, arch)
	}
	return data, nil
}
