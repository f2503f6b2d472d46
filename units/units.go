// Package units carries the systemd units of a worker, so that the bake
// program needs no files beside it.
//
// containerd, kubelet and kube-proxy follow the units of "Kubernetes the Hard
// Way"; comments in them say where they differ and why. They are installed to
// /etc/systemd/system, as the guide does, and firstboot enables them.
package units

import (
	"embed"
	"io/fs"
)

//go:embed *.service
var files embed.FS

// FS returns the units, each at its name.
func FS() fs.FS { return files }
