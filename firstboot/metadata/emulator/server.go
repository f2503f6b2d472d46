// Package emulator is Google Compute Engine's metadata server for tests
// and for virtual machines on a workstation: the rules that a client meets,
// over a tree that the caller fills in, and the faults that it may meet.
//
// What it follows, as documented under
// https://cloud.google.com/compute/docs/metadata/overview (O),
// .../metadata/querying-metadata (Q), .../metadata/setting-custom-metadata (S) and
// .../metadata/manage-guest-attributes (G):
//
//   - Requests need the header Metadata-Flavor: Google, answers have it;
//     X-Forwarded-For is refused with 403 (Q, "Parts of a metadata request",
//     "Limitations").
//   - Directories end in "/"; without, they are redirected (301) to the path
//     with it; a key with "/" is not found (Q, "Data and directories").
//   - A directory is answered as a list of names, with ?recursive=true as one
//     JSON object with names in camel case, or with &alt=text as lines; a key is
//     text, or with ?alt=json JSON (Q, "Use query parameters"). In recursive
//     JSON the names of attributes and service accounts are as they were given.
//   - ?wait_for_change=true answers when the value changes, &last_etag=E at once
//     where E is no longer the ETag, &timeout_sec=N with the present value after
//     that time (Q, "Wait for a change").
//   - Attribute keys are [a-zA-Z0-9-_]+ of less than 128 bytes; a value has at
//     most 256 KiB, all together less than 512 KiB, for an instance and for a
//     project each (S, "Limitations").
//   - Guest attributes need enable-guest-attributes=TRUE of the instance or the
//     project, and are NAMESPACE/KEY (G).
//   - service-accounts/ACCOUNT/token gives an access token
//     (https://cloud.google.com/compute/docs/access/authenticate-workloads#applications).
//
// [SecretServer] is the part of Secret Manager's REST API that reads versions,
// for these tokens. [Fault] says what goes wrong.
//
// It makes no identity tokens, has one network interface, limits no rates, and
// knows no live migration, HTTPS endpoint or version before v1. The text of its
// errors is its own, but for Secret Manager's JSON.
package emulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Root is the path under which the server answers.
const Root = "/computeMetadata/v1/"

// Limits on metadata that is set.
const (
	maxKey        = 127       // bytes
	maxValue      = 256 << 10 // bytes
	maxAttributes = 512<<10 - 1
)

// Instance is what one virtual machine sees. The zero value is an instance
// without a name.
type Instance struct {
	Name              string            // "worker-0"
	Hostname          string            // a custom one; NAME.ZONE.c.PROJECT.internal where empty
	ID                uint64            // made from Name where 0
	Project           string            // "example"
	Zone              string            // "us-west1-c"
	MachineType       string            // "e2-standard-2" where empty
	Tags              []string          // network tags
	IP                string            // internal IPv4 address of the only network interface
	ExternalIP        string            // of the same; none where empty
	MAC               string            // of the same; made from IP as Google does where empty
	MTU               int               // of the same; 1460 where 0
	AliasRanges       []string          // CIDRs
	Attributes        map[string]string // instance metadata
	ProjectAttributes map[string]string // project metadata
	ServiceAccounts   []ServiceAccount  // the first is "default" too
}

// ServiceAccount is one that an instance runs as.
type ServiceAccount struct {
	Email  string   // "worker@example.iam.gserviceaccount.com"
	Scopes []string // URLs; [CloudPlatform] where nil
}

// CloudPlatform is the scope that leaves the decision to roles.
const CloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// Check says what Compute Engine would refuse of in's attributes: the first
// offence in the keys' order.
func (in Instance) Check() error {
	if err := checkAttributes(in.Attributes); err != nil {
		return fmt.Errorf("instance metadata: %w", err)
	}
	if err := checkAttributes(in.ProjectAttributes); err != nil {
		return fmt.Errorf("project metadata: %w", err)
	}
	return nil
}

func checkAttributes(m map[string]string) error {
	total := 0
	for _, key := range slices.Sorted(maps.Keys(m)) {
		strange := strings.ContainsFunc(key, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", r)
		})
		if key == "" || strange || len(key) > maxKey {
			return fmt.Errorf("key %q: want 1 to %d characters of a-z, A-Z, 0-9, - and _", key, maxKey)
		}
		if len(m[key]) > maxValue {
			return fmt.Errorf("key %s: the value has %d bytes, a value has at most %d", key, len(m[key]), maxValue)
		}
		total += len(key) + len(m[key])
	}
	if total > maxAttributes {
		return fmt.Errorf("all keys and values have %d bytes, they may have %d together", total, maxAttributes)
	}
	return nil
}

// Server is the metadata server of one instance. It is an http.Handler, safe
// for concurrent use. Make one with [NewServer].
type Server struct {
	faults
	mu      sync.Mutex
	root    dir
	guest   dir               // guest attributes: namespace -> key -> value
	tokens  map[string]string // token -> service account
	scopes  map[string][]string
	changed chan struct{} // closed and replaced at every change
}

