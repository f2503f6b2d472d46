package manifest

import (
	"fmt"
	"io/fs"
	"strings"
)

// CheckLocalPath says why p, a slash-separated path that came from elsewhere,
// can't be the path of something below a directory on every system, or nil. A
// hyphen at its beginning would be read as a flag by programs that are given p.
func CheckLocalPath(p string) error {
	if !fs.ValidPath(p) || p == "." || strings.HasPrefix(p, "-") || strings.Contains(p, `\`) {
		return fmt.Errorf(`%q is no path below a directory (want no / or - at its beginning, no ., .., // or \ in it)`, p)
	}
	return nil
}

// checkDefinitionDir checks the path of an image definition relative to the
// directory of the versions file that names it.
func checkDefinitionDir(s string) error {
	below := s
	for strings.HasPrefix(below, "../") {
		below = strings.TrimPrefix(below, "../")
	}
	switch {
	case strings.HasPrefix(s, "/") || strings.Contains(s, ":"):
		return fmt.Errorf("%q is absolute (write it relative to the directory of this file, such as ../images/worker)", s)
	case CheckLocalPath(below) != nil:
		return fmt.Errorf(`%q is not the path of a directory as it is written here (want names with a / between them, such as ../images/worker: .. at the beginning only, no . or \, no / at the end)`, s)
	}
	return nil
}
