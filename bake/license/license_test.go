package license

import (
	"regexp"
	"strings"
	"testing"

	"github.com/github/go-spdx/v2/spdxexp"
	"github.com/google/go-cmp/cmp"
)

const format = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"

func TestDebian(t *testing.T) {
	t.Parallel()
	files := func(licenses ...string) string {
		text := format + "Upstream-Name: x\n"
		for _, l := range licenses {
			text += "\nFiles: *\nCopyright: somebody\nLicense: " + l + "\n Its text.\n .\n License: not this\n"
		}
		return text
	}
	ref := func(id, name string) Ref { return Ref{ID: "LicenseRef-Debian-" + id, Name: name} }
	for _, test := range []struct {
		name, text, want string
		refs             []Ref
	}{
		{"not machine-readable", "This package was debianized by somebody.\n\nLicense: GPL-2\n", "", nil},
		{"another format", strings.Replace(files("GPL-2"), "1.0", "2.0", 1), "", nil},
		{"empty", "", "", nil},
		{"no files", format, "", nil},
		{"one", files("GPL-2+"), "GPL-2.0-or-later", nil},
		{"the format's first address", strings.Replace(files("GPL-2"), format, "Format: http://dep.debian.net/deps/dep5/\n", 1), "GPL-2.0-only", nil},
		{"line ends of Windows", strings.ReplaceAll(files("GPL-2"), "\n", "\r\n"), "GPL-2.0-only", nil},
		{"several, sorted, each once", files("LGPL-2.1", "Expat", "LGPL-2.1", "BSD-3-clause"), "BSD-3-Clause AND LGPL-2.1-only AND MIT", nil},
		{"the header's counts", strings.Replace(files("Expat"), "Upstream-Name: x\n", "License: GPL-3\n", 1), "GPL-3.0-only", nil},
		{"a license's own paragraph is only its text", files("Expat") + "\nLicense: GPL-3\n The text.\n", "MIT", nil},
		{"files without a license", files("Expat", ""), "", nil},
		{"a choice", files("GPL-1+ or Artistic-2.0"), "Artistic-2.0 OR GPL-1.0-or-later", nil},
		{"a choice beside another", files("GPL-1+ or Artistic-2.0", "Expat"), "(Artistic-2.0 OR GPL-1.0-or-later) AND MIT", nil},
		{"and binds closer than or", files("GPL-2 and Expat or ISC"), "(GPL-2.0-only AND MIT) OR ISC", nil},
		{"a comma binds less", files("GPL-2 or ISC, and Expat"), "(GPL-2.0-only OR ISC) AND MIT", nil},
		{"words in any case", files("gpl-2.0-OR-later AND EXPAT"), "GPL-2.0-or-later AND MIT", nil},
		{"an exception", files("GPL-3+ with Autoconf exception"), "GPL-3.0-or-later WITH Autoconf-exception-3.0", nil},
		{"GCC's", files("GPL-3+ with GCC-Runtime-Library-exception or Expat"), "GPL-3.0-or-later WITH GCC-exception-3.1 OR MIT", nil},
		{"the GFDL without invariant sections", files("GFDL-NIV-1.3+"), "GFDL-1.3-no-invariants-or-later", nil},
		{"a name that SPDX has not", files("public-domain", "Expat"), "LicenseRef-Debian-public-domain AND MIT", []Ref{ref("public-domain", "public-domain")}},
		{"an exception that SPDX has not", files("GPL-2+ with OpenSSL exception"), "LicenseRef-Debian-GPL-2--with-OpenSSL-exception-a0de130f",
			[]Ref{ref("GPL-2--with-OpenSSL-exception-a0de130f", "GPL-2+ with OpenSSL exception")}},
		{"what is no list of names", files("GPL-2+ LGPL-2"), "LicenseRef-Debian-GPL-2--LGPL-2-ca451b40", []Ref{ref("GPL-2--LGPL-2-ca451b40", "GPL-2+ LGPL-2")}},
		{"an old form", files("GPL-2 | Expat"), "LicenseRef-Debian-GPL-2---Expat-e09e3b46", []Ref{ref("GPL-2---Expat-e09e3b46", "GPL-2 | Expat")}},
		{"an operator at the end", files("Expat and"), "LicenseRef-Debian-Expat-and-d0447e12", []Ref{ref("Expat-and-d0447e12", "Expat and")}},
	} {
		got := Debian([]byte(test.text))
		if diff := cmp.Diff(License{Expression: test.want, Refs: test.refs}, got); diff != "" {
			t.Errorf("%s: Debian (-want +got):\n%s", test.name, diff)
		}
		valid(t, got)
	}
}

