package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// stagedSuffix ends the names of files that wait to be renamed. It must not be
// one that a program which reads a whole directory looks for: CNI takes *.conf,
// *.conflist and *.json.
const stagedSuffix = ".firstboot-new"

func staged(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + stagedSuffix
}

// apply is Apply, and Add where remove is false.
func (a *applier) apply(want []File, remove bool) ([]Change, error) {
	changes, err := a.recover()
	if err != nil {
		return changes, err
	}
	p, err := a.plan(want, remove)
	if err != nil {
		return changes, err
	}
	if len(p.changes) == 0 && p.list == nil {
		return changes, nil
	}
	if p.list != nil {
		p.write = append(p.write, File{Path: listFile, Content: p.list, Mode: 0o644})
	}
	j := journal{Version: 1, Changes: p.changes, List: p.list != nil}
	if err := a.stage(p.write, j); err != nil {
		return changes, errors.Join(fmt.Errorf("%w; the files are as they were", err), a.abandon())
	}
	done, err := a.finish(j)
	changes = append(changes, done...)
	if err != nil {
		return changes, fmt.Errorf("%w; the journal is written, and the next run goes on", err)
	}
	return changes, nil
}

// stage writes everything that takes space, the journal last.
func (a *applier) stage(write []File, j journal) error {
	paths := make([]string, len(write))
	for i, f := range write {
		paths[i] = f.Path
	}
	var dirs dirSet
	if err := a.makeDir(relative(stateDir), 0, &dirs); err != nil {
		return err
	}
	if err := a.writeState(stageFile, encodeStage(paths)); err != nil {
		return err
	}
	written := make([]*os.File, 0, len(write))
	defer func() {
		for _, file := range written {
			_ = file.Close()
		}
	}()
	for _, f := range write {
		name, err := a.resolve(f.Path)
		if err != nil {
			return err
		}
		if err := a.makeDir(path.Dir(name), f.DirMode, &dirs); err != nil {
			return err
		}
		file, err := a.writeNew(staged(name), f)
		if err != nil {
			return fmt.Errorf("writing %s: %w", f.Path, err)
		}
		written = append(written, file)
		dirs.add(path.Dir(name))
	}
	// In a row: the filesystem commits once for all of them.
	for i, file := range written {
		a.step("sync " + write[i].Path)
		if err := a.sync(file); err != nil {
			return fmt.Errorf("writing %s: %w", write[i].Path, err)
		}
	}
	if err := a.syncDirs(dirs); err != nil {
		return err
	}
	return a.writeState(journalFile, encodeJournal(j))
}

// finish does what the journal says. It can be done again from any point.
func (a *applier) finish(j journal) ([]Change, error) {
	var done []Change
	var dirs dirSet
	for _, c := range j.Changes {
		name, err := a.resolve(c.Path)
		if err != nil {
			return done, err
		}
		if c.What == Removed {
			a.step("remove " + c.Path)
			err = a.root.Remove(name)
		} else {
			// A staged file that is gone was renamed before an interruption.
			a.step("rename " + c.Path)
			err = a.root.Rename(staged(name), name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("putting %s in place: %w", c.Path, err)
		}
		dirs.add(path.Dir(name))
		done = append(done, c)
		a.did(c)
	}
	if j.List {
		a.step("rename " + listFile)
		if err := a.root.Rename(relative(staged(listFile)), relative(listFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("putting %s in place: %w", listFile, err)
		}
		dirs.add(relative(stateDir))
	}
	if err := a.syncDirs(dirs); err != nil {
		return done, err
	}
	return done, a.removeState(journalFile, stageFile)
}

// recover brings an interrupted apply to one of its two ends.
func (a *applier) recover() ([]Change, error) {
	// A journal half written has not got its name yet.
	if err := a.removeState(staged(journalFile), staged(stageFile)); err != nil {
		return nil, err
	}
	j, err := a.readJournal()
	switch {
	case err == nil:
		changes, err := a.finish(*j)
		if err != nil {
			return changes, fmt.Errorf("ending an apply that was interrupted: %w", err)
		}
		return changes, nil
	case errors.Is(err, errDamaged):
		// It was written with care, so the disk lost it. The next Apply finds
		// out again what there is to do.
		if err := a.removeState(journalFile); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return nil, a.unstage()
}

// unstage removes what stage wrote, as far as it came.
func (a *applier) unstage() error {
	paths, err := a.readStage()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	var dirs dirSet
	for _, p := range paths {
		name, err := a.resolve(p)
		if err != nil {
			return err
		}
		a.step("unstage " + p)
		err = a.root.Remove(staged(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("removing what was staged for %s: %w", p, err)
		}
		dirs.add(path.Dir(name))
	}
	if err := a.syncDirs(dirs); err != nil {
		return err
	}
	return a.removeState(stageFile)
}

// abandon takes back what stage did. The journal goes first: with it, staged
// files that are missing would count as renamed. What can't be removed now,
// Recover will.
func (a *applier) abandon() error {
	if err := a.removeState(journalFile); err != nil {
		return err
	}
	return a.unstage()
}

// writeNew writes f's content under a new name. The file is still to be synced
// and closed.
func (a *applier) writeNew(name string, f File) (file *os.File, err error) {
	a.step("write " + f.Path)
	if err := a.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// Private from the start: a key must not be readable for a moment.
	file, err = a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if os.Geteuid() == 0 {
		// A directory with the setgid bit gives its files another group.
		if err := file.Chown(0, 0); err != nil {
			return nil, err
		}
	}
	if err := file.Chmod(f.Mode); err != nil {
		return nil, err
	}
	half := len(f.Content) / 2
	if _, err := file.Write(f.Content[:half]); err != nil {
		return nil, err
	}
	a.step("write on " + f.Path)
	if _, err := file.Write(f.Content[half:]); err != nil {
		return nil, err
	}
	return file, nil
}

// makeDir makes a directory of a mode, 0755 where 0, and those above it. What has
// to be synced, so that they outlive a crash, is added to dirs.
func (a *applier) makeDir(name string, mode fs.FileMode, dirs *dirSet) error {
	if name == "." {
		return nil
	}
	info, err := a.root.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("making the directory /%s: something else is in its place", name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("making the directory /%s: %w", name, err)
	}
	if err := a.makeDir(path.Dir(name), 0, dirs); err != nil {
		return err
	}
	if mode == 0 {
		mode = 0o755
	}
	a.step("mkdir /" + name)
	if err := a.root.Mkdir(name, mode); err != nil {
		return fmt.Errorf("making the directory /%s: %w", name, err)
	}
	// Whatever the umask is.
	if err := a.root.Chmod(name, mode); err != nil {
		return fmt.Errorf("making the directory /%s: %w", name, err)
	}
	dirs.add(path.Dir(name))
	return nil
}

// dirSet is a set of directories in the order in which they came.
type dirSet []string

func (s *dirSet) add(dir string) {
	for _, d := range *s {
		if d == dir {
			return
		}
	}
	*s = append(*s, dir)
}

func (a *applier) syncDirs(dirs dirSet) error {
	for _, dir := range dirs {
		if err := a.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) syncDir(name string) error {
	a.step("sync directory " + path.Join("/", name))
	dir, err := a.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a file to be removed was gone with its directory
	}
	if err != nil {
		return fmt.Errorf("syncing /%s: %w", name, err)
	}
	if err := errors.Join(a.sync(dir), dir.Close()); err != nil {
		return fmt.Errorf("syncing /%s: %w", name, err)
	}
	return nil
}
