package baketest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a web server of files by path. As S3 does, it takes a "+" that is not
// escaped for a blank.
type Server struct {
	URL string

	server *httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	faults map[string]http.HandlerFunc
	got    []string // what GET asked for, but for one byte
}

func newServer(t testing.TB) *Server {
	s := &Server{files: map[string][]byte{}, faults: map[string]http.HandlerFunc{}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	s.URL = s.server.URL
	return s
}

// Serve sets the file at path.
func (s *Server) Serve(path string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

// File returns the file at path.
func (s *Server) File(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.files[path]
	if !ok {
		panic("BUG: the server has no " + path)
	}
	return content
}

// Remove makes the server forget the file at path.
func (s *Server) Remove(path string) {
	s.File(path) // must be there
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, path)
}

// Fault makes h answer for path; nil ends that.
func (s *Server) Fault(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = h
}

// Gets returns the paths that GET asked for since the last call, sorted. That
// somebody looked whether a file is there, by a GET of one byte, does not count.
func (s *Server) Gets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	slices.Sort(got)
	return got
}

// Paths returns the paths of all files, sorted.
func (s *Server) Paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.files))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	content, ok := s.files[r.URL.Path]
	fault := s.faults[r.URL.Path]
	if r.Method == http.MethodGet && r.Header.Get("Range") != "bytes=0-0" {
		s.got = append(s.got, r.URL.Path)
	}
	s.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r)
	case strings.Contains(r.URL.EscapedPath(), "+"):
		http.Error(w, "AccessDenied", http.StatusForbidden)
	case !ok:
		http.NotFound(w, r)
	default:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}
