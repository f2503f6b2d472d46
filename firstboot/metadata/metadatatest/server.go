// Package metadatatest is Google Compute Engine's metadata server for tests
// and for virtual machines on a workstation: the rules that a client meets
// (the Metadata-Flavor header both ways, directories and their redirects,
// recursive JSON, wait_for_change with ETags, guest attributes) over a tree
// that the caller fills in.
//
// It serves what Google documents under "About VM metadata" and "View and
// query VM metadata". It makes no access tokens and knows no live migration.
package metadatatest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Root is the path under which the server answers.
const Root = "/computeMetadata/v1/"

// Instance is what one virtual machine sees. The zero value is an instance
// without a name.
type Instance struct {
	Name              string            // "worker-0"
	Project           string            // "example"
	Zone              string            // "us-west1-c"
	IP                string            // internal address of the only network interface
	MTU               int               // of the interface; 1460 where 0
	AliasRanges       []string          // CIDRs
	Attributes        map[string]string // instance metadata
	ProjectAttributes map[string]string // project metadata
}

// Server is the metadata server of one instance. It is an http.Handler, safe
// for concurrent use. Make one with [NewServer].
type Server struct {
	mu       sync.Mutex
	root     dir
	guest    dir           // guest attributes: namespace -> key -> value
	changed  chan struct{} // closed and replaced at every change
	requests []string      // method and URL of every request, in order
}

// dir maps a name to a dir, a []any of dirs (numbered entries), or a string or int.
type dir map[string]any

// NewServer returns a Server for in.
func NewServer(in Instance) *Server {
	mtu := in.MTU
	if mtu == 0 {
		mtu = 1460
	}
	aliases := make([]any, len(in.AliasRanges))
	for i, a := range in.AliasRanges {
		aliases[i] = a
	}
	root := dir{
		"instance": dir{
			"attributes": attributes(in.Attributes),
			"hostname":   fmt.Sprintf("%s.%s.c.%s.internal", in.Name, in.Zone, in.Project),
			"id":         instanceID(in.Name),
			"name":       in.Name,
			"zone":       "projects/0/zones/" + in.Zone,
			"network-interfaces": []any{dir{
				"ip":         in.IP,
				"mtu":        mtu,
				"ip-aliases": aliases,
			}},
			"service-accounts": dir{},
			"virtual-clock":    dir{"drift-token": "0"},
		},
		"project": dir{
			"attributes": attributes(in.ProjectAttributes),
			"project-id": in.Project,
		},
	}
	return &Server{root: root, guest: dir{}, changed: make(chan struct{})}
}

func attributes(m map[string]string) dir {
	d := dir{}
	for k, v := range m {
		d[k] = v
	}
	return d
}

func instanceID(name string) int {
	sum := sha256.Sum256([]byte(name))
	return int(sum[0])<<24 | int(sum[1])<<16 | int(sum[2])<<8 | int(sum[3])
}

// SetAttribute sets one instance attribute and wakes those who wait for a change.
func (s *Server) SetAttribute(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root["instance"].(dir)["attributes"].(dir)[key] = value
	s.wake()
}

// DeleteAttribute removes one instance attribute and wakes those who wait.
func (s *Server) DeleteAttribute(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.root["instance"].(dir)["attributes"].(dir), key)
	s.wake()
}

func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// GuestAttribute returns what the guest wrote under namespace and key.
func (s *Server) GuestAttribute(namespace, key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ns, _ := s.guest[namespace].(dir)
	v, ok := ns[key].(string)
	return v, ok
}

// Requests returns the requests seen so far as "METHOD URL".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.String())
	s.mu.Unlock()

	w.Header().Set("Server", "Metadata Server for VM")
	w.Header().Set("Metadata-Flavor", "Google")
	path, isOurs := strings.CutPrefix(r.URL.Path, Root)
	switch {
	case r.URL.Path == "/":
		fmt.Fprint(w, "computeMetadata/\n")
		return
	case !isOurs:
		http.Error(w, "no such path", http.StatusNotFound)
		return
	case r.Header.Get("X-Forwarded-For") != "":
		http.Error(w, "requests with X-Forwarded-For are refused", http.StatusForbidden)
		return
	case r.Header.Get("Metadata-Flavor") != "Google":
		http.Error(w, "missing required header: Metadata-Flavor: Google", http.StatusForbidden)
		return
	}
	if rest, ok := strings.CutPrefix(path, "instance/guest-attributes/"); ok {
		s.serveGuest(w, r, rest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only GET is allowed here", http.StatusMethodNotAllowed)
		return
	}
	s.serveTree(w, r, path)
}

