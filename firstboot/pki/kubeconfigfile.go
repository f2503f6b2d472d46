package pki

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	goyaml "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// kubeconfig is the file of k8s.io/client-go/tools/clientcmd/api/v1, as far as
// it matters here.
type kubeconfig struct {
	currentContext string
	clusters       map[string]cluster
	users          map[string]authInfo
	contexts       map[string]kubeContext
}

type kubeContext struct{ cluster, user string }

type cluster struct {
	server                string
	proxyURL              string
	certificateAuthority  string
	authorityData         []byte
	insecureSkipTLSVerify bool
}

type authInfo struct {
	clientCertificate  string
	certificateData    []byte
	clientKey          string
	keyData            []byte
	token, tokenFile   string
	username, password string
	impersonates       bool
	authProvider, exec bool
}

// parseKubeconfig reads data as kubelet does, whole: YAML 1.1 becomes JSON, and
// JSON the types of client-go, whose fields are matched with their case. Fields
// that are not known are ignored; a wrong type is an error wherever it is.
// Stricter than kubelet, it refuses fields that come twice and a second
// document, of which kubelet silently takes one. Errors name places and never
// quote what is there, as a library's errors would: there may be keys in it.
func parseKubeconfig(data []byte) (*kubeconfig, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("is empty")
	}
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("is not YAML%s", place(err))
	}
	if _, err := yaml.YAMLToJSONStrict(data); err != nil {
		return nil, fmt.Errorf("has a field twice%s", place(err))
	}
	documents := goyaml.NewDecoder(bytes.NewReader(data))
	if err := documents.Decode(new(any)); err != nil {
		return nil, fmt.Errorf("is not YAML%s", place(err))
	}
	if err := documents.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	var file any
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, errors.New("is not a kubeconfig: its numbers can't be read")
	}
	fields, ok := file.(map[string]any)
	if !ok || len(fields) == 0 {
		return nil, errors.New("is not a kubeconfig: it holds no fields")
	}
	for name := range fields {
		for _, want := range []string{"apiVersion", "kind"} {
			if name != want && strings.EqualFold(name, want) {
				return nil, fmt.Errorf("has a field %s, which must be spelt %s", name, want)
			}
		}
	}
	d := &decoder{}
	k := d.file(value{v: fields})
	if d.err != nil {
		return nil, d.err
	}
	return k, nil
}

// place takes the line out of an error of the YAML library.
func place(err error) string {
	if m := regexp.MustCompile(`line [0-9]+`).FindString(err.Error()); m != "" {
		return " (" + m + ")"
	}
	return ""
}

// value is a piece of JSON, and where it stands: users[0].user.
type value struct {
	at string
	v  any
}

// decoder makes types of JSON by client-go's rules: null is nothing, whatever
// is wanted, and no type stands for another. It keeps the first error.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// wrong says that in is not what client-go wants.
func (d *decoder) wrong(in value, want string) {
	var got string
	switch in.v.(type) {
	case string:
		got = "a string"
	case float64:
		got = "a number"
	case bool:
		got = "true or false"
	case []any:
		got = "a list"
	default:
		got = "a mapping"
	}
	if want == "a string" {
		switch in.v.(type) {
		case float64, bool:
			want = "a string: write it in quotes"
		}
	}
	d.fail("has %s in %s, and kubelet wants %s", got, in.at, want)
}

// get returns a field of a mapping.
func (d *decoder) get(in value, name string) value {
	at := name
	if in.at != "" {
		at = in.at + "." + name
	}
	fields, ok := in.v.(map[string]any)
	if !ok && in.v != nil {
		d.wrong(in, "a mapping")
	}
	return value{at, fields[name]}
}

func (d *decoder) str(in value) string {
	s, ok := in.v.(string)
	if !ok && in.v != nil {
		d.wrong(in, "a string")
	}
	return s
}

func (d *decoder) boolean(in value) bool {
	b, ok := in.v.(bool)
	if !ok && in.v != nil {
		d.wrong(in, "true or false")
	}
	return b
}

func (d *decoder) list(in value) []value {
	items, ok := in.v.([]any)
	if !ok && in.v != nil {
		d.wrong(in, "a list")
	}
	var all []value
	for i, item := range items {
		all = append(all, value{fmt.Sprintf("%s[%d]", in.at, i), item})
	}
	return all
}

func (d *decoder) bytes(in value) []byte {
	text := d.str(in)
	decoded, err := base64.StdEncoding.DecodeString(text)
	switch {
	case omitted(text):
		d.fail("has %s in %s: it was printed by kubectl config view, which needs --raw", text, in.at)
	case err == nil:
	case strings.Contains(text, "-----BEGIN"):
		d.fail("has PEM in %s, where base64 of it belongs (`base64 -w0 FILE`)", in.at)
	default:
		d.fail("has something in %s that is not base64 (`base64 -w0 FILE`)", in.at)
	}
	return decoded
}

