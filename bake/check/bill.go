package check

import (
	"strings"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom/spdx"
)

// billPath is where an image holds its bill of materials.
const billPath = "usr/lib/bake/sbom.spdx.json"

// billProblems says in what the bill of materials inside the image and the
// record r differ.
func (m *Image) billProblems(r *record.Image) []string {
	text, err := m.files.text(billPath)
	if err != nil {
		return wrong(err)
	}
	listed, err := spdx.Contents("/"+billPath, strings.NewReader(text))
	if err != nil {
		return wrong(err)
	}
	var p problems
	missing := map[string]bool{}
	for _, line := range spdx.Expected(r) {
		missing[line] = true
	}
	for _, line := range listed {
		if !missing[line] {
			p.add("%s is in /%s and not recorded", line, billPath)
		}
		delete(missing, line)
	}
	for _, line := range spdx.Expected(r) {
		if missing[line] {
			p.add("%s is recorded and not in /%s", line, billPath)
		}
	}
	return p
}
