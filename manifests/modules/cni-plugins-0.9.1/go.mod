// Made by `go run ./manifests/modules/update`: see manifests/modules/README.md.

module bake.invalid/modules/cni-plugins-0.9.1

go 1.14

require github.com/containernetworking/plugins v0.9.1
