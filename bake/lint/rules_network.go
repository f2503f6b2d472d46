package lint

import (
	"path"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/nodebake/bake/bake/gce"
)

func networkRules() []Rule {
	return []Rule{{
		ID:    "time",
		Must:  "chrony is enabled and asks metadata.google.internal, and nothing else",
		Why:   "the host smears leap seconds; other servers do not, and mixing them makes the clock jump " + fromConfig,
		needs: needsRoot,
		check: checkTime,
	}, {
		ID:    "metadata-host",
		Must:  "metadata.google.internal resolves to 169.254.169.254 by /etc/hosts",
		Why:   "time and the guest agent need it before DNS is there [Compute Engine: About VM metadata]",
		needs: needsRoot,
		check: checkHosts,
	}, {
		ID:    "network-dhcp",
		Must:  "systemd-networkd is enabled and configures network cards by DHCP",
		Why:   "an instance learns its address and its routes in no other way " + fromConfig,
		needs: needsRoot,
		check: checkDHCP,
	}, {
		ID:    "network-mtu",
		Must:  "the MTU is taken from DHCP and set nowhere",
		Why:   "a network's MTU is 1460 unless it was made with another; larger packets are lost [Compute Engine: Maximum transmission unit]",
		needs: needsRoot,
		check: checkMTU,
	}, {
		ID:    "guest-agent",
		Must:  "Google's guest agent is enabled",
		Why:   "gcloud compute ssh works by the accounts and keys that it makes [Compute Engine: Guest environment]",
		needs: needsRoot,
		check: func(s *subject) []string { return s.files.checkUnit("google-guest-agent.service", true) },
	}, {
		ID:    "kubernetes-sysctl",
		Must:  "ip_forward and bridge-nf-call-iptables are 1, overlay and br_netfilter are loaded at boot",
		Why:   "pods are reached through the node, and their traffic passes kube-proxy's rules [Kubernetes: Container Runtimes, Network Plugin Requirements]",
		needs: needsRoot,
		check: checkSysctl,
	}}
}

// checkTime reads chrony.conf(5) and the directories that it names.
func checkTime(s *subject) []string {
	var p problems
	p = append(p, s.files.checkUnit("chrony.service", true)...)
	var sources []string
	read := func(file string) []string {
		lines, err := s.files.Lines(file)
		p.err(err)
		var dirs []string
		for _, line := range lines {
			if line[0] == '!' || line[0] == '%' { // further comments
				continue
			}
			words := strings.Fields(line)
			if len(words) < 2 {
				continue
			}
			switch words[0] {
			case "server", "pool", "peer":
				sources = append(sources, words[1])
			case "confdir", "sourcedir":
				dirs = append(dirs, words...)
			}
		}
		return dirs
	}
	for _, dir := range read("etc/chrony/chrony.conf") {
		for n := range s.files.In(strings.Trim(dir, "/")) {
			if ext := path.Ext(n.Path); ext == ".conf" || ext == ".sources" {
				read(n.Path)
			}
		}
	}
	if !slices.Contains(sources, gce.MetadataHost) {
		p.add("chrony does not ask %s", gce.MetadataHost)
	}
	for _, source := range sources {
		if source != gce.MetadataHost && source != gce.MetadataAddress {
			p.add("chrony asks %s", source)
		}
	}
	for _, other := range []string{"systemd-timesyncd.service", "ntp.service", "ntpsec.service", "openntpd.service"} {
		if links := s.files.pulledBy(other); len(links) > 0 {
			if file, _ := s.files.unitFile(other); file != "" {
				p.add("%s is enabled beside chrony", other)
			}
		}
	}
	return p
}

