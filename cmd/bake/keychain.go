package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
)

// keychain is docker's and podman's logins. An error names the file that it is
// about.
type keychain struct{ getenv func(name string) string }

// Resolve implements authn.Keychain.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext implements authn.ContextKeychain.
func (k keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	auth, err := authn.DefaultKeychain.ResolveContext(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%w (mend %s, or install the credential helper that it names)", err, dockerConfig(k.getenv, isFile))
	}
	return auth, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// dockerConfig returns the file that authn.DefaultKeychain reads: docker's where
// there is one, else podman's.
func dockerConfig(getenv func(name string) string, isFile func(path string) bool) string {
	home := filepath.Join(getenv("HOME"), ".docker")
	dir := cmp.Or(getenv("DOCKER_CONFIG"), home)
	docker := filepath.Join(dir, "config.json")
	runtime := filepath.Join(getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	switch {
	case isFile(filepath.Join(home, "config.json")), isFile(docker):
		return docker
	case isFile(getenv("REGISTRY_AUTH_FILE")):
		return getenv("REGISTRY_AUTH_FILE")
	case getenv("XDG_RUNTIME_DIR") != "" && isFile(runtime):
		return runtime
	}
	return filepath.Join(cmp.Or(getenv("XDG_CONFIG_HOME"), filepath.Join(getenv("HOME"), ".config")), "containers", "auth.json")
}
