// Package worker carries the image definition of Kubernetes worker nodes for
// versions files that name none, so that the bake program needs no files beside
// it.
package worker

import (
	"embed"
	"io/fs"
)

//go:embed image.yaml configure.yaml differences.yaml all:files
var files embed.FS

// FS returns the definition, as manifest.ParseDefinition reads it.
func FS() fs.FS { return files }
