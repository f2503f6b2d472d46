// Made by `go run ./manifests/modules/update`: see manifests/modules/README.md.

module bake.invalid/modules/coredns-1.8.3

go 1.13

require github.com/coredns/coredns v1.8.3
