package manifest

import (
	"fmt"
	"regexp"
	"strings"
)

// maxNameLength is that of a label, RFC 1035 section 2.3.4.
const maxNameLength = 63

// ImageName returns a name that Google Compute Engine takes for an image:
// ImageName("k8s-worker", "v1.36.3", AMD64) is "k8s-worker-v1-36-3-amd64".
// Such a name is a label of RFC 1035 section 2.3.1 in lower case. What may
// stand in a version and not in a label (. + ~ _) becomes a hyphen.
func ImageName(prefix, version string, arch Arch) (string, error) {
	hyphens := strings.NewReplacer(".", "-", "+", "-", "~", "-", "_", "-")
	name := hyphens.Replace(prefix + "-" + strings.ToLower(version) + "-" + string(arch))
	if len(name) > maxNameLength {
		return "", fmt.Errorf("image name %q has %d characters, more than %d (shorten the definition's name)", name, len(name), maxNameLength)
	}
	if !label.MatchString(name) {
		return "", fmt.Errorf("image name %q is not valid: want lower-case letters, digits and hyphens, beginning with a letter", name)
	}
	return name, nil
}

var label = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
