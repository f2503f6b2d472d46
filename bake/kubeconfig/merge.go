package kubeconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nodebake/bake/bake/node"
	"github.com/nodebake/bake/firstboot/pki"
)

// File is a file that kubectl reads.
type File struct {
	Path    string
	Content []byte // nil: it is not there
}

// Entry is one item of one of a kubeconfig's lists.
type Entry struct {
	File string `json:"file"`
	Kind string `json:"kind"` // cluster, user or context
	Name string `json:"name"`
}

// Change is what was done with an entry.
type Change struct {
	Done string `json:"done"` // added, replaced or removed
	Entry
}

// Result is what is to become of files.
type Result struct {
	Files   []File // those that change
	Changes []Change
	Current string // the context that kubectl uses then; "": none
}

// TakenError says that a name is something else's.
type TakenError struct {
	Entry
	Line    int
	Is      string // what has the name: "the server https://..."
	Another string // the flag that gives another name
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s:%d: the %s %q is there and is something else: %s (another name: %s NAME)", e.File, e.Line, e.Kind, e.Name, e.Is, e.Another)
}

// place is an entry in a file.
type place struct {
	doc  *document
	node *yaml.Node
}

// set is the files of a list in kubectl's order: of several entries with one name
// the first counts, and of several current contexts.
type set []*document

// read reads files. Those that are not there have no entries.
func read(files []File) (set, error) {
	var all set
	var errs []error
	for _, f := range files {
		d, err := newDocument(f.Path, string(f.Content))
		errs = append(errs, err)
		all = append(all, d)
	}
	return all, errors.Join(errs...)
}

func (s set) find(kind, name string) (place, bool) {
	for _, d := range s {
		for _, item := range d.items(kind) {
			if child(item, "name").Value == name {
				return place{d, item}, true
			}
		}
	}
	return place{}, false
}

func (s set) current() string {
	for _, d := range s {
		if name := d.current(); name != "" {
			return name
		}
	}
	return ""
}

func (s set) result(changes []Change) *Result {
	r := &Result{Changes: changes, Current: s.current()}
	for _, d := range s {
		if d.text != d.was {
			r.Files = append(r.Files, File{d.path, []byte(d.text)})
		}
	}
	return r
}

// Merge adds the cluster, the user and the context of k to files, which kubectl
// reads in this order. What is new goes to the one called target; where kubectl
// would change an entry, it is changed: a user's certificate. With use the context
// becomes the current one. A name that something else has is a *TakenError.
func Merge(files []File, target string, k node.Kubeconfig, use bool) (*Result, error) {
	s, err := read(files)
	if err != nil {
		return nil, err
	}
	into := s[slices.IndexFunc(s, func(d *document) bool { return d.path == target })]
	own, err := ownEntries(k)
	if err != nil {
		return nil, err
	}
	var taken []error
	for _, kind := range kinds() {
		if at, ok := s.find(kind, own.name(kind)); ok {
			if is := own.differs(kind, at.node); is != "" {
				taken = append(taken, own.takenBy(kind, at, is))
			}
		}
	}
	if err := errors.Join(taken...); err != nil {
		return nil, err
	}
	var changes []Change
	for _, kind := range kinds() {
		name := own.name(kind)
		at, ok := s.find(kind, name)
		done := "added"
		switch {
		case !ok:
			at.doc = into
			err = into.add(kind, own.items[kind])
		case kind == users && !own.isCurrent(at.node):
			done = "replaced"
			err = own.renew(at.doc)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, Change{done, Entry{at.doc.path, singular(kind), name}})
	}
	if use && s.current() != k.Name {
		if err := into.setCurrent(k.Name); err != nil {
			return nil, err
		}
	}
	return s.result(changes), nil
}

// entries are a kubeconfig's own.
type entries struct {
	k         node.Kubeconfig
	authority authority
	subject   string
	items     map[string]*yaml.Node
}

func ownEntries(k node.Kubeconfig) (*entries, error) {
	text, err := k.Encode()
	if err != nil {
		return nil, err
	}
	d, err := newDocument("", string(text))
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(k.Certificate)
	if err != nil {
		return nil, err
	}
	authority, err := newAuthority(k.Server, k.CA)
	if err != nil {
		return nil, err
	}
	e := &entries{k: k, authority: authority, subject: certs[0].Subject.String(), items: map[string]*yaml.Node{}}
	for _, kind := range kinds() {
		e.items[kind] = d.items(kind)[0]
	}
	return e, nil
}

func (e *entries) name(kind string) string {
	if kind == users {
		return e.k.User
	}
	return e.k.Name
}

// differs says what an entry is that has our name and is not ours; "" if it is.
func (e *entries) differs(kind string, item *yaml.Node) string {
	body := child(item, singular(kind))
	switch kind {
	case clusters:
		switch server := text(body, "server"); {
		case !sameServer(server, e.k.Server):
			return fmt.Sprintf("the server %q", server)
		case !e.authority.has(data(body, "certificate-authority-data")):
			return fmt.Sprintf("the server %q with another CA", server)
		}
	case users:
		certs, err := pki.ParseCertificates(data(body, certificateData))
		switch {
		case err != nil || len(data(body, keyData)) == 0:
			return "a user without a certificate and its key in it"
		case !e.authority.issued(certs):
			return fmt.Sprintf("a certificate for %q by another CA, %q", certs[0].Subject.String(), certs[0].Issuer.String())
		case certs[0].Subject.String() != e.subject:
			return fmt.Sprintf("a certificate for %q", certs[0].Subject.String())
		}
	case contexts:
		if cluster, user := text(body, "cluster"), text(body, "user"); cluster != e.k.Name || user != e.k.User {
			return fmt.Sprintf("the user %q of the cluster %q", user, cluster)
		}
	}
	return ""
}

