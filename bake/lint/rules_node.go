package lint

import (
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
)

func nodeRules() []Rule {
	return []Rule{{
		ID:    "node-settings",
		Must:  "the record of an image with kubelet and containerd has their runtime type and cgroup driver",
		Why:   "firstboot configures both by them, and guesses nothing [docs/versions.md]",
		needs: needsRoot,
		check: func(s *subject) []string {
			r, err := s.EmbeddedRecord()
			if err != nil || !hasComponent(r, "kubelet") || !hasComponent(r, "containerd") {
				return nil // that there is no record, its own rule says
			}
			var p problems
			if r.Node.RuntimeType == "" {
				p.add("/%s has no runtime type", record.Path)
			}
			if d := r.Node.CgroupDriver; d != "systemd" && d != "cgroupfs" {
				p.add("/%s has the cgroup driver %q; want systemd or cgroupfs", record.Path, d)
			}
			return p
		},
	}, {
		ID:    "node-runtime",
		Must:  "the shim of the recorded runtime type is there, and the kernel's arguments choose cgroups that it works on",
		Why:   "containerd starts the shim by the runtime type's name for every pod [containerd: runtime/v2/README.md, Binary Naming]",
		needs: needsBoot,
		check: checkRuntime,
	}}
}

func hasComponent(r *record.Record, name string) bool {
	return slices.ContainsFunc(r.Components, func(c record.Component) bool { return c.Name == name })
}

// cgroupV1 makes systemd set up cgroup v1 (systemd(1), KERNEL COMMAND LINE).
const cgroupV1 = "systemd.unified_cgroup_hierarchy=0"

func checkRuntime(s *subject) []string {
	r, err := s.EmbeddedRecord()
	if err != nil || r.Node.RuntimeType == "" {
		return nil // other rules say so
	}
	var p problems
	kind := r.Node.RuntimeType
	shim := shimOf(kind)
	if !slices.ContainsFunc([]string{"usr/local/bin/", "bin/", "usr/bin/"}, func(dir string) bool {
		n, err := s.files.Resolve(dir + shim)
		return err == nil && n.Type == tree.File && n.Perm&0o111 != 0
	}) {
		p.add("%s needs %s, which is not there", kind, shim)
	}
	if kind == "io.containerd.runtime.v1.linux" || kind == "io.containerd.runc.v1" {
		p = append(p, s.eachEntry(func(e *inspect.LoaderEntry, p *problems) {
			if !slices.Contains(e.Options, cgroupV1) {
				p.add("%s works on cgroup v1 only, and %s has not %s", kind, e.Path, cgroupV1)
			}
		})...)
	}
	return p
}

// shimOf names the program of a runtime type: the last two parts of its name,
// but for the first generation, which had one shim.
func shimOf(kind string) string {
	if kind == "io.containerd.runtime.v1.linux" {
		return "containerd-shim"
	}
	parts := strings.Split(kind, ".")
	return "containerd-shim-" + strings.Join(parts[max(0, len(parts)-2):], "-")
}
