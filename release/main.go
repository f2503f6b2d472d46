// Release writes what is published beside the programs of a release:
//
//	PROGRAM.spdx.json           SBOM (SPDX 2.3) of each program
//	SHA256SUMS                  digests of programs and SBOMs, for sha256sum -c
//	SHA256SUMS.sigstore.json    signature of SHA256SUMS, where a key is given
//
// The SBOMs are of what Go wrote into the programs: the modules that are linked,
// and the toolchain. They do not say licenses. scripts/release builds the
// programs and calls this one.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/nodebake/bake/bake/sbom/purl"
	"github.com/nodebake/bake/bake/sign"
)

// The files that are about all programs.
const (
	sums      = "SHA256SUMS"
	signature = sums + ".sigstore.json"
	sbomEnd   = ".spdx.json"
)

// predicateType is that of a statement that says its subjects are a release. The
// predicate's purl is that of the release.
//
// Source: github.com/in-toto/attestation, spec/predicates/release.md.
const predicateType = "https://in-toto.io/attestation/release/v0.1"

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// config is what the command line says.
type config struct {
	dir      string // of the programs
	embedded string // ARCH/NAME, the programs that each of them embeds; "": none
	key      string // file of the private key; "": nothing is signed
	created  time.Time
	password func() ([]byte, error)
}

func run(ctx context.Context, args []string, stdout io.Writer, getenv func(string) string) error {
	var c config
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&c.embedded, "embedded", "", "`DIR` of the programs that are embedded, in a directory for each architecture")
	flags.StringVar(&c.key, "key", "", "private key `FILE` that signs "+sums)
	created := flags.Int64("time", 0, "`SECONDS` since 1970 that the SBOMs are of: the commit's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("want one argument, the directory of the programs")
	}
	c.dir, c.created = flags.Arg(0), time.Unix(*created, 0).UTC()
	c.password = func() ([]byte, error) {
		if password := getenv("BAKE_SIGN_PASSWORD"); password != "" {
			return []byte(password), nil
		}
		return nil, errors.New("it is encrypted: set BAKE_SIGN_PASSWORD to its password")
	}
	return c.write(ctx, stdout)
}

// write writes all files, over those of an earlier run.
func (c *config) write(ctx context.Context, stdout io.Writer) error {
	var key *sign.Key
	if c.key != "" {
		text, err := os.ReadFile(c.key)
		if err != nil {
			return fmt.Errorf("reading the key to sign with: %w", err)
		}
		if key, err = sign.ParseKey(c.key, text, c.password); err != nil {
			return err
		}
	}
	programs, err := c.programs()
	if err != nil {
		return err
	}
	var names []string
	for _, p := range programs {
		data, err := p.sbom(c.created)
		if err != nil {
			return fmt.Errorf("writing the SBOM of %s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(c.dir, p.name+sbomEnd), data, 0o666); err != nil {
			return err
		}
		names = append(names, p.name, p.name+sbomEnd)
	}
	slices.Sort(names)
	var list bytes.Buffer
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(data), name)
	}
	if err := os.WriteFile(filepath.Join(c.dir, sums), list.Bytes(), 0o666); err != nil {
		return err
	}
	if key == nil {
		fmt.Fprintf(stdout, "%s is not signed: no key was given (make release KEY=FILE)\n", sums)
		return nil
	}
	main := programs[0].info.Main
	statement, err := statement(list.Bytes(), purl.Module(main.Path, main.Version))
	if err != nil {
		return err
	}
	bundle, err := sign.Sign(ctx, statement, key)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, signature), bundle, 0o666)
}

// statement returns the in-toto statement that list is SHA256SUMS of the release
// that release, a package URL, names.
func statement(list []byte, release string) ([]byte, error) {
	text, err := protojson.Marshal(&intoto.Statement{
		Type:          intoto.StatementTypeUri,
		Subject:       []*intoto.ResourceDescriptor{{Name: sums, Digest: map[string]string{"sha256": fmt.Sprintf("%x", sha256.Sum256(list))}}},
		PredicateType: predicateType,
	})
	if err != nil {
		return nil, err
	}
	// The predicate is another message's, and protojson puts spaces where it likes.
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	out["predicate"] = map[string]string{"purl": release}
	return json.Marshal(out)
}

// program is one of the release, or one that it embeds.
type program struct {
	name     string // of its file
	sha256   [sha256.Size]byte
	info     *buildinfo.BuildInfo
	embedded []*program
}

// programs reads the programs of the directory: all files but those that
// are written here.
func (c *config) programs() ([]*program, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	embedded, err := c.embeddedPrograms()
	if err != nil {
		return nil, err
	}
	var out []*program
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sums) || strings.HasSuffix(e.Name(), sbomEnd) {
			continue
		}
		p, err := readProgram(filepath.Join(c.dir, e.Name()), e.Name())
		if err != nil {
			return nil, err
		}
		p.embedded = embedded
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no programs", c.dir)
	}
	return out, nil
}

// embeddedPrograms reads the programs that every program of the release embeds:
// those for all architectures of workers.
func (c *config) embeddedPrograms() ([]*program, error) {
	if c.embedded == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(c.embedded, "*", "*"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fmt.Errorf("%s has no programs in directories of architectures", c.embedded), err)
	}
	var out []*program
	for _, file := range files {
		p, err := readProgram(file, filepath.Base(file)+"-linux-"+filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func readProgram(file, name string) (*program, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading %s, which should be a program that Go built: %w", file, err)
	}
	return &program{name: name, sha256: sha256.Sum256(data), info: info}, nil
}
