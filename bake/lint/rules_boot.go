package lint

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"strings"

	"github.com/nodebake/bake/bake/image/gpt"
	"github.com/nodebake/bake/bake/inspect"
)

func bootRules() []Rule {
	return []Rule{{
		ID:    "boot-loader",
		Must:  "EFI/BOOT/BOOTX64.EFI (BOOTAA64.EFI on arm64) is an EFI program for the image's architecture",
		Why:   "an instance's firmware knows no boot entries at first and starts this one [UEFI 2.10, section 3.5.1.1]",
		needs: needsBoot,
		check: func(s *subject) []string {
			return wrong(s.checkEFI(s.bootLoader()))
		},
	}, {
		ID:    "boot-next-stage",
		Must:  "EFI/BOOT/grubx64.efi (grubaa64.efi) is an EFI program for the image's architecture",
		Why:   "shim starts the program of this name from its own directory [shim: README.md, DEFAULT_LOADER]",
		needs: needsBoot,
		check: func(s *subject) []string { return wrong(s.checkEFI(s.nextStage())) },
	}, {
		ID:    "boot-signed",
		Must:  "boot loader, next stage and kernels carry signatures; whether they are good, a boot shows",
		Why:   "a Shielded VM with Secure Boot starts nothing else [Compute Engine: Shielded VM; UEFI 2.10, section 32.5]",
		needs: needsBoot,
		check: checkSigned,
	}, {
		ID:    "loader-entry",
		Must:  "there is a loader entry, and each names a kernel and an initramfs that exist",
		Why:   "systemd-boot shows an empty menu and waits for a key otherwise [Boot Loader Specification, UAPI.1]",
		needs: needsESP,
		check: checkEntries,
	}, {
		ID:    "kernel-root",
		Must:  "the kernel's arguments name the root partition of this disk: root=PARTUUID=...",
		Why:   "any other root is another disk's, or none's",
		needs: needsBoot,
		check: checkRootArgument,
	}, {
		ID:    "kernel-console",
		Must:  "the kernel's arguments have console=ttyS0,38400n8d",
		Why:   "the serial console is the only view of an instance that does not boot " + fromConfig,
		needs: needsESP,
		check: func(s *subject) []string {
			return s.eachEntry(func(e *inspect.LoaderEntry, p *problems) {
				const want = "console=ttyS0,38400n8d"
				var have []string
				for _, a := range e.Options {
					if a == want {
						return
					}
					if strings.HasPrefix(a, "console=ttyS0") {
						have = append(have, a)
					}
				}
				p.add("%s has not %s but %q", e.Path, want, have)
			})
		},
	}, {
		ID:    "kernel-quiet",
		Must:  "the kernel's arguments have none of quiet, rhgb and splash",
		Why:   "they keep messages off the serial console " + fromConfig,
		needs: needsESP,
		check: func(s *subject) []string {
			return s.eachEntry(func(e *inspect.LoaderEntry, p *problems) {
				for _, a := range e.Options {
					if a == "quiet" || a == "rhgb" || a == "splash" {
						p.add("%s has %s", e.Path, a)
					}
				}
			})
		},
	}, {
		ID:    "init",
		Must:  "each initramfs has a static program /init for the image's architecture",
		Why:   "the kernel starts it as PID 1, and panics without it [Linux: filesystems/ramfs-rootfs-initramfs.rst]",
		needs: needsBoot,
		check: func(s *subject) []string {
			var p problems
			for _, k := range s.Kernels {
				switch {
				case k.InitrdErr != nil:
					p.err(k.InitrdErr)
				case k.Init == nil:
					p.add("the initramfs of %s has no /init", k.Entry.Path)
				default:
					if err := checkProgram(bytes.NewReader(k.Init), s.Arch, true); err != nil {
						p.add("/init in the initramfs of %s: %v", k.Entry.Path, err)
					}
				}
			}
			return p
		},
	}}
}

