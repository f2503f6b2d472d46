package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nodebake/bake/test/filetest"
)

// completes returns what a shell is told: words, and the directive's name.
func completes(t *testing.T, env []string, args ...string) (words []string, directive string) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), &host{stdout: &out, stderr: io.Discard, env: env}, append([]string{cobra.ShellCompNoDescRequestCmd}, args...)); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := len(lines) - 1
	for number, name := range map[cobra.ShellCompDirective]string{
		cobra.ShellCompDirectiveDefault: "files", cobra.ShellCompDirectiveNoFileComp: "nothing", cobra.ShellCompDirectiveFilterFileExt: "files named so",
		cobra.ShellCompDirectiveFilterDirs: "directories", cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace: "nothing, no space",
	} {
		if lines[last] == fmt.Sprintf(":%d", number) {
			return slices.Compact(lines[:last]), name
		}
	}
	t.Fatalf("%q: the last line is %q", args, lines[last])
	return nil, ""
}

// free are the flags that take a number, an address or a name that nobody can
// know beforehand, or that only what is running tells. A flag that is not here must
// be completed.
var free = strings.Fields(`bootstrap-token busybox-image cat cluster-cidr cluster-dns cluster-domain cluster-ip cpus days
	debian-mirror disk-size domain drop external-ip forward hostname image insecure-registry ip jobs
	kubernetes local machine-type max-gib memory metadata-value mtu name network nginx-image node-address
	nodes pod-cidr project proxy replicas san secrets server service-account service-cidr ssh-port
	subnet timeout until user validity worker workers zone`)

// TestEveryFlagIsCompleted walks all commands.
func TestEveryFlagIsCompleted(t *testing.T) {
	t.Parallel()
	values, files := flagValues(), flagFiles()
	seen := map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		c.InitDefaultHelpFlag()
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			seen[f.Name] = true
			if f.Value.Type() == "bool" {
				return
			}
			words, directive := completes(t, nil, append(slices.Clone(path), "--"+f.Name, "")...)
			var wantWords []string
			want := "nothing"
			takes, _ := pflag.UnquoteUsage(f)
			switch {
			case values[f.Name] != nil:
				wantWords = values[f.Name]
			case strings.Contains(takes, "DIR"):
				want = "directories"
			case files[f.Name] != nil:
				wantWords, want = files[f.Name], "files named so"
			case strings.Contains(takes, "FILE"):
				want = "files"
			case !slices.Contains(free, f.Name):
				t.Errorf("%s --%s has no completion, and is not among those that have none", c.CommandPath(), f.Name)
			}
			if diff := cmp.Diff(wantWords, words, cmpopts.EquateEmpty()); diff != "" || directive != want {
				t.Errorf("%s --%s completes %s; want %s; words (-want +got):\n%s", c.CommandPath(), f.Name, directive, want, diff)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&host{}))
	for _, name := range free {
		if !seen[name] {
			t.Errorf("there is no flag --%s", name)
		}
	}
	for name := range values {
		if !seen[name] {
			t.Errorf("there is no flag --%s", name)
		}
	}
}

// TestOfferedValuesAreTaken gives each value to a command that takes the flag and
// fails for another reason; and one that is not offered.
func TestOfferedValuesAreTaken(t *testing.T) {
	t.Chdir(t.TempDir()) // what is named is not there
	for name, command := range map[string]string{
		"arch": "image --versions no.yaml", "format": "image --versions no.yaml", "origin": "image --versions no.yaml",
		"key-type": "node x --server https://api:6443 --ip 10.240.0.20 --pod-cidr 10.200.0.0/24 --output out --ca-dir no",
		"disk-bus": "run no.raw", "accel": "run no.raw", "go-host": "",
	} {
		values := flagValues()[name]
		if command == "" {
			continue // it is checked later, or as --arch is
		}
		for _, value := range append(slices.Clone(values), "bogus") {
			err := run(t.Context(), &host{stdout: io.Discard, stderr: io.Discard, now: time.Now}, append(strings.Fields(command), "--"+name, value))
			if refused := exitCode(t.Context(), err) == exitUsage; refused != (value == "bogus") {
				t.Errorf("bake %s --%s %s = %v; want that it is refused: %t", command, name, value, err, value == "bogus")
			}
		}
	}
}

// TestCompletion is about arguments, and names in a versions file.
func TestCompletion(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "versions.yaml")
	const text = `os: {distribution: debian, suite: trixie}
components:
  kubelet: {version: v1.36.3, module: {path: k8s.io/kubernetes, toolchain: go1.26.8, dir: m/k, programs: [{package: k8s.io/kubernetes/cmd/kubelet, path: /usr/local/bin/kubelet}]}}
  runc: {version: v1.4.3, module: {path: example.com/runc, toolchain: go1.26.8, dir: m/r, programs: [{package: example.com/runc, path: /usr/local/bin/runc}]}}
  ctr: {version: 1.4.13, package: {name: containerd, suite: bullseye, files: [{member: usr/bin/ctr, path: /bin/}]}}
`
	filetest.Write(t, file, text)
	for _, test := range []struct {
		args      string
		words     []string
		directive string
	}{
		{"lint |", []string{"tar.gz", "raw"}, "files named so"},
		{"lint a.tar.gz |", nil, "nothing"},
		{"inspect a.tar.gz |", []string{"tar.gz", "raw"}, "files named so"},
		{"inspect a.tar.gz --packages |", nil, "nothing"},
		{"run |", []string{"tar.gz", "raw"}, "files named so"},
		{"verify |", []string{"tar.gz", "raw"}, "files named so"},
		{"image |", nil, "nothing"},
		{"node |", nil, "nothing"},
		{"lock --arch amd64 |", nil, "nothing"},
		{"image --versions " + file + " --build-missing=|", []string{"kubelet", "runc"}, "nothing, no space"},
		{"image --versions " + file + " --build-missing=kubelet,|", []string{"kubelet,runc"}, "nothing, no space"},
		{"image --versions missing.yaml --build-missing=|", nil, "nothing"},
	} {
		args := strings.Fields(strings.Replace(test.args, "|", "\x00", 1))
		args[len(args)-1] = strings.TrimSuffix(args[len(args)-1], "\x00")
		words, directive := completes(t, nil, args...)
		if diff := cmp.Diff(test.words, words, cmpopts.EquateEmpty()); diff != "" || directive != test.directive {
			t.Errorf("bake %s completes %s; want %s; words (-want +got):\n%s", test.args, directive, test.directive, diff)
		}
	}
}

// TestClustersAreCompleted has two clusters.
func TestClustersAreCompleted(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	for _, name := range []string{"bake", "other"} {
		if err := os.MkdirAll(filepath.Join(state, "bake", "clusters", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"routes list --local", "cluster delete --name"} {
		words, directive := completes(t, []string{"XDG_STATE_HOME=" + state}, append(strings.Fields(command), "")...)
		if !slices.Equal(words, []string{"bake", "other"}) || directive != "nothing" {
			t.Errorf("%s completes %q, %s; want both clusters and nothing", command, words, directive)
		}
	}
}
