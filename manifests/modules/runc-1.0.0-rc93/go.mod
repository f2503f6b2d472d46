// Made by `go run ./manifests/modules/update`: see manifests/modules/README.md.

module bake.invalid/modules/runc-1.0.0-rc93

go 1.14

require github.com/opencontainers/runc v1.0.0-rc93
