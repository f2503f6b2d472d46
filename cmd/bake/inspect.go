package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/printable"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/record"
)

// inspection is what the flags of `bake inspect` ask for.
type inspection struct {
	packages, files  bool
	cat              string
	asJSON, exitCode bool
	summary          bool
}

func newInspect(h *host) *cobra.Command {
	var in inspection
	c := &cobra.Command{
		Use:   "inspect IMAGE [NEW | --files [PATTERN...]]",
		Short: "Show what is in an image, or in what two images differ",
		Long: `Show what is in an image (NAME.tar.gz or a raw disk), read from the image itself,
or in what the image NEW differs from IMAGE. The image's digest is compared with
the record beside it, and programs, packages and kernel arguments with the record
inside. PATTERN is a file or directory, or has the shell's wildcards.`,
		Example: `  bake inspect out/k8s-worker-v1-36-3-amd64.tar.gz --files /etc/systemd '*.conf'
  bake inspect out/k8s-worker-v1-36-3-amd64.tar.gz --cat esp:/loader/loader.conf
  bake inspect old.tar.gz new.tar.gz --summary`,
		Annotations: map[string]string{exitCodes: "0 as recorded, 1 not so, or --exit-code and differences, 2 wrong usage, 3 no image"},
		Args:        in.args,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case in.cat != "":
				out := h.stdout
				if isTerminal(out) {
					out = printable.NewConsole(out)
				}
				return imageError(catFile(c.Context(), out, args[0], in.cat))
			case len(args) == 2 && !in.files:
				return imageError(in.compare(c.Context(), h.stdout, args[0], args[1]))
			}
			return imageError(in.show(c.Context(), h.stdout, args[0], args[1:]))
		},
	}
	f := c.Flags()
	f.BoolVar(&in.packages, "packages", false, "list the packages of the OS, and of container images made of packages")
	f.BoolVar(&in.files, "files", false, "list the files, or those that match a pattern")
	f.StringVar(&in.cat, "cat", "", "print the file at `PATH`, or at esp:PATH on the EFI system partition")
	f.BoolVar(&in.summary, "summary", false, "of two images, list components, container images and packages that differ,\nand count the rest")
	f.BoolVar(&in.asJSON, "json", false, "print the whole record, all differences, or their summary, as JSON")
	f.BoolVar(&in.exitCode, "exit-code", false, "exit with 1 where two images differ")
	return c
}

func (in *inspection) args(c *cobra.Command, args []string) error {
	most := 2
	switch {
	case in.files:
		most = 1000
	case in.cat != "" || in.packages:
		most = 1
	}
	if err := rangeArgs(1, most)(c, args); err != nil {
		return err
	}
	modes := 0
	for _, set := range []bool{in.packages, in.files, in.cat != "", in.asJSON} {
		if set {
			modes++
		}
	}
	if modes > 1 {
		return &usageError{errors.New("--packages, --files, --cat and --json exclude each other")}
	}
	for _, set := range []struct {
		flag string
		on   bool
	}{{"exit-code", in.exitCode}, {"summary", in.summary}} {
		if set.on && (len(args) != 2 || in.files) {
			return &usageError{fmt.Errorf("--%s is for the comparison of two images", set.flag)}
		}
	}
	return nil
}

func catFile(ctx context.Context, w io.Writer, image, name string) error {
	m, err := inspect.Open(ctx, image, os.TempDir())
	if err != nil {
		return err
	}
	defer m.Close()
	content, err := m.ReadFile(name)
	if err == nil {
		_, err = io.Copy(w, content)
	}
	if err != nil {
		return fmt.Errorf("reading %s in %s: %w", name, image, err)
	}
	return nil
}

