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
