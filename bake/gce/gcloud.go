package gce

import (
	"cmp"
	"strings"

	"github.com/nodebake/bake/bake/arch"
)

// Placeholders for what was not given. No image, account or bucket can have such
// a name.
const (
	imagePlaceholder   = "IMAGE"
	accountPlaceholder = "SERVICE_ACCOUNT_EMAIL"
	bucketPlaceholder  = "gs://BUCKET/"
)

// Instance says how an instance is to be made, as far as gcloud must be told.
// What is empty is left out and gcloud's default holds, but for Image.
type Instance struct {
	Name           string
	Image          string // empty: the placeholder IMAGE
	Project        string
	Zone           string
	MachineType    string
	Subnet         string
	IP             string // in the subnet
	Address        string // a static external address
	Hostname       string // where it is not what Compute Engine gives it
	ServiceAccount string // for Secret Manager; empty: a placeholder

	Secrets  bool     // it reads Secret Manager
	Metadata []string // KEY=FILE, in this order
}

// CreateCommand returns the gcloud command that makes the instance.
func (i Instance) CreateCommand() []string {
	argv := []string{"gcloud", "compute", "instances", "create", i.Name}
	add := func(flag, value string) {
		if value != "" {
			argv = append(argv, flag, value)
		}
	}
	add("--project", i.Project)
	add("--zone", i.Zone)
	add("--machine-type", i.MachineType)
	add("--image", cmp.Or(i.Image, imagePlaceholder))
	add("--subnet", i.Subnet)
	add("--private-network-ip", i.IP)
	add("--address", i.Address)
	add("--hostname", i.Hostname)
	argv = append(argv,
		"--can-ip-forward",       // pods' addresses are not the instance's
		"--shielded-secure-boot") // which is off unless it is asked for; every part of the image's boot chain is signed
	if i.Secrets {
		add("--service-account", i.account())
		add("--scopes", "cloud-platform")
	}
	return append(argv, "--metadata-from-file="+dictionary(i.Metadata))
}

// SecretCommands returns the gcloud commands that put a file into a new secret of
// project and let the instance's service account read it.
func (i Instance) SecretCommands(project, secret, file string) [][]string {
	return [][]string{
		{"gcloud", "secrets", "create", secret, "--project", project, "--replication-policy", "automatic", "--data-file", file},
		{"gcloud", "secrets", "add-iam-policy-binding", secret, "--project", project,
			"--member", "serviceAccount:" + i.account(), "--role", "roles/secretmanager.secretAccessor"},
	}
}

func (i Instance) account() string { return cmp.Or(i.ServiceAccount, accountPlaceholder) }

// Route says how a route of a network is to be made.
type Route struct {
	Name        string
	Project     string
	Network     string
	Destination string // 10.200.0.0/24
	NextHop     string // an instance's primary internal address
	Description string // by which it is known for whose it is: routes have no labels
}

// CreateCommand returns the gcloud command that makes the route.
func (r Route) CreateCommand() []string {
	argv := []string{"gcloud", "compute", "routes", "create", r.Name}
	if r.Project != "" {
		argv = append(argv, "--project", r.Project)
	}
	argv = append(argv, "--network", r.Network, "--next-hop-address", r.NextHop, "--destination-range", r.Destination)
	if r.Description != "" {
		argv = append(argv, "--description", r.Description)
	}
	return argv
}

// DeleteRoutesCommand returns the gcloud command that deletes routes of a project,
// without asking.
func DeleteRoutesCommand(project string, names []string) []string {
	argv := append([]string{"gcloud", "compute", "routes", "delete"}, names...)
	if project != "" {
		argv = append(argv, "--project", project)
	}
	return append(argv, "--quiet")
}

// ListRoutesCommand returns the gcloud command that lists a network's routes.
func ListRoutesCommand(project, network string) []string {
	argv := []string{"gcloud", "compute", "routes", "list"}
	if project != "" {
		argv = append(argv, "--project", project)
	}
	return append(argv, "--filter", "network: "+network)
}

// ImageCommand returns the lines of the gcloud command that makes the image name
// of an archive in a bucket.
func ImageCommand(name, archive string, a arch.Arch, features []string) []string {
	return []string{
		"gcloud compute images create " + name + " --source-uri " + bucketPlaceholder + archive + ` \`,
		"  --architecture " + a.Facts().ComputeEngine + " --guest-os-features " + strings.Join(features, ","),
	}
}

// dictionary joins KEY=VALUE pairs as gcloud reads them; where one has a comma,
// with another delimiter (see `gcloud topic escaping`).
func dictionary(pairs []string) string {
	joined := strings.Join(pairs, ",")
	if strings.Count(joined, ",") == len(pairs)-1 {
		return joined
	}
	for _, delimiter := range []string{":", ";", "|", "#", "@@", "::::"} {
		if joined = strings.Join(pairs, delimiter); strings.Count(joined, delimiter) == len(pairs)-1 {
			return "^" + delimiter + "^" + joined
		}
	}
	return strings.Join(pairs, ",") // gcloud says what is wrong with it
}
