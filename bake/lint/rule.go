// Package lint checks images against rules: what Compute Engine, systemd and this
// project ask of an image.
//
// It does not boot images, verify signatures of boot loaders, or check what
// only a running machine shows; test/qemu does.
package lint

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
)

// Rule is one thing that an image must hold to.
type Rule struct {
	ID   string `json:"id"`   // "disk-size"
	Must string `json:"must"` // what must hold
	Why  string `json:"why"`  // the reason, with its source in square brackets

	needs part
	check func(*subject) []string // what is wrong
}

// part is what of an image must have been opened for a rule to be checked.
type part int

const (
	needsFile part = iota // nothing: the rule is about the file itself
	needsDisk
	needsTable
	needsESP
	needsRoot
	needsBoot // EFI system partition and root
)

// subject is an image under test, as far as it could be opened.
type subject struct {
	*inspect.Image
	files  *files // nil: the root filesystem could not be opened
	faults *inspect.Faults
}

// files are the root filesystem's, as rules read them.
type files struct{ *inspect.Files }

func newSubject(m *inspect.Image, faults *inspect.Faults) *subject {
	s := &subject{Image: m, faults: faults}
	if m.Files != nil {
		s.files = &files{m.Files}
	}
	return s
}

// lacks says that a part is not there.
func (s *subject) lacks(p part) bool {
	switch p {
	case needsDisk:
		return s.faults.Archive != nil
	case needsTable:
		return s.Table == nil
	case needsESP:
		return s.ESP == nil
	case needsRoot:
		return s.files == nil
	case needsBoot:
		return s.ESP == nil || s.files == nil
	}
	return false
}

// Violation is a rule that an image does not hold to.
type Violation struct {
	Rule     string   `json:"rule"`
	Problems []string `json:"problems"`
	Why      string   `json:"why"`
}

// shownProblems is how many problems of one rule a line shows.
const shownProblems = 3

// String writes v as one line: "disk-size: 3000000 bytes (images are ...)".
func (v Violation) String() string {
	shown := v.Problems
	more := ""
	if n := len(shown) - shownProblems; n > 0 {
		shown, more = shown[:shownProblems], fmt.Sprintf("; and %d more", n)
	}
	return fmt.Sprintf("%s: %s%s (%s)", v.Rule, strings.Join(shown, "; "), more, v.Why)
}

// Report is what Check found.
type Report struct {
	Path       string          `json:"path"`
	SHA256     manifest.Digest `json:"sha256,omitempty"` // of an archive that is not damaged
	Arch       arch.Arch       `json:"arch,omitempty"`
	Checked    int             `json:"checked"` // rules that could be checked
	Violations []Violation     `json:"violations"`
	Unchecked  []string        `json:"unchecked,omitempty"` // rules about parts that could not be opened
	Features   []Feature       `json:"features"`
}

// OK reports whether every rule was checked and holds.
func (r *Report) OK() bool { return len(r.Violations) == 0 && len(r.Unchecked) == 0 }

// Check checks the image at path against all rules. tmpDir is for the temporary
// disk, as in [inspect.Open]. An error means that it is not an image, or that this
// machine could not read it; what is wrong with an image is in the report.
func Check(ctx context.Context, path, tmpDir string) (*Report, error) {
	m, faults, err := inspect.OpenPartly(ctx, path, tmpDir)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	report := lint(newSubject(m, faults))
	if m.Hashed() && m.Fault == nil { // unpacking an archive gives it; to hash a disk would take longer than all rules
		file, err := m.File(ctx)
		if err != nil {
			return nil, err
		}
		report.SHA256 = file.SHA256
	}
	return report, nil
}

func lint(s *subject) *Report {
	report := &Report{Path: s.Path, Arch: s.Arch, Violations: []Violation{}, Features: []Feature{}}
	for _, rule := range Rules() {
		if s.lacks(rule.needs) {
			report.Unchecked = append(report.Unchecked, rule.ID)
			continue
		}
		report.Checked++
		if problems := rule.check(s); len(problems) > 0 {
			report.Violations = append(report.Violations, Violation{rule.ID, problems, rule.Why})
		}
	}
	if !s.lacks(needsBoot) {
		report.Features = features(s.Image)
	}
	return report
}

// Rules returns all rules in the order in which they are checked: from the
// file inwards.
func Rules() []Rule {
	return slices.Concat(
		diskRules(), bootRules(), driverRules(), secretRules(), networkRules(), sysctlRules(), unitRules(), nodeRules(), fileRules(),
	)
}

// wrong makes the problem list of an error; nil has none.
func wrong(err error) []string {
	if err == nil {
		return nil
	}
	return []string{err.Error()}
}

// problems collects what is wrong.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

func (p *problems) err(err error) {
	if err != nil {
		*p = append(*p, err.Error())
	}
}

// Where rules come from.
const (
	fromImport  = "[Compute Engine: Manually import boot disks, cloud.google.com/compute/docs/import/import-existing-image]"
	fromConfig  = "[Compute Engine: Build a custom operating system, cloud.google.com/compute/docs/images/building-custom-os]"
	fromSystemd = "[systemd: Building Images Safely, systemd.io/BUILDING_IMAGES]"
)
