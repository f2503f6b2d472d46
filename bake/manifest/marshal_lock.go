package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/nodebake/bake/bake/arch"
)

const lockHeader = `# Made by bake lock: the packages that the versions file beside this one and its
# image definition ask for. Do not edit it: change those, and run bake lock again.
`

// The versions of the lock's format. Only a lock with packages of images has the
// newer one, so that others stay as they are, byte for byte.
const (
	lockFormat       = 2
	lockFormatImages = 3
)

// Marshal writes l as ParseLock reads it: YAML, sorted, and each package on
// one line, so that a diff of two locks is a list of packages. Equal locks
// give equal bytes. l.File and l.Sum do not count.
func (l *Lock) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(lockHeader)
	format := lockFormat
	for _, section := range l.Archs {
		if len(section.Images) > 0 {
			format = lockFormatImages
		}
	}
	fmt.Fprintf(&b, "format: %d\n", format)
	for _, arch := range arch.All() {
		section := l.Archs[arch]
		if section == nil {
			continue
		}
		fmt.Fprintf(&b, "%s:\n  request: %s\n  releases:\n", arch, section.Request)
		for _, r := range slices.SortedFunc(slices.Values(section.Releases), compareReleases) {
			fmt.Fprintf(&b, "    - {archive: %s, suite: %s, date: %q, sum: %s}\n",
				quote(r.Archive), quote(r.Suite), r.Date.UTC().Format(time.RFC3339), r.SHA256)
		}
		writePackages(&b, "  ", "packages", section.Packages)
		writePackages(&b, "  ", "extra", section.Extra)
		if len(section.Images) > 0 {
			b.WriteString("  images:\n")
		}
		for _, image := range slices.Sorted(maps.Keys(section.Images)) {
			writePackages(&b, "    ", quote(image), section.Images[image])
		}
	}
	return b.Bytes()
}

func writePackages(b *bytes.Buffer, indent, key string, packages []LockedPackage) {
	if len(packages) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s:\n", indent, key)
	for _, p := range slices.SortedFunc(slices.Values(packages), comparePackages) {
		fmt.Fprintf(b, indent+"  - {name: %s, version: %s, arch: %s, suite: %s, archive: %s, path: %s, size: %d, sum: %s}\n",
			quote(p.Name), strconv.Quote(p.Version), quote(p.Arch), quote(p.Suite), quote(p.Archive), quote(p.Path), p.Size, p.SHA256)
	}
}

// quote writes s as it is where YAML takes that for text, also in the eyes of
// a reader of YAML 1.1, to whom "no" is false.
func quote(s string) string {
	if plainText.MatchString(s) && !notText.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

func compareReleases(a, b LockedRelease) int {
	return cmp.Or(cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Suite, b.Suite))
}

func comparePackages(a, b LockedPackage) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Suite, b.Suite))
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+./_~%-]*$`)
	notText   = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)
