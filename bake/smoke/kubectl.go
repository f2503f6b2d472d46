package smoke

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nodebake/bake/bake/kubectl"
)

// call asks, for at most limit (0: callTime).
func (r *run) call(ctx context.Context, c call, limit time.Duration) output {
	if limit == 0 {
		limit = callTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	if c.url != "" {
		return head(ctx, c.url, r.Proxy)
	}
	if c.program != "" {
		return asOutput(kubectl.Program(ctx, c.program, r.Env, c.args...))
	}
	return asOutput(r.client().Ask(ctx, []byte(c.stdin), c.args...))
}

// client is the kubectl of this run. What it learns about the API server is in a
// directory of bake's.
func (r *run) client() kubectl.Kubectl {
	return kubectl.Kubectl{Path: r.Kubectl, Kubeconfig: r.Kubeconfig, CacheDir: r.Dir, Env: r.Env}
}

func asOutput(out kubectl.Output, err error) output {
	return output{stdout: out.Stdout, stderr: out.Stderr, code: out.Code, err: err}
}

// head asks a URL from this machine, by a connection of its own, through a proxy
// where there is one.
func head(ctx context.Context, address string, proxy *url.URL) output {
	transport := &http.Transport{DisableKeepAlives: true}
	if proxy != nil {
		transport.DialContext = tunnel(proxy)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return output{err: err}
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return output{err: err}
	}
	response.Body.Close()
	return output{stdout: fmt.Sprintf("%s %s\nServer: %s\n", response.Proto, response.Status, response.Header.Get("Server"))}
}

// forward asks nginx in a pod through `kubectl port-forward`.
func (r *run) forward(ctx context.Context, target string) output {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, fmt.Errorf("no answer within %s", callTime))
	defer cancel()
	var answer output
	said := asOutput(r.client().Forward(ctx, func(address string) {
		answer = head(ctx, "http://"+address+"/", nil)
	}, "-n", r.Namespace, target, ":"+strconv.Itoa(nginxPort)))
	if said.ok() {
		answer.stderr = said.stderr
		return answer
	}
	return said
}
