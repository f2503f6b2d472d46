package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/nodebake/bake/bake/controlplane"
	"github.com/nodebake/bake/bake/manifest"
)

// Logs copies what tells how the cluster called name below root is, or was, to the
// directory to, which must be empty or absent: the consoles of its workers, the logs
// of its control plane, its status and, while it runs, what the API server knows of
// nodes and events. It returns the files' names, sorted. Keys, certificates and
// kubeconfigs are not among them.
func Logs(ctx context.Context, root, name, to string) ([]string, error) {
	if !Exists(root, name) {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("there is no cluster %s%s", name, others(root))}
	}
	if err := makeEmptyDir(to); err != nil {
		return nil, err
	}
	files, err := logFiles(filepath.Join(root, name))
	if err != nil {
		return nil, fmt.Errorf("looking for logs: %w", err)
	}
	for _, from := range files {
		if err := copyFile(filepath.Join(to, filepath.Base(from)), from); err != nil {
			return nil, fmt.Errorf("copying logs: %w", err)
		}
	}
	client := NewClient(root, name)
	status, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(to, statusFile), status); err != nil {
		return nil, err
	}
	names := []string{statusFile}
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	for _, kind := range objectKinds() {
		var objects json.RawMessage
		if status.Phase != Running {
			continue
		}
		if err := client.do(ctx, http.MethodGet, objectsPath+"/"+kind, nil, &objects); err != nil {
			return nil, fmt.Errorf("asking for %s: %w", kind, err)
		}
		if err := writeJSON(filepath.Join(to, kind+".json"), objects); err != nil {
			return nil, err
		}
		names = append(names, kind+".json")
	}
	slices.Sort(names)
	return names, nil
}

// logFiles returns the paths of a cluster's logs. Each has a base name of its own.
func logFiles(dir string) ([]string, error) {
	files, err := controlplane.LogFiles(filepath.Join(dir, controlPlaneDir))
	if err != nil {
		return nil, err
	}
	consoles, err := filepath.Glob(filepath.Join(dir, consolesDir, "*"+consoleSuffix))
	if err != nil {
		return nil, err
	}
	files = append(files, consoles...)
	if path := filepath.Join(dir, supervisorLog); isFile(path) {
		files = append(files, path)
	}
	return files, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// makeEmptyDir makes dir, or requires that nothing is in it.
func makeEmptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(dir, 0o755)
	case err == nil && len(entries) > 0:
		return &manifest.ArgumentError{Err: fmt.Errorf("%s is not empty (give a directory that is, or a new one)", dir)}
	}
	if err != nil {
		return fmt.Errorf("making a directory for logs: %w", err)
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
