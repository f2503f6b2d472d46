// Package cluster is package controlplane for tests: it brings the programs of a
// control plane to a test, and does with the pinned kubectl what tests ask of a
// cluster.
package cluster

import (
	"context"

	"github.com/nodebake/bake/bake/controlplane"
)

// Config and Node are those of package controlplane. The programs of a Config have
// kubectl here.
type (
	Config = controlplane.Config
	Node   = controlplane.Node
)

// Cluster is a running control plane.
type Cluster struct {
	*controlplane.ControlPlane
	config Config
}

// Start is [controlplane.Start].
func Start(ctx context.Context, config Config) (*Cluster, error) {
	c, err := controlplane.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	return &Cluster{c, config}, nil
}
