package bake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/record"
)

// An image and what is beside it are one thing, and the only record of what
// somebody may have uploaded long ago: another one takes their place only where
// Config.Force says so. This file has that decision.

// found is what is at the place of an image before a new one is.
type found struct {
	image  manifest.Digest // of the file; "": there is none
	record manifest.Digest // that the record beside it says; "": there is none, or it can't be read
}

// other returns the digest of what is there if it is not the image with digest
// made, and "" where made may be put in its place: nothing is there, or made is
// what the file or the record says. A file that its record contradicts is damaged,
// or else the record is.
func (f found) other(made manifest.Digest) manifest.Digest {
	switch {
	case f.image == made || f.record == made:
		return ""
	case f.image != "":
		return f.image
	}
	return f.record
}

// changedInputs names the inputs of the image that head is the record of that are
// not those of now.
func changedInputs(head, now record.Inputs) []string {
	var changed []string
	for _, input := range []struct {
		name      string
		then, now manifest.Digest
	}{
		{"versions file", head.Versions, now.Versions},
		{"lock", head.Lock, now.Lock},
		{"image definition", head.Definition, now.Definition},
		{"units", head.Units, now.Units},
	} {
		if input.then != input.now {
			changed = append(changed, input.name)
		}
	}
	return changed
}

// mayBegin fails where it is certain that the new image can't have its place. An
// image holds the digests of its inputs, so with others it is another.
func (b *Baker) mayBegin(out output, lock *manifest.Lock) error {
	head := out.head()
	if b.config.Force || head == nil {
		return nil
	}
	units, err := inputs.SumFiles(b.config.Units)
	if err != nil {
		return fmt.Errorf("reading units: %w", err)
	}
	changed := changedInputs(head.Inputs, record.Inputs{Versions: b.inputs.Set.Sum, Lock: lock.Sum, Definition: b.inputs.Definition.Sum, Units: units})
	if len(changed) == 0 {
		return nil
	}
	there := found{record: head.File.SHA256}
	if out.before != nil {
		// That takes a moment, and only where the bake is about to end.
		there.image = manifest.SHA256(out.present().SHA256)
	}
	if there.image != "" && there.image != there.record {
		return nil // the record is of another file: what is made shows
	}
	return fmt.Errorf("writing %s: an image that was made from another %s is there, %s (%s)", out.image, strings.Join(changed, " and "), there.record, keepBoth)
}

const keepBoth = "--force replaces it with all that is beside it; another --name or --output keeps both"

// mayReplace returns the digest of the other image that the one with digest made
// takes the place of, or fails where it must not; "": there is no other.
func (b *Baker) mayReplace(out output, made manifest.Digest) (manifest.Digest, error) {
	var there found
	if now, err := os.Stat(out.image); err == nil {
		if out.before != nil && os.SameFile(out.before, now) && out.before.ModTime().Equal(now.ModTime()) {
			there.image = manifest.SHA256(out.present().SHA256)
		} else { // another bake was faster
			there.image = manifest.SHA256(measure(out.image).SHA256)
		}
	}
	if head := out.head(); head != nil {
		there.record = head.File.SHA256
	}
	other := there.other(made)
	if other == "" || b.config.Force {
		return other, nil
	}
	if there.image == "" {
		return "", fmt.Errorf("the record of another image is there, %s is of %s; the new image is %s (%s)", out.record, other, made, keepBoth)
	}
	return "", fmt.Errorf("another image is there, %s; the new one is %s (%s)", other, made, keepBoth)
}

// head returns what the record that is there says, without its files; nil where
// there is none that can be read.
func (o output) head() *record.Record {
	f, err := os.Open(o.record)
	if err != nil {
		return nil
	}
	defer f.Close()
	head, err := record.ReadHead(o.record, f)
	if err != nil || head.File == nil {
		return nil
	}
	return head
}

// dropOldBundle removes the signature of the image that is replaced.
func (b *Baker) dropOldBundle(out output) error {
	err := os.Remove(out.bundle)
	switch {
	case err == nil:
		b.config.Progress.Note("%s, the signature of the image that is replaced, was removed", filepath.Base(out.bundle))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	return err
}
