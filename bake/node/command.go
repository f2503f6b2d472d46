package node

import (
	"path/filepath"
	"regexp"
	"strings"
)

// Instance says how the instance is to be made, as far as gcloud must be told.
// What is empty is left out and gcloud's default holds, but for Image.
type Instance struct {
	Image          string // empty: the placeholder IMAGE
	Project        string
	Zone           string
	MachineType    string
	Subnet         string
	Address        string // a static external address
	ServiceAccount string // for Secret Manager; empty: a placeholder
}

// Placeholders for what was not given. No image or account can have such a name.
const (
	imagePlaceholder   = "IMAGE"
	accountPlaceholder = "SERVICE_ACCOUNT_EMAIL"
)

// CreateCommand returns the gcloud command that makes the instance with the
// metadata files of keys in dir.
func CreateCommand(c Config, in Instance, dir string, values map[string][]byte, secrets bool) []string {
	argv := []string{"gcloud", "compute", "instances", "create", c.Name}
	add := func(flag, value string) {
		if value != "" {
			argv = append(argv, flag, value)
		}
	}
	image := in.Image
	if image == "" {
		image = imagePlaceholder
	}
	add("--project", in.Project)
	add("--zone", in.Zone)
	add("--machine-type", in.MachineType)
	add("--image", image)
	add("--subnet", in.Subnet)
	add("--private-network-ip", c.IP.String())
	add("--address", in.Address)
	if c.Hostname != "" {
		add("--hostname", trimDot(c.Hostname))
	}
	argv = append(argv,
		"--can-ip-forward",       // pods' addresses are not the instance's
		"--shielded-secure-boot") // which is off unless it is asked for; every part of the image's boot chain is signed
	if secrets {
		add("--service-account", account(in))
		add("--scopes", "cloud-platform")
	}
	var files []string
	for _, key := range sorted(values) {
		files = append(files, key+"="+filepath.Join(dir, key))
	}
	return append(argv, "--metadata-from-file="+dictionary(files))
}

// SecretCommands returns the gcloud commands that put the secrets of dir into
// Secret Manager and let the instance's service account read them.
func SecretCommands(c Config, in Instance, project, dir string, secrets map[string][]byte) [][]string {
	var commands [][]string
	for _, key := range sorted(secrets) {
		name := secretName(c.Name, key)
		commands = append(commands,
			[]string{"gcloud", "secrets", "create", name, "--project", project, "--replication-policy", "automatic", "--data-file", filepath.Join(dir, key)},
			[]string{"gcloud", "secrets", "add-iam-policy-binding", name, "--project", project,
				"--member", "serviceAccount:" + account(in), "--role", "roles/secretmanager.secretAccessor"})
	}
	return commands
}

func account(in Instance) string {
	if in.ServiceAccount != "" {
		return in.ServiceAccount
	}
	return accountPlaceholder
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

// Quote writes a command for a POSIX shell.
func Quote(argv []string) string {
	safe := regexp.MustCompile(`^[a-zA-Z0-9_./:=@,+%-]+$`)
	var words []string
	for _, word := range argv {
		if !safe.MatchString(word) {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
