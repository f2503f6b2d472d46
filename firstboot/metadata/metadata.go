package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Metadata is the part of the metadata server's recursive answer that a worker
// uses; Parse ignores the rest.
type Metadata struct {
	Instance Instance
	Project  Project
}

// Instance is what is known of this virtual machine.
type Instance struct {
	Name              string            // "worker-0"
	Hostname          string            // "worker-0.us-west1-c.c.example.internal"; a custom one may be anything
	Zone              string            // "projects/123456/zones/us-west1-c"
	Attributes        map[string]string // instance metadata
	NetworkInterfaces []NetworkInterface
}

// NetworkInterface is one of the instance's interfaces; the first is the primary.
type NetworkInterface struct {
	IP            string         // primary internal IPv4 address
	MAC           string         // "42:01:0a:f0:00:14"
	MTU           int            // bytes
	IPAliases     []string       `json:"ipAliases"` // alias IP ranges as CIDRs; an address alone is one of 32 bits
	AccessConfigs []AccessConfig `json:"accessConfigs"`
}

// AccessConfig is one way in from outside.
type AccessConfig struct {
	ExternalIP string `json:"externalIp"` // empty where the instance has none
	Type       string // "ONE_TO_ONE_NAT"
}

// Project is what is known of the instance's project.
type Project struct {
	ProjectID  string            `json:"projectId"`
	Attributes map[string]string // project metadata, shared by all instances
}

// A ParseError says that an answer is not the metadata server's JSON. It may
// have been cut short, so asking again may help.
type ParseError struct{ Err error }

func (e *ParseError) Error() string { return "parsing metadata: " + e.Err.Error() }
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads the answer to /computeMetadata/v1/?recursive=true&alt=json. An
// answer without an instance is an error, as is one cut short: a *ParseError.
func Parse(data []byte) (*Metadata, error) {
	var m struct {
		Instance *Instance
		Project  Project
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&m); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the JSON is cut short")
		}
		return nil, &ParseError{err}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &ParseError{errors.New("something follows the JSON object")}
	}
	if m.Instance == nil {
		return nil, &ParseError{errors.New(`the JSON has no "instance"`)}
	}
	return &Metadata{Instance: *m.Instance, Project: m.Project}, nil
}

// Attribute returns the value of a metadata key: the instance's where it has
// one, even if empty, else the project's.
func (m *Metadata) Attribute(key string) (value string, ok bool) {
	if value, ok = m.Instance.Attributes[key]; ok {
		return value, true
	}
	value, ok = m.Project.Attributes[key]
	return value, ok
}