func (e *entries) takenBy(kind string, at place, is string) error {
	flag := "--name"
	if kind == users {
		flag = "--user"
	}
	return &TakenError{Entry{at.doc.path, singular(kind), e.name(kind)}, child(at.node, "name").Line, is, flag}
}

const (
	certificateData = "client-certificate-data"
	keyData         = "client-key-data"
)

// isCurrent says whether the user has our certificate already.
func (e *entries) isCurrent(item *yaml.Node) bool {
	body := child(item, singular(users))
	return bytes.Equal(data(body, certificateData), e.k.Certificate) && bytes.Equal(data(body, keyData), e.k.Key)
}

// renew gives the user another certificate and key.
func (e *entries) renew(d *document) error {
	if err := d.set(users, e.k.User, certificateData, base64.StdEncoding.EncodeToString(e.k.Certificate)); err != nil {
		return err
	}
	return d.set(users, e.k.User, keyData, base64.StdEncoding.EncodeToString(e.k.Key))
}

// text returns a field of an entry, "" where it is not there.
func text(body *yaml.Node, field string) string {
	if n := child(body, field); n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		return n.Value
	}
	return ""
}

// data returns a field in base64, nothing where it is none.
func data(body *yaml.Node, field string) []byte {
	decoded, err := base64.StdEncoding.DecodeString(text(body, field))
	if err != nil {
		return nil
	}
	return decoded
}

func sameServer(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

// authority is what entries are known by.
type authority struct {
	server string
	pem    []byte
	certs  []*x509.Certificate
}

func newAuthority(server string, caPEM []byte) (authority, error) {
	certs, err := pki.ParseCertificates(caPEM)
	return authority{server, caPEM, certs}, err
}

// has says whether some of a cluster's CA certificates are ours: a bundle may have
// a renewed one beside the old.
func (a authority) has(caPEM []byte) bool {
	certs, err := pki.ParseCertificates(caPEM)
	return err == nil && slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		return slices.ContainsFunc(a.certs, c.Equal)
	})
}

// issued says whether the CA signed certs[0], whenever that was.
func (a authority) issued(certs []*x509.Certificate) bool {
	at := []time.Time{certs[0].NotBefore, certs[0].NotAfter}
	for _, ca := range a.certs {
		at = append(at, ca.NotBefore, ca.NotAfter)
	}
	return pki.Issued(certs, a.pem, at...)
}

// Remove takes the cluster with a server and a CA out of files, whatever its name
// there, the contexts that lead to it, and the users with a certificate by its CA
// that no other context needs. Where such a context was the current one, none is.
func Remove(files []File, server string, caPEM []byte) (*Result, error) {
	s, err := read(files)
	if err != nil {
		return nil, err
	}
	a, err := newAuthority(server, caPEM)
	if err != nil {
		return nil, err
	}
	current := s.current()
	removed, err := s.remove(clusters, func(_ string, body *yaml.Node) bool {
		return sameServer(text(body, "server"), a.server) && a.has(data(body, "certificate-authority-data"))
	})
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, e := range removed {
		_, other := s.find(clusters, e.Name) // of another file, which kubectl did not look at
		gone[e.Name] = !other
	}
	more, err := s.remove(contexts, func(_ string, body *yaml.Node) bool { return gone[text(body, "cluster")] })
	if err != nil {
		return nil, err
	}
	removed = append(removed, more...)
	needed := s.neededUsers()
	more, err = s.remove(users, func(name string, body *yaml.Node) bool {
		certs, err := pki.ParseCertificates(data(body, certificateData))
		return err == nil && !needed[name] && a.issued(certs)
	})
	if err != nil {
		return nil, err
	}
	removed = append(removed, more...)
	if _, there := s.find(contexts, current); current != "" && !there && slices.ContainsFunc(removed, func(c Change) bool { return c.Kind == "context" && c.Name == current }) {
		for _, d := range s {
			if d.current() == current {
				if err := d.setCurrent(""); err != nil {
					return nil, err
				}
			}
		}
	}
	return s.result(removed), nil
}

// neededUsers are those that a context names.
func (s set) neededUsers() map[string]bool {
	needed := map[string]bool{}
	for _, d := range s {
		for _, item := range d.items(contexts) {
			needed[text(child(item, "context"), "user")] = true
		}
	}
	return needed
}

// remove takes those entries of a list out of all files that are meant.
func (s set) remove(kind string, meant func(name string, body *yaml.Node) bool) ([]Change, error) {
	var removed []Change
	for _, d := range s {
		var names []string
		for _, item := range d.items(kind) {
			if name := child(item, "name").Value; meant(name, child(item, singular(kind))) {
				names = append(names, name)
			}
		}
		for _, name := range names {
			if err := d.remove(kind, name); err != nil {
				return nil, err
			}
			removed = append(removed, Change{"removed", Entry{d.path, singular(kind), name}})
		}
	}
	return removed, nil
}
