package lint

import (
	"strings"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/tree"
)

func fileRules() []Rule {
	return []Rule{{
		ID:    "fstab",
		Must:  "fstab mounts no disk but the root, which it names /dev/root",
		Why:   "a disk that an instance does not have stops its boot " + fromConfig,
		needs: needsRoot,
		check: checkFstab,
	}, {
		ID:    "apt-caches",
		Must:  "there are no package lists, no downloaded packages and no apt caches",
		Why:   "they are stale when the image boots, and make it larger",
		needs: needsRoot,
		check: func(s *subject) []string {
			lists := s.named("var/lib/apt/lists", func(name string) bool { return name != "lock" })
			return append(lists, s.named("var/cache/apt", func(name string) bool { return name != "lock" })...)
		},
	}, {
		ID:    "world-writable",
		Must:  "nobody but its owner and group may write to a file, and to a directory only where it is sticky",
		Why:   "whoever gets into one account could change what another runs [Debian Policy, section 10.9]",
		needs: needsRoot,
		check: func(s *subject) []string {
			var p problems
			for i := range s.files.Nodes {
				n := &s.files.Nodes[i]
				switch {
				case n.Perm&0o002 == 0 || n.Type == tree.Dir && n.Perm&tree.Sticky != 0:
				case n.Type == tree.Dir || n.Type == tree.File || n.Type == tree.Block:
					p.add("/%s has mode %04o", strings.TrimPrefix(n.Path, "."), n.Perm)
				}
			}
			return p
		},
	}, {
		ID:    "owners",
		Must:  "every file's owner and group are in /etc/passwd and /etc/group",
		Why:   "the next account that is made gets the number, and the files with it",
		needs: needsRoot,
		check: checkOwners,
	}, {
		ID:    "os-release",
		Must:  "os-release has ID, IMAGE_ID and IMAGE_VERSION",
		Why:   "people and kernel-install learn from it which image this is [os-release(5)]",
		needs: needsRoot,
		check: checkRelease,
	}, {
		ID:    "record",
		Must:  "the image holds its record, and is as it says: packages, components' programs, firstboot, init, kernel arguments; its SBOM lists the same packages, components and container images",
		Why:   "what is wrong in it cannot be found again [docs/design.md]",
		needs: needsBoot,
		check: func(s *subject) []string {
			inside, err := s.EmbeddedRecord()
			if err != nil {
				return wrong(err)
			}
			found, err := s.Contradictions(inside)
			if err != nil {
				return wrong(err)
			}
			found = append(found, s.sbomProblems(inside)...)
			if err := gce.CheckImageName(inside.Name); err != nil {
				found = append(found, "the recorded "+err.Error())
			}
			return found
		},
	}}
}

// checkFstab allows what needs no disk beside the root: filesystems that the
// kernel makes up, and binds.
func checkFstab(s *subject) []string {
	var p problems
	mounts, err := s.files.fstab()
	p.err(err)
	for _, m := range mounts {
		switch {
		case m.kind == "swap": // no-swap says so
		case m.dir == "/" && (m.device == "/dev/root" || strings.EqualFold(m.device, "PARTUUID="+s.rootPartition().GUID.String())):
		case m.dir == "/":
			p.add("/etc/fstab names the root %s, by which systemd would wait for it", m.device)
		case strings.HasPrefix(m.device, "/dev/") || strings.Contains(m.device, "="):
			p.add("/etc/fstab mounts %s on %s", m.device, m.dir)
		}
	}
	return p
}

func checkOwners(s *subject) []string {
	users, err := s.files.ids("etc/passwd", 7)
	if err != nil {
		return wrong(err)
	}
	groups, err := s.files.ids("etc/group", 4)
	if err != nil {
		return wrong(err)
	}
	var p problems
	for i := range s.files.Nodes {
		n := &s.files.Nodes[i]
		if n.Type == tree.Hardlink {
			continue // its owner is the other name's
		}
		if !users[n.UID] {
			p.add("/%s belongs to user %d", n.Path, n.UID)
		}
		if !groups[n.GID] {
			p.add("/%s belongs to group %d", n.Path, n.GID)
		}
	}
	return p
}

func checkRelease(s *subject) []string {
	lines, err := s.files.Lines("etc/os-release")
	if err != nil {
		return wrong(err)
	}
	set := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		set[name] = strings.Trim(value, `"'`)
	}
	var p problems
	for _, name := range []string{"ID", "IMAGE_ID", "IMAGE_VERSION"} {
		if set[name] == "" {
			p.add("/etc/os-release does not have %s", name)
		}
	}
	return p
}
