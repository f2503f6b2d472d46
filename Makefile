# The two commands for a fresh machine are `make image` and `make test`.
# `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The toolchain is part of what the guest programs are, and so of every
# image's digest. Go fetches it as a module where the host has another.
TOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)
export GOTOOLCHAIN := $(TOOLCHAIN)
# Programs, go vet and tests are compiled with the same settings, and so only once.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0

OUT      ?= out
VERSIONS ?= manifests/versions.yaml
ARCHES   := amd64 arm64
GUESTS   := $(foreach a,$(ARCHES),$(foreach p,firstboot init pause,bake/embedded/bin/$(a)/$(p)))
SOURCES  := $(shell find bake cmd firstboot units images -name '*.go' -not -name '*_test.go') go.mod go.sum
DIGESTS  := bake/embedded/digests.txt
# What bake embeds beside Go code.
EMBEDDED := $(shell find images units bake/source/debian -type f -not -name '*.go' -not -path '*/testdata/*')

.PHONY: all
all: bin/bake bin/firstboot ## build bin/bake and bin/firstboot

bin/bake: $(SOURCES) $(EMBEDDED) $(DIGESTS)
	go build -o $@ ./cmd/bake

# A bake without the programs, of `go install`, builds them and knows by this
# file that they are the same.
$(DIGESTS): $(GUESTS)
	cd bake/embedded/bin && { sha256sum $(GUESTS:bake/embedded/bin/%=%) || shasum -a 256 $(GUESTS:bake/embedded/bin/%=%); } >../digests.tmp
	mv bake/embedded/digests.tmp $@

bin/firstboot: $(GUESTS)
	mkdir -p bin && cp bake/embedded/bin/$$(go env GOHOSTARCH)/firstboot $@

# Every program is made by Go, which is installed where it is missing or too old.
.PHONY: go
go:
	@scripts/install-tools go

bake/embedded/bin/%: $(SOURCES) | go
	GOOS=linux GOARCH=$(word 1,$(subst /, ,$*)) GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off \
	  go build -ldflags '-s -w -buildid=' -o $@ ./cmd/$(notdir $*)

.PHONY: image
image: bin/bake ## bake the worker image of $(VERSIONS) into $(OUT)/
	scripts/image $(VERSIONS) $(OUT)

.PHONY: cluster
cluster: ## make the image and run a cluster of it here (docs/cluster.md); FLAGS="--workers 1" and the like
	scripts/install-tools qemu
	$(MAKE) --no-print-directory image
	bin/bake cluster $(OUT)/*-amd64.tar.gz $(FLAGS)

.PHONY: test
test: bin/bake bin/firstboot ## unit tests, outside checkers and the short VM tests
	scripts/test short

.PHONY: test-qemu
test-qemu: bin/bake bin/firstboot ## every VM test, or those of SUITE="boot faults ..." (test/suites)
	scripts/test-qemu $(SUITE)

.PHONY: bench
bench: bin/bake ## the figures of docs/performance.md, measured here
	test/bench/run.sh

.PHONY: lint
lint: $(DIGESTS) ## gofmt, go vet, go fix, staticcheck, shellcheck, govulncheck
	scripts/lint

.PHONY: cross
cross: $(DIGESTS) ## build bake, unoptimized, for the other systems it is used on (make test type-checks it for them)
	for target in darwin/arm64 windows/amd64 linux/arm64; do \
	  GOOS=$${target%/*} GOARCH=$${target#*/} go build -gcflags='all=-N -l' -o /dev/null ./cmd/bake; \
	  echo "built bake for $$target"; \
	done

.PHONY: release
release: $(DIGESTS) ## what is published, in out/release: bake for all systems, digests, SBOMs; signed with KEY=FILE
	scripts/release

.PHONY: clean
clean: ## remove what was built here (the cache stays: `bin/bake cache prune`)
	rm -rf bin out $(addprefix bake/embedded/bin/,$(ARCHES))

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