func (s *Server) serveTree(w http.ResponseWriter, r *http.Request, path string) {
	query := r.URL.Query()
	var timeout <-chan time.Time
	if seconds, err := strconv.Atoi(query.Get("timeout_sec")); err == nil {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		timeout = timer.C
	}
	wait := query.Get("wait_for_change") == "true"
	lastETag := query.Get("last_etag")
	first := ""
	for expired := false; ; {
		s.mu.Lock()
		changed := s.changed
		body, contentType, status := s.render(path, query.Get("recursive") == "true", query.Get("alt"))
		s.mu.Unlock()

		etag := etagOf(body)
		if first == "" {
			first = etag
			if lastETag == "" {
				lastETag = etag
			}
		}
		// "0" asks for the present value at once, as any ETag that differs does.
		if wait && !expired && status == http.StatusOK && etag == lastETag {
			select {
			case <-changed:
				continue
			case <-timeout:
				expired = true
				continue
			case <-r.Context().Done():
				return
			}
		}
		if status == http.StatusMovedPermanently {
			target := r.URL.Path + "/"
			if r.URL.RawQuery != "" {
				target += "?" + r.URL.RawQuery
			}
			http.Redirect(w, r, target, status)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
		return
	}
}

func etagOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:8])
}

// render returns the answer for path. The caller holds s.mu.
func (s *Server) render(path string, recursive bool, alt string) (body, contentType string, status int) {
	const text, jsonType = "application/text", "application/json"
	node, ok := lookup(s.root, strings.TrimSuffix(path, "/"))
	if !ok {
		return "no such key: " + path + "\n", text, http.StatusNotFound
	}
	isDir := false
	switch node.(type) {
	case dir, []any:
		isDir = true
	}
	switch {
	case !isDir && strings.HasSuffix(path, "/"):
		return "not a directory: " + path + "\n", text, http.StatusNotFound
	case !isDir && alt == "json":
		return mustJSON(node), jsonType, http.StatusOK
	case !isDir:
		return fmt.Sprint(node), text, http.StatusOK
	case path != "" && !strings.HasSuffix(path, "/"):
		return "", text, http.StatusMovedPermanently
	case recursive && alt == "text":
		var b strings.Builder
		flatten(&b, "", node)
		return b.String(), text, http.StatusOK
	case recursive:
		return mustJSON(toJSON(node, false)), jsonType, http.StatusOK
	}
	return listing(node), text, http.StatusOK
}

func lookup(node any, path string) (any, bool) {
	if path == "" {
		return node, true
	}
	name, rest, _ := strings.Cut(path, "/")
	switch n := node.(type) {
	case dir:
		child, ok := n[name]
		if !ok {
			return nil, false
		}
		return lookup(child, rest)
	case []any:
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 || i >= len(n) {
			return nil, false
		}
		return lookup(n[i], rest)
	}
	return nil, false
}

func children(node any) (names []string, get func(string) any) {
	switch n := node.(type) {
	case dir:
		return slices.Sorted(maps.Keys(n)), func(k string) any { return n[k] }
	case []any:
		for i := range n {
			names = append(names, strconv.Itoa(i))
		}
		return names, func(k string) any { i, _ := strconv.Atoi(k); return n[i] }
	}
	return nil, nil
}

func listing(node any) string {
	var b strings.Builder
	names, get := children(node)
	for _, name := range names {
		b.WriteString(name)
		switch get(name).(type) {
		case dir, []any:
			b.WriteByte('/')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func flatten(b *strings.Builder, prefix string, node any) {
	names, get := children(node)
	for _, name := range names {
		switch child := get(name); child.(type) {
		case dir, []any:
			flatten(b, prefix+name+"/", child)
		default:
			fmt.Fprintf(b, "%s%s %v\n", prefix, name, child)
		}
	}
}

// toJSON renames directories' keys to camelCase, as the server does in
// recursive JSON; the keys of attributes are the user's and stay.
func toJSON(node any, verbatim bool) any {
	switch n := node.(type) {
	case dir:
		out := make(map[string]any, len(n))
		for k, v := range n {
			name := k
			if !verbatim {
				name = camel(k)
			}
			out[name] = toJSON(v, k == "attributes")
		}
		return out
	case []any:
		out := make([]any, len(n))
		for i, v := range n {
			out[i] = toJSON(v, false)
		}
		return out
	}
	return node
}

func camel(key string) string {
	words := strings.Split(key, "-")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // maps, slices, strings and ints only
	}
	return string(b)
}

// maxGuestAttribute is the largest value of a guest attribute in bytes.
const maxGuestAttribute = 256 << 10

func (s *Server) serveGuest(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	enabled, _ := lookup(s.root, "instance/attributes/enable-guest-attributes")
	if enabled == nil {
		enabled, _ = lookup(s.root, "project/attributes/enable-guest-attributes")
	}
	if text, _ := enabled.(string); !strings.EqualFold(text, "true") {
		http.Error(w, "guest attributes are not enabled: set enable-guest-attributes=TRUE", http.StatusForbidden)
		return
	}
	namespace, key, ok := strings.Cut(path, "/")
	if !ok || namespace == "" || key == "" || strings.Contains(key, "/") {
		http.Error(w, "want guest-attributes/NAMESPACE/KEY", http.StatusBadRequest)
		return
	}
	ns, _ := s.guest[namespace].(dir)
	switch r.Method {
	case http.MethodPut:
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGuestAttribute))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if ns == nil {
			ns = dir{}
			s.guest[namespace] = ns
		}
		ns[key] = string(value)
	case http.MethodDelete:
		delete(ns, key)
	case http.MethodGet:
		value, ok := ns[key]
		if !ok {
			http.Error(w, "no such guest attribute", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, value)
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}
