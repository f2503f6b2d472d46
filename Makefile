# The two commands for a fresh machine are `make image` and `make test`.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The toolchain is part of what the guest programs are, and so of every
# image's digest. Go fetches it as a module where the host has another.
TOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)
export GOTOOLCHAIN := $(TOOLCHAIN)
export GOFLAGS := -trimpath -buildvcs=false

OUT      ?= out
VERSIONS ?= manifests/versions.yaml
ARCHES   := amd64 arm64
GUESTS   := $(foreach a,$(ARCHES),$(foreach p,firstboot init pause,bake/guest/bin/$(a)/$(p)))
SOURCES  := $(shell find bake cmd firstboot units images -name '*.go' -not -name '*_test.go') go.mod go.sum
# What bake embeds beside Go code.
EMBEDDED := $(shell find images units bake/source/debian -type f -not -name '*.go' -not -path '*/testdata/*')

.PHONY: all
all: bin/bake bin/firstboot ## build bin/bake and bin/firstboot

bin/bake: $(SOURCES) $(EMBEDDED) $(GUESTS)
	CGO_ENABLED=0 go build -o $@ ./cmd/bake

bin/firstboot: bake/guest/bin/$(shell go env GOHOSTARCH)/firstboot
	mkdir -p bin && cp $< $@

bake/guest/bin/%: $(SOURCES)
	CGO_ENABLED=0 GOOS=linux GOARCH=$(word 1,$(subst /, ,$*)) \
	  go build -ldflags '-s -w -buildid=' -o $@ ./cmd/$(notdir $*)

.PHONY: image
image: bin/bake ## bake the worker image of $(VERSIONS) into $(OUT)/
	scripts/image $(VERSIONS) $(OUT)

.PHONY: test
test: bin/bake bin/firstboot ## unit tests, outside checkers and the short VM tests
	scripts/test short

.PHONY: test-qemu
test-qemu: bin/bake bin/firstboot ## every VM test
	scripts/test qemu

.PHONY: bench
bench: bin/bake ## the figures of docs/performance.md, measured here
	test/bench/run.sh

.PHONY: lint
lint: $(GUESTS) ## gofmt and go vet
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...

.PHONY: cross
cross: $(GUESTS) ## show that bake builds for the other systems it is used on
	for target in darwin/arm64 windows/amd64 linux/arm64; do \
	  CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} go build -o /dev/null ./cmd/bake; \
	  echo "built bake for $$target"; \
	done

.PHONY: clean
clean: ## remove what was built here (the cache stays: `bin/bake cache prune`)
	rm -rf bin out $(addprefix bake/guest/bin/,$(ARCHES))

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
