package gobuild

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
)

// The go command reads a directory as a module proxy when GOPROXY is a file
// URL (go.dev/ref/mod#goproxy-protocol). That works without any network, where
// a server on the loopback interface does not: it is down in a fresh network
// namespace. Besides modules such a directory has what the go command needs to
// verify a toolchain, which no go.sum lists: answers of the checksum database,
// below sumdb/NAME (go.dev/ref/mod#checksum-database).

// toolchainPath is the module whose versions are toolchains
// (go.dev/doc/toolchain#download).
const toolchainPath = "golang.org/toolchain"

// toolchainModule is the module that holds a toolchain for a host such as
// "linux-amd64".
func toolchainModule(toolchain, host string) module.Version {
	return module.Version{Path: toolchainPath, Version: "v0.0.1-" + toolchain + "." + host}
}

// proxyPath returns the path of a module's file below a module proxy. ext is
// ".info", ".mod" or ".zip".
func proxyPath(m module.Version, ext string) (string, error) {
	dir, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return dir + "/@v/" + version + ext, nil
}

// lookupPath returns the path of what the checksum database says of m.
func lookupPath(database string, m module.Version) (string, error) {
	dir, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return path.Join("sumdb", database, "lookup", dir+"@"+version), nil
}

// need says which files of a module proxy a build can ask for.
type need struct {
	files     map[string]bool
	database  string         // of checksums: "sum.golang.org"; "": there is none
	toolchain module.Version // that the host's go must switch to; zero: it is the right one
}

// wants reports whether the file at a path below the proxy may be needed.
func (n *need) wants(file string) bool {
	if n.files[file] {
		return true
	}
	// Tiles are few, and which are needed depends on what they hold.
	return n.toolchain.Path != "" && n.database != "" && strings.HasPrefix(file, path.Join("sumdb", n.database, "tile")+"/")
}

// newNeed takes the modules from r's go.sum, which has a line for the go.mod
// and one for the content of each that is used, and a few more. settings are
// those of the host's go command.
func newNeed(r *recipe, settings map[string]string) (*need, error) {
	n := &need{files: map[string]bool{}}
	add := func(m module.Version, ext string) error {
		p, err := proxyPath(m, ext)
		n.files[p] = true
		return err
	}
	for line := range strings.Lines(string(r.goSum)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue // the go command will complain
		}
		version, goMod := strings.CutSuffix(f[1], "/go.mod")
		m := module.Version{Path: f[0], Version: version}
		ext := ".zip"
		if goMod {
			ext = ".mod"
		}
		if err := add(m, ext); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path.Join(r.dir, "go.sum"), err)
		}
	}
	if err := add(r.module, ".info"); err != nil { // for Preflight alone
		return nil, err
	}
	if settings["GOVERSION"] == r.toolchain {
		return n, nil
	}
	n.toolchain = toolchainModule(r.toolchain, settings["GOHOSTOS"]+"-"+settings["GOHOSTARCH"])
	if err := add(n.toolchain, ".zip"); err != nil {
		return nil, err
	}
	if n.database, _ = checksumDatabase(settings["GOSUMDB"]); n.database != "" {
		p, err := lookupPath(n.database, n.toolchain)
		if err != nil {
			return nil, err
		}
		n.files[p] = true
	}
	return n, nil
}

// checksumDatabase returns the name of the database that a GOSUMDB names, and
// the first field of that, which says whose signatures count. Both are empty
// where it is off. What may follow, another URL of the database, is left out:
// the go command would ask it in place of any proxy.
func checksumDatabase(gosumdb string) (name, key string) {
	fields := strings.Fields(gosumdb)
	if len(fields) == 0 || fields[0] == "off" {
		return "", ""
	}
	key = fields[0]
	if key == "sum.golang.google.cn" { // an alias, in cmd/go/internal/modfetch/sumdb.go as well
		key = "sum.golang.org"
	}
	if v, err := note.NewVerifier(key); err == nil {
		return v.Name(), key
	}
	return key, key // the go command knows keys by name
}

// fileURL returns the file URL of a directory as one element of GOPROXY, whose
// elements end at a comma or a bar.
func fileURL(dir string) string {
	p := filepath.ToSlash(dir)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/Users
	}
	return strings.ReplaceAll((&url.URL{Scheme: "file", Path: p}).String(), ",", "%2C")
}

// userProxies returns a GOPROXY that has the user's module cache before his
// proxies, for a go command that does not use it: a module cache holds its
// downloads as a module proxy does (go.dev/ref/mod#module-cache).
func userProxies(settings map[string]string) string {
	if settings["GOMODCACHE"] == "" {
		return settings["GOPROXY"]
	}
	return fileURL(filepath.Join(settings["GOMODCACHE"], "cache", "download")) + "," + settings["GOPROXY"]
}