func checkHosts(s *subject) []string {
	var p problems
	lines, err := s.files.Lines("etc/hosts")
	p.err(err)
	found := false
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) > 1 && slices.Contains(words[1:], gce.MetadataHost) {
			if words[0] == gce.MetadataAddress {
				found = true
			} else {
				p.add("/etc/hosts gives %s the address %s", gce.MetadataHost, words[0])
			}
		}
	}
	if !found {
		p.add("/etc/hosts does not have %s %s", gce.MetadataAddress, gce.MetadataHost)
	}
	lines, err = s.files.Lines("etc/nsswitch.conf")
	p.err(err)
	for _, line := range lines {
		if database, services, _ := strings.Cut(line, ":"); database == "hosts" && !slices.Contains(strings.Fields(services), "files") {
			p.add("/etc/nsswitch.conf does not look hosts up in files")
		}
	}
	return p
}

// networkFor returns the file by which systemd-networkd configures an Ethernet
// card of a name: the first that matches, by name (systemd.network(5)).
func (f *files) networkFor(card string) (string, []*unit.UnitOption, error) {
	for _, file := range f.Fragments(".network", "etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network") {
		options, err := f.options(file)
		if err != nil {
			return "", nil, err
		}
		if matches(options, card) {
			return file, options, nil
		}
	}
	return "", nil, nil
}

// matches says whether a [Match] section takes an Ethernet card. What it asks
// beside name, type and kind, a card of an instance is taken not to have.
func matches(options []*unit.UnitOption, card string) bool {
	found := false
	for _, o := range options {
		if o.Section != "Match" {
			continue
		}
		found = true
		value := card
		switch o.Name {
		case "Name":
		case "Type":
			value = "ether"
		case "Kind":
			value = ""
		default:
			return false
		}
		if !globs(o.Value, value) {
			return false
		}
	}
	return found
}

// globs matches a list of patterns, all negated where the first begins with "!".
func globs(patterns, value string) bool {
	rest, negated := strings.CutPrefix(patterns, "!")
	for pattern := range strings.FieldsSeq(rest) {
		// A card without a kind has none that a pattern could match.
		if ok, _ := path.Match(pattern, value); ok && value != "" {
			return !negated
		}
	}
	return negated
}

// cards are names of network cards that instances have.
func cards() []string { return []string{"ens4", "enp0s4", "eth0"} }

func checkDHCP(s *subject) []string {
	p := problems(s.files.checkUnit("systemd-networkd.service", true))
	for _, card := range cards() {
		file, options, err := s.files.networkFor(card)
		switch dhcp := last(options, "Network", "DHCP"); {
		case err != nil:
			p.err(err)
			return p
		case file == "":
			p.add("no file in /etc/systemd/network is for the card %s", card)
		case dhcp != "yes" && dhcp != "ipv4" && dhcp != "true":
			p.add("/%s, which is for the card %s, has DHCP=%s", file, card, dhcp)
		}
	}
	return p
}

func checkMTU(s *subject) []string {
	var p problems
	for _, card := range cards() {
		file, options, err := s.files.networkFor(card)
		if err != nil || file == "" {
			continue // network-dhcp says so
		}
		use := last(options, "DHCPv4", "UseMTU")
		if use == "" {
			use = last(options, "DHCP", "UseMTU") // its name until systemd 243
		}
		if use != "yes" && use != "true" {
			p.add("/%s, which is for the card %s, does not have UseMTU=yes", file, card)
		}
		if mtu := last(options, "Link", "MTUBytes"); mtu != "" {
			p.add("/%s, which is for the card %s, has MTUBytes=%s", file, card, mtu)
		}
	}
	return p
}

func checkSysctl(s *subject) []string {
	var p problems
	set, err := s.files.sysctls()
	p.err(err)
	for _, name := range []string{"net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if got := set.value(name); got != "1" {
			p.add("sysctl %s is set to %q; want 1", name, got)
		}
	}
	loaded := map[string]bool{}
	for _, file := range s.files.Fragments(".conf", "etc/modules-load.d", "run/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d") {
		lines, err := s.files.Lines(file)
		p.err(err)
		for _, line := range lines {
			loaded[line] = true
		}
	}
	for _, name := range []string{"overlay", "br_netfilter"} {
		if !loaded[name] {
			p.add("no file in /etc/modules-load.d has %s", name)
		}
	}
	return p
}
