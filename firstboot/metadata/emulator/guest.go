package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// serveGuest answers below guest-attributes/: PUT and DELETE of NAMESPACE/KEY,
// GET of these and of the directories.
func (s *Server) serveGuest(w http.ResponseWriter, r *http.Request, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	enabled, _ := lookup(s.root, "instance/attributes/enable-guest-attributes")
	if enabled == nil {
		enabled, _ = lookup(s.root, "project/attributes/enable-guest-attributes")
	}
	if text, _ := enabled.(string); !strings.EqualFold(text, "true") {
		http.Error(w, "Guest attributes endpoint access is disabled.", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodGet {
		s.getGuest(w, r, path)
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
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
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
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (s *Server) getGuest(w http.ResponseWriter, r *http.Request, path string) {
	value, ok := lookup(s.guest, strings.TrimSuffix(path, "/"))
	children, isDir := value.(dir)
	switch {
	case !ok || !isDir && strings.HasSuffix(path, "/"):
		http.Error(w, "no such guest attribute", http.StatusNotFound)
	case isDir && strings.EqualFold(r.URL.Query().Get("recursive"), "true"):
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, mustJSON(children))
	case isDir:
		fmt.Fprint(w, listing(children))
	default:
		fmt.Fprint(w, value)
	}
}