// strings checks the strings of a list or, if mapping, of a mapping, whose names
// are not shown.
func (d *decoder) strings(in value, mapping bool) {
	if !mapping {
		for _, item := range d.list(in) {
			d.str(item)
		}
		return
	}
	d.get(in, "")
	fields, _ := in.v.(map[string]any)
	for _, v := range fields {
		d.str(value{in.at, v})
	}
}

// named is an item of a list of those that have a name.
type named struct {
	name string
	value
}

// named returns the items of a list, whose names must differ.
func (d *decoder) named(in value, what string) []named {
	var all []named
	seen := map[string]bool{}
	for _, item := range d.list(in) {
		name := d.str(d.get(item, "name"))
		if seen[name] {
			d.fail("has two %s named %q", what, shorten(name))
		}
		seen[name] = true
		all = append(all, named{name, item})
	}
	return all
}

func (d *decoder) extensions(in value) { d.named(d.get(in, "extensions"), "extensions") }

// omitted tells what kubectl config view prints in the place of credentials.
func omitted(data string) bool { return data == "DATA+OMITTED" || data == "REDACTED" }

func (d *decoder) file(in value) *kubeconfig {
	version, kind := d.str(d.get(in, "apiVersion")), d.str(d.get(in, "kind"))
	if version != "" && version != "v1" || kind != "" && kind != "Config" {
		d.fail("is a %q of %q, not a kubeconfig (kind Config, apiVersion v1)", shorten(kind), shorten(version))
	}
	k := &kubeconfig{
		currentContext: d.str(d.get(in, "current-context")),
		clusters:       map[string]cluster{},
		users:          map[string]authInfo{},
		contexts:       map[string]kubeContext{},
	}
	for _, item := range d.named(d.get(in, "clusters"), "clusters") {
		k.clusters[item.name] = d.cluster(d.get(item.value, "cluster"))
	}
	for _, item := range d.named(d.get(in, "users"), "users") {
		k.users[item.name] = d.user(d.get(item.value, "user"))
	}
	for _, item := range d.named(d.get(in, "contexts"), "contexts") {
		context := d.get(item.value, "context")
		k.contexts[item.name] = kubeContext{cluster: d.str(d.get(context, "cluster")), user: d.str(d.get(context, "user"))}
		d.str(d.get(context, "namespace"))
		d.extensions(context)
	}
	preferences := d.get(in, "preferences")
	d.boolean(d.get(preferences, "colors"))
	d.extensions(preferences)
	d.extensions(in)
	return k
}

func (d *decoder) cluster(in value) cluster {
	d.str(d.get(in, "tls-server-name"))
	d.boolean(d.get(in, "disable-compression"))
	d.extensions(in)
	return cluster{
		server:                d.str(d.get(in, "server")),
		proxyURL:              d.str(d.get(in, "proxy-url")),
		certificateAuthority:  d.str(d.get(in, "certificate-authority")),
		authorityData:         d.bytes(d.get(in, "certificate-authority-data")),
		insecureSkipTLSVerify: d.boolean(d.get(in, "insecure-skip-tls-verify")),
	}
}

func (d *decoder) user(in value) authInfo {
	a := authInfo{
		clientCertificate: d.str(d.get(in, "client-certificate")),
		certificateData:   d.bytes(d.get(in, "client-certificate-data")),
		clientKey:         d.str(d.get(in, "client-key")),
		keyData:           d.bytes(d.get(in, "client-key-data")),
		token:             d.str(d.get(in, "token")),
		tokenFile:         d.str(d.get(in, "tokenFile")),
		username:          d.str(d.get(in, "username")),
		password:          d.str(d.get(in, "password")),
	}
	d.extensions(in)
	for _, name := range []string{"as", "as-uid"} {
		a.impersonates = d.str(d.get(in, name)) != "" || a.impersonates
	}
	groups, extra := d.get(in, "as-groups"), d.get(in, "as-user-extra")
	d.strings(groups, false)
	d.get(extra, "")
	more, _ := extra.v.(map[string]any)
	for _, v := range more {
		d.strings(value{extra.at, v}, false)
	}
	a.impersonates = a.impersonates || len(d.list(groups)) > 0 || len(more) > 0

	provider, exec := d.get(in, "auth-provider"), d.get(in, "exec")
	a.authProvider, a.exec = provider.v != nil, exec.v != nil
	d.str(d.get(provider, "name"))
	d.strings(d.get(provider, "config"), true)
	for _, name := range []string{"command", "apiVersion", "installHint", "interactiveMode"} {
		d.str(d.get(exec, name))
	}
	d.boolean(d.get(exec, "provideClusterInfo"))
	d.strings(d.get(exec, "args"), false)
	for _, env := range d.list(d.get(exec, "env")) {
		d.str(d.get(env, "name"))
		d.str(d.get(env, "value"))
	}
	return a
}
