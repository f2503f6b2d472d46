package lint

import (
	"errors"
	"io"
	"path"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/program"
	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/tree"
)

func unitRules() []Rule {
	return []Rule{{
		ID:    "services",
		Must:  "containerd, kubelet and kube-proxy are installed and not enabled",
		Why:   "firstboot writes their configuration, then enables them; without it they would fail and fail again [docs/design.md]",
		needs: needsRoot,
		check: func(s *subject) []string {
			var p problems
			for _, name := range []string{"containerd", "kubelet", "kube-proxy"} {
				p = append(p, s.files.checkUnit(name+".service", false)...)
			}
			return p
		},
	}, {
		ID:    "programs",
		Must:  "runc, kubectl, the CNI plugins of the node's network, socat, conntrack and ipset are there",
		Why:   "a node without one of them joins the cluster and then fails to run pods or to forward ports [Kubernetes the Hard Way: Bootstrapping the Kubernetes Worker Nodes]",
		needs: needsRoot,
		check: func(s *subject) []string {
			var p problems
			for _, program := range []string{
				"/usr/local/bin/runc", "/usr/local/bin/kubectl",
				"/opt/cni/bin/bridge", "/opt/cni/bin/host-local", "/opt/cni/bin/loopback",
				"/usr/bin/socat", "/usr/sbin/conntrack", "/usr/sbin/ipset",
			} {
				if n, err := s.files.Resolve(program); err != nil || n.Type != tree.File || n.Perm&0o111 == 0 {
					p.add("there is no program %s", program)
				}
			}
			return p
		},
	}, {
		ID:    "component-programs",
		Must:  "every executable of a component is a program for the image's architecture or a script, and what loads or runs it is there",
		Why:   "a digest says which bytes a release has, and not that they are no error page and no other architecture's program [docs/versions.md]",
		needs: needsRoot,
		check: checkComponentPrograms,
	}, {
		ID:    "component-versions",
		Must:  "no program of a component says that it is of another version than the record, and the versions file, say",
		Why:   "a version that is changed without its digest has the old program under a new name [docs/versions.md]",
		needs: needsRoot,
		check: checkComponentVersions,
	}, {
		ID:    "preset",
		Must:  "the first line of all presets is: disable *",
		Why:   "a preset that is applied on a node must not start what the image left off; the first line that matches counts [systemd.preset(5)]",
		needs: needsRoot,
		check: checkPreset,
	}, {
		ID:    "firstboot",
		Must:  "/usr/lib/bake/firstboot is a program for the image's architecture, and its unit is enabled",
		Why:   "it makes the machine a node [docs/design.md]",
		needs: needsRoot,
		check: checkFirstboot,
	}, {
		ID:    "nothing-waits",
		Must:  "no unit that waits for the network or the metadata server is part of the boot",
		Why:   "a machine without a metadata server must still reach the state running, and be reachable [docs/design.md]",
		needs: needsRoot,
		check: func(s *subject) []string {
			var p problems
			for _, name := range []string{"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service", "google-startup-scripts.service"} {
				if links := s.files.pulledBy(name); len(links) > 0 {
					if file, _ := s.files.unitFile(name); file != "" {
						p.add("%s is enabled by /%s", name, strings.Join(links, ", /"))
					}
				}
			}
			return p
		},
	}, {
		ID:    "no-questions",
		Must:  "systemd-firstboot is masked or not there",
		Why:   "it asks on the console and holds the boot until somebody answers [systemd-firstboot(1)]",
		needs: needsRoot,
		check: func(s *subject) []string {
			if file, masked := s.files.unitFile("systemd-firstboot.service"); file != "" && !masked {
				return []string{"/" + file + " is not masked"}
			}
			return nil
		},
	}, {
		ID:    "journal-size",
		Must:  "the journal's size is limited: SystemMaxUse",
		Why:   "by default it takes up to a tenth of the disk, which pods need more [journald.conf(5)]",
		needs: needsRoot,
		check: func(s *subject) []string {
			var p problems
			limit := ""
			files := []string{"etc/systemd/journald.conf"}
			files = append(files, s.files.Fragments(".conf", "etc/systemd/journald.conf.d", "run/systemd/journald.conf.d", "usr/local/lib/systemd/journald.conf.d", "usr/lib/systemd/journald.conf.d")...)
			for _, file := range files {
				if !s.files.Exists(file) {
					continue
				}
				options, err := s.files.options(file)
				p.err(err)
				if v := last(options, "Journal", "SystemMaxUse"); v != "" {
					limit = v
				}
			}
			if limit == "" {
				p.add("no file in /etc/systemd/journald.conf.d has SystemMaxUse")
			}
			return p
		},
	}, {
		ID:    "no-swap",
		Must:  "there is no swap: no line of fstab, no unit, no swap file",
		Why:   "kubelet does not start on a machine with swap [Kubernetes: Swap memory management]",
		needs: needsRoot,
		check: checkSwap,
	}}
}

