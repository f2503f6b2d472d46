package kubeconfig_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nodebake/bake/bake/kubeconfig"
	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/test/filetest"
)

// kubectl is what kubectl goes by.
func kubectl(t *testing.T, explicit, list, home string) *clientcmd.PathOptions {
	t.Helper()
	options := clientcmd.NewDefaultPathOptions()
	options.GlobalFile, options.EnvVar = filepath.Join(home, ".kube", "config"), ""
	options.LoadingRules.ExplicitPath, options.LoadingRules.MigrationRules = explicit, nil
	if list != "" {
		options.EnvVar = "BAKE_TEST_KUBECONFIG"
		t.Setenv(options.EnvVar, list)
	}
	return options
}

// TestFindPaths asks kubectl's own code which files it reads, and which it writes.
func TestFindPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "there", "")
	write(t, "there-too", "")
	for _, test := range []struct{ explicit, list string }{
		{"", ""}, {"x", ""}, {"x", "there"}, {"", "gone"}, {"", "there"}, {"", "gone:there"}, {"", "gone:there-too:there"}, {"", "gone:lost"}, {"", "gone:gone"}, {"", "there:there-too:there"},
	} {
		list := strings.ReplaceAll(test.list, ":", string(filepath.ListSeparator))
		options := kubectl(t, test.explicit, list, "home")
		want := kubeconfig.Paths{Files: options.GetLoadingPrecedence(), Target: options.GetDefaultFilename()}
		if diff := cmp.Diff(want, kubeconfig.FindPaths(test.explicit, list, "home")); diff != "" {
			t.Errorf("FindPaths(%q, %q, home) (-want +got):\n%s", test.explicit, test.list, diff)
		}
	}
	// kubectl fails at a name that is empty, and without a home it takes the directory that it is in.
	sep := string(filepath.ListSeparator)
	if diff := cmp.Diff(kubeconfig.Paths{Files: []string{"gone"}, Target: "gone"}, kubeconfig.FindPaths("", sep+"gone"+sep, "home")); diff != "" {
		t.Errorf("FindPaths of a list with empty names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(kubeconfig.Paths{}, kubeconfig.FindPaths("", sep, "")); diff != "" {
		t.Errorf("FindPaths without a home (-want +got):\n%s", diff)
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "profile", ".kube", "config"), "")
	for _, d := range []string{"home", "drive"} {
		filetest.Mkdir(t, filepath.Join(dir, d))
	}
	for _, test := range []struct{ system, home, path, profile, want string }{
		{"linux", "home", "drive", "profile", "home"},
		{"linux", "", "drive", "profile", ""},
		{"windows", "home", "drive", "profile", "profile"}, // a kubeconfig is there
		{"windows", "home", "drive", "", "home"},
		{"windows", "gone", "drive", "gone", "drive"},
		{"windows", "", "", "", ""},
	} {
		values := map[string]string{"HOME": test.home, "HOMEPATH": test.path, "USERPROFILE": test.profile}
		for name, value := range values {
			if value != "" {
				values[name] = filepath.Join(dir, value)
			}
		}
		want := test.want
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got := kubeconfig.Home(test.system, func(name string) string { return values[name] }); got != want {
			t.Errorf("Home(%s) of %v = %q; want %q", test.system, values, got, want)
		}
	}
}

// starts are files to merge into, as people and programs leave them.
func starts() map[string]map[string]string {
	return map[string]map[string]string{
		"nothing":           {"a": "-"},
		"an empty file":     {"a": ""},
		"comments":          {"a": "# mine\n"},
		"others":            {"a": others},
		"JSON":              {"a": `{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "x", "cluster": {"server": "https://x:1"}}], "users": null}`},
		"two files":         {"a": "-", "b": others},
		"two files, used":   {"a": "current-context: work\nusers: []\n", "b": others},
		"none of two files": {"a": "-", "b": "-"},
		"directories":       {"d/e/a": "-", "b": "-"},
	}
}

