package main

import (
	"slices"
	"testing"
)

func TestDockerConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		env   map[string]string // beside HOME
		files []string
		want  string
	}{
		{"docker's", nil, []string{"/home/u/.docker/config.json"}, "/home/u/.docker/config.json"},
		{"docker's, elsewhere", map[string]string{"DOCKER_CONFIG": "/d"}, []string{"/d/config.json"}, "/d/config.json"},
		{"docker's before podman's", map[string]string{"XDG_RUNTIME_DIR": "/run/u"}, []string{"/run/u/containers/auth.json", "/home/u/.docker/config.json"}, "/home/u/.docker/config.json"},
		{"podman's, given", map[string]string{"REGISTRY_AUTH_FILE": "/r/auth.json"}, []string{"/r/auth.json"}, "/r/auth.json"},
		{"podman's of this session", map[string]string{"XDG_RUNTIME_DIR": "/run/u"}, []string{"/run/u/containers/auth.json"}, "/run/u/containers/auth.json"},
		{"podman's that is kept", map[string]string{"XDG_RUNTIME_DIR": "/run/u"}, []string{"/home/u/.config/containers/auth.json"}, "/home/u/.config/containers/auth.json"},
		{"podman's, elsewhere", map[string]string{"XDG_CONFIG_HOME": "/c"}, []string{"/c/containers/auth.json"}, "/c/containers/auth.json"},
	} {
		getenv := func(name string) string {
			if name == "HOME" {
				return "/home/u"
			}
			return test.env[name]
		}
		if got := dockerConfig(getenv, func(path string) bool { return slices.Contains(test.files, path) }); got != test.want {
			t.Errorf("%s: dockerConfig() = %q; want %q", test.name, got, test.want)
		}
	}
}
