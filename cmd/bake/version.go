package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// number is bake's version, raised by hand at a release.
const number = "0.1.0"

func version() string { return number }

func newVersion(h *host) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print bake's version and what it was built with",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Target  string `json:"target"`
				Commit  string `json:"commit,omitempty"`
			}{number, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, ""}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			if asJSON {
				return json.NewEncoder(h.stdout).Encode(v)
			}
			_, err := fmt.Fprintf(h.stdout, "bake %s (%s, %s)\n", v.Version, v.Go, v.Target)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}
