//go:build system

// Package dns compares the DNS add-on that bake applies, field by field, with the two
// that Kubernetes has of the same release: that of its add-ons, and kubeadm's. Both
// are in the module that bake's kubelet is built from. It needs the module proxy
// where the module is not in Go's cache.
package dns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"

	"github.com/nodebake/bake/bake/dns"
)

const modules = "../../manifests/modules/kubernetes"

// kubernetes returns the directory of the pinned module's source.
func kubernetes(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(modules, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(file.Require, func(r *modfile.Require) bool { return r.Mod.Path == "k8s.io/kubernetes" })
	if i < 0 {
		t.Fatalf("%s/go.mod requires no k8s.io/kubernetes", modules)
	}
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", file.Require[i].Mod.String())
	cmd.Dir = modules
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &answer); jsonErr != nil || err != nil || answer.Dir == "" {
		t.Fatalf("go mod download: %v: %s", err, answer.Error)
	}
	return answer.Dir
}

// current is ours.
func current() dns.Addon {
	return dns.Addon{
		Release: dns.Current(), Image: dns.Current().Image, ClusterIP: netip.MustParseAddr(dns.DefaultClusterIP),
		Domain: dns.DefaultDomain, Replicas: dns.DefaultReplicas,
	}
}

// addon is that of cluster/addons, filled in as ours is.
func addon(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "cluster/addons/dns/coredns/coredns.yaml.base"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("__DNS__DOMAIN__", dns.DefaultDomain, "__DNS__SERVER__", dns.DefaultClusterIP, "__DNS__MEMORY__LIMIT__", "170Mi").Replace(string(data))
}

