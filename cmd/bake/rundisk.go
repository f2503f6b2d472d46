package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/image/archive"
	"github.com/nodebake/bake/bake/inspect"
	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/vm"
)

// prepare does what comes before the machine: it finds the tools, makes the
// disk and chooses the accelerator.
func (s *session) prepare(ctx context.Context) error {
	packed, err := isPacked(s.image)
	if err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("opening the image %s: %w", s.image, err)}
	}
	a := inspect.ArchOf(s.image)
	if a == "" {
		a = arch.Default // whoever reads the whole image says what is wrong
	}
	if err := s.listen(); err != nil {
		return err
	}
	if s.tools, err = vm.FindTools(ctx, a, vm.FirmwareDirs()...); err != nil {
		return fmt.Errorf("looking for QEMU: %w", err)
	}
	if s.accel == string(vm.KVM) {
		if err := vm.OpenKVM(); err != nil {
			return s.explainKVM(nil, err)
		}
	}
	if s.dir, err = vm.MakeTempDir(); err != nil {
		return fmt.Errorf("making a directory for the machine: %w", err)
	}
	if s.diskFile != "" {
		err = s.keptDisk(ctx, packed)
	} else {
		err = s.droppedDisk(ctx, packed)
	}
	if err != nil {
		return err
	}
	s.disk.Bus, s.disk.Boot = s.bus, true
	if err := s.checkLogin(ctx); err != nil {
		return err
	}
	return s.chooseAccel(ctx)
}

// isPacked reports whether the image is a tar.gz; else it is a raw disk.
func isPacked(path string) (bool, error) {
	// A FIFO would make whoever opens it wait.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return false, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return false, errors.Unwrap(err)
	}
	defer f.Close()
	return packedFile(f)
}

func packedFile(f *os.File) (bool, error) {
	if info, err := f.Stat(); err != nil {
		return false, err
	} else if !info.Mode().IsRegular() {
		return false, errors.New("it is not a regular file")
	}
	start := make([]byte, 520)
	n, err := io.ReadFull(f, start)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return false, err
	}
	switch {
	case n >= 2 && start[0] == 0x1f && start[1] == 0x8b: // gzip, RFC 1952 section 2.3.1
		return true, nil
	case n == len(start) && string(start[512:]) == "EFI PART": // GPT, UEFI 2.10 table 5.5
		return false, nil
	}
	return false, errors.New("it is neither a tar.gz nor a disk with a partition table")
}

// droppedDisk makes an overlay over the image.
func (s *session) droppedDisk(ctx context.Context, packed bool) error {
	s.base = s.image
	if packed {
		s.base = filepath.Join(s.dir.Path, "disk.raw")
		out, err := os.OpenFile(s.base, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(s.unpack(ctx, out), out.Close()); err != nil {
			return err
		}
	}
	info, err := os.Stat(s.base)
	if err != nil {
		return fmt.Errorf("asking the size of the disk: %w", err)
	}
	if err := s.checkSize(info.Size()); err != nil {
		return err
	}
	s.disk, err = s.tools.Overlay(ctx, filepath.Join(s.dir.Path, "disk.qcow2"), s.base, s.size)
	return err
}

// keptDisk makes the disk that stays, or takes the one that stayed. QEMU gets
// the file that was checked here, whatever has its name by then.
func (s *session) keptDisk(ctx context.Context, packed bool) error {
	file, err := openDisk(s.diskFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if file, err = s.makeDisk(ctx, packed); err != nil {
			return err
		}
	case err != nil:
		return &manifest.ArgumentError{Err: fmt.Errorf("--disk %s: %w", s.diskFile, err)}
	default:
		s.note("starting %s as it is; %s is not used", s.diskFile, s.image)
	}
	s.closers = append(s.closers, func() { file.Close() })
	s.base, s.disk = s.diskFile, vm.Disk{Path: s.diskFile, File: file, Format: "raw"}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("asking the size of the disk: %w", err)
	}
	if err := s.checkSize(info.Size()); err != nil {
		return err
	}
	if s.size > 0 {
		if err := file.Truncate(s.size); err != nil {
			return fmt.Errorf("growing the disk: %w", err)
		}
	}
	return nil
}

