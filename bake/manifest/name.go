package manifest

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/gce"
)

// nameDigits is how much of a digest {lock} and {inputs} stand for.
const nameDigits = 8

// NameValues are what the placeholders of an image's name stand for.
type NameValues struct {
	Version string // of the kubelet: "v1.36.3"; "" where there is none
	Arch    arch.Arch
	Lock    Digest
	Inputs  Digest // of all that an image is made of, as far as it is known before: see bake.Config.Name
}

// DefaultName is the template of the names of images whose definition has the
// name definition, where nobody gives another.
func DefaultName(definition string) string { return definition + "-{version}-{arch}" }

// ImageName fills in the template of an image's name, and checks that Google
// Compute Engine takes the name. With v1.36.3 and amd64 "k8s-worker-{version}-{arch}"
// is "k8s-worker-v1-36-3-amd64": what may stand in a version and not in a name
// (. + ~ _) is a hyphen there. {semver}, {major}, {minor} and {patch} are what they
// are elsewhere, {lock} and {inputs} are the first 8 digits of those digests.
func ImageName(template string, v NameValues) (string, error) {
	hyphens := strings.NewReplacer(".", "-", "+", "-", "~", "-", "_", "-")
	digits := func(s Digest) string { return s.Hex()[:min(nameDigits, len(s.Hex()))] }
	values := map[string]string{"arch": string(v.Arch), "lock": digits(v.Lock), "inputs": digits(v.Inputs)}
	for name, value := range versionValues(cmp.Or(v.Version, "v0.0.0")) {
		values[name] = hyphens.Replace(strings.ToLower(value))
		if v.Version == "" && strings.Contains(template, "{"+name+"}") {
			return "", fmt.Errorf("image name %q: {%s} is of the kubelet's version, and there is no component kubelet", template, name)
		}
	}
	name, err := expand(template, values)
	if err != nil {
		return "", fmt.Errorf("image name: %w", err)
	}
	return name, gce.CheckImageName(name)
}
