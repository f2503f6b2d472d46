package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of commands and flags that help shows.
const (
	exitCodes = "exit codes" // of a command: what its exit codes mean
	group     = "group"      // of a flag: the title that it stands under
)

// defaultGroup is where a flag stands that several commands have.
func defaultGroup(flag string) string {
	switch flag {
	case "debian-mirror", "mirror", "offline", "insecure-registry", "cache":
		return "Where parts come from"
	case "output", "name", "format", "force", "sign", "json":
		return "Output"
	case "jobs", "progress", "quiet", "verbose":
		return "Progress"
	}
	return "Flags"
}

// inGroup puts flags under a title of their own.
func inGroup(f *pflag.FlagSet, title string, flags ...string) {
	for _, name := range flags {
		if err := f.SetAnnotation(name, group, []string{title}); err != nil {
			panic("BUG: " + err.Error())
		}
	}
}

// writeHelp writes the help of c: what it does in a line and a paragraph, synopsis,
// examples, commands below it, flags by group, exit codes. It fits a terminal of 40
// lines; docs have the rest.
func writeHelp(w io.Writer, c *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", c.Short)
	if c.Long != "" {
		fmt.Fprintf(&b, "%s\n\n", c.Long)
	}
	use := c.UseLine()
	if !c.Runnable() {
		use = c.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(&b, "Usage:    %s\n", use)
	title := "Example:"
	for line := range strings.SplitSeq(c.Example, "\n") {
		if line = strings.TrimPrefix(line, "  "); line != "" {
			fmt.Fprintf(&b, "%-10s%s\n", title, line)
		}
		title = ""
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("Commands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-10s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	groups := map[string]*pflag.FlagSet{}
	var titles []string
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return // who reads this has found it
		}
		title := defaultGroup(f.Name)
		if own := f.Annotations[group]; own != nil {
			title = own[0]
		}
		if groups[title] == nil {
			groups[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			groups[title].SortFlags = c.Flags().SortFlags
			titles = append(titles, title)
		}
		groups[title].AddFlag(f)
	})
	last := []string{"Where parts come from", "Output", "Progress"}
	slices.SortStableFunc(titles, func(a, b string) int { return slices.Index(last, a) - slices.Index(last, b) })
	for _, title := range titles {
		fmt.Fprintf(&b, "%s:\n%s", title, groups[title].FlagUsages())
	}
	if codes := c.Annotations[exitCodes]; codes != "" {
		fmt.Fprintf(&b, "Exit codes: %s\n", codes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
