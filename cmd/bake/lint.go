package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/gce"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/lint"
	"github.com/nodebake/bake/bake/manifest"
)

func newLint(h *host) *cobra.Command {
	var listRules, asJSON bool
	c := &cobra.Command{
		Use:   "lint IMAGE",
		Short: "Check an image against Compute Engine's requirements",
		Long: `Check an image (NAME.tar.gz or a raw disk) against rules: what Compute Engine asks
of an image that it imports, what makes an image safe to start many times, and
what Kubernetes needs. Each violated rule is one line, with its reason. Then come
the guest OS features that the image may be created with.`,
		Example: `  bake lint out/k8s-worker-v1-36-3-amd64.tar.gz
  bake lint --rules`,
		Annotations: map[string]string{exitCodes: "0 every rule passed, 1 one did not, 2 wrong usage, 3 no image"},
		Args: func(c *cobra.Command, args []string) error {
			if listRules {
				return noArgs(c, args)
			}
			return exactArgs(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if listRules {
				return printRules(h.stdout, asJSON)
			}
			report, err := lint.Check(c.Context(), args[0], os.TempDir())
			if err != nil {
				return imageError(err)
			}
			if asJSON {
				enc := json.NewEncoder(h.stdout)
				enc.SetIndent("", "  ")
				err = enc.Encode(report)
			} else {
				err = printReport(h.stdout, report)
			}
			if err != nil {
				return err
			}
			return lintError(report)
		},
	}
	c.Flags().BoolVar(&listRules, "rules", false, "list the rules")
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

// imageError makes bad input of a file that is no image.
func imageError(err error) error {
	if _, ok := errors.AsType[*inspect.NotImageError](err); ok {
		return &manifest.ArgumentError{Err: err}
	}
	return err
}

// lintError says that an image is not as it must be.
func lintError(r *lint.Report) error {
	switch {
	case r.OK():
		return nil
	case len(r.Unchecked) == 0:
		return fmt.Errorf("%s violates %s", r.Path, plural(len(r.Violations), "rule"))
	}
	return fmt.Errorf("%s violates %s, and %s could not be checked", r.Path, plural(len(r.Violations), "rule"), plural(len(r.Unchecked), "rule"))
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func printRules(w io.Writer, asJSON bool) error {
	rules := lint.Rules()
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rules)
	}
	for _, r := range rules {
		if _, err := fmt.Fprintf(w, "%s\n    %s\n    why: %s\n", r.ID, r.Must, r.Why); err != nil {
			return err
		}
	}
	return nil
}

func printReport(w io.Writer, r *lint.Report) error {
	var l lines
	for _, v := range r.Violations {
		l.add("FAIL %s", v)
	}
	if len(r.Unchecked) > 0 {
		l.add("not checked, since what they are about could not be read: %s", strings.Join(r.Unchecked, " "))
	}
	l.add("%s: %d/%d rules passed", r.Path, r.Checked-len(r.Violations), r.Checked+len(r.Unchecked))
	if len(r.Features) > 0 {
		printFeatures(&l, r)
	}
	return l.print(w)
}

// printFeatures shows the command that creates the image with every feature
// that it may have.
func printFeatures(l *lines, r *lint.Report) {
	var names, reasons []string
	missing := map[string][]string{} // by reason
	for _, f := range r.Features {
		if f.Missing == "" {
			names = append(names, f.Name)
			continue
		}
		if missing[f.Missing] == nil {
			reasons = append(reasons, f.Missing)
		}
		missing[f.Missing] = append(missing[f.Missing], f.Name)
	}
	for _, reason := range reasons {
		l.add("not for this image: %s (%s)", strings.Join(missing[reason], ", "), reason)
	}
	base := filepath.Base(r.Path)
	name, ok := strings.CutSuffix(base, ".tar.gz")
	if !ok {
		return // Compute Engine takes archives
	}
	l.add("")
	for _, line := range gce.ImageCommand(name, base, r.Arch, names) {
		l.add("%s", line)
	}
	l.add("# refused where an image of that name exists: bake with another --name (with {inputs} in it names differ)")
}