func checkComponentPrograms(s *subject) []string {
	return s.eachProgram(func(p *problems, c record.Component, path string, content io.ReaderAt) {
		info, err := program.Read(content, s.Arch)
		if err != nil {
			p.add("component %s: %s: %v", c.Name, path, err)
			return
		}
		if info.Interpreter == "" {
			return
		}
		if by, err := s.files.Resolve(info.Interpreter); err != nil || by.Type != tree.File || by.Perm&0o111 == 0 {
			p.add("component %s: %s needs %s, which is no program of the image", c.Name, path, info.Interpreter)
		}
	})
}

func checkComponentVersions(s *subject) []string {
	return s.eachProgram(func(p *problems, c record.Component, path string, content io.ReaderAt) {
		accepted := ""
		if c.Reports != nil {
			accepted = c.Reports.Version
		}
		if err := program.ReadSays(content).CheckVersion(c.Version, accepted); err != nil {
			p.add("component %s: %s: %v", c.Name, path, err)
		}
	})
}

// eachProgram has check look at every program of a component.
func (s *subject) eachProgram(check func(p *problems, c record.Component, path string, content io.ReaderAt)) []string {
	r, err := s.EmbeddedRecord()
	if err != nil {
		return nil // rule record says so
	}
	var p problems
	for _, c := range r.Components {
		for _, f := range c.Files {
			n, err := s.files.Resolve(f.Path)
			if err != nil || n.Type != tree.File || n.Perm&0o111 == 0 {
				continue
			}
			content, err := s.Root.Content(n)
			if err != nil {
				p.err(err)
				continue
			}
			check(&p, c, f.Path, content)
		}
	}
	return p
}

func checkPreset(s *subject) []string {
	for _, file := range s.files.Fragments(".preset", "etc/systemd/system-preset", "run/systemd/system-preset", "usr/local/lib/systemd/system-preset", "usr/lib/systemd/system-preset") {
		lines, err := s.files.Lines(file)
		if err != nil {
			return wrong(err)
		}
		if len(lines) == 0 {
			continue
		}
		if words := strings.Fields(lines[0]); len(words) == 2 && words[0] == "disable" && words[1] == "*" {
			return nil
		}
		return []string{"the first line is " + lines[0] + " in /" + file}
	}
	return []string{"there is no preset, and units without one are enabled"}
}

func checkFirstboot(s *subject) []string {
	p := problems(s.files.checkUnit("firstboot.service", true))
	n, err := s.files.Resolve(record.FirstbootPath)
	if err != nil {
		p.err(err)
		return p
	}
	content, err := s.Root.Content(n)
	if err == nil {
		err = checkProgram(content, s.Arch, false)
	}
	if err != nil {
		p.add("/%s: %v", record.FirstbootPath, err)
	}
	return p
}

func checkSwap(s *subject) []string {
	var p problems
	mounts, err := s.files.fstab()
	p.err(err)
	for _, m := range mounts {
		if m.kind == "swap" {
			p.add("/etc/fstab has the swap %s", m.device)
		}
	}
	for _, dir := range unitDirs() {
		for n := range s.files.Below(dir) {
			if path.Ext(n.Path) == ".swap" && n.Link != "/dev/null" {
				p.add("there is the unit /%s", n.Path)
			}
		}
	}
	for _, file := range []string{"swapfile", "swap.img", "var/swap", "var/swapfile"} {
		if n := s.files.Lookup(file); n != nil && n.Type == tree.File {
			p.add("there is /%s", file)
		}
	}
	for _, t := range s.Table.Partitions {
		if inspect.PartitionType(t.Type) == linuxSwap {
			p.add("partition %d is swap", t.Number)
		}
	}
	return p
}

// linuxSwap is the type of swap partitions (Discoverable Partitions
// Specification, UAPI.2).
const linuxSwap = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"

// checkProgram requires that r is a program of arch; static asks for one that needs no
// dynamic linker.
func checkProgram(r io.ReaderAt, arch arch.Arch, static bool) error {
	interpreter, err := program.ReadELF(r, arch)
	if err == nil && static && interpreter != "" {
		err = errors.New("it is linked dynamically, and nothing of what it needs is there")
	}
	return err
}