// kubeadm is that of kubeadm: constants of Go, which are templates.
func kubeadm(t *testing.T, dir string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "cmd/kubeadm/app/phases/addons/dns/manifests.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING || !strings.HasPrefix(literal.Value, "`") {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := template.New("").Option("missingkey=error").Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n---\n")
		if err := tmpl.Execute(&all, map[string]any{
			"DeploymentName": "coredns", "Replicas": dns.DefaultReplicas, "ControlPlaneTaintKey": "node-role.kubernetes.io/control-plane",
			"Image": dns.Current().Image, "DNSDomain": dns.DefaultDomain, "DNSIP": dns.DefaultClusterIP,
		}); err != nil {
			t.Fatal(err)
		}
		return true
	})
	return all.String()
}

// fields are all values of all objects, by kind and path.
func fields(t *testing.T, text string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if object == nil {
			continue
		}
		flatten(found, fmt.Sprint(object["kind"]), object)
	}
}

func flatten(found map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, item := range v {
			if name == "Corefile" {
				corefile(found, path+".Corefile", item.(string))
				continue
			}
			flatten(found, path+"."+name, item)
		}
	case []any:
		for i, item := range v {
			flatten(found, fmt.Sprintf("%s[%d]", path, i), item)
		}
	default:
		found[path] = fmt.Sprint(value)
	}
}

// corefile has a field for each line, within the blocks that it is in.
func corefile(found map[string]string, path, text string) {
	blocks := []string{path}
	for line := range strings.Lines(text) {
		switch line = strings.Join(strings.Fields(line), " "); {
		case line == "":
		case line == "}":
			blocks = blocks[:len(blocks)-1]
		default:
			name, opens := strings.CutSuffix(line, " {")
			found[strings.Join(append(slices.Clone(blocks), name), " > ")] = "there"
			if opens {
				blocks = append(blocks, name)
			}
		}
	}
}

// difference is one that is meant; an asterisk at the end of the path stands for
// whatever follows.
type difference struct{ path, ours, theirs, why string }

const none = "-" // the field is not there

const (
	byLabel  = "ours are known by this label, and nobody reconciles them"
	readable = "what `kubectl cluster-info` and people look for"
	defaults = "the same as the default, said or not said"
)

// TestAddon compares with the manifest of Kubernetes' add-ons.
func TestAddon(t *testing.T) {
	ours, err := current().YAML()
	if err != nil {
		t.Fatal(err)
	}
	const cache = "ConfigMap.data.Corefile > .:53 > cache 30 > "
	compare(t, fields(t, ours), fields(t, addon(t, kubernetes(t))), slices.Concat(ownLabels(), []difference{
		{"ServiceAccount.metadata.labels.kubernetes.io/cluster-service", none, "true", "of the add-on manager"},
		{"Deployment.metadata.labels.kubernetes.io/cluster-service", none, "true", "of the add-on manager"},
		{"ServiceAccount.metadata.labels.addonmanager.kubernetes.io/mode", none, "Reconcile", "of the add-on manager, which is not there"},
		{"ClusterRole.metadata.labels.addonmanager.kubernetes.io/mode", none, "Reconcile", "of the add-on manager, which is not there"},
		{"ClusterRoleBinding.metadata.labels.addonmanager.kubernetes.io/mode", none, "EnsureExists", "of the add-on manager, which is not there"},
		{"ConfigMap.metadata.labels.addonmanager.kubernetes.io/mode", none, "EnsureExists", "of the add-on manager, which is not there"},
		{"Deployment.metadata.labels.addonmanager.kubernetes.io/mode", none, "Reconcile", "of the add-on manager, which is not there"},
		{"Service.metadata.labels.addonmanager.kubernetes.io/mode", none, "Reconcile", "of the add-on manager, which is not there"},
		{"Deployment.spec.replicas", "2", none, "the add-on leaves it to an autoscaler, which is not there"},
		{cache + "disable success cluster.local", "there", none, "kubeadm's: what the kubernetes plugin answers from memory is not kept a second time, and is never 30 s old"},
		{cache + "disable denial cluster.local", "there", none, "kubeadm's, the same for names that are not there"},
		{"Deployment.spec.template.spec.containers[0].ports[3].containerPort", "8080", none, "kubeadm's: a probe's port has a name"},
		{"Deployment.spec.template.spec.containers[0].ports[3].name", "liveness-probe", none, "the same"},
		{"Deployment.spec.template.spec.containers[0].ports[3].protocol", "TCP", none, "the same"},
		{"Deployment.spec.template.spec.containers[0].ports[4].containerPort", "8181", none, "the same"},
		{"Deployment.spec.template.spec.containers[0].ports[4].name", "readiness-probe", none, "the same"},
		{"Deployment.spec.template.spec.containers[0].ports[4].protocol", "TCP", none, "the same"},
		{"Deployment.spec.template.spec.containers[0].livenessProbe.httpGet.port", "liveness-probe", "8080", "the same"},
		{"Deployment.spec.template.spec.containers[0].readinessProbe.httpGet.port", "readiness-probe", "8181", "the same"},
		{"Service.spec.ports[0].targetPort", "53", none, defaults},
		{"Service.spec.ports[1].targetPort", "53", none, defaults},
		{"Service.spec.ports[2].targetPort", "9153", none, defaults},
	}))
}

// TestKubeadm compares with kubeadm's.
func TestKubeadm(t *testing.T) {
	ours, err := current().YAML()
	if err != nil {
		t.Fatal(err)
	}
	const bootstrapping = "marks it as part of a cluster's set-up, as the add-on does"
	compare(t, fields(t, ours), fields(t, kubeadm(t, kubernetes(t))), slices.Concat(ownLabels(), []difference{
		{"ClusterRole.metadata.labels.kubernetes.io/bootstrapping", "rbac-defaults", none, bootstrapping},
		{"ClusterRoleBinding.metadata.labels.kubernetes.io/bootstrapping", "rbac-defaults", none, bootstrapping},
		{"ClusterRoleBinding.metadata.annotations.rbac.authorization.kubernetes.io/autoupdate", "true", none, bootstrapping},
		{"Deployment.metadata.labels.kubernetes.io/name", "CoreDNS", none, readable},
		{"Deployment.spec.template.spec.securityContext.seccompProfile.type", "RuntimeDefault", none, "the add-on's: the runtime's filter of system calls, also where kubelet does not set it"},
		{"Deployment.spec.template.spec.tolerations[1].key", none, "node-role.kubernetes.io/control-plane", "control planes of the guide are no nodes"},
		{"Deployment.spec.template.spec.tolerations[1].effect", none, "NoSchedule", "the same"},
		{"Service.metadata.resourceVersion", none, "0", "kubeadm updates without reading first; kubectl apply does not"},
	}))
}

// ownLabels are the label that every object of ours has.
func ownLabels() []difference {
	var all []difference
	for _, kind := range []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Service"} {
		all = append(all, difference{kind + ".metadata.labels.app.kubernetes.io/managed-by", "bake", none, byLabel})
	}
	return all
}

// compare wants exactly the differences that are meant.
func compare(t *testing.T, ours, theirs map[string]string, meant []difference) {
	t.Helper()
	for _, problem := range differences(ours, theirs, meant) {
		t.Error(problem)
	}
}

func differences(ours, theirs map[string]string, meant []difference) []string {
	var problems []string
	if len(ours) < 50 || len(theirs) < 50 {
		problems = append(problems, fmt.Sprintf("there are %d and %d fields; want at least 50 of each", len(ours), len(theirs)))
	}
	at := func(fields map[string]string, path string) string {
		if value, ok := fields[path]; ok {
			return value
		}
		return none
	}
	all := maps.Clone(ours)
	maps.Copy(all, theirs)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		got := difference{path: path, ours: at(ours, path), theirs: at(theirs, path)}
		i := slices.IndexFunc(meant, func(d difference) bool { return d.path == path })
		switch {
		case got.ours == got.theirs && i >= 0:
			problems = append(problems, fmt.Sprintf("%s is %s in both; remove the difference", path, got.ours))
		case got.ours != got.theirs && (i < 0 || meant[i].ours != got.ours || meant[i].theirs != got.theirs):
			problems = append(problems, fmt.Sprintf("%s is %s, and theirs is %s; want the same, or the reason", path, got.ours, got.theirs))
		}
	}
	for _, d := range meant {
		if _, ok := all[d.path]; !ok || d.why == "" {
			problems = append(problems, fmt.Sprintf("the difference at %s is about no field, or has no reason", d.path))
		}
	}
	return problems
}

// TestDifferences shows the comparison what it must find.
func TestDifferences(t *testing.T) {
	text, err := current().YAML()
	if err != nil {
		t.Fatal(err)
	}
	ours := fields(t, text)
	for _, change := range []struct{ old, changed, want string }{
		{"resources: [endpointslices]", "resources: [endpoints]", "ClusterRole.rules[1].resources[0] is endpointslices, and theirs is endpoints; want the same, or the reason"},
		{"lameduck 5s", "lameduck 6s", "ConfigMap.data.Corefile > .:53 > health > lameduck 5s is there, and theirs is -; want the same, or the reason"},
		{"drop: [ALL]", "drop: []", "Deployment.spec.template.spec.containers[0].securityContext.capabilities.drop[0] is ALL, and theirs is -; want the same, or the reason"},
	} {
		if strings.Count(text, change.old) != 1 {
			t.Fatalf("%q is not there once", change.old)
		}
		got := differences(ours, fields(t, strings.Replace(text, change.old, change.changed, 1)), nil)
		if !slices.Contains(got, change.want) {
			t.Errorf("differences after a change to %q = %q; want %s", change.changed, got, change.want)
		}
	}
	if got := differences(ours, ours, []difference{{"Service.spec.clusterIP", "a", "b", "c"}, {"Service.spec.none", "a", "b", "c"}}); len(got) != 2 {
		t.Errorf("differences that are none = %q; want that both are named", got)
	}
}