// valid holds an expression to a parser of somebody else's, which has SPDX's list.
func valid(t *testing.T, l License) {
	t.Helper()
	if l.Expression == "" {
		if len(l.Refs) > 0 {
			t.Errorf("%v has references and no expression", l)
		}
		return
	}
	if ok, wrong := spdxexp.ValidateLicenses([]string{l.Expression}); !ok {
		t.Errorf("SPDX does not take %q", wrong)
	}
	for _, r := range l.Refs {
		if !regexp.MustCompile(`^LicenseRef-[A-Za-z0-9.-]+$`).MatchString(r.ID) || len(r.ID) > 80 {
			t.Errorf("the reference %q is none", r.ID)
		}
	}
}

// TestTable has SPDX's list check every identifier, and the checker a wrong one.
func TestTable(t *testing.T) {
	t.Parallel()
	for name, id := range identifiers() {
		if name != strings.ToLower(name) || identifier(identifiers(), strings.ToUpper(name)) != id {
			t.Errorf("identifier(%q) is not %s", name, id)
		}
		if ok, _ := spdxexp.ValidateLicenses([]string{id}); !ok {
			t.Errorf("%s is no identifier of SPDX's", id)
		}
	}
	for name, want := range map[string]string{
		"GPL-1": "GPL-1.0-only", "GPL-2.0": "GPL-2.0-only", "gpl-3+": "GPL-3.0-or-later", "LGPL-2": "LGPL-2.0-only", "LGPL-2.1+": "LGPL-2.1-or-later",
		"LGPL-3.0-only": "LGPL-3.0-only", "AGPL-3": "AGPL-3.0-only", "GFDL-1.2": "GFDL-1.2-only", "GFDL-NIV-1.3": "GFDL-1.3-no-invariants-only",
		"GPL": "", "GPL-4": "", "GPL-2.1": "", "GPL-2+-only": "", "AGPL-1": "", "Artistic": "", "BSD": "", "GPL-NIV-2": "",
	} {
		if got := identifier(identifiers(), name); got != want {
			t.Errorf("identifier(%q) = %q; want %q", name, got, want)
		}
		if ok, _ := spdxexp.ValidateLicenses([]string{want}); want != "" && !ok {
			t.Errorf("%s is no identifier of SPDX's", want)
		}
	}
	for _, exception := range []string{"Autoconf exception", "Autoconf-exception-2.0", "Autoconf-exception-3.0", "Bison exception", "Classpath exception", "Font exception",
		"GCC exception 3.1", "Libtool exception", "Linux-syscall-note", "Linux-syscall-note exception", "LLVM exception", "Texinfo exception"} {
		for _, name := range []string{"GPL-2", "GPL-3+"} {
			id := exceptionFor(name, exception)
			if ok, _ := spdxexp.ValidateLicenses([]string{"GPL-2.0-only WITH " + id}); !ok || id == "" {
				t.Errorf("%s with %s gives %q, which is no exception of SPDX's", name, exception, id)
			}
		}
	}
	if ok, _ := spdxexp.ValidateLicenses([]string{"GPL-2.0-onyl"}); ok {
		t.Error("the checker takes everything")
	}
}

func FuzzDebian(f *testing.F) {
	for _, line := range []string{"GPL-2+ or Expat, and BSD-3-clause", "GPL-3 with Bison exception", ", and", "a with", "\xff", "and or", "(GPL-2)"} {
		f.Add([]byte(format + "\nFiles: *\nLicense: " + line + "\n"))
	}
	f.Add([]byte(format + "License: ISC\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := Debian(text)
		valid(t, l)
		if again := Debian(text); cmp.Diff(l, again) != "" {
			t.Errorf("Debian says %v, and then %v", l, again)
		}
	})
}
