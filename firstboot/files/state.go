package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Our own files on the node. All are JSON, for people to read as well.
const (
	stateDir    = "/var/lib/firstboot"
	stageFile   = stateDir + "/stage.json"
	journalFile = stateDir + "/apply.json"
	listFile    = stateDir + "/files.json"
)

// stage lists files that are being written beside their targets.
type stage struct {
	Version int      `json:"version"`
	Paths   []string `json:"paths"`
}

// journal is what an apply has yet to do. All staged files exist, or have been
// renamed.
type journal struct {
	Version int      `json:"version"`
	Changes []Change `json:"changes"`
	List    bool     `json:"list"` // files.json is staged too
}

// list names the files that are ours, sorted.
type list struct {
	Version int      `json:"version"`
	Files   []string `json:"files"`
}

var errDamaged = errors.New("damaged")

func encodeStage(paths []string) []byte { return encode(stage{1, paths}) }

func encodeJournal(j journal) []byte { return encode(j) }

func encodeList(paths []string) []byte {
	slices.Sort(paths)
	return encode(list{1, paths})
}

func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic("BUG: encoding state: " + err.Error())
	}
	return append(b, '\n')
}

// readList returns files.json and the paths in it; nothing where it is missing,
// and no paths where it is damaged: Apply then writes it again.
func (a *applier) readList() (content []byte, paths []string, err error) {
	content, err = a.readState(listFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	paths, err = decodeList(content)
	if err != nil {
		return content, nil, nil
	}
	return content, paths, nil
}

func decodeList(content []byte) ([]string, error) {
	var l list
	if err := json.Unmarshal(content, &l); err != nil || l.Version != 1 {
		return nil, errDamaged
	}
	for _, p := range l.Files {
		if checkPath(p) != "" {
			return nil, errDamaged
		}
	}
	return l.Files, nil
}

func (a *applier) readStage() ([]string, error) {
	content, err := a.readState(stageFile)
	if err != nil {
		return nil, err
	}
	return decodeStage(content)
}

func decodeStage(content []byte) ([]string, error) {
	var s stage
	if err := json.Unmarshal(content, &s); err != nil || s.Version != 1 {
		return nil, errDamaged
	}
	for _, p := range s.Paths {
		if p != listFile && checkPath(p) != "" {
			return nil, errDamaged
		}
	}
	return s.Paths, nil
}

func (a *applier) readJournal() (*journal, error) {
	content, err := a.readState(journalFile)
	if err != nil {
		return nil, err
	}
	return decodeJournal(content)
}

func decodeJournal(content []byte) (*journal, error) {
	var j journal
	if err := json.Unmarshal(content, &j); err != nil || j.Version != 1 {
		return nil, errDamaged
	}
	for _, c := range j.Changes {
		if checkPath(c.Path) != "" {
			return nil, errDamaged
		}
		switch c.What {
		case Created, Rewritten, ModeChanged, OwnerChanged, Removed:
		default:
			return nil, errDamaged
		}
	}
	return &j, nil
}

// relative makes a path of ours one that os.Root takes. The state's directory
// is no link, nor is any above it.
func relative(p string) string { return strings.TrimPrefix(p, "/") }

func (a *applier) readState(p string) ([]byte, error) {
	content, err := a.root.ReadFile(relative(p))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p, err)
	}
	return content, nil
}

// writeState writes a file of ours, which then is there whole or not at all.
func (a *applier) writeState(p string, content []byte) error {
	name := relative(p)
	file, err := a.writeNew(staged(name), File{Path: p, Content: content, Mode: 0o600})
	if err == nil {
		a.step("sync " + p)
		err = errors.Join(a.sync(file), file.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", p, err), a.removeState(staged(p)))
	}
	a.step("rename " + p)
	if err := a.root.Rename(staged(name), name); err != nil {
		return fmt.Errorf("writing %s: %w", p, err)
	}
	return a.syncDir(path.Dir(name))
}

// removeState removes those files of ours that are there.
func (a *applier) removeState(paths ...string) error {
	gone := false
	for _, p := range paths {
		name := relative(p)
		if _, err := a.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		a.step("remove " + p)
		if err := a.root.Remove(name); err != nil {
			return fmt.Errorf("removing %s: %w", p, err)
		}
		gone = true
	}
	if !gone {
		return nil
	}
	return a.syncDir(relative(stateDir))
}
