package inputs

import (
	"fmt"

	"github.com/nodebake/bake/bake/manifest"
)

// A node is made of components by name: firstboot reads their versions in the
// image's record and writes their configuration, and our units start their
// programs. A component of another name is in the image and in nobody's use, which
// shows when the first node boots.

// componentsOf are the components that a unit of ours needs, what it starts
// included.
func componentsOf(unit string) []string {
	switch unit {
	case "firstboot.service":
		return []string{"cni-plugins", "containerd", "kube-proxy", "kubelet", "runc"}
	case "containerd.service":
		return []string{"containerd", "runc"}
	case "kubelet.service":
		return []string{"kubelet"}
	case "kube-proxy.service":
		return []string{"kube-proxy"}
	}
	return nil
}

// required returns the components that an image of d must have, and why. A
// definition that enables none of our units may do without.
func required(d *manifest.Definition) map[string]string {
	why := map[string]string{}
	for _, u := range d.Units.Enable {
		for _, name := range componentsOf(u.Name) {
			if why[name] == "" {
				why[name] = fmt.Sprintf("%s, which the image definition enables, needs it", u.Name)
			}
		}
	}
	return why
}
