package firstboot

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nodebake/bake/firstboot/metadata/metadatatest"
)

func TestNodeName(t *testing.T) {
	for _, test := range []struct{ in, want, wantErr string }{
		{"worker-0.us-west1-c.c.example.internal", "worker-0", ""},
		{"worker-0.us-west1-c.c.example.internal.", "worker-0", ""},
		{"worker-0", "worker-0", ""},
		{"", "", "no first label"},
		{".internal", "", "no first label"},
		{strings.Repeat("a", 64) + ".internal", "", "at most 63"},
		{strings.Repeat("a", 63) + ".internal", strings.Repeat("a", 63), ""},
	} {
		got, err := nodeName(test.in)
		if got != test.want || (err == nil) != (test.wantErr == "") || (err != nil && !strings.Contains(err.Error(), test.wantErr)) {
			t.Errorf("nodeName(%q) = %q, %v; want %q, %q", test.in, got, err, test.want, test.wantErr)
		}
	}
}

func TestRunSetsTheHostNameOnceTheServerAnswers(t *testing.T) {
	server := metadatatest.NewServer(metadatatest.Instance{Name: "worker-0", Project: "example", Zone: "us-west1-c"})
	var tries atomic.Int32
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1, 2:
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		case 3:
			w.Write([]byte(`{"instance":{"hostname":"captive-portal"}}`)) // without the header
		default:
			server.ServeHTTP(w, r)
		}
	}))
	defer hs.Close()

	var name string
	var log bytes.Buffer
	err := Run(t.Context(), Config{
		URL: hs.URL + metadatatest.Root + "?recursive=true&alt=json", Pause: time.Millisecond, Log: &log,
		SetHostname: func(s string) error { name = s; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if name != "worker-0" {
		t.Errorf("host name = %q; want worker-0", name)
	}
	if got := strings.Count(log.String(), "503"); got != 1 {
		t.Errorf("the log names 503 %d times; want once:\n%s", got, log.String())
	}
	if !strings.Contains(log.String(), "Metadata-Flavor") {
		t.Errorf("the log does not say that the answer was not Google's:\n%s", log.String())
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Run(ctx, Config{URL: "http://127.0.0.1:1/", Pause: time.Millisecond, Log: &bytes.Buffer{}})
	if err == nil {
		t.Fatal("Run = nil; want an error when its context ends")
	}
}
