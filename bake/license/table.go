package license

import "strings"

// identifier returns the SPDX identifier of a short name, which is in any case, out
// of ids or of GNU's; "" where there is none that surely means the same. Names that
// DEP-5 and its users give to several texts (Artistic, BSD, public-domain) have none.
func identifier(ids map[string]string, name string) string {
	name = strings.ToLower(name)
	if id := ids[name]; id != "" {
		return id
	}
	// GNU's: GPL-2, GPL-2.0, GPL-2+, and as SPDX writes them.
	family, version, ok := strings.Cut(name, "-")
	gnu := map[string][]string{
		"gpl": {"1.0", "2.0", "3.0"}, "lgpl": {"2.0", "2.1", "3.0"}, "agpl": {"3.0"}, "gfdl": {"1.1", "1.2", "1.3"},
	}[family]
	if !ok || gnu == nil {
		return ""
	}
	invariant := ""
	if rest, ok := strings.CutPrefix(version, "niv-"); ok && family == "gfdl" {
		version, invariant = rest, "-no-invariants"
	}
	suffix := "-only"
	if before, ok := strings.CutSuffix(version, "+"); ok {
		version, suffix = before, "-or-later"
	} else if before, ok := strings.CutSuffix(version, "-or-later"); ok {
		version, suffix = before, "-or-later"
	} else {
		version = strings.TrimSuffix(version, "-only")
	}
	for _, known := range gnu {
		if version == known || version == strings.TrimSuffix(known, ".0") {
			return strings.ToUpper(family) + "-" + known + invariant + suffix
		}
	}
	return ""
}

// identifiers are those that are no GNU license's, by short names in lower case.
func identifiers() map[string]string {
	return map[string]string{
		"0bsd": "0BSD", "afl-2.1": "AFL-2.1", "apache-1.0": "Apache-1.0", "apache-1.1": "Apache-1.1", "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0",
		"artistic-2": "Artistic-2.0", "artistic-2.0": "Artistic-2.0", "beerware": "Beerware", "blueoak-1.0.0": "BlueOak-1.0.0",
		"bsd-1-clause": "BSD-1-Clause", "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC",
		"bsl-1": "BSL-1.0", "bsl-1.0": "BSL-1.0", "bzip2-1.0.6": "bzip2-1.0.6",
		"cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0",
		"cddl-1.0": "CDDL-1.0", "cpl-1.0": "CPL-1.0", "curl": "curl", "epl-1.0": "EPL-1.0", "epl-2.0": "EPL-2.0", "expat": "MIT", "ftl": "FTL",
		"fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR", "hpnd": "HPND", "ijg": "IJG", "icu": "ICU", "isc": "ISC", "mit": "MIT", "mit-0": "MIT-0",
		"mpl-1.0": "MPL-1.0", "mpl-1.1": "MPL-1.1", "mpl-2": "MPL-2.0", "mpl-2.0": "MPL-2.0", "ncsa": "NCSA", "ntp": "NTP", "ofl-1.1": "OFL-1.1", "sil-1.1": "OFL-1.1",
		"openssl": "OpenSSL", "oldap-2.8": "OLDAP-2.8", "openldap-2.8": "OLDAP-2.8", "postgresql": "PostgreSQL", "psf-2": "PSF-2.0", "psf-2.0": "PSF-2.0", "python-2.0": "Python-2.0",
		"smlnj": "SMLNJ", "tcl": "TCL", "unicode-dfs-2015": "Unicode-DFS-2015", "unicode-dfs-2016": "Unicode-DFS-2016", "unlicense": "Unlicense", "vim": "Vim", "w3c": "W3C", "wtfpl": "WTFPL", "wtfpl-2": "WTFPL", "x11": "X11", "zlib": "Zlib",
		"zlib-acknowledgement": "zlib-acknowledgement", "zpl-2.1": "ZPL-2.1",
	}
}

// exceptionFor returns SPDX's identifier of an exception of the license name.
func exceptionFor(name, exception string) string {
	words := strings.ToLower(strings.NewReplacer("-", " ", "_", " ").Replace(exception))
	switch words {
	case "autoconf exception":
		if strings.Contains(name, "-3") {
			return "Autoconf-exception-3.0"
		}
		return "Autoconf-exception-2.0"
	case "autoconf exception 2.0":
		return "Autoconf-exception-2.0"
	case "autoconf exception 3.0":
		return "Autoconf-exception-3.0"
	case "bison exception", "bison exception 2.2":
		return "Bison-exception-2.2"
	case "classpath exception", "classpath exception 2.0":
		return "Classpath-exception-2.0"
	case "font exception", "font exception 2.0":
		return "Font-exception-2.0"
	case "gcc exception 3.1", "gcc runtime library exception", "gcc runtime library exception 3.1":
		return "GCC-exception-3.1"
	case "libtool exception":
		return "Libtool-exception"
	case "linux syscall note", "linux syscall note exception":
		return "Linux-syscall-note"
	case "llvm exception":
		return "LLVM-exception"
	case "texinfo exception":
		return "Texinfo-exception"
	}
	return ""
}
