package source

// Origins force where single parts come from, by their names, whatever
// Config.Origin says of all: an image is rebuilt from what it was made from.
type Origins struct {
	Components map[string]Origin
	Images     map[string]Origin
}

// component returns what is forced for a component; "": nothing.
func (o Origins) component(name string, all Origin) Origin { return pick(o.Components, name, all) }

// image returns what is forced for a container image; "": nothing.
func (o Origins) image(name string, all Origin) Origin { return pick(o.Images, name, all) }

func pick(of map[string]Origin, name string, all Origin) Origin {
	if origin, ok := of[name]; ok {
		return origin
	}
	return all
}
