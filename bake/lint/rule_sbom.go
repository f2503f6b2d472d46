package lint

import (
	"strings"

	"github.com/nodebake/bake/bake/record"
	"github.com/nodebake/bake/bake/sbom/spdx"
)

// sbomProblems says in what the SBOM inside the image and the record r differ.
func (s *subject) sbomProblems(r *record.Record) []string {
	text, err := s.files.Text(record.SBOMPath)
	if err != nil {
		return wrong(err)
	}
	listed, err := spdx.Contents("/"+record.SBOMPath, strings.NewReader(text))
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
			p.add("%s is in /%s and not recorded", line, record.SBOMPath)
		}
		delete(missing, line)
	}
	for _, line := range spdx.Expected(r) {
		if missing[line] {
			p.add("%s is recorded and not in /%s", line, record.SBOMPath)
		}
	}
	return p
}
