package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newLint(*host) *cobra.Command {
	return &cobra.Command{
		Use:   "lint IMAGE",
		Short: "Hold a finished image against the rules of Compute Engine",
		Args:  exactArgs(1),
		RunE:  func(*cobra.Command, []string) error { return errors.New("lint is not written yet") },
	}
}