// newGoFor returns a go command for r with its modules and its toolchain at
// hand, from Config.Proxy where there is one.
func (b *Builder) newGoFor(ctx context.Context, r *recipe, dir string) (*gocmd, error) {
	if b.Proxy == nil && !b.Offline {
		return b.newGo(ctx, r.toolchain, dir, nil)
	}
	g, err := b.newGo(ctx, r.toolchain, dir, func(ctx context.Context, settings map[string]string) error {
		return b.fromProxy(ctx, r, dir, settings)
	})
	if err != nil {
		return nil, err
	}
	g.isolate()
	return g, nil
}

// fromProxy has Config.Proxy lay out what r needs below dir, and points the go
// command's settings there.
func (b *Builder) fromProxy(ctx context.Context, r *recipe, dir string, settings map[string]string) error {
	n, err := newNeed(r, settings)
	if err != nil {
		return err
	}
	tree := filepath.Join(dir, "proxy")
	if err := os.Mkdir(tree, 0o777); err != nil {
		return fmt.Errorf("making the build's directory: %w", err)
	}
	if b.Proxy != nil {
		if err := b.Proxy(ctx, tree, n.wants); err != nil {
			return err
		}
	}
	// The checksum database's newest tree head is kept in GOPATH. Where the
	// user's is newer than the mirror, the go command would ask for tiles that
	// prove the two consistent and that no mirror has.
	settings["GOPATH"] = filepath.Join(dir, "gopath")
	if err := n.support(tree, b.Offline); err != nil {
		return err
	}
	if !b.Offline {
		settings["GOPROXY"] = fileURL(tree) + "," + userProxies(settings)
		return nil
	}
	// A second element keeps the go command from trusting a single file URL
	// with toolchains unverified (useSumDB in cmd/go/internal/modfetch). After
	// the same again it names the file that is missing, after "off" it would
	// not.
	settings["GOPROXY"] = fileURL(tree) + "," + fileURL(tree)
	_, settings["GOSUMDB"] = checksumDatabase(settings["GOSUMDB"])
	if settings["GOSUMDB"] == "" {
		settings["GOSUMDB"] = "off"
	}
	// These name modules that are to be had without a proxy.
	for _, name := range []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB"} {
		delete(settings, name)
	}
	return n.check(tree, r, settings)
}

// support tells the go command that the proxy in tree answers for the checksum
// database, if it does. The go command then asks no other for it, which is as it
// must be offline.
func (n *need) support(tree string, offline bool) error {
	if n.toolchain.Path == "" || n.database == "" {
		return nil
	}
	lookup, err := lookupPath(n.database, n.toolchain)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(tree, filepath.FromSlash(lookup))); err != nil && !offline {
		return nil
	}
	supported := filepath.Join(tree, "sumdb", filepath.FromSlash(n.database), "supported")
	if err := os.MkdirAll(filepath.Dir(supported), 0o777); err != nil {
		return fmt.Errorf("making the build's directory: %w", err)
	}
	if err := os.WriteFile(supported, nil, 0o666); err != nil {
		return fmt.Errorf("making the build's directory: %w", err)
	}
	return nil
}

// check reports what a build can't go without and tree does not have. It looks
// at no dependencies: which of them are needed, the go command finds out.
func (n *need) check(tree string, r *recipe, settings map[string]string) error {
	has := func(m module.Version) bool {
		p, err := proxyPath(m, ".zip")
		if err == nil {
			_, err = os.Stat(filepath.Join(tree, filepath.FromSlash(p)))
		}
		return err == nil
	}
	if !has(r.module) {
		return &NotMirroredError{What: "module " + r.module.String()}
	}
	if n.toolchain.Path == "" || has(n.toolchain) {
		return nil
	}
	// It may have been unpacked in the user's module cache before.
	if cache := settings["GOMODCACHE"]; cache != "" {
		if _, err := os.Stat(filepath.Join(cache, filepath.FromSlash(n.toolchain.String()))); err == nil {
			return nil
		}
	}
	return &NotMirroredError{What: fmt.Sprintf("toolchain %s for %s-%s, and go here is %s", r.toolchain, settings["GOHOSTOS"], settings["GOHOSTARCH"], settings["GOVERSION"])}
}

// NotMirroredError says that a build has no network and the mirror lacks
// something that it needs.
type NotMirroredError struct {
	What string // "module k8s.io/kubernetes@v1.36.3"
	Err  error  // of the go command; nil where it was not run
}

const notMirroredRemedy = "make it with --sources"

func (e *NotMirroredError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v\nthe mirror has no %s: %s", e.Err, e.What, notMirroredRemedy)
	}
	return fmt.Sprintf("the mirror has no %s: %s", e.What, notMirroredRemedy)
}

func (e *NotMirroredError) Unwrap() error { return e.Err }
