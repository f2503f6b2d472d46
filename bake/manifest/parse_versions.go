package manifest

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// ParseVersions parses a versions file and checks all that can be checked
// without fetching anything. file is its name, for errors and for finding the
// lock and the modules beside it. The error joins an *InputError for each
// mistake.
//
// Templates come back with the placeholders of the component's version
// filled in: only Release.URL may still hold {arch}.
func ParseVersions(file string, data []byte) (*Versions, error) {
	doc, top := parseYAML(file, data)
	v := &Versions{File: file, Sum: SHA256(sha256.Sum256(data))}
	name := top.optional("name")
	definition := top.optional("definition")
	v.Definition, v.DefinitionPos = definition.checked(checkDefinitionDir), definition.pos()
	v.OS = readOS(top.required("os"))
	node := top.optional("node")
	v.Node = readNode(node)
	components := top.required("components")
	v.ComponentsPos = components.pos()
	for _, entry := range components.mapping().entries() {
		v.Components = append(v.Components, readComponent(entry))
	}
	v.Images = readImages(top.optional("images"))
	// Another runtime type than the kernel's cgroups are for, or another driver
	// than the other one's, shows when the first pod does not start: no default.
	if !node.present() && v.Component("kubelet") != nil && v.Component("containerd") != nil {
		doc.report(top.pos, "node", "missing (add it with runtime_type and cgroup_driver, which kubelet and containerd are configured by)")
	}
	v.Name = readName(name, v.Component("kubelet"))
	checkPaths(doc, v.Components)
	checkDigests(doc, v.Components)
	checkModuleDirs(doc, v)
	if err := doc.err(); err != nil {
		return nil, err
	}
	return v, nil
}

// Component returns the component of that name, or nil.
func (v *Versions) Component(name string) *Component {
	for i := range v.Components {
		if v.Components[i].Name == name {
			return &v.Components[i]
		}
	}
	return nil
}

// readName reads the template of the image's name. What it stands for has the same
// length whatever the architecture and the lock, so what Compute Engine would
// refuse shows here.
func readName(v value, kubelet *Component) string {
	values := NameValues{Arch: arch.Default, Lock: SHA256([sha256.Size]byte{}), Inputs: SHA256([sha256.Size]byte{})}
	if kubelet != nil {
		values.Version = cmp.Or(kubelet.Version, "v0.0.0") // one that is wrong is reported where it stands
	}
	return v.checked(func(s string) error {
		_, err := ImageName(s, values)
		return err
	})
}

