package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/merge"
	"github.com/nodebake/bake/bake/progress"
	"github.com/nodebake/bake/bake/source/fetch"
	"github.com/nodebake/bake/bake/source/gobuild"
	"github.com/nodebake/bake/bake/source/layers"
	"github.com/nodebake/bake/bake/source/oci"
	"github.com/nodebake/bake/bake/tree"
)

// ContainerImage is a container image and how it came to be.
type ContainerImage struct {
	manifest.ContainerImage
	*oci.Image
	Origin    Origin // FromRelease: as the registry has it; FromSource: assembled here
	Ref       string // what it is called in the node's containerd: Reference, or a name of our own where it was assembled
	From      string // "registry.k8s.io/pause@sha256:...", module@version, "bake's program pause"
	Toolchain string // FromSource: what built it

	Built    *gobuild.Built // FromSource, where it has a module
	Programs []tree.Entry   // FromSource: what is in it beside packages
	Debs     []Package      // what it is made of, where it is an image of packages
	Files    *tree.Tree     // likewise, what these have
	Start    string         // path in Files of the program that it starts; "": none, or one of Programs
}

// ownUser runs programs of bake's own that an image is assembled from: nobody, as
// upstream's pause does.
const ownUser = "65535:65535"

// plannedImage is an image of which is known where it comes from.
type plannedImage struct {
	manifest.ContainerImage
	origin   Origin
	resolved *oci.Resolved // FromRelease
	missing  *Missing      // why it is assembled, where the registry was asked first
	packages []manifest.LockedPackage
}

// puller brings images from registries, or the mirror that the fetcher has.
func (s *Source) puller() *oci.Puller {
	return oci.New(oci.Config{Packs: s.packs, Fetcher: s.Fetcher, Keychain: s.Keychain, Insecure: s.Insecure, Progress: s.Progress})
}

// planImages decides where each image comes from. Like components, images that
// are unavailable are named at once.
func (s *Source) planImages(ctx context.Context, required *Requirements) ([]plannedImage, []error) {
	planned := make([]plannedImage, len(required.Images))
	errs := make([]error, len(required.Images))
	var group errgroup.Group
	for i, image := range required.Images {
		group.Go(func() error {
			if image.Packages != nil {
				planned[i] = plannedImage{ContainerImage: image, packages: required.ImagePackages[image.Name]}
				errs[i] = s.planAssembly(ctx, &planned[i])
				return nil
			}
			planned[i], errs[i] = s.planImage(ctx, image)
			return nil
		})
	}
	group.Wait()
	return planned, errs
}

// planImage decides between the registry's image and one assembled here.
func (s *Source) planImage(ctx context.Context, image manifest.ContainerImage) (plannedImage, error) {
	planned := plannedImage{ContainerImage: image, origin: FromRelease}
	forced := s.Origins.image(image.Name, s.Origin)
	if forced == FromSource {
		if image.Module == nil && image.Program == "" {
			return planned, fmt.Errorf("%s: image %s has neither a module nor a program that it could be assembled from (add one, or leave --origin source out)", image.Pos, image.Name)
		}
		return planned, s.planAssembly(ctx, &planned)
	}
	err := s.checkTag(ctx, image)
	if err == nil {
		planned.resolved, err = s.puller().Resolve(ctx, image, s.Arch)
	}
	could := image.Module != nil || image.Program != ""
	unreachable := (*fetch.UnreachableError)(nil)
	unavailable := func(why string, err error) error {
		return &PartError{Image: true, Name: image.Name, Why: why, Err: err}
	}
	switch {
	case err == nil, ctx.Err() != nil:
		return planned, err
	case !errors.As(err, &unreachable):
		return planned, err // it is there, and wrong: nothing to work around quietly
	case forced == FromRelease:
		return planned, unavailable("", err)
	case !fetch.Gone(err):
		doubt := s.doubt(image.Name, could)
		return planned, unavailable(doubt, fmt.Errorf("%w%s", err, semicolon(doubt)))
	case !could:
		return planned, unavailable("there are no modules and no programs to assemble them from", fmt.Errorf("%w; there is no module and no program to assemble it from (%s)", err, image.Pos))
	case !s.builds(image.Name):
		return planned, unavailable("--build-missing would assemble them", fmt.Errorf("%w; %s would assemble it from %s", err, s.buildFlag(image.Name), assembledFrom(image)))
	}
	who := "image " + image.Name + " " + image.Reference
	planned.missing = &Missing{Name: who, Reason: strings.TrimPrefix(whyMissing(err), who+": "), Else: assembledFrom(image), Causes: Causes(err)}
	progress.Explain(s.Progress, "%s", planned.missing)
	if buildErr := s.planAssembly(ctx, &planned); buildErr != nil {
		buildErr = shortBuildError(buildErr)
		return planned, unavailable(fmt.Sprintf("nor can they be assembled (%v)", buildErr), fmt.Errorf("%w; nor can it be assembled: %w", err, buildErr))
	}
	return planned, nil
}

// assembledFrom says what an image can be assembled from.
func assembledFrom(image manifest.ContainerImage) string {
	if image.Module == nil {
		return "bake's program " + image.Program
	}
	return image.Module.Path + " " + image.Module.Version
}

