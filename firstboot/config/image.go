package config

// Image is what is baked into the image, as far as configuration depends on it.
type Image struct {
	Components map[string]string // version by name: "kubelet" is "v1.36.3"
	Node       NodeDefaults
	Lock       string // digest of the lock that the image was made from: "sha256:..."
}

// NodeDefaults are settings that the image was made for.
type NodeDefaults struct {
	RuntimeType  string // containerd's: "io.containerd.runc.v2"
	CgroupDriver string // "systemd" or "cgroupfs"
}

// ParseImage reads /usr/lib/bake/image.json.
func ParseImage(data []byte) (Image, error) { return Image{}, errTodo }
