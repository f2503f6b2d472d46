package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newInspect(*host) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect IMAGE [NEW]",
		Short: "Show what is in an image, or in what two images differ",
		Args:  rangeArgs(1, 2),
		RunE:  func(*cobra.Command, []string) error { return errors.New("inspect is not written yet") },
	}
}