// openDisk opens a disk that an earlier run has made. A link is none: whoever
// can write to the directory could have the machine write elsewhere.
func openDisk(path string) (*os.File, error) {
	f, err := openNoFollow(path)
	if err != nil {
		return nil, err
	}
	packed, err := packedFile(f)
	if err == nil && packed {
		err = errors.New("it is a tar.gz; want a disk that an earlier run has made")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var errLink = errors.New("it is a symbolic link; want the file itself")

// makeDisk makes the disk from the image. It has its name once it is whole,
// and its owner alone may read it: it has the secrets of the machine's metadata.
func (s *session) makeDisk(ctx context.Context, packed bool) (*os.File, error) {
	dir, name := filepath.Split(s.diskFile)
	if dir == "" {
		dir = "." // not where temporary files are
	}
	file, err := os.CreateTemp(dir, "."+name+"-*.partial")
	if err != nil {
		return nil, fmt.Errorf("making the disk: %w", err)
	}
	if packed {
		err = s.unpack(ctx, file)
	} else {
		err = s.copyImage(ctx, file)
	}
	if err == nil {
		err = os.Rename(file.Name(), s.diskFile)
	}
	if err != nil {
		file.Close()
		os.Remove(file.Name())
		return nil, err
	}
	return file, nil
}

// checkSize checks --disk-size by the size that the disk has.
func (s *session) checkSize(has int64) error {
	if s.size > 0 && s.size < has {
		return &usageError{fmt.Errorf("--disk-size %s is less than the %s that the disk has", s.diskSize, binaryBytes(has))}
	}
	return nil
}

// copyImage writes a raw image's bytes to a new file, without its zeroes.
func (s *session) copyImage(ctx context.Context, out *os.File) error {
	in, err := os.Open(s.image)
	if err != nil {
		return err
	}
	defer in.Close()
	buf, zeroes := make([]byte, 1<<20), make([]byte, 1<<20)
	var at int64
	for {
		n, err := io.ReadFull(in, buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !bytes.Equal(buf[:n], zeroes[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return fmt.Errorf("copying %s: %w", s.image, err)
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return fmt.Errorf("copying %s: %w", s.image, err)
		}
	}
	if err := out.Truncate(at); err != nil {
		return fmt.Errorf("copying %s: %w", s.image, err)
	}
	return nil
}

// unpack writes the image's disk to a new file.
func (s *session) unpack(ctx context.Context, out *os.File) error {
	in, err := os.Open(s.image)
	if err != nil {
		return err
	}
	defer in.Close()
	sink, stop := s.host.progress(1)
	defer stop()
	if err := archive.UnpackFile(ctx, in, out, sink); err != nil {
		err = fmt.Errorf("unpacking %s: %w", s.image, err)
		if _, ok := errors.AsType[*os.PathError](err); ctx.Err() != nil || ok {
			return err
		}
		return &manifest.ArgumentError{Err: err}
	}
	return nil
}

// chooseAccel decides between KVM and TCG, and says which it is and why.
func (s *session) chooseAccel(ctx context.Context) error {
	why := "--accel"
	switch s.accel {
	case string(vm.KVM), string(vm.TCG):
		s.chosen = vm.Accel(s.accel)
	default:
		s.chosen, why = vm.KVM, "the image's kernel starts under it"
		if err := s.tools.ProbeKVM(ctx, s.base); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.chosen, why = vm.TCG, err.Error()
		}
	}
	if s.tools.Unconfined != "" {
		s.note("QEMU runs without its sandbox (%s)", s.tools.Unconfined)
	}
	s.note("QEMU %s with %s (%s)", s.tools.Version, map[vm.Accel]string{vm.KVM: "KVM", vm.TCG: "TCG"}[s.chosen], why)
	return nil
}
