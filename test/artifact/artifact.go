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
	return only(filepath.Join(root, "out"), "run `make image`, or name one in "+Variable)
}

// Guides returns the path of the image of the guide's own versions.
func Guides(root string) (string, error) {
	return only(filepath.Join(root, "out", "kthw"), "run `make image VERSIONS=test/kthw/versions.yaml OUT=out/kthw`")
}

// only returns the only image for amd64 in dir.
func only(dir, remedy string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*-amd64.tar.gz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("found %d images in %s (%s): %s", len(found), dir, strings.Join(found, ", "), remedy)
	}
	return found[0], nil
}
