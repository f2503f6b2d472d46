package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/atomicfile"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/smoke"
)

// smokeFlags are the flags of bake smoke as they are given.
type smokeFlags struct {
	config        smoke.Config
	encryption    string
	proxy         string
	nodeAddresses []string
	junit         string
	asJSON        bool
}

func newSmoke(h *host) *cobra.Command {
	var in smokeFlags
	c := &cobra.Command{
		Use:   "smoke --kubeconfig FILE [--only STEP,...] [--skip STEP,...]",
		Short: "Test a running cluster as the guide's smoke test does",
		Long: `Test a cluster by kubectl: nodes, encryption of secrets, a deployment, pods of every
node with each other, DNS, node ports, metadata. A check that fails names the likely
cause and the next command. All is done in a namespace of its own, which is deleted
at the end, also after Ctrl-C (docs/guide.md).
Steps: ` + strings.Join(smoke.Steps(), ", ") + `.`,
		Example: `  bake smoke --kubeconfig admin.kubeconfig --nodes 3
  bake smoke clean --kubeconfig admin.kubeconfig`,
		Annotations: map[string]string{exitCodes: "0 all passed, 1 a check failed, 2 wrong usage, 3 bad input, 130 interrupted"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return in.run(c, h)
		},
	}
	in.addClusterFlags(c)
	f := c.Flags()
	f.IntVar(&in.config.Nodes, "nodes", 0, "`NUMBER` of nodes that must be there (default: those that are)")
	f.StringVar(&in.proxy, "proxy", "", "`URL` of the HTTP proxy that leads from here to node ports")
	f.StringArrayVar(&in.nodeAddresses, "node-address", nil, "`NAME=IP` by which a node is reached from here; may be repeated")
	f.StringVar(&in.config.Etcdctl, "etcdctl", "", "program `FILE` that reads etcd, with ETCDCTL_... as it needs them")
	f.StringVar(&in.encryption, "encryption-config", "", "`FILE` of the API server, to decrypt what etcd has")
	f.StringSliceVar(&in.config.Only, "only", nil, "do this `STEP` alone, and what it needs; may be repeated")
	f.StringSliceVar(&in.config.Skip, "skip", nil, "leave out this `STEP`; may be repeated")
	f.StringVar(&in.config.NginxImage, "nginx-image", "", "`IMAGE` of the web server (default: one that the nodes have)")
	f.StringVar(&in.config.BusyboxImage, "busybox-image", "", "`IMAGE` of what asks it (default: one that the nodes have)")
	f.DurationVar(&in.config.Timeout, "timeout", smoke.DefaultTimeout, "`TIME` for all but clean-up")
	f.BoolVar(&in.config.Keep, "keep", false, "leave the namespace there, for a look")
	f.BoolVar(&in.asJSON, "json", false, "print the report as JSON")
	f.StringVar(&in.junit, "junit", "", "write the report to `FILE` as JUnit's XML")
	h.addShownFlags(c, "show nothing before the table")
	inGroup(f, "Cluster", "nodes", "proxy", "node-address", "etcdctl", "encryption-config")
	inGroup(f, "Test", "only", "skip", "nginx-image", "busybox-image", "timeout", "keep")
	inGroup(f, "Output", "junit")
	c.AddCommand(newSmokeClean(h))
	return c
}

func newSmokeClean(h *host) *cobra.Command {
	var in smokeFlags
	c := &cobra.Command{
		Use:   "clean --kubeconfig FILE",
		Short: "Delete what smoke tests left that were killed",
		Long: `Delete the namespaces of smoke tests, which are known by a label: of those that were
killed, of those that ran with --keep, and of one that runs now.`,
		Example:     `  bake smoke clean --kubeconfig admin.kubeconfig`,
		Annotations: map[string]string{exitCodes: "0 done, also where nothing was there, 1 failed, 2 wrong usage, 3 bad input"},
		Args:        noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := in.complete(c, h); err != nil {
				return err
			}
			report, err := smoke.Clean(c.Context(), in.config)
			if err != nil {
				return err
			}
			return in.print(h, report)
		},
	}
	in.addClusterFlags(c)
	c.Flags().BoolVar(&in.asJSON, "json", false, "print the report as JSON")
	h.addShownFlags(c, "show nothing before the table")
	return c
}

func (in *smokeFlags) addClusterFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&in.config.Kubeconfig, "kubeconfig", "", "kubeconfig `FILE` of an administrator")
	f.StringVar(&in.config.Kubectl, "kubectl", "kubectl", "program `FILE` to ask with")
	inGroup(f, "Cluster", "kubeconfig", "kubectl")
}

// run does bake smoke.
func (in *smokeFlags) run(c *cobra.Command, h *host) error {
	if err := in.complete(c, h); err != nil {
		return err
	}
	in.config.Show = h.showCheck
	report, err := smoke.Run(c.Context(), in.config)
	if err != nil {
		return errors.Join(leftBehind(report, in.config.Kubeconfig), err)
	}
	if err := in.writeJUnit(report); err != nil {
		return err
	}
	return in.print(h, report)
}

// complete turns flags into values, and looks for what they name.
func (in *smokeFlags) complete(c *cobra.Command, h *host) error {
	if err := requireFlag(c, "kubeconfig", in.config.Kubeconfig); err != nil {
		return err
	}
	if err := in.parse(); err != nil {
		return &usageError{fmt.Errorf("--%w (see `%s --help`)", err, c.CommandPath())}
	}
	if err := in.find(); err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return &usageError{fmt.Errorf("there is no directory for kubectl's cache: %w", err)}
	}
	in.config.Dir = filepath.Join(cache, "bake", "kubectl")
	in.config.Env, in.config.Now, in.config.Namespace = h.env, h.now, smoke.NewNamespace()
	return nil
}

