package gobuild

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// What may a build do whose versions file, go.mod and go.sum somebody else wrote?
// The go command names no program of theirs, but it is large, and so are
// compilers. So it fetches from module proxies alone, with no version control
// system, and what compiles has no network to tell anything to. The build cache
// stays the user's: an entry is found by all that it was made from, and a program
// that could write others could write the rest of his files as well.

// confine takes out of settings what leads to hosts that modules name.
func (b *Builder) confine(settings map[string]string) error {
	proxies := withoutDirect(settings["GOPROXY"])
	if proxies == "" && b.Proxy == nil && !b.Offline {
		return fmt.Errorf("GOPROXY=%s names no module proxy, and modules of an image's inputs are fetched from nowhere else (set it to one, or give a mirror)", settings["GOPROXY"])
	}
	settings["GOPROXY"] = proxies
	settings["GOVCS"] = "*:off"
	for _, name := range []string{"GOPRIVATE", "GONOPROXY", "GOINSECURE"} {
		delete(settings, name)
	}
	return nil
}

// withoutDirect returns a GOPROXY (go.dev/ref/mod#environment-variables) without
// the element that stands for the hosts that module paths name.
func withoutDirect(goproxy string) string {
	var out strings.Builder
	for rest, more := goproxy, true; more; {
		element := rest
		i := strings.IndexAny(rest, ",|")
		if more = i >= 0; more {
			element, rest = rest[:i+1], rest[i+1:]
		}
		if strings.Trim(element, " ,|") != "direct" {
			out.WriteString(element)
		}
	}
	return strings.Trim(out.String(), " ,|")
}

// separation is a way to run a program apart from the rest of the host. nil is
// none; so is one whose apply changes nothing, but for an empty home.
type separation struct{ change func(cmd *exec.Cmd) }

func (s *separation) apply(cmd *exec.Cmd) {
	if s != nil && s.change != nil {
		s.change(cmd)
	}
}

// separate returns how compilers are run. What the host lets us do is tried
// once, with the go command.
func (b *Builder) separate(ctx context.Context, g *gocmd) (*separation, error) {
	if !b.Confined || b.separation != nil {
		return b.separation, nil
	}
	why := fmt.Errorf("this system has no namespaces")
	for _, change := range separations() {
		s := &separation{change}
		if why = g.compile(ctx, s, nil, "version"); why == nil {
			b.separation = s
			return s, nil
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	b.Progress.Note("compilers can reach the network here, although an image's inputs are built: %v", why)
	b.separation = new(separation)
	return b.separation, nil
}
