package firstboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/firstboot/config"
	"github.com/nodebake/bake/firstboot/files"
	"github.com/nodebake/bake/firstboot/metadata"
)

// DryRunConfig says what DryRun looks at. Out is required.
type DryRunConfig struct {
	Root    string // the node's root directory; "/" where empty
	Image   string // file: what is baked in; below Root where empty
	Machine Machine
	Out     io.Writer

	// MetadataFile holds the metadata server's recursive JSON. Where it is
	// empty the server that Metadata describes is asked.
	MetadataFile string
	Metadata     metadata.Config
}

// DryRun prints what Run would write and start, and changes nothing. It fails
// where Run would, but for the machine's own reasons (a full disk, systemd). It
// shows no content of files that only root may read.
func DryRun(ctx context.Context, c DryRunConfig) error {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Image == "" {
		c.Image = filepath.Join(c.Root, imageRecord)
	}
	c.Machine = c.Machine.withDefaults()
	image, err := readImage(c.Image)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (a worker's root directory has it; or name a file with --image)", err)
	}
	if err != nil {
		return err
	}
	m, secrets, err := dryMetadata(ctx, c)
	if err != nil {
		return err
	}
	node, err := config.New(config.Input{
		Metadata: m, Secrets: secrets, Image: image,
		Now: c.Machine.Now(), Memory: c.Machine.Memory(), CPUs: c.Machine.CPUs(),
	})
	if err != nil {
		return err
	}
	again, err := rejoin(c.Root, node)
	if err != nil {
		return err
	}
	want := append(nodeFiles(node), again.Files...)
	changes, err := files.Plan(c.Root, want)
	if err != nil {
		return err
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "node %s: pods %s of %s, DNS %s (%s), MTU %d, credentials: %s\n\n",
		node.Name, node.PodCIDR, node.ClusterCIDR, node.ClusterDNS, node.ClusterDomain, node.MTU, node.Credentials)
	for _, warning := range node.Warnings {
		fmt.Fprintf(&b, "%s\n\n", warning)
	}
	if again.Why != "" {
		fmt.Fprintf(&b, "%s: it would ask for another, if %s takes the token\n\n", again.Why, again.Access.Server)
	}
	byPath := map[string]files.File{}
	for _, f := range want {
		byPath[f.Path] = f
	}
	var paths []string
	for _, change := range changes {
		paths = append(paths, change.Path)
		f, wanted := byPath[change.Path]
		if !wanted || f.Absent {
			fmt.Fprintf(&b, "%-12s      %s\n", change.What, change.Path)
			continue
		}
		fmt.Fprintf(&b, "%-12s %04o %s (%d bytes)\n", change.What, f.Mode, f.Path, len(f.Content))
		if change.What != files.Created && change.What != files.Rewritten {
			continue
		}
		if f.Secret {
			fmt.Fprintf(&b, "    (not shown: it holds a credential)\n")
			continue
		}
		// What can't be read through the root is shown as if it were new.
		old, _ := os.ReadFile(filepath.Join(c.Root, f.Path))
		for _, line := range diffLines(splitLines(old), splitLines(f.Content)) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	fmt.Fprintf(&b, "\n%d of %d files would change.\n", len(changes), len(want))
	for _, u := range unitsFor(node, paths) {
		if u.Restart {
			fmt.Fprintf(&b, "enable, and start or restart %s\n", u.Name)
		} else {
			fmt.Fprintf(&b, "enable, and start %s unless it runs\n", u.Name)
		}
	}
	_, err = c.Out.Write(b.Bytes())
	return err
}

func dryMetadata(ctx context.Context, c DryRunConfig) (*metadata.Metadata, map[string]string, error) {
	if c.MetadataFile == "" {
		client := metadata.New(c.Metadata)
		m, err := client.Get(ctx)
		if err != nil {
			return nil, nil, err
		}
		secrets, err := fetchSecrets(ctx, client, m)
		return m, secrets, err
	}
	data, err := os.ReadFile(c.MetadataFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading metadata: %w", err)
	}
	m, err := metadata.Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", c.MetadataFile, err)
	}
	versions, err := config.Secrets(m)
	if err != nil {
		return nil, nil, err
	}
	for key, version := range versions {
		return nil, nil, fmt.Errorf("metadata key %s-secret: %s is in Secret Manager, which wants an instance's service account: ask a metadata server in place of a file", key, version)
	}
	return m, nil, nil
}

func splitLines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// diffLines returns lines that went with "- ", that came with "+ ", and none of
// the rest: files are short, and people look for what changes. It goes along a
// longest common subsequence.
func diffLines(old, now []string) []string {
	// common[i][j] is its length for old[i:] and now[j:].
	common := make([][]int, len(old)+1)
	for i := range common {
		common[i] = make([]int, len(now)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(now) - 1; j >= 0; j-- {
			if old[i] == now[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(old) || j < len(now); {
		switch {
		case i < len(old) && j < len(now) && old[i] == now[j]:
			i, j = i+1, j+1
		case i < len(old) && (j == len(now) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+old[i])
			i++
		default:
			out = append(out, "+ "+now[j])
			j++
		}
	}
	return out
}
