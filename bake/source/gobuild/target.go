package gobuild

import "github.com/nodebake/bake/bake/manifest"

// Target is what one build makes: the programs of a component or container image.
type Target struct {
	Name    string // of the component or image: part of the build's identity
	Version string // of the same, for people: the module's may be another
	Module  *manifest.Module
	Image   bool // it is for an image, and not for a component, which may have its name

	Packages []manifest.LockedPackage // with cgo: what it is compiled and linked against
}

// ForComponent is the target of a component.
func ForComponent(c manifest.Component) Target {
	return Target{Name: c.Name, Version: c.Version, Module: c.Module}
}

// ForImage is the target of a container image.
func ForImage(i manifest.ContainerImage) Target {
	return Target{Name: i.Name, Version: i.Tag(), Module: i.Module, Image: true}
}

// Targets returns all of v that can be built: components, then images.
func Targets(v *manifest.Versions) []Target {
	var out []Target
	for _, c := range v.Components {
		if c.Module != nil {
			out = append(out, ForComponent(c))
		}
	}
	for _, i := range v.Images {
		if i.Module != nil {
			out = append(out, ForImage(i))
		}
	}
	return out
}

// pack is what the pack of t's programs is called.
func (t Target) pack() string {
	if t.Image {
		return "programs of image " + t.Name
	}
	return "component " + t.Name
}