// NewServer returns a Server for in. It panics with the error of in.Check if
// there is one: check what comes from a user before.
func NewServer(in Instance) *Server {
	if err := in.Check(); err != nil {
		panic("emulator.NewServer: " + err.Error())
	}
	s := &Server{guest: dir{}, tokens: map[string]string{}, scopes: map[string][]string{}, changed: make(chan struct{})}
	number := projectNumber(in.Project)
	projectPath := fmt.Sprintf("projects/%d/", number)
	if in.ID == 0 {
		sum := sha256.Sum256([]byte(in.Name))
		in.ID = binary.BigEndian.Uint64(sum[:]) >> 1 // ids are int64 to some clients
	}
	if in.Hostname == "" {
		in.Hostname = fmt.Sprintf("%s.%s.c.%s.internal", in.Name, in.Zone, in.Project)
	}
	if in.MachineType == "" {
		in.MachineType = "e2-standard-2"
	}
	s.root = dir{
		"instance": dir{
			"attributes":         attributes(in.Attributes),
			"cpu-platform":       "Intel Broadwell",
			"description":        "",
			"disks":              []any{dir{"device-name": in.Name, "index": 0, "interface": "SCSI", "mode": "READ_WRITE", "type": "PERSISTENT"}},
			"hostname":           in.Hostname,
			"id":                 in.ID,
			"image":              "projects/" + in.Project + "/global/images/worker",
			"licenses":           []any{},
			"machine-type":       projectPath + "machineTypes/" + in.MachineType,
			"maintenance-event":  "NONE",
			"name":               in.Name,
			"network-interfaces": []any{networkInterface(in, projectPath)},
			"preempted":          "FALSE",
			"remaining-cpu-time": -1,
			"scheduling":         dir{"automatic-restart": "TRUE", "on-host-maintenance": "MIGRATE", "preemptible": "FALSE"},
			"service-accounts":   s.serviceAccounts(in.ServiceAccounts),
			"tags":               jsonList(in.Tags),
			"virtual-clock":      dir{"drift-token": "0"},
			"zone":               projectPath + "zones/" + in.Zone,
		},
		"project": dir{
			"attributes":         attributes(in.ProjectAttributes),
			"numeric-project-id": number,
			"project-id":         in.Project,
		},
	}
	return s
}

// networkInterface is nic0 as DHCP and the metadata server show it: a /32 and a
// gateway.
func networkInterface(in Instance, projectPath string) dir {
	if in.MTU == 0 {
		in.MTU = 1460
	}
	gateway := ""
	if ip, err := netip.ParseAddr(in.IP); err == nil && ip.Is4() {
		b := ip.As4()
		if in.MAC == "" {
			in.MAC = fmt.Sprintf("42:01:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
		}
		b[3] = 1
		gateway = netip.AddrFrom4(b).String()
	}
	aliases := make([]any, len(in.AliasRanges))
	for i, a := range in.AliasRanges {
		aliases[i] = a
	}
	return dir{
		"access-configs":      []any{dir{"external-ip": in.ExternalIP, "type": "ONE_TO_ONE_NAT"}},
		"dns-servers":         []any{"169.254.169.254"},
		"forwarded-ips":       []any{},
		"gateway":             gateway,
		"ip":                  in.IP,
		"ip-aliases":          aliases,
		"mac":                 in.MAC,
		"mtu":                 in.MTU,
		"network":             projectPath + "networks/default",
		"subnetmask":          "255.255.255.255",
		"target-instance-ips": []any{},
	}
}

func attributes(m map[string]string) dir {
	d := dir{}
	for k, v := range m {
		d[k] = v
	}
	return d
}

func projectNumber(project string) uint64 {
	sum := sha256.Sum256([]byte("project " + project))
	return 100_000_000_000 + binary.BigEndian.Uint64(sum[:])%900_000_000_000 // twelve digits
}

// SetAttribute sets one instance attribute and wakes those who wait for a
// change. It panics where Compute Engine would refuse that.
func (s *Server) SetAttribute(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	present := s.instanceAttributes()
	all := map[string]string{key: value}
	for k, v := range present {
		if k != key {
			all[k] = v.(string)
		}
	}
	if err := checkAttributes(all); err != nil {
		panic("emulator.SetAttribute: " + err.Error())
	}
	present[key] = value
	s.wake()
}

// DeleteAttribute removes one instance attribute and wakes those who wait.
func (s *Server) DeleteAttribute(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.instanceAttributes(), key)
	s.wake()
}

// instanceAttributes is the directory itself. The caller holds s.mu.
func (s *Server) instanceAttributes() dir {
	return s.root["instance"].(dir)["attributes"].(dir)
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

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.answer(w, r, s.serve) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Metadata Server for VM")
	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("X-XSS-Protection", "0")
	w.Header().Set("X-Frame-Options", "SAMEORIGIN")
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
	// cloud-init writes True, the guest agent true.
	recursive := strings.EqualFold(query.Get("recursive"), "true")
	wait := strings.EqualFold(query.Get("wait_for_change"), "true")
	var timeout <-chan time.Time
	if seconds, err := strconv.Atoi(query.Get("timeout_sec")); err == nil {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		timeout = timer.C
	}
	lastETag := query.Get("last_etag")
	for expired := false; ; {
		s.mu.Lock()
		changed := s.changed
		body, contentType, status := s.render(path, recursive, query.Get("alt"))
		s.mu.Unlock()

		etag := etagOf(body)
		if lastETag == "" {
			lastETag = etag
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
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		io.WriteString(w, body)
		return
	}
}

func etagOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:8])
}
