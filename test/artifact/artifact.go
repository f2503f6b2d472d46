// Package artifact finds the image that `make image` made, for the tests that
// take it apart and those that boot it.
package artifact

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Variable names an image to test in place of the one in out/.
const Variable = "BAKE_IMAGE"

// Image returns the path of the image under test: the one that Variable names,
// or the only one for amd64 in out/ below root, the project's directory.
func Image(root string) (string, error) {
	if path := os.Getenv(Variable); path != "" {
		return path, nil
	}
	found, err := filepath.Glob(filepath.Join(root, "out", "*-amd64.tar.gz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("found %d images in out/ (%s): run `make image`, or name one in %s", len(found), strings.Join(found, ", "), Variable)
	}
	return found[0], nil
}
