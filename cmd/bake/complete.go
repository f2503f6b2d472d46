package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nodebake/bake/bake"
	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/cluster"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/smoke"
	"github.com/nodebake/bake/bake/vm"
)

// flagValues are the values of flags that have few, by the flag's name.
func flagValues() map[string][]string {
	arches := strings.Fields(arch.Names(" "))
	return map[string][]string{
		"arch":     arches,
		"format":   {string(bake.TarGz), string(bake.Raw)},
		"origin":   {"release", "source"},
		"key-type": {string(node.ECDSA), string(node.RSA)},
		"disk-bus": {"scsi", "nvme"},
		"accel":    {"auto", string(vm.KVM), string(vm.TCG)},
		"go-host":  {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64"},
		"only":     smoke.Steps(),
		"skip":     smoke.Steps(),
		"progress": {"auto", string(progress.Plain), string(progress.TTY), string(progress.JSON)},
	}
}

// flagFiles are the ends of the names of files that a flag takes, where it takes
// no others.
func flagFiles() map[string][]string {
	return map[string][]string{
		"versions": {"yaml", "yml"}, "lock": {"lock"}, "output": {"lock"}, "bundle": {"json"},
	}
}

// addCompletions has shells complete the values of every flag of c and of the
// commands below it, and no files where a flag takes none. That a flag takes a
// file or a directory, its usage says.
func addCompletions(h *host, c *cobra.Command) {
	values, files := flagValues(), flagFiles()
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := c.GetFlagCompletionFunc(f.Name); ok || f.Value.Type() == "bool" && f.Name != "build-missing" {
			return
		}
		var complete cobra.CompletionFunc
		takes, _ := pflag.UnquoteUsage(f)
		switch {
		case f.Name == "build-missing":
			complete = completeParts
		case values[f.Name] != nil:
			complete = cobra.FixedCompletions(values[f.Name], cobra.ShellCompDirectiveNoFileComp)
		case takes == "CLUSTER":
			complete = h.completeClusters
		case takes == "DIR" || takes == "DIR|URL":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case files[f.Name] != nil:
			complete = cobra.FixedCompletions(files[f.Name], cobra.ShellCompDirectiveFilterFileExt)
		case takes == "FILE":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
		default:
			complete = cobra.NoFileCompletions
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic("BUG: " + err.Error()) // we have just met the flag
		}
	})
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
		switch words := strings.Fields(c.Use); {
		case len(words) < 2:
		case words[1] == "IMAGE":
			c.ValidArgsFunction = completeImages
		case words[1] == "DIR", words[1] == "WORKER_DIR...":
			c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case words[1] == "OLD":
			c.ValidArgsFunction = cobra.FixedCompletions([]cobra.Completion{"lock"}, cobra.ShellCompDirectiveFilterFileExt)
		}
	}
	for _, sub := range c.Commands() {
		addCompletions(h, sub)
	}
}

// completeImages completes as many images as the command takes.
func completeImages(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if c.Args != nil && c.Args(c, append(slices.Clone(args), "IMAGE")) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []cobra.Completion{"tar.gz", "raw"}, cobra.ShellCompDirectiveFilterFileExt
}

// completeClusters completes the name of a cluster that is there.
func (h *host) completeClusters(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	root, err := h.clusterRoot()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, err := cluster.Names(root)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeParts completes the last of several names, with commas between them, of
// components and images of the versions file that the command line names.
func completeParts(c *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	file := c.Flag("versions")
	if file == nil {
		return nil, none
	}
	data, err := os.ReadFile(file.Value.String())
	if err != nil {
		return nil, none
	}
	versions, err := manifest.ParseVersions(file.Value.String(), data)
	if err != nil {
		return nil, none
	}
	before := text[:strings.LastIndexByte(text, ',')+1]
	named := strings.Split(before, ",")
	var found []cobra.Completion
	add := func(name string) {
		if !slices.Contains(named, name) {
			found = append(found, before+name)
		}
	}
	for _, component := range versions.Components {
		if component.Module != nil {
			add(component.Name)
		}
	}
	for _, image := range versions.Images {
		if image.Module != nil || image.Program != "" {
			add(image.Name)
		}
	}
	return found, none | cobra.ShellCompDirectiveNoSpace
}
