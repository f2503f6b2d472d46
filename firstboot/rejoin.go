package firstboot

import (
	"context"
	"errors"
	"fmt"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/pki"
)

// rejoin reads what kubelet made of an earlier bootstrap, and decides what
// becomes of it.
func rejoin(root string, node *config.Node) (config.Rejoin, error) {
	if node.Credentials != config.TLSBootstrap {
		return config.Rejoin{}, nil
	}
	paths := config.JoinedPaths()
	var kept [len(paths)]config.Kept
	for i, path := range paths {
		var err error
		if kept[i].Content, kept[i].Target, err = files.Read(root, path); err != nil {
			return config.Rejoin{}, err
		}
	}
	return node.Rejoin(config.Joined{Kubeconfig: kept[0].Content, CA: kept[1].Content, Client: kept[2], Serving: kept[3]})
}

// MayBootstrap asks the API server whether credentials may ask for certificates.
// Errors quote nothing of the token.
func MayBootstrap(ctx context.Context, access pki.Access) error {
	allowed, err := review(ctx, access, `{"group":"certificates.k8s.io","resource":"certificatesigningrequests","verb":"create"}`)
	switch {
	case errors.Is(err, errUnauthorized):
		return fmt.Errorf("the API server %s does not take the token (401)", access.Server)
	case err == nil && !allowed:
		return fmt.Errorf("the API server %s knows the token, which may not ask for certificates there", access.Server)
	}
	return err
}
