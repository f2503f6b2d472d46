package gce

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/bake/arch"
)

func TestCreateCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		in   Instance
		want string
	}{
		{"little", Instance{Name: "worker-0", IP: "10.240.0.20", Metadata: []string{"pod-cidr=worker-0/pod-cidr", "mtu=worker-0/mtu"}},
			"gcloud compute instances create worker-0 --image IMAGE --private-network-ip 10.240.0.20 --can-ip-forward --shielded-secure-boot" +
				" --metadata-from-file=pod-cidr=worker-0/pod-cidr,mtu=worker-0/mtu"},
		{"much", Instance{Name: "worker-0", Image: "img", Project: "p", Zone: "z", MachineType: "m", Subnet: "s", IP: "10.240.0.20", Address: "203.0.113.20",
			Hostname: "worker-0.example.com", Secrets: true, Metadata: []string{"a=it's/a b/a", "b=it's/a b/b"}},
			"gcloud compute instances create worker-0 --project p --zone z --machine-type m --image img --subnet s --private-network-ip 10.240.0.20 --address 203.0.113.20" +
				" --hostname worker-0.example.com --can-ip-forward --shielded-secure-boot --service-account SERVICE_ACCOUNT_EMAIL --scopes cloud-platform" +
				" --metadata-from-file=a=it's/a b/a,b=it's/a b/b"},
		{"commas", Instance{Name: "worker-0", Metadata: []string{"a=a,b:c/a", "b=a,b:c/b"}},
			"gcloud compute instances create worker-0 --image IMAGE --can-ip-forward --shielded-secure-boot --metadata-from-file=^;^a=a,b:c/a;b=a,b:c/b"},
	} {
		if diff := cmp.Diff(test.want, strings.Join(test.in.CreateCommand(), " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestSecretCommands(t *testing.T) {
	t.Parallel()
	got := Instance{ServiceAccount: "a@b"}.SecretCommands("p", "worker-0-kubelet-key", "out/secrets/kubelet-key")
	want := [][]string{
		strings.Fields("gcloud secrets create worker-0-kubelet-key --project p --replication-policy automatic --data-file out/secrets/kubelet-key"),
		strings.Fields("gcloud secrets add-iam-policy-binding worker-0-kubelet-key --project p --member serviceAccount:a@b --role roles/secretmanager.secretAccessor"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("SecretCommands (-want +got):\n%s", diff)
	}
}

func TestRouteCommands(t *testing.T) {
	t.Parallel()
	r := Route{Name: "kubernetes-route-10-200-0-0-24", Network: "n", Destination: "10.200.0.0/24", NextHop: "10.240.0.20"}
	all := r
	all.Project, all.Description = "p", "of worker-0"
	got := [][]string{
		r.CreateCommand(), all.CreateCommand(),
		DeleteRoutesCommand("", []string{"a", "b"}), DeleteRoutesCommand("p", []string{"a"}),
		ListRoutesCommand("", "n"), ListRoutesCommand("p", "n"),
	}
	want := [][]string{
		strings.Fields("gcloud compute routes create kubernetes-route-10-200-0-0-24 --network n --next-hop-address 10.240.0.20 --destination-range 10.200.0.0/24"),
		append(strings.Fields("gcloud compute routes create kubernetes-route-10-200-0-0-24 --project p --network n --next-hop-address 10.240.0.20 --destination-range 10.200.0.0/24 --description"), "of worker-0"),
		strings.Fields("gcloud compute routes delete a b --quiet"), strings.Fields("gcloud compute routes delete a --project p --quiet"),
		append(strings.Fields("gcloud compute routes list --filter"), "network: n"),
		append(strings.Fields("gcloud compute routes list --project p --filter"), "network: n"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// TestImageCommand has a shell take the lines apart.
func TestImageCommand(t *testing.T) {
	t.Parallel()
	lines := ImageCommand("worker", "worker.tar.gz", arch.ARM64, []string{"GVNIC", "IDPF"})
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "gcloud() { echo $# \"$@\"; }\n"+strings.Join(lines, "\n")).Output()
	const want = "10 compute images create worker --source-uri gs://BUCKET/worker.tar.gz --architecture ARM64 --guest-os-features GVNIC,IDPF\n"
	if err != nil || string(out) != want {
		t.Errorf("sh reads %q, %v; want %q", out, err, want)
	}
}
