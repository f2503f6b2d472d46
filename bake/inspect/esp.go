package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// esp is an EFI system partition as firmware and boot loaders see it: names
// match in either case, and paths may have backslashes (UEFI 2.10 section 13.3).
type BootFiles struct{ fs fs.FS }

// find returns the path at p as it is written on the volume.
func (e BootFiles) Find(p string) (string, error) {
	at := "."
	for part := range strings.SplitSeq(strings.ReplaceAll(p, `\`, "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		entries, err := fs.ReadDir(e.fs, at)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(entries, func(d fs.DirEntry) bool { return strings.EqualFold(d.Name(), part) })
		if i < 0 {
			return "", fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
		at = path.Join(at, entries[i].Name())
	}
	return at, nil
}

func (e BootFiles) Open(p string) (fs.File, error) {
	found, err := e.Find(p)
	if err != nil {
		return nil, err
	}
	return e.fs.Open(found)
}

// maxEFI is the largest program or text in bytes that is read whole. Kernels of
// arm64 have 31 MB.
const maxEFI = 256 << 20

func (e BootFiles) Read(p string) ([]byte, error) {
	f, err := e.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEFI+1))
	if len(data) > maxEFI {
		return nil, fmt.Errorf("%s: more than %d bytes", p, maxEFI)
	}
	return data, err
}

// size returns the length in bytes of the file at p.
func (e BootFiles) Size(p string) (int64, error) {
	f, err := e.Open(p)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s: it is not a file", p)
	}
	return info.Size(), nil
}

// loaderEntry is an entry of type 1 of the Boot Loader Specification (UAPI.1).
type LoaderEntry struct {
	Path    string // on the ESP
	Title   string
	Version string
	Linux   string
	Initrd  []string
	Options []string // the kernel's arguments
}

const EntriesDir = "loader/entries"

// loaderEntries reads all entries, the one that systemd-boot would take first:
// names in descending order.
func (e BootFiles) loaderEntries() ([]LoaderEntry, error) {
	dir, err := e.Find(EntriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := fs.ReadDir(e.fs, dir)
	if err != nil {
		return nil, err
	}
	var entries []LoaderEntry
	for _, name := range slices.Backward(names) {
		if !strings.EqualFold(path.Ext(name.Name()), ".conf") {
			continue
		}
		p := path.Join(dir, name.Name())
		text, err := e.Read(p)
		if err != nil {
			return nil, err
		}
		entries = append(entries, parseLoaderEntry(p, string(text)))
	}
	return entries, nil
}

func parseLoaderEntry(p, text string) LoaderEntry {
	entry := LoaderEntry{Path: p}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "title":
			entry.Title = value
		case "version":
			entry.Version = value
		case "linux", "efi":
			entry.Linux = value
		case "initrd":
			entry.Initrd = append(entry.Initrd, value)
		case "options":
			entry.Options = append(entry.Options, strings.Fields(value)...)
		}
	}
	return entry
}
