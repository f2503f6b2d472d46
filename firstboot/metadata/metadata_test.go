package metadata_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nodebake/bake/firstboot/metadata"
	"github.com/nodebake/bake/test/must"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ data, want string }{
		{"", "the JSON is cut short"},
		{`{"instance":{"name":"worker-0"`, "the JSON is cut short"},
		{`{"instance":{}} {}`, "something follows the JSON object"},
		{`{"instance":{}}x`, "something follows the JSON object"},
		{`{}`, `the JSON has no "instance"`},
		{`null`, `the JSON has no "instance"`},
		{`[]`, "json: cannot unmarshal array"},
		{`<!DOCTYPE html>`, "invalid character '<'"},
		{`{"instance":{"networkInterfaces":[{"mtu":"1460"}]}}`, "json: cannot unmarshal string"},
	} {
		_, err := metadata.Parse([]byte(test.data))
		if _, ok := errors.AsType[*metadata.ParseError](err); !ok || !strings.Contains(err.Error(), "parsing metadata: "+test.want) {
			t.Errorf("Parse(%s) = %v; want a ParseError with %q", test.data, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"instance":{"name":"worker-0","hostname":"worker-0.c.example.internal","zone":"projects/1/zones/us-west1-c","attributes":{"pod-cidr":"10.200.0.0/24"},"networkInterfaces":[{"ip":"10.240.0.20","mtu":1460,"mac":"42:01:0a:f0:00:14","ipAliases":["10.200.0.0/24"],"accessConfigs":[{"externalIp":"","type":"ONE_TO_ONE_NAT"}]}]},"project":{"projectId":"example","attributes":{"cluster-dns":"10.32.0.10"}}}`,
		`{"instance":{"id":7876421912356789123,"tags":[],"serviceAccounts":{"default":{"scopes":["a"]}}},"project":null}`,
		`{"instance":{"attributes":null,"networkInterfaces":[{}]}}`,
		`{"instance":{}}{}`, `{"instance":`, `[]`, "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := metadata.Parse(data)
		if err != nil {
			if m != nil {
				t.Errorf("Parse gives %v beside an error", m)
			}
			return
		}
		m.Attribute("pod-cidr")
		// What was read is written and read again without a change.
		again := must.Get(json.Marshal(m))
		m2, err := metadata.Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}
