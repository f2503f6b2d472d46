package manifest

import (
	"errors"
	"fmt"
	"go/token"
	"go/version"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// readModule reads the part of a component that says how to build it. The
// module's version is the component's, with a v in front, unless it says
// otherwise.
func readModule(v value, c *Component) *Module {
	m := v.mapping()
	mod := &Module{Pos: v.pos()}
	modulePath := m.required("path")
	mod.Path = modulePath.checked(module.CheckPath)
	mod.Version = "v" + strings.TrimPrefix(c.Version, "v")
	moduleVersion := m.optional("version")
	if moduleVersion.present() {
		mod.Version = moduleVersion.text()
	} else {
		moduleVersion = modulePath // to say what is wrong where something is
	}
	if mod.Path != "" && mod.Version != "" && c.Version != "" {
		if err := checkModuleVersion(mod.Path, mod.Version); err != nil {
			moduleVersion.errorf("%v", err)
		}
	}
	mod.Toolchain = m.required("toolchain").checked(CheckToolchain)
	mod.Dir = m.required("dir").checked(checkModuleDir)
	programs := m.required("programs")
	for _, item := range programs.list() {
		mod.Programs = append(mod.Programs, readProgram(item, mod.Path))
	}
	if programs.present() && len(programs.list()) == 0 {
		programs.errorf("empty (say at least one program)")
	}
	mod.Tags = m.optional("tags").tags()
	for _, entry := range m.optional("stamp").mapping().entries() {
		if mod.Stamp == nil {
			mod.Stamp = map[string]string{}
		}
		mod.Stamp[entry.name] = readStamp(entry, c.Version)
	}
	if cgo := m.optional("cgo"); cgo.present() {
		cm := cgo.mapping()
		mod.CGO = &CGO{Packages: cm.optional("packages").packages(), LDFlags: cm.optional("ldflags").ldflags(), Pos: cgo.pos()}
	}
	return mod
}

func readProgram(v value, modulePath string) Program {
	m := v.mapping()
	return Program{
		Package: m.required("package").checked(func(s string) error {
			if err := module.CheckImportPath(s); err != nil {
				return err
			}
			if modulePath != "" && s != modulePath && !strings.HasPrefix(s, modulePath+"/") {
				return fmt.Errorf("%q is not a package of module %s", s, modulePath)
			}
			return nil
		}),
		Path: m.required("path").checked(func(s string) error { return checkInstallPath(s, false) }),
		Tags: m.optional("tags").tags(),
		Pos:  v.pos(),
	}
}

func (v value) tags() []string {
	var out []string
	for _, item := range v.list() {
		out = append(out, item.checked(checkTag))
	}
	return out
}

// ldflags reads the flags for the external linker.
func (v value) ldflags() []string {
	var out []string
	for _, item := range v.list() {
		if s := item.checked(CheckLDFlag); s != "" {
			out = append(out, s)
		}
	}
	if len(v.list()) > 1 {
		v.errorf("more than one (keep -static or -static-pie)")
	}
	return out
}

// CheckLDFlag checks a flag for the external linker, which a C compiler is
// given. Others make that compiler run any program (gcc(1), -wrapper, -B,
// -fuse-ld, @FILE), so that these two are all there are.
func CheckLDFlag(s string) error {
	if s != "-static" && s != "-static-pie" {
		return fmt.Errorf("%q is not allowed (want -static or -static-pie, nothing else)", s)
	}
	return nil
}

// readStamp reads the value of a linker's -X flag, whose name is the key.
func readStamp(v value, version string) string {
	if err := checkStampVariable(v.name); err != nil {
		v.report(v.pos(), v.key, err.Error())
		return ""
	}
	if version == "" {
		return "" // reported already
	}
	s, err := expand(v.text(), versionValues(version))
	if err == nil {
		err = CheckStamp(v.name, s)
	}
	if err != nil {
		v.errorf("%v", err)
		return ""
	}
	return s
}

func checkStampVariable(s string) error {
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 || !token.IsIdentifier(s[dot+1:]) || module.CheckImportPath(s[:dot]) != nil || !stampText.MatchString(s) {
		return errors.New("not a variable (want IMPORT/PATH.NAME, or main.NAME)")
	}
	return nil
}

// CheckStamp checks a variable that the linker sets and its value. All of them
// become one -ldflags, which the go command splits at spaces and quotes: they
// cannot have any.
func CheckStamp(variable, value string) error {
	if err := checkStampVariable(variable); err != nil {
		return fmt.Errorf("%q is %w", variable, err)
	}
	if !stampText.MatchString(value) {
		return fmt.Errorf("value %q has more than letters, digits and . _ + : / ~ -", value)
	}
	return nil
}

// checkModuleVersion checks that version is one that the module proxy could
// have for path: canonical, and of the path's major version.
func checkModuleVersion(path, version string) error {
	if semver.Canonical(version) != version && semver.Canonical(version)+semver.Build(version) != version {
		return fmt.Errorf("%q is not a module version (want vMAJOR.MINOR.PATCH; see https://go.dev/ref/mod#versions)", version)
	}
	return module.Check(path, version)
}

// CheckToolchain checks the name of a Go release as GOTOOLCHAIN takes it
// (https://go.dev/doc/toolchain#name), from 1.21 on. "go1.26" is the name of a
// language version: the first release of it is called go1.26.0.
func CheckToolchain(s string) error {
	switch {
	case version.IsValid(s) && version.Lang(s) == s && version.Compare(s, "go1.21") >= 0:
		return fmt.Errorf("%q is a version of the language, not a toolchain (write %s.0 or later)", s, s)
	case !toolchainName.MatchString(s):
		return fmt.Errorf("%q is not a Go toolchain (want go1.MINOR.PATCH)", s)
	case version.Compare(s, "go1.21.0") < 0:
		return fmt.Errorf("%q is too old (want go1.21.0 or later)", s)
	}
	return nil
}

// checkModuleDir checks a directory's path relative to the versions file: the
// slash-separated path of something below that file's directory.
func checkModuleDir(s string) error {
	if CheckLocalPath(s) != nil || strings.Contains(s, ":") {
		return fmt.Errorf("%q is not a directory below the one of this file (want a relative path such as modules/runc)", s)
	}
	if s == "definition" || strings.HasPrefix(s, "definition/") {
		return fmt.Errorf("%q is where an image has its definition among what it was made from (take another name, such as modules/runc)", s)
	}
	return nil
}

func checkTag(s string) error {
	if !buildTag.MatchString(s) {
		return fmt.Errorf("%q is not a build tag (letters, digits, _ and .)", s)
	}
	return nil
}

var (
	buildTag      = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	stampText     = regexp.MustCompile(`^[A-Za-z0-9._+:/~-]*$`)
	toolchainName = regexp.MustCompile(`^go[1-9][0-9]*\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$`)
)
