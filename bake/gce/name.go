package gce

import (
	"errors"
	"fmt"
	"strings"
)

// maxName is the length of a label, RFC 1035 section 2.3.4.
const maxName = 63

// IsName reports whether name can be a resource's: an instance's, an image's
// (Naming resources, cloud.google.com/compute/docs/naming-resources). That is a
// label of RFC 1035 section 2.3.1 in lower case.
func IsName(name string) bool { return checkName(name) == nil }

// CheckImageName returns what Compute Engine would refuse of an image's name.
func CheckImageName(name string) error {
	if reason := checkName(name); reason != nil {
		return fmt.Errorf("image name %q %w (want at most %d lower-case letters, digits and hyphens, a letter first and no hyphen last)", name, reason, maxName)
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxName:
		return fmt.Errorf("has %d characters", len(name))
	case name[0] < 'a' || name[0] > 'z':
		return fmt.Errorf("begins with %q", []rune(name)[0])
	case name[len(name)-1] == '-':
		return errors.New("ends with a hyphen")
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("has the character %q", c)
		}
	}
	return nil
}

// InstanceNames returns the names that Compute Engine's DNS gives an instance, as
// far as they follow from what is known: zonal and global.
func InstanceNames(name, zone, project string) []string {
	if project == "" {
		return nil
	}
	// Domain-scoped projects, example.com:id, are id.example.com in names.
	if domain, id, ok := strings.Cut(project, ":"); ok {
		project = id + "." + domain
	}
	names := []string{name + ".c." + project + ".internal"}
	if zone != "" {
		names = append([]string{name + "." + zone + ".c." + project + ".internal"}, names...)
	}
	return names
}