// bootLoader and nextStage are what firmware starts, and what shim does then.
func (s *subject) bootLoader() string { return "EFI/BOOT/" + s.Arch.Facts().BootLoader() }
func (s *subject) nextStage() string  { return "EFI/BOOT/grub" + s.Arch.Facts().EFI + ".efi" }

func (s *subject) eachEntry(visit func(*inspect.LoaderEntry, *problems)) []string {
	var p problems
	for i := range s.LoaderEntries {
		visit(&s.LoaderEntries[i], &p)
	}
	return p
}

// openPE opens an EFI program on the ESP.
func (s *subject) openPE(p string) (*pe.File, error) {
	data, err := s.Boot.Read(p)
	if err != nil {
		return nil, err
	}
	f, err := parsePE(data)
	if err != nil {
		return nil, fmt.Errorf("%s is not an EFI program: %w", p, err)
	}
	return f, nil
}

// parsePE reads the headers of an EFI program. debug/pe takes a file without
// the stub for DOS as well, which is no EFI program (UEFI 2.10, section 2.1.1).
func parsePE(data []byte) (*pe.File, error) {
	if len(data) < 64 || string(data[:2]) != "MZ" {
		return nil, errors.New("it does not begin with MZ")
	}
	return pe.NewFile(bytes.NewReader(data))
}

func (s *subject) checkEFI(p string) error {
	f, err := s.openPE(p)
	if err != nil {
		return err
	}
	if want := s.Arch.Facts().PE; f.Machine != want {
		return fmt.Errorf("%s is for machine %#x, the image for %#x", p, f.Machine, want)
	}
	return nil
}

// checkSigned looks for certificate tables, where Authenticode keeps
// signatures. What is not there or no EFI program is for other rules to say.
func checkSigned(s *subject) []string {
	programs := []string{s.bootLoader(), s.nextStage()}
	for _, e := range s.LoaderEntries {
		programs = append(programs, e.Linux)
	}
	var p problems
	for _, program := range programs {
		f, err := s.openPE(program)
		if err != nil {
			continue
		}
		if o, ok := f.OptionalHeader.(*pe.OptionalHeader64); !ok || o.NumberOfRvaAndSizes <= pe.IMAGE_DIRECTORY_ENTRY_SECURITY || o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size == 0 {
			p.add("%s is not signed", program)
		}
	}
	return p
}

func checkEntries(s *subject) []string {
	if len(s.LoaderEntries) == 0 {
		return []string{"there is no " + inspect.EntriesDir + "/*.conf"}
	}
	return s.eachEntry(func(e *inspect.LoaderEntry, p *problems) {
		if e.Linux == "" {
			p.add("%s names no kernel", e.Path)
		}
		if len(e.Initrd) == 0 {
			p.add("%s names no initramfs", e.Path)
		}
		for _, file := range append([]string{e.Linux}, e.Initrd...) {
			if file == "" {
				continue
			}
			switch size, err := s.Boot.Size(file); {
			case err != nil:
				p.add("%s: %v", e.Path, err)
			case size == 0:
				p.add("%s: %s is empty", e.Path, file)
			}
		}
	})
}

// rootPartition returns the root's partition.
func (s *subject) rootPartition() *gpt.Partition {
	p, err := s.RootPartition()
	if err != nil {
		panic("BUG: the root was opened without its partition: " + err.Error())
	}
	return p
}

func checkRootArgument(s *subject) []string {
	want := "root=PARTUUID=" + s.rootPartition().GUID.String()
	return s.eachEntry(func(e *inspect.LoaderEntry, p *problems) {
		var have []string
		for _, a := range e.Options {
			if strings.HasPrefix(a, "root=") {
				have = append(have, a)
			}
		}
		if len(have) != 1 || !strings.EqualFold(have[0], want) {
			p.add("%s has %q; want %s", e.Path, have, want)
		}
	})
}
