package debian

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nodebake/bake/bake/source/debian/aptconf"
	"github.com/nodebake/bake/bake/source/debian/repo"
)

// Mirror is one place that serves one archive.
type Mirror struct {
	Archive string // "debian" or "debian-security"
	URL     string // the directory that holds dists/ and pool/, without a trailing slash
}

// MirrorList is where archives are fetched from, in order of preference.
type MirrorList []Mirror

// archives are the names that a mirror may be given for.
func archives() []string { return []string{repo.Main, repo.Security} }

// Mirrors returns the mirrors that were given, then those of the host's own apt
// configuration, each once. Nothing else is assumed: without either the list
// is empty, and fetching says so.
//
// A mirror is given as ARCHIVE=URL, "debian=https://mirror.example/debian", or
// as the URL of the directory that holds both archives under their names,
// "https://mirror.example". A snapshot archive is given in the first form, once
// for each archive.
//
// host is rooted at the host's root directory; nil reads no apt configuration.
func Mirrors(given []string, host fs.FS) (MirrorList, error) {
	var list MirrorList
	add := func(archive, base string) {
		m := Mirror{archive, strings.TrimRight(base, "/")}
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	for _, text := range given {
		archive, base, err := parseMirror(text)
		if err != nil {
			return nil, fmt.Errorf("mirror %q: %w", redact(text), err)
		}
		if archive != "" {
			add(archive, base)
			continue
		}
		for _, a := range archives() {
			add(a, strings.TrimRight(base, "/")+"/"+a)
		}
	}
	if host == nil {
		return list, nil
	}
	sources, err := aptconf.Read(host)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		if archive, ok := debianArchive(s); ok {
			add(archive, s.URI)
		}
	}
	return list, nil
}

// parseMirror returns archive "" for a mirror of all.
func parseMirror(text string) (archive, base string, err error) {
	if name, rest, ok := strings.Cut(text, "="); ok && !strings.ContainsAny(name, ":/") {
		if !slices.Contains(archives(), name) {
			return "", "", fmt.Errorf("there is no archive %q (want %s)", name, strings.Join(archives(), " or "))
		}
		archive, text = name, rest
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", "", errors.New("it is not a URL of http:// or https://")
	case strings.ContainsAny(text, "?#"):
		return "", "", errors.New("the URL of a directory has neither ? nor #")
	}
	if archive == "" {
		if m := archivePath.FindStringSubmatch(u.Path); m != nil {
			return "", "", fmt.Errorf("it is the URL of one archive (give %s=URL, or the URL of the directory above %s/)", m[1], m[1])
		}
	}
	return archive, text, nil
}

// archivePath matches the path of a mirror of one of Debian's archives,
// perhaps at a moment of a snapshot archive.
var archivePath = regexp.MustCompile(`/(debian|debian-security)(?:/[0-9]{8}T[0-9]{6}Z)?/*$`)

// debianArchive says which of Debian's archives s is a mirror of.
//
// Vendors publish under paths that end in /debian too, so the entry must also
// look like Debian's own: component main, a suite that is not a path, and no
// key but Debian's. Where that is not enough, a wrong guess costs one request:
// the vendor's Release has another label and another key, and every package
// is checked against the lock.
func debianArchive(s aptconf.Source) (string, bool) {
	u, err := url.Parse(s.URI)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(s.URI, "?#$[") {
		return "", false
	}
	m := archivePath.FindStringSubmatch(u.Path)
	switch {
	case m == nil:
		return "", false
	case !slices.Contains(s.Components, "main"):
		return "", false
	case !slices.ContainsFunc(s.Suites, debianSuite.MatchString):
		return "", false
	case s.SignedBy != "" && strings.Contains(s.SignedBy, "/") && !strings.Contains(s.SignedBy, "PGP PUBLIC KEY") && !debianKeyring.MatchString(s.SignedBy):
		return "", false
	}
	return m[1], true
}

var (
	debianSuite   = regexp.MustCompile(`^[a-z]+(-[a-z-]+)?(/updates)?$`)
	debianKeyring = regexp.MustCompile(`debian-archive[^/]*\.(gpg|asc|pgp)`)
)

// url returns where path, which is below the archive, is on m. It is written as
// apt 2.6 sends it: mirrors on S3 and its like read "+" as a blank, and apt
// escapes "+" and "~" (pkgAcquire::URIEncode), as it does percent signs, blanks
// and what is not printable ASCII, in lower case.
func (m Mirror) url(path string) string {
	var b strings.Builder
	b.WriteString(m.URL + "/")
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c > '~' || strings.IndexByte("+~%", c) >= 0 {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// URLs returns where path of archive is available, the preferred first. The
// error says how to give a mirror where there is none.
func (l MirrorList) URLs(archive, path string) ([]string, error) {
	mirrors, err := l.of(archive)
	return mirrors.urls(path), err
}

// of returns the mirrors of archive.
func (l MirrorList) of(archive string) (MirrorList, error) {
	var list MirrorList
	for _, m := range l {
		if m.Archive == archive {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, &NoMirrorError{Archive: archive}
	}
	return list, nil
}

// urls returns where path is on each mirror, which are of one archive.
func (l MirrorList) urls(path string) []string {
	var urls []string
	for _, m := range l {
		urls = append(urls, m.url(path))
	}
	return urls
}

// serving returns the mirror that has path at rawURL.
func (l MirrorList) serving(rawURL, path string) Mirror {
	for _, m := range l {
		if m.url(path) == rawURL {
			return m
		}
	}
	panic("BUG: no mirror has " + path + " at " + redact(rawURL))
}

// NoMirrorError says that no mirror of an archive is known.
type NoMirrorError struct {
	Archive string
}

func (e *NoMirrorError) Error() string {
	return fmt.Sprintf("no mirror of archive %s is known: this host's apt sources name none (give --debian-mirror %s=URL, or --debian-mirror URL of a directory that holds %s)",
		e.Archive, e.Archive, strings.Join(archives(), "/ and ")+"/")
}

// redact hides a password in a URL that goes to an error.
func redact(text string) string {
	name, rest, ok := strings.Cut(text, "=")
	if !ok {
		name, rest = "", text
	} else {
		name += "="
	}
	u, err := url.Parse(rest)
	if err != nil {
		return text
	}
	return name + u.Redacted()
}