// TestMergeEqualsKubectl has kubectl's own code make the same of the same files,
// by the calls of kubectl config set-cluster, set-credentials, set-context and
// use-context, and those that take an entry out.
func TestMergeEqualsKubectl(t *testing.T) {
	w := newWorld(t)
	k := w.admin(w.ca)
	for name, files := range starts() {
		for _, use := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, used %t", name, use), func(t *testing.T) {
				ours, theirs := t.TempDir(), t.TempDir()
				lists := map[string]string{}
				for _, dir := range []string{ours, theirs} {
					var list []string
					for path, text := range files {
						path = filepath.Join(dir, path)
						if list = append(list, path); text != "-" {
							write(t, path, text)
						}
					}
					slices.Sort(list)
					lists[dir] = strings.Join(list, string(filepath.ListSeparator))
				}
				paths := kubeconfig.FindPaths("", lists[ours], "")
				_, err := kubeconfig.Update(t.Context(), paths, kubeconfig.Waiting{}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
					return kubeconfig.Merge(files, paths.Target, k, use)
				})
				if err != nil {
					t.Fatal(err)
				}
				options := kubectl(t, "", lists[theirs], "")
				for _, change := range kubectlMerges(k, use) {
					config, err := options.GetStartingConfig()
					if err != nil {
						t.Fatal(err)
					}
					change(config)
					if err := clientcmd.ModifyConfig(options, *config, true); err != nil {
						t.Fatal(err)
					}
				}
				compareFiles(t, ours, theirs)

				_, err = kubeconfig.Update(t.Context(), paths, kubeconfig.Waiting{}, func(files []kubeconfig.File) (*kubeconfig.Result, error) {
					return kubeconfig.Remove(files, k.Server, k.CA)
				})
				if err != nil {
					t.Fatal(err)
				}
				config, err := options.GetStartingConfig()
				if err != nil {
					t.Fatal(err)
				}
				delete(config.Clusters, k.Name)
				delete(config.Contexts, k.Name)
				delete(config.AuthInfos, k.User)
				if use {
					config.CurrentContext = ""
				}
				if err := clientcmd.ModifyConfig(options, *config, true); err != nil {
					t.Fatal(err)
				}
				compareFiles(t, ours, theirs)
			})
		}
	}
}

// kubectlMerges are the changes of kubectl's four commands.
func kubectlMerges(k node.Kubeconfig, use bool) []func(*clientcmdapi.Config) {
	all := []func(*clientcmdapi.Config){
		func(c *clientcmdapi.Config) {
			c.Clusters[k.Name] = clientcmdapi.NewCluster()
			c.Clusters[k.Name].Server, c.Clusters[k.Name].CertificateAuthorityData = k.Server, k.CA
		},
		func(c *clientcmdapi.Config) {
			c.AuthInfos[k.User] = clientcmdapi.NewAuthInfo()
			c.AuthInfos[k.User].ClientCertificateData, c.AuthInfos[k.User].ClientKeyData = k.Certificate, k.Key
		},
		func(c *clientcmdapi.Config) {
			c.Contexts[k.Name] = clientcmdapi.NewContext()
			c.Contexts[k.Name].Cluster, c.Contexts[k.Name].AuthInfo = k.Name, k.User
		},
	}
	if use {
		all = append(all, func(c *clientcmdapi.Config) { c.CurrentContext = k.Name })
	}
	return all
}

// compareFiles has client-go read the files of both directories.
func compareFiles(t *testing.T, ours, theirs string) {
	t.Helper()
	read := func(dir string) map[string]*clientcmdapi.Config {
		found := map[string]*clientcmdapi.Config{}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("%s has the mode %v, %v; want 0600", name, info.Mode(), err)
			}
			found[name], err = clientcmd.LoadFromFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	origin := cmpopts.IgnoreFields(clientcmdapi.Cluster{}, "LocationOfOrigin")
	user := cmpopts.IgnoreFields(clientcmdapi.AuthInfo{}, "LocationOfOrigin")
	context := cmpopts.IgnoreFields(clientcmdapi.Context{}, "LocationOfOrigin")
	if diff := cmp.Diff(read(theirs), read(ours), origin, user, context, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the files (-kubectl +bake):\n%s", diff)
	}
}
