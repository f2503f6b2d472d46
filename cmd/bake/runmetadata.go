package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/firstboot/metadata/emulator"
)

// enableGuestAttributes is the metadata key that lets a machine write guest
// attributes.
const enableGuestAttributes = "enable-guest-attributes"

// readMetadata collects the instance's attributes from the directory and the
// flags, which go first.
func (r *runner) readMetadata() error {
	r.metadata = map[string]string{}
	if r.metadataDir != "" {
		var err error
		if r.metadata, err = readMetadataDir(r.metadataDir); err != nil {
			return &manifest.ArgumentError{Err: fmt.Errorf("reading metadata: %w", err)}
		}
	}
	for _, text := range r.metadataValues {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return &usageError{fmt.Errorf("--metadata-value %q: want KEY=VALUE (see `bake run --help`)", text)}
		}
		r.metadata[key] = value
	}
	if r.guestAttributes {
		r.metadata[enableGuestAttributes] = "TRUE"
	}
	if err := r.prepareLogin(); err != nil {
		return err
	}
	if err := r.instance().Check(); err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	return nil
}

func (r *runner) instance() emulator.Instance {
	return emulator.Instance{
		Name: r.name, Project: r.project, Zone: r.zone, IP: r.address.String(), Attributes: r.metadata,
	}
}

// readMetadataDir returns the content of every file in dir by its name.
// Directories and names that begin with a dot are passed over.
func readMetadataDir(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // of what a link leads to
		switch {
		case strings.HasPrefix(e.Name(), "."):
			continue
		case err != nil:
			return nil, err
		case info.IsDir():
			continue
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is not a regular file", path)
		case info.Size() > 1<<20: // above any limit, and reason not to read it
			return nil, fmt.Errorf("%s has %d bytes; a metadata value has at most 256 KiB", path, info.Size())
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !utf8.Valid(data) {
			return nil, fmt.Errorf("%s is not text in UTF-8, which metadata is", path)
		}
		values[e.Name()] = string(data)
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("%s holds no files; each would be a key, as bake node --output writes them", dir)
	}
	return values, nil
}

// readGuestAttributes asks a metadata server for all guest attributes.
func readGuestAttributes(server http.Handler) (map[string]map[string]string, error) {
	answer := &answer{header: http.Header{}, status: http.StatusOK}
	server.ServeHTTP(answer, &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Path: emulator.Root + "instance/guest-attributes/", RawQuery: "recursive=true"},
		Header: http.Header{"Metadata-Flavor": {"Google"}},
	})
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("reading guest attributes: %d %s", answer.status, strings.TrimSpace(answer.body.String()))
	}
	var all map[string]map[string]string
	if err := json.Unmarshal([]byte(answer.body.String()), &all); err != nil {
		return nil, fmt.Errorf("reading guest attributes: %w", err)
	}
	return all, nil
}

// answer is a response that stays in memory.
type answer struct {
	header http.Header
	status int
	body   strings.Builder
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// printGuestAttributes writes one line for each: NAMESPACE/KEY and its value.
func printGuestAttributes(w io.Writer, server http.Handler) error {
	all, err := readGuestAttributes(server)
	if err != nil {
		return err
	}
	var l lines
	for _, namespace := range slices.Sorted(maps.Keys(all)) {
		for _, key := range slices.Sorted(maps.Keys(all[namespace])) {
			l.add("guest attribute %s/%s: %s", namespace, key, all[namespace][key])
		}
	}
	return l.print(w)
}