// readRecord returns what is in an image, and in what the image contradicts the
// records in it and beside it. beside is the path of the latter.
func readRecord(ctx context.Context, image string) (r *record.Record, beside string, wrong []string, err error) {
	m, err := inspect.Open(ctx, image, os.TempDir())
	if err != nil {
		return nil, "", nil, err
	}
	defer m.Close()
	r, err = m.Record(ctx, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, "", nil, err
	}
	if wrong, err = m.Contradictions(r); err != nil {
		return nil, "", nil, err
	}
	if beside, err = m.CheckSidecar(ctx); err != nil {
		wrong = append(wrong, fmt.Sprintf("%s does not describe %s: %v", beside, image, err))
	}
	return r, beside, wrong, m.Unchanged()
}

func (in *inspection) show(ctx context.Context, w io.Writer, image string, patterns []string) error {
	r, beside, wrong, err := readRecord(ctx, image)
	if err != nil {
		return err
	}
	switch {
	case in.asJSON:
		err = r.Write(w)
	case in.packages:
		err = printPackages(w, r.Packages, r.Images)
	case in.files:
		err = printFiles(w, r.Files, patterns)
	default:
		err = printSummary(w, r, beside)
	}
	if err != nil {
		return err
	}
	return contradicted(wrong)
}

// contradicted is an error that lists what is wrong, a line each.
func contradicted(wrong []string) error {
	if len(wrong) == 0 {
		return nil
	}
	var errs []error
	for _, w := range wrong {
		errs = append(errs, problem(w))
	}
	return errors.Join(errs...)
}

