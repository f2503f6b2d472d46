package firstboot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	ready   = `{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":true}]}}`
	noCNI   = `{"status":{"conditions":[{"type":"RuntimeReady","status":true},{"type":"NetworkReady","status":false,"reason":"NetworkPluginNotReady","message":"cni plugin not initialized"}]}}`
	nothing = `{"status":{}}`
)

func TestHealthWaitsForRuntimeAndKubelet(t *testing.T) {
	var looks atomic.Int32
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if looks.Load() < 3 {
			http.Error(w, "[-]syncloop failed", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, "ok")
	}))
	defer kubelet.Close()
	var log bytes.Buffer
	err := Health(t.Context(), HealthConfig{
		Deadline: 10 * time.Second, Pause: time.Millisecond, Log: &log, KubeletURL: kubelet.URL,
		RuntimeInfo: func(context.Context) ([]byte, error) {
			if looks.Add(1) < 2 {
				return []byte(noCNI), nil
			}
			return []byte(ready), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(log.String(), "firstboot: healthy after ") {
		t.Errorf("log = %q; want one line that says healthy", log.String())
	}
}

func TestHealthSaysWhatIsMissing(t *testing.T) {
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer kubelet.Close()
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "[+]ping ok\n[-]syncloop failed", http.StatusInternalServerError)
	}))
	defer sick.Close()
	for _, test := range []struct {
		name, info, kubelet string
		err                 error
		want                string
	}{
		{"network", noCNI, kubelet.URL, nil, "NetworkReady is false: NetworkPluginNotReady cni plugin not initialized"},
		{"no conditions", nothing, kubelet.URL, nil, "RuntimeReady is false: not reported"},
		{"garbage", "<html>", kubelet.URL, nil, "container runtime: reading its status"},
		{"no runtime", "", kubelet.URL, errors.New("crictl info: connection refused"), "container runtime: crictl info: connection refused"},
		{"kubelet sick", ready, sick.URL, nil, "kubelet: it answered 500 Internal Server Error: [-]syncloop failed"},
		{"kubelet away", ready, "http://127.0.0.1:1/", nil, "kubelet: Get"},
	} {
		err := Health(t.Context(), HealthConfig{
			Deadline: 50 * time.Millisecond, Pause: time.Millisecond, Log: io.Discard, KubeletURL: test.kubelet,
			RuntimeInfo: func(context.Context) ([]byte, error) { return []byte(test.info), test.err },
		})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Health = %v; want one line with %q", test.name, err, test.want)
		}
	}
}
