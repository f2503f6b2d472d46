package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Image is what is baked into the image, as far as configuration depends on it.
type Image struct {
	Components map[string]string // version by name: "kubelet" is "v1.36.3"
	Node       NodeDefaults
	Lock       string // digest of the lock that the image was made from: "sha256:..."
}

// NodeDefaults are settings that the image was made for.
type NodeDefaults struct {
	RuntimeType  string // containerd's; empty means "io.containerd.runc.v2"
	CgroupDriver string // "systemd" or "cgroupfs"; empty means "systemd"
	SandboxImage string // that is baked in for pods' sandboxes: "registry.k8s.io/pause:3.10.2"; empty means containerd's default
}

// linuxV1 is the runtime type of the guide's set. It is in containerd 1 only
// and knows cgroup v1 only.
const linuxV1 = "io.containerd.runtime.v1.linux"

// ParseImage reads the record inside an image, /usr/lib/bake/image.json. What
// it does not use of it, it ignores.
func ParseImage(data []byte) (Image, error) {
	var record struct {
		Components []struct{ Name, Version string }
		Inputs     struct{ Lock string }
		Node       NodeDefaults
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return Image{}, fmt.Errorf("parsing the image's record: %w", err)
	}
	img := Image{Components: map[string]string{}, Node: record.Node, Lock: record.Inputs.Lock}
	for _, c := range record.Components {
		if c.Name == "" {
			return Image{}, errors.New("parsing the image's record: a component has no name")
		}
		if _, twice := img.Components[c.Name]; twice {
			return Image{}, fmt.Errorf("parsing the image's record: component %s is there twice", c.Name)
		}
		img.Components[c.Name] = c.Version
	}
	if img.Node.RuntimeType == "" {
		img.Node.RuntimeType = "io.containerd.runc.v2"
	}
	if img.Node.CgroupDriver == "" {
		img.Node.CgroupDriver = "systemd"
	}
	if _, err := img.releases(); err != nil {
		return Image{}, fmt.Errorf("parsing the image's record: %w", err)
	}
	return img, nil
}

// release is a version as far as files depend on it.
type release struct{ major, minor int }

func (r release) before(major, minor int) bool {
	return r.major < major || r.major == major && r.minor < minor
}

// releases are those of the components that get files.
type releases struct{ kubelet, containerd, plugins release }

// releases checks the image, which need not come from ParseImage.
func (img Image) releases() (r releases, err error) {
	for _, c := range []struct {
		name string
		to   *release
	}{{"kubelet", &r.kubelet}, {"containerd", &r.containerd}, {"cni-plugins", &r.plugins}} {
		version, ok := img.Components[c.name]
		if !ok {
			return r, fmt.Errorf("it names no component %s", c.name)
		}
		if *c.to, err = parseRelease(version); err != nil {
			return r, fmt.Errorf("component %s: %w", c.name, err)
		}
	}
	switch {
	case r.containerd.before(1, 3) || !r.containerd.before(3, 0):
		return r, fmt.Errorf("component containerd: %s is not supported; versions 1.3 to 2 are", img.Components["containerd"])
	case r.kubelet.before(1, 21) || !r.kubelet.before(2, 0):
		return r, fmt.Errorf("component kubelet: %s is not supported; 1.21 and later are", img.Components["kubelet"])
	}
	switch typ := img.Node.RuntimeType; {
	case !isRuntimeType(typ):
		return r, fmt.Errorf("node.runtimeType: %q is no runtime type of containerd, such as io.containerd.runc.v2", typ)
	case typ == linuxV1 && !r.containerd.before(2, 0):
		return r, fmt.Errorf("node.runtimeType: containerd %s has no %s; io.containerd.runc.v2 is what it has", img.Components["containerd"], linuxV1)
	}
	if driver := img.Node.CgroupDriver; driver != "systemd" && driver != "cgroupfs" {
		return r, fmt.Errorf("node.cgroupDriver: %q is neither systemd nor cgroupfs", driver)
	}
	if ref := img.Node.SandboxImage; ref != "" && !isReference(ref) {
		return r, fmt.Errorf("node.sandboxImage: %q is no image's name, such as registry.k8s.io/pause:3.10.2", ref)
	}
	return r, nil
}

// isRuntimeType keeps out what would break the file that the type is written to.
func isRuntimeType(s string) bool {
	rest, ok := strings.CutPrefix(s, "io.containerd.")
	return ok && rest != "" && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// isReference keeps out what would break containerd's configuration or the
// kubelet's command line. Whether there is such an image, containerd knows.
func isReference(s string) bool {
	const host, tag = 255, 128 // most bytes of host with repository, and of tag
	name, last, ok := strings.Cut(s, "/")
	return ok && len(s) <= host+1+tag && strings.Trim(name, ".:-") != "" && strings.Contains(last, ":") &&
		name[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-") == ""
}

// parseRelease reads "v1.36.3", "2.3.4", and as Debian writes versions
// "1:1.4.13~ds1-1~deb11u4".
func parseRelease(version string) (release, error) {
	s := version
	if epoch, rest, ok := strings.Cut(s, ":"); ok && len(epoch) == 1 && isDigits(epoch) {
		s = rest
	}
	major, rest, ok := strings.Cut(strings.TrimPrefix(s, "v"), ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	if !ok || !isDigits(major) || !isDigits(minor) || len(major) > 4 || len(minor) > 4 {
		return release{}, fmt.Errorf("%q is no version such as v1.36.3", version)
	}
	var r release
	var err1, err2 error
	r.major, err1 = strconv.Atoi(major)
	r.minor, err2 = strconv.Atoi(minor)
	return r, errors.Join(err1, err2)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