// planAssembly proves that an image can be assembled.
func (s *Source) planAssembly(ctx context.Context, p *plannedImage) (err error) {
	p.origin, p.resolved = FromSource, nil
	switch {
	case p.Module != nil:
		_, err = s.mustBuild(ctx, gobuild.ForImage(p.ContainerImage))
	case p.Program != "":
		_, err = s.Program(p.Program, s.Arch)
	}
	return err
}

// images brings images, in their order.
func (s *Source) images(ctx context.Context, planned []plannedImage) ([]ContainerImage, error) {
	images := make([]ContainerImage, len(planned))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range planned {
		group.Go(func() error {
			var err error
			images[i], err = s.image(ctx, p)
			return err
		})
	}
	return images, group.Wait()
}

func (s *Source) image(ctx context.Context, p plannedImage) (ContainerImage, error) {
	out := ContainerImage{ContainerImage: p.ContainerImage, Origin: p.origin, Ref: p.Reference}
	var err error
	if p.origin == FromRelease {
		repository := p.Reference[:strings.LastIndexByte(p.Reference, ':')]
		out.From = repository + "@" + string(p.Digest)
		if out.Image, err = s.puller().Pull(ctx, p.resolved); err == nil {
			s.record(ctx, imageClaim(p.ContainerImage))
		}
		return out, err
	}
	recipe := oci.Recipe{
		Name: p.Name, Version: p.Tag(), Arch: s.Arch,
		User: p.User, Entrypoint: p.Entrypoint, Command: p.Command, Environment: p.Environment,
	}
	if p.Packages == nil {
		out.Ref = oci.Reference(p.Name, p.Tag())
	} else {
		out.From = "Debian packages"
	}
	switch {
	case p.Module != nil:
		var built gobuild.Built
		recipe.Programs, built, err = s.imagePrograms(ctx, p)
		out.From, out.Toolchain, out.Built = built.Module+"@"+built.Version, built.Toolchain, &built
		recipe.Source = "pkg:golang/" + out.From
	case p.Program != "":
		out.From = "bake's program " + p.Program
		recipe.User = ownUser
		var program []byte
		if program, err = s.Program(p.Program, s.Arch); err == nil {
			recipe.Programs = []oci.Program{ownProgram(p.Program, program)}
		}
	}
	if err == nil && p.Packages != nil {
		err = s.imageFiles(ctx, p, &recipe, &out)
	}
	if _, ok := errors.AsType[*manifest.InputError](err); ok {
		return out, err // it names the image, and begins with its place
	}
	if err != nil {
		return out, fmt.Errorf("image %s: %w", p.Name, err)
	}
	for _, program := range recipe.Programs {
		out.Programs = append(out.Programs, program.Content)
	}
	out.Image, err = oci.Assemble(ctx, s.packs, recipe)
	return out, err
}

// imageFiles brings the packages of an image, and lays out their files: into out, and
// with the places of its programs into recipe.
func (s *Source) imageFiles(ctx context.Context, p plannedImage, recipe *oci.Recipe, out *ContainerImage) error {
	config := layers.Config{Image: p.ContainerImage, Derive: func(key string, make func(w *tree.PackWriter) error) (*tree.Pack, error) {
		return s.packs.Pack(ctx, "derived "+key, "derived "+key, func(_ context.Context, w *tree.PackWriter) error { return make(w) })
	}}
	packages := make([]Package, len(p.packages))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, s.Jobs))
	for i, locked := range p.packages {
		group.Go(func() error {
			pack, err := s.Unpack(groupCtx, locked)
			packages[i] = Package{locked, pack}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, p := range packages {
		config.Packages = append(config.Packages, merge.Package{LockedPackage: p.LockedPackage, Pack: p.Pack})
	}
	for _, program := range recipe.Programs {
		config.Programs = append(config.Programs, program.Path)
	}
	files, err := layers.Compose(config)
	if err != nil {
		return err
	}
	for i, path := range files.Programs {
		recipe.Programs[i].Path = path
	}
	recipe.Files = files.Tree
	out.Debs, out.Files, out.Start = packages, files.Tree, files.Start
	return nil
}

// ownProgram is a program of bake's own in an image.
func ownProgram(name string, content []byte) oci.Program {
	blob := tree.Bytes("bake's program "+name, content)
	return oci.Program{Path: "/" + name, Content: tree.Entry{
		Path: name, Type: tree.File, Perm: 0o755, Size: blob.Size, SHA256: sha256.Sum256(content), Blob: blob,
	}}
}

// imagePrograms builds the programs of an image's module, in the order in which
// the versions file names them, and their licenses: the first is the entry point.
func (s *Source) imagePrograms(ctx context.Context, p plannedImage) ([]oci.Program, gobuild.Built, error) {
	pack, built, err := s.Builder.Build(ctx, gobuild.ForImage(p.ContainerImage), s.Arch, s.Modules)
	if err != nil {
		return nil, built, err
	}
	var programs []oci.Program
	for _, wanted := range p.Module.Programs {
		for _, e := range pack.Entries {
			if "/"+e.Path == wanted.Path {
				programs = append(programs, oci.Program{Path: wanted.Path, Content: e})
			}
		}
	}
	for _, e := range pack.Entries {
		if e.Path == gobuild.LicensesPath(p.Name) {
			programs = append(programs, oci.Program{Path: "/" + e.Path, Content: e})
		}
	}
	return programs, built, nil
}
