package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/nodebake/bake/bake/arch"
	"github.com/nodebake/bake/bake/inputs"
	"github.com/nodebake/bake/bake/source"
	"github.com/nodebake/bake/images/worker"
)

// The variables that are looked at where a flag is not given.
const (
	mirrorVariable  = "BAKE_DEBIAN_MIRROR" // --debian-mirror, separated by spaces
	offlineVariable = "BAKE_MIRROR"        // --mirror
)

// inputFlags are the flags that say what an image is made from, shared by the
// commands that read them.
type inputFlags struct {
	versions string
	lock     string
	arch     string
	cache    string
	mirrors  []string
	mirror   string
	offline  bool
	insecure []string
	jobs     int
}

func (in *inputFlags) addFlags(c *cobra.Command) {
	in.addVersionsFlag(c)
	c.Flags().StringVar(&in.arch, "arch", string(arch.Default), "`ARCH`: "+arch.Names(" or "))
	in.addBaseFlags(c)
}

func (in *inputFlags) addVersionsFlag(c *cobra.Command) {
	c.Flags().StringVar(&in.versions, "versions", "", "versions `FILE` (docs/versions.md)")
}

// addBaseFlags adds the flags that options reads.
func (in *inputFlags) addBaseFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&in.mirrors, "debian-mirror", nil, "Debian mirror `URL` to ask first (see docs; $"+mirrorVariable+")")
	in.addCacheFlag(c)
	f.IntVar(&in.jobs, "jobs", 0, "do `N` things at once; 0: as many as there are processors")
}

// addMirrorFlags adds the flags of commands that take parts from what
// `bake mirror` made.
func (in *inputFlags) addMirrorFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&in.mirror, "mirror", "", "mirror `DIR|URL` to ask first (docs/offline.md; $"+offlineVariable+")")
	f.BoolVar(&in.offline, "offline", false, "ask nothing but the mirror")
}

// addRegistryFlags adds the flags of commands that fetch container images.
func (in *inputFlags) addRegistryFlags(c *cobra.Command) {
	c.Flags().StringArrayVar(&in.insecure, "insecure-registry", nil, "registry `HOST` that may speak http, without passwords")
}

// insecureRegistries returns the hosts of --insecure-registry.
func (in *inputFlags) insecureRegistries() ([]string, error) {
	var hosts []string
	for _, given := range in.insecure {
		registry, err := name.NewRegistry(given)
		if given == "" || err != nil {
			return nil, &usageError{fmt.Errorf("--insecure-registry %q: want HOST or HOST:PORT", given)}
		}
		hosts = append(hosts, registry.RegistryStr())
	}
	return hosts, nil
}

// mirrorLocation returns the mirror to fetch from: a URL, an absolute directory,
// or "" for none.
func (in *inputFlags) mirrorLocation(c *cobra.Command, h *host) (string, error) {
	location := in.mirror
	switch {
	case c.Flags().Lookup("mirror") == nil:
		return "", nil
	case location == "":
		location = h.getenv(offlineVariable)
	}
	if location == "" || strings.Contains(location, "://") {
		return location, nil
	}
	dir, err := filepath.Abs(location)
	if err != nil {
		return "", &usageError{fmt.Errorf("--mirror %s: %w", location, err)}
	}
	return dir, nil
}

func (in *inputFlags) addCacheFlag(c *cobra.Command) {
	c.Flags().StringVar(&in.cache, "cache", "", "store `DIR` (default: bake in the user's cache directory)")
}

// files turns the flags into what is read.
func (in *inputFlags) files(c *cobra.Command) (inputs.Files, error) {
	if err := requireFlag(c, "versions", in.versions); err != nil {
		return inputs.Files{}, err
	}
	arch, err := parseArch("--arch", in.arch)
	return inputs.Files{Versions: in.versions, Lock: in.lock, Definition: worker.FS(), Arch: arch}, err
}

// options turns the flags into how parts are fetched. Only here does bake look at its
// environment.
func (in *inputFlags) options(c *cobra.Command, h *host) (source.Options, error) {
	cache, err := in.cacheDir()
	if err != nil {
		return source.Options{}, err
	}
	mirror, err := in.mirrorLocation(c, h)
	if err != nil {
		return source.Options{}, err
	}
	insecure, err := in.insecureRegistries()
	if err != nil {
		return source.Options{}, err
	}
	if err := checkProxies(h.getenv); err != nil {
		return source.Options{}, err
	}
	mirrors := in.mirrors
	if len(mirrors) == 0 {
		mirrors = strings.Fields(h.getenv(mirrorVariable))
	}
	jobs := in.jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	options := source.Options{
		Cache:         cache,
		OfflineMirror: mirror,
		Offline:       in.offline,
		DebianMirrors: mirrors,
		Jobs:          jobs,
		Env:           h.env,
		Keychain:      keychain{h.getenv},
		Proxy:         http.ProxyFromEnvironment,
		UserAgent:     "bake/" + version(),

		InsecureRegistries: insecure,
	}
	if runtime.GOOS == "linux" {
		options.Apt = os.DirFS("/")
	}
	return options, nil
}

// checkProxies refuses a proxy that http.ProxyFromEnvironment would pass over
// without a word, and ask every host directly. Its value may hold a password and
// is not shown.
func checkProxies(getenv func(name string) string) error {
	for _, names := range [][]string{{"HTTP_PROXY", "http_proxy"}, {"HTTPS_PROXY", "https_proxy"}} {
		for _, name := range names {
			value := getenv(name)
			if value == "" {
				continue
			}
			if !validProxy(value) {
				return &usageError{fmt.Errorf("%s is not the URL of a proxy, as in http://USER:PASSWORD@HOST:PORT (its value is not shown; in a password, %% is written %%25 and @ %%40)", name)}
			}
			break // the first of both counts
		}
	}
	return nil
}

// validProxy reports whether value is a proxy to http.ProxyFromEnvironment, and
// one that http.Transport can use.
func validProxy(value string) bool {
	if !strings.Contains(value, "://") { // HOST:PORT alone
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u.Hostname() != ""
	}
	return false
}

func parseArch(flag, name string) (arch.Arch, error) {
	a, err := arch.Parse(name)
	if err != nil {
		return "", &usageError{fmt.Errorf("%s %s is unknown: want %s", flag, name, arch.Names(" or "))}
	}
	return a, nil
}

func (in *inputFlags) cacheDir() (string, error) {
	if in.cache != "" {
		return in.cache, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", &usageError{fmt.Errorf("no cache directory: %w; give one by --cache", err)}
	}
	return filepath.Join(dir, "bake"), nil
}

func (h *host) getenv(name string) string {
	value := ""
	for _, kv := range h.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v // the last one counts, as in os.Getenv
		}
	}
	return value
}