// Require reports components that there must be, by name, and why: "firstboot.service
// needs it". The error joins an *InputError for each that is missing, at the place of
// the one that is likely meant to be it.
func (v *Versions) Require(why map[string]string) error {
	var others []string // which are not required, and so may be misspelt
	for _, c := range v.Components {
		if why[c.Name] == "" {
			others = append(others, c.Name)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(why)) {
		if v.Component(name) != nil {
			continue
		}
		e := &InputError{Pos: v.ComponentsPos, Key: "components." + name, Problem: fmt.Sprintf("missing (%s: add it)", why[name])}
		for _, other := range others {
			if nearest(other, []string{name}) != "" {
				e.Pos, e.Key = v.Component(other).Pos, "components."+other
				e.Problem = fmt.Sprintf("did you mean %q? (%s)", name, why[name])
			}
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

func readOS(v value) OS {
	m := v.mapping()
	return OS{
		Distribution:    m.required("distribution").oneOf("debian"),
		Suite:           m.required("suite").suite(),
		Packages:        m.optional("packages").packages(),
		KernelArguments: m.optional("kernel_arguments").kernelArguments(),
		APTSources:      readAPTSources(m.optional("apt_sources")),
		Pos:             v.pos(),
	}
}

// kernelArguments reads a list of arguments for the kernel. One with a space
// in it would need quotes, which the records of images don't know.
func (v value) kernelArguments() []string {
	var out []string
	for _, item := range v.list() {
		out = append(out, item.checked(func(s string) error {
			switch {
			case strings.ContainsAny(s, " \"\\"):
				return fmt.Errorf("%q is not one kernel argument (no space, quote or backslash; write each as an item of its own)", s)
			case strings.HasPrefix(s, "root="):
				return fmt.Errorf("%q: bake names the root partition itself (remove it)", s)
			}
			return nil
		}))
	}
	return out
}

func readNode(v value) *NodeSettings {
	if !v.present() {
		return nil
	}
	m := v.mapping()
	return &NodeSettings{
		RuntimeType: m.required("runtime_type").checked(func(s string) error {
			if !runtimeType.MatchString(s) {
				return fmt.Errorf("%q is not a runtime type (want a name as containerd writes it, such as io.containerd.runc.v2)", s)
			}
			return nil
		}),
		CgroupDriver: m.required("cgroup_driver").oneOf("systemd", "cgroupfs"),
		Pos:          v.pos(),
	}
}

// readAPTSources reads sources.list(5) in the deb822 style. What every stanza
// must have is checked here, because nobody would see what APT says of it on
// the node.
func readAPTSources(v value) string {
	s := v.anyText()
	for stanza := range strings.SplitSeq(s, "\n\n") {
		if strings.TrimSpace(stanza) == "" {
			continue
		}
		for _, field := range []string{"Types", "URIs", "Suites"} {
			if !strings.Contains("\n"+stanza, "\n"+field+":") {
				v.errorf("a stanza has no %s field (see sources.list(5), deb822 style)", field)
			}
		}
	}
	return s
}

func readComponent(v value) Component {
	c := Component{Name: v.name, Pos: v.pos()}
	if !componentName.MatchString(c.Name) {
		v.errorf("%q is not a component name (lower-case words of letters and digits, joined by hyphens)", c.Name)
	}
	m := v.mapping()
	c.Version = m.required("version").version()
	release, module, pkg := m.optional("release"), m.optional("module"), m.optional("package")
	if release.present() {
		c.Release = readRelease(release, &c)
	}
	if module.present() {
		c.Module = readModule(module, &c)
	}
	if pkg.present() {
		c.Package = readPackage(pkg)
	}
	c.Reports = readReports(m.optional("reports"), c.Version)
	switch {
	case pkg.present() && (release.present() || module.present()):
		m.errorf("package excludes release and module (remove the one or the others)")
	case !pkg.present() && !release.present() && !module.present():
		m.errorf("there is no way to come by it (add release, module or package)")
	}
	return c
}

func readReports(v value, version string) *Reports {
	if !v.present() {
		return nil
	}
	m := v.mapping()
	said := m.required("version")
	r := &Reports{Version: said.version(), Reason: m.required("reason").text(), Pos: v.pos()}
	if r.Version != "" && r.Version == version {
		said.errorf("%q is the component's version (remove reports)", r.Version)
	}
	return r
}

func readRelease(v value, c *Component) *Release {
	m := v.mapping()
	r := &Release{Component: c.Name, Pos: v.pos()}
	address := m.required("url")
	r.URL = address.url(c.Version)
	sums256, sums512 := m.optional(sha256Name), m.optional(sha512Name)
	r.Digests = map[Digest]Pos{}
	r.SHA256, r.SHA512 = sums256.sums(r.Digests), sums512.sums(r.Digests)
	if !sums256.present() && !sums512.present() {
		m.errorf("no digest (add sha256 or sha512 with one for each architecture)")
	}
	if len(r.Archs()) > 1 && r.URL != "" && !strings.Contains(r.URL, "{arch}") {
		address.errorf("digests for several architectures, and one address for all (write {arch} where it differs)")
	}
	r.Files = m.required("files").files()
	return r
}

func readPackage(v value) *Package {
	m := v.mapping()
	p := &Package{Name: m.required("name").packageName(), Suite: m.required("suite").suite(), Pos: v.pos(), Key: v.key}
	files := m.required("files")
	p.Files = files.files()
	for _, f := range p.Files {
		if f.Member == "" {
			v.report(f.Pos, files.key, "a file out of a package needs its member (add member: usr/bin/...)")
		}
	}
	return p
}

// url reads the address of a release and fills in the version.
func (v value) url(version string) string {
	s := v.text()
	if s == "" {
		return ""
	}
	values := versionValues(version)
	values["arch"] = "{arch}" // for Release.For to fill in
	address, err := expand(s, values)
	if err != nil {
		v.errorf("%v", err)
		return ""
	}
	// The braces of {arch} are no part of a URL yet.
	u, err := url.Parse(strings.ReplaceAll(address, "{arch}", string(arch.Default)))
	switch {
	case err != nil:
		v.errorf("not a URL: %v", err)
	case u.Scheme != "https" && u.Scheme != "http":
		v.errorf("%q does not begin with https:// or http://", s)
	case u.Host == "":
		v.errorf("%q names no host", s)
	case u.User != nil:
		v.errorf("a URL with a user name in it is not allowed (this file is public; remove it)")
	case u.Fragment != "":
		v.errorf("%q has a fragment, which is never sent (remove #%s)", s, u.Fragment)
	default:
		return address
	}
	return ""
}

// sums reads digests by architecture; the key says their algorithm. It adds to
// places where each stands.
func (v value) sums(places map[Digest]Pos) map[arch.Arch]Digest {
	out := map[arch.Arch]Digest{}
	owner := map[Digest]string{}
	entries := v.mapping().entries()
	if len(entries) == 0 {
		v.errorf("no digest (add one for each architecture, or remove the key)")
	}
	for _, entry := range entries {
		arch, ok := entry.archKey()
		digits := entry.text()
		if !ok || digits == "" {
			continue
		}
		sum, err := newDigest(v.name, digits)
		if err != nil {
			entry.errorf("%v", err)
			continue
		}
		if other, ok := owner[sum]; ok {
			entry.errorf("the same digest as for %s (was it pasted twice?)", other)
		}
		owner[sum] = entry.name
		out[arch] = sum
		places[sum] = entry.pos()
	}
	return out
}

// archKey takes the value's key for an architecture.
func (v value) archKey() (arch.Arch, bool) {
	for _, a := range arch.All() {
		if v.name == string(a) {
			return a, true
		}
		if slices.Contains(a.Facts().Aliases, v.name) {
			v.report(v.pos(), v.key, "unknown architecture (did you mean "+string(a)+"?)")
			return "", false
		}
	}
	v.report(v.pos(), v.key, "unknown architecture (known: "+arch.Names(", ")+")")
	return "", false
}

func (v value) version() string {
	s := v.text()
	if s != "" && !versionText.MatchString(s) {
		v.errorf("%q is not a version (it begins with a digit, or v and a digit, and has letters, digits and . + ~ _ - only)", s)
		return ""
	}
	return s
}

func (v value) suite() string { return v.checked(checkSuite) }

// packageName reads the name of one Debian package, which may hold {arch}.
func (v value) packageName() string {
	return v.checked(func(s string) error {
		name, err := expand(s, map[string]string{"arch": string(arch.Default)})
		if err != nil {
			return err
		}
		return checkPackageName(name)
	})
}

// checked reads a text that check finds nothing wrong with.
func (v value) checked(check func(string) error) string {
	s := v.text()
	if s == "" {
		return ""
	}
	if err := check(s); err != nil {
		v.errorf("%v", err)
		return ""
	}
	return s
}

// checkModuleDirs reports two modules, of components or images, that want
// different things from one directory, whose go.mod can pin only one of them.
func checkModuleDirs(d *document, v *Versions) {
	type user struct {
		key, name string
		*Module
	}
	var users []user
	for _, c := range v.Components {
		users = append(users, user{"components." + c.Name, c.Name, c.Module})
	}
	for _, c := range v.Images {
		users = append(users, user{"images." + c.Name, "image " + c.Name, c.Module})
	}
	first := map[string]user{} // by directory
	for _, a := range users {
		if a.Module == nil || a.Dir == "" {
			continue
		}
		b, ok := first[a.Dir]
		if !ok {
			first[a.Dir] = a
			continue
		}
		what, here, there := "", "", ""
		switch {
		case a.Path != b.Path:
			what, here, there = "path", a.Path, b.Path
		case a.Version != b.Version:
			what, here, there = "version", a.Version, b.Version
		case a.Toolchain != b.Toolchain:
			what, here, there = "toolchain", a.Toolchain, b.Toolchain
		default:
			continue
		}
		d.report(a.Pos, a.key+".module", fmt.Sprintf(
			"%s is %s here and %s for %s on line %d, which has the same dir %s (make them equal, or use two directories)",
			what, here, there, b.name, b.Pos.Line, a.Dir))
	}
}

var (
	componentName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	runtimeType   = regexp.MustCompile(`^[a-z][a-z0-9]*(\.[a-z0-9][a-z0-9-]*){2,}$`)
	versionText   = regexp.MustCompile(`^v?[0-9][A-Za-z0-9.+~_-]*$`)
)