func (in *smokeFlags) parse() error {
	if in.proxy != "" {
		proxy, err := url.Parse(in.proxy)
		if err != nil {
			return errors.New("proxy: want a URL like http://127.0.0.1:3128")
		}
		in.config.Proxy = proxy
	}
	in.config.NodeAddresses = map[string]netip.Addr{}
	for _, text := range in.nodeAddresses {
		name, value, _ := strings.Cut(text, "=")
		address, err := netip.ParseAddr(value)
		if name == "" || err != nil {
			return fmt.Errorf("node-address %q: want NAME=IP", text)
		}
		in.config.NodeAddresses[name] = address
	}
	return in.config.Check()
}

// find looks for the programs and files that were named.
func (in *smokeFlags) find() error {
	for _, program := range []struct {
		flag string
		path *string
	}{{"kubectl", &in.config.Kubectl}, {"etcdctl", &in.config.Etcdctl}} {
		if *program.path == "" {
			continue
		}
		path, err := exec.LookPath(*program.path)
		if err != nil {
			return fmt.Errorf("%s: there is no such program (--%s names another)", *program.path, program.flag)
		}
		*program.path = path
	}
	f, err := os.Open(in.config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w (bake kubeconfig create makes one)", err)
	}
	f.Close()
	if in.encryption != "" {
		if in.config.Encryption, err = os.ReadFile(in.encryption); err != nil {
			return fmt.Errorf("--encryption-config: %w", err)
		}
	}
	if in.encryption != "" && in.config.Etcdctl == "" {
		return errors.New("--encryption-config: what etcd has can't be read without --etcdctl")
	}
	return nil
}

// showCheck shows how a check ended.
func (h *host) showCheck(r smoke.Result) {
	if h.shown.quiet {
		return
	}
	h.say("$ " + r.Command)
	h.say(fmt.Sprintf("%s: %s: %s, %s: %s", r.Step, r.Check, r.Status, smokeTime(r.Seconds), r.Detail))
}

func smokeTime(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// leftBehind says what clean-up has not removed after an interrupt; nil: it has.
func leftBehind(report *smoke.Report, kubeconfig string) error {
	if report == nil {
		return nil
	}
	for _, r := range report.Results {
		if r.Status == smoke.Failed && r.Check == "namespace "+report.Namespace {
			return fmt.Errorf("namespace %s is still there: %s (%s removes it)", report.Namespace, r.Detail,
				manifest.Command("bake", "smoke", "clean", "--kubeconfig", kubeconfig))
		}
	}
	return nil
}

func (in *smokeFlags) writeJUnit(report *smoke.Report) error {
	if in.junit == "" {
		return nil
	}
	var b bytes.Buffer
	if err := report.WriteJUnit(&b); err != nil {
		return err
	}
	if err := atomicfile.Write(in.junit, b.Bytes()); err != nil {
		return fmt.Errorf("writing --junit: %w", err)
	}
	return nil
}

// print prints a report. It is an error where a check failed.
func (in *smokeFlags) print(h *host, report *smoke.Report) error {
	for _, warning := range report.Warnings {
		h.say("warning: " + warning)
	}
	if in.asJSON {
		encoder := json.NewEncoder(h.stdout)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(report); err != nil {
			return err
		}
	} else if err := in.printTable(h, report); err != nil {
		return err
	}
	if report.Passed() {
		return nil
	}
	var names []string
	for _, r := range report.Results {
		if r.Status == smoke.Failed {
			names = append(names, r.Step+": "+r.Check)
		}
	}
	return problem(fmt.Sprintf("%d of %d checks failed: %s", len(names), len(report.Results), strings.Join(names, "; ")))
}

func (in *smokeFlags) printTable(h *host, report *smoke.Report) error {
	w := tabwriter.NewWriter(h.stdout, 0, 0, 2, ' ', 0)
	if len(report.Results) > 0 {
		row(w, "STEP", "CHECK", "RESULT", "TIME", "SEEN")
	}
	for _, r := range report.Results {
		row(w, r.Step, r.Check, string(r.Status), smokeTime(r.Seconds), r.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var l lines
	for _, r := range report.Results {
		if r.Status != smoke.Failed {
			continue
		}
		l.add("")
		l.add("%s: %s failed: %s", r.Step, r.Check, r.Detail)
		l.add("  asked:  %s", in.filled(r.Command))
		l.add("  likely: %s", r.Cause)
		for _, next := range r.Next {
			l.add("  next:   %s", in.filled(next))
		}
	}
	if report.Kept {
		l.add("")
		l.add("kept: namespace %s; %s removes it", report.Namespace, in.filled("bake smoke clean --kubeconfig FILE"))
	}
	if len(report.Results) == 0 {
		l.add("nothing was left")
	} else {
		l.add("")
		l.add("%d passed, %d failed, %d skipped in %s", report.Count(smoke.Passed), report.Count(smoke.Failed), report.Count(smoke.Skipped), smokeTime(report.Seconds))
	}
	return l.print(h.stdout)
}

// filled is a command with the name of the kubeconfig in it.
func (in *smokeFlags) filled(command string) string {
	file := manifest.Command(in.config.Kubeconfig)
	command = strings.ReplaceAll(command, "kubectl ", "kubectl --kubeconfig "+file+" ")
	return strings.ReplaceAll(command, "--kubeconfig FILE", "--kubeconfig "+file)
}
