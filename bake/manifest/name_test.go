package manifest

import (
	"strings"
	"testing"
)

func TestImageName(t *testing.T) {
	for _, test := range []struct {
		prefix, version string
		arch            Arch
		want, err       string
	}{
		{"k8s-worker", "v1.36.3", AMD64, "k8s-worker-v1-36-3-amd64", ""},
		{"k8s-worker", "v1.21.0", ARM64, "k8s-worker-v1-21-0-arm64", ""},
		{"k8s", "v1.37.0-RC.1+up~1_2", AMD64, "k8s-v1-37-0-rc-1-up-1-2-amd64", ""},
		{strings.Repeat("a", 50), "v1.36.3", "x", strings.Repeat("a", 50) + "-v1-36-3-x", ""},
		{strings.Repeat("a", 49), "v1.36.3", AMD64, strings.Repeat("a", 49) + "-v1-36-3-amd64", ""},
		{strings.Repeat("a", 50), "v1.36.3", AMD64, "", `image name "` + strings.Repeat("a", 50) + `-v1-36-3-amd64" has 64 characters, more than 63 (shorten the definition's name)`},
		{"8ks", "v1", AMD64, "", `image name "8ks-v1-amd64" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
		{"", "v1", AMD64, "", `image name "-v1-amd64" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
		{"K8s", "v1", AMD64, "", `image name "K8s-v1-amd64" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
		{"k8s", "v1/2", AMD64, "", `image name "k8s-v1/2-amd64" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
		{"k8s", "v1\n", AMD64, "", `image name "k8s-v1\n-amd64" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
		{"k8s", "v1", "", "", `image name "k8s-v1-" is not valid: want lower-case letters, digits and hyphens, beginning with a letter`},
	} {
		got, err := ImageName(test.prefix, test.version, test.arch)
		if got != test.want || text(err) != test.err {
			t.Errorf("ImageName(%q, %q, %q) = %q, %v; want %q, %s", test.prefix, test.version, test.arch, got, err, test.want, test.err)
		}
	}
}
