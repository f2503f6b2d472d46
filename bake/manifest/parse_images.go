package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// assembledHost is where images that bake assembles itself have their names:
// never an upstream's. RFC 2606 keeps .invalid from ever being a registry's.
const assembledHost = "bake.invalid"

// readImages reads the container images that are baked in.
func readImages(v value) []ContainerImage {
	var out []ContainerImage
	lines := map[string]int{} // of each reference
	sandbox := ""             // the image that is it
	for _, entry := range v.mapping().entries() {
		image, m := readImage(entry)
		if line, ok := lines[image.Reference]; ok && image.Reference != "" {
			m.errorf("%s is already the image on line %d (remove one; a reference names one image)", image.Reference, line)
		}
		lines[image.Reference] = image.Pos.Line
		if image.Sandbox {
			if sandbox != "" {
				m.errorf("%s is the sandbox already (remove sandbox here or there: containerd has one for all pods)", sandbox)
			}
			sandbox = image.Name
		}
		out = append(out, image)
	}
	return out
}

func readImage(v value) (ContainerImage, *mapping) {
	c := ContainerImage{Name: v.name, Pos: v.pos()}
	if !componentName.MatchString(c.Name) {
		v.errorf("%q is not the name of an image here (lower-case words of letters and digits, joined by hyphens)", c.Name)
	}
	m := v.mapping()
	c.Reference = m.required("reference").checked(checkReference)
	packages := m.optional("packages")
	digest := m.optional("digest")
	switch {
	case !packages.present():
		m.required("digest")
	case digest.present():
		m.errorf("packages excludes digest (remove one: an image of packages is made here, and not fetched)")
	}
	c.Digest, c.DigestPos = Digest(digest.checked(checkImageDigest)), digest.pos()
	c.Sandbox = m.optional("sandbox").boolean()
	mod, program := m.optional("module"), m.optional("program")
	if mod.present() {
		c.Module = readModule(mod, &Component{Name: c.Name, Version: c.Tag()})
		checkImageModule(mod, c.Module)
	}
	c.Program = program.oneOf("pause")
	if mod.present() && program.present() {
		m.errorf("program excludes module (remove one: an image is assembled from one of them)")
	}
	if packages.present() && program.present() {
		m.errorf("packages excludes program (remove one: an image is assembled from one of them)")
	}
	readPackagesImage(&c, m, packages)
	return c, m
}

// checkImageModule checks what is asked of a module for an image beyond what is
// asked for a component. Its programs are alone in a layer, without a C library;
// and the lock has no packages to compile them with.
func checkImageModule(v value, mod *Module) {
	if mod.CGO != nil {
		v.report(mod.CGO.Pos, v.key+".cgo", "programs of an image are static and without C (remove it)")
	}
	lines := map[string]int{}
	for _, p := range mod.Programs {
		if err := checkWhiteout(p.Path); err != nil {
			v.report(p.Pos, v.key+".programs", err.Error())
		}
		if line, ok := lines[p.Path]; ok && p.Path != "" {
			v.report(p.Pos, v.key+".programs", fmt.Sprintf("%s is already the program on line %d (give each a path of its own)", p.Path, line))
		}
		lines[p.Path] = p.Pos.Line
	}
}

// checkReference checks the name of an image as containerd stores it, from
// which pods' shorter forms are completed (nginx to docker.io/library/nginx:latest):
// HOST/REPOSITORY:TAG. What may stand in repository and tag says the OCI
// Distribution Specification 1.1, "Pulling manifests".
func checkReference(s string) error {
	if strings.Contains(s, "@") {
		return fmt.Errorf("%q has an @ (write HOST/REPOSITORY:TAG here; the digest has a key of its own)", s)
	}
	host, rest, ok := strings.Cut(s, "/")
	if !ok || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return fmt.Errorf("%q names no registry (write it as containerd does, with the host in front: docker.io/library/nginx:1.29.0)", s)
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return fmt.Errorf("%q has no tag (add it: %s:TAG)", s, s)
	}
	repository, tag := rest[:i], rest[i+1:]
	_, port, hasPort := strings.Cut(host, ":")
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case !imageHost.MatchString(host) || hasPort && (err != nil || number == 0):
		return fmt.Errorf("%q is not the host of a registry (want a lower-case name and perhaps a port, such as registry.example.com:5000)", host)
	case !imageRepository.MatchString(repository):
		return fmt.Errorf("%q is not a repository (lower-case letters and digits, joined by single . _ / or __ or hyphens)", repository)
	case !imageTag.MatchString(tag):
		return fmt.Errorf("%q is not a tag (at most 128 letters, digits and . _ - and the first is no . or -)", tag)
	case len(host)+1+len(repository) > maxRepository:
		return fmt.Errorf("host and repository have %d characters, more than the %d that registries and containerd take", len(host)+1+len(repository), maxRepository)
	case host == "index.docker.io":
		return fmt.Errorf("containerd calls Docker Hub docker.io (write docker.io/%s)", rest)
	case host == "docker.io" && !strings.Contains(repository, "/"):
		return fmt.Errorf("containerd looks for Docker's own images below library (write docker.io/library/%s)", rest)
	case host == assembledHost:
		return fmt.Errorf("%s is where images are that bake assembles in place of a registry's (write the name that the image has at its registry, or for one of packages another host, such as bake.local)", assembledHost)
	}
	return nil
}

// checkImageDigest checks the digest of what a registry has. OCI knows sha512
// too, but what registries and containerd name content by is sha256.
func checkImageDigest(s string) error {
	sum, err := ParseDigest(s)
	if err != nil {
		return err
	}
	if sum.Algorithm() != sha256Name {
		return fmt.Errorf("%q is not the digest of an image at a registry (want sha256: and 64 hexadecimal digits)", s)
	}
	return nil
}

// maxRepository bounds host and repository together, in bytes, as the
// specification says that clients do.
const maxRepository = 255

var (
	imageHost       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?$`)
	imageRepository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	imageTag        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)
