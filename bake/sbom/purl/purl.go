// Package purl names the parts of an image by package URLs, so that those who
// look for advisories find them.
//
// Source: github.com/package-url/purl-spec, PURL-TYPES (deb, generic, golang,
// oci).
package purl

import (
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/sbom"
)

// Debian names a Debian package.
func Debian(name, version, arch, suite string) string {
	return format(packageurl.TypeDebian, "debian", name, version, map[string]string{
		"arch": arch, "distro": distro(sbom.Codename(suite)),
	})
}

// distro returns what scanners look a release's advisories up by, which is its
// number where it has one.
func distro(codename string) string {
	switch codename {
	case "bullseye":
		return "debian-11"
	case "bookworm":
		return "debian-12"
	case "trixie":
		return "debian-13"
	}
	return codename
}

// Release names a published file.
func Release(name, version, url string, sums []manifest.Digest) string {
	qualifiers := map[string]string{"download_url": url}
	if len(sums) > 0 {
		var all []string
		for _, s := range sums {
			all = append(all, string(s))
		}
		qualifiers["checksum"] = strings.Join(all, ",")
	}
	return format(packageurl.TypeGeneric, "", name, version, qualifiers)
}

// Module names a Go module.
func Module(path, version string) string {
	namespace, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		namespace, name = path[:i], path[i+1:]
	}
	return format(packageurl.TypeGolang, namespace, name, version, nil)
}

// Toolchain names Go's standard library as it came with a toolchain
// ("go1.26.8").
func Toolchain(toolchain string) string {
	return Module("stdlib", ToolchainVersion(toolchain))
}

// ToolchainVersion returns the version of a toolchain, "1.26.8", without the
// experiments that it was built with.
func ToolchainVersion(toolchain string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(toolchain, "go"), " ")
	version, _, _ = strings.Cut(version, ",")
	return version
}

// Tool names a compiler or linker by what it calls itself: "gcc (Debian
// 12.2.0-14+deb12u1) 12.2.0 (x86_64-linux-gnu)", "GNU ld (GNU Binutils for Debian)
// 2.40". "" where it tells no version.
func Tool(line string) string {
	var words []string
	depth := 0
	for word := range strings.FieldsSeq(line) {
		opens, closes := strings.Count(word, "("), strings.Count(word, ")")
		if depth == 0 && opens == 0 {
			words = append(words, word)
		}
		depth += opens - closes
	}
	name := ""
	for _, word := range words {
		switch {
		case word[0] >= '0' && word[0] <= '9':
			if name == "" {
				return ""
			}
			return format(packageurl.TypeGeneric, "", name, word, nil)
		case word != "version":
			name = word
		}
		if name == "cc" || strings.HasSuffix(name, "-gcc") { // how it was called; clang does not say so
			name = "gcc"
		}
	}
	return ""
}

// Image names a container image by its digest.
func Image(reference string, digest manifest.Digest, arch arch.Arch) string {
	repository, tag := reference, ""
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		repository, tag = reference[:i], reference[i+1:]
	}
	qualifiers := map[string]string{"arch": string(arch), "repository_url": repository}
	if tag != "" {
		qualifiers["tag"] = tag
	}
	return format(packageurl.TypeOCI, "", repository[strings.LastIndexByte(repository, '/')+1:], string(digest), qualifiers)
}

func format(kind, namespace, name, version string, qualifiers map[string]string) string {
	return packageurl.NewPackageURL(kind, namespace, name, version, packageurl.QualifiersFromMap(qualifiers), "").ToString()
}