func (in *inspection) compare(ctx context.Context, w io.Writer, oldImage, newImage string) error {
	var a, b *record.Record
	var wrongOld, wrongNew []string
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		a, _, wrongOld, err = readRecord(gctx, oldImage)
		return err
	})
	g.Go(func() (err error) {
		b, _, wrongNew, err = readRecord(gctx, newImage)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	changes := record.Diff(a, b)
	if err := in.printDifference(w, changes, a.File.SHA256 == b.File.SHA256); err != nil {
		return err
	}
	if err := contradicted(append(wrongOld, wrongNew...)); err != nil {
		return err
	}
	if in.exitCode && (len(changes) > 0 || a.File.SHA256 != b.File.SHA256) {
		return errors.New("the images differ")
	}
	return nil
}

func (in *inspection) printDifference(w io.Writer, changes []record.Change, sameFile bool) error {
	if !in.asJSON && in.summary && len(changes) > 0 {
		return printSummaryOf(w, record.Summarize(changes))
	}
	if !in.asJSON {
		return printChanges(w, changes, sameFile)
	}
	var value any = append([]record.Change{}, changes...) // never null
	if in.summary {
		value = record.Summarize(changes)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

func printSummaryOf(w io.Writer, s record.Summary) error {
	var l lines
	for _, c := range slices.Concat(s.Components, s.Images, s.Packages) {
		l.add("%s", c)
	}
	for _, c := range s.Counts {
		l.add("%ss: %s", c.Kind, c)
	}
	return l.print(w)
}

func printChanges(w io.Writer, changes []record.Change, sameFile bool) error {
	var l lines
	for _, c := range changes {
		l.add("%s", c)
	}
	switch {
	case len(changes) > 0:
	case sameFile:
		l.add("no difference: the files have the same digest")
	default:
		l.add("no difference in what the images hold; the files have different digests")
	}
	return l.print(w)
}

// printPackages lists packages, and with their names those of container images.
func printPackages(w io.Writer, packages []record.Package, images []record.ContainerImage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range packages {
		row(t, p.Name, p.Version, p.Arch, p.Suite)
	}
	for _, image := range images {
		for _, p := range image.Packages {
			row(t, p.Name, p.Version, p.Arch, p.Suite, "image "+image.Name)
		}
	}
	return t.Flush()
}

func printFiles(w io.Writer, files []record.Entry, patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return &usageError{fmt.Errorf("pattern %q: %w", p, err)}
		}
	}
	var l lines
	found := 0
	for _, e := range files {
		if len(patterns) > 0 && !matchesAny(patterns, e.Path) {
			continue
		}
		found++
		name, what := e.Path, ""
		if e.Link != "" {
			name += " -> " + e.Link
		}
		if e.SHA256 != "" {
			what = e.SHA256[:16]
		}
		l.add("%-8s %s %5d:%-5d %10d  %-16s  %s", e.Type, e.Mode, e.UID, e.GID, e.Size, what, name)
	}
	if found == 0 {
		return fmt.Errorf("no file matches %s", strings.Join(patterns, " "))
	}
	return l.print(w)
}

// matchesAny holds an absolute path against patterns.
func matchesAny(patterns []string, file string) bool {
	for _, p := range patterns {
		name := file
		if !strings.Contains(p, "/") {
			name = path.Base(file)
		}
		if ok, _ := path.Match(p, name); ok || file == path.Clean(p) || strings.HasPrefix(file, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

func printSummary(w io.Writer, r *record.Record, beside string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "name", r.Name)
	row(t, "arch", string(r.Arch))
	row(t, "file", r.File.Name+", "+progress.Bytes(r.File.Size))
	digest := string(r.File.SHA256)
	if beside != "" {
		digest += " (as " + filepath.Base(beside) + " says)"
	}
	row(t, "digest", digest)
	row(t, "kernel", strings.Join(r.KernelArguments, " "))
	if r.Node != (record.Node{}) {
		node := fmt.Sprintf("runtime type %s, cgroup driver %s", r.Node.RuntimeType, r.Node.CgroupDriver)
		if r.Node.SandboxImage != "" {
			node += ", sandbox image " + r.Node.SandboxImage
		}
		row(t, "node", node)
	}
	fmt.Fprintf(t, "packages\t%d (--packages lists them)\n", len(r.Packages))
	fmt.Fprintf(t, "files\t%d (--files lists them)\n", len(r.Files))
	fmt.Fprintf(t, "\ndisk\t%s\n", binaryBytes(r.Disk.Size))
	for _, p := range r.Disk.Partitions {
		row(t, "  "+p.Name, binaryBytes(p.Size)+" at "+binaryBytes(p.Start), p.GUID)
	}
	fmt.Fprintln(t, "\nmade from")
	for _, input := range inputsOf(r) {
		row(t, "  "+input.name, string(input.sum)+input.from)
	}
	fmt.Fprintln(t, "\ncomponents")
	for _, c := range r.Components {
		how := c.Origin
		if compiler, _, _ := strings.Cut(c.Toolchain, ","); compiler != "" { // runc's C compiler is for --json
			how += ", " + compiler
		}
		version := c.Version
		if c.Reports != nil {
			version += ", says " + c.Reports.Version
		}
		row(t, "  "+c.Name, version, how, c.From)
	}
	if len(r.Images) > 0 {
		fmt.Fprintln(t, "\ncontainer images")
	}
	for _, c := range r.Images {
		how := c.Origin
		if c.Toolchain != "" {
			how += ", " + c.Toolchain
		}
		from := c.From
		if n := len(c.Packages); n > 0 {
			from = fmt.Sprintf("%s (%d packages)", from, n)
		}
		row(t, "  "+c.Name, c.Reference, how, from)
	}
	return t.Flush()
}

// binaryBytes writes the size of what is laid out in powers of two: "256 MiB".
func binaryBytes(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size && n%unit.size == 0 {
			return fmt.Sprintf("%d %s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

type namedSum struct {
	name string
	sum  manifest.Digest
	from string // behind sum: " (../images/worker)"
}

func inputsOf(r *record.Record) []namedSum {
	from := ""
	if r.Inputs.DefinitionFrom != "" {
		from = " (" + r.Inputs.DefinitionFrom + ")"
	}
	list := []namedSum{
		{"versions file", r.Inputs.Versions, ""}, {"lock", r.Inputs.Lock, ""},
		{"definition", r.Inputs.Definition, from}, {"units", r.Inputs.Units, ""},
	}
	for _, name := range slices.Sorted(maps.Keys(r.Inputs.Programs)) {
		list = append(list, namedSum{name, r.Inputs.Programs[name], ""})
	}
	return list
}
