package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/unixsocket"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// The paths of requests. Bodies are JSON; an error is an errorBody.
const (
	statusPath  = "/v1/status"  // GET: a Status
	clusterPath = "/v1/cluster" // DELETE: answered when everything has ended
	workersPath = "/v1/workers" // POST an addBody: answered when the worker is Ready
	routesPath  = "/v1/routes"  // GET: Routes; PUT and DELETE: a route
	rulesPath   = "/v1/rules"   // GET: Rules; PUT and DELETE: a Rule
	forwardPath = "/v1/forward" // PUT a forwardBody
	objectsPath = "/v1/objects" // GET /v1/objects/nodes: a list of the API server's
)

type addBody struct {
	Name    string `json:"name"`
	Replace bool   `json:"replace"`
}

type forwardBody struct {
	Worker string `json:"worker"`
	On     bool   `json:"on"`
}

type errorBody struct {
	Error string `json:"error"`
	Input bool   `json:"input"` // what was asked for is wrong
}

// shutdownTime is how long requests may take that are under way at the end.
const shutdownTime = 5 * time.Second

// serve answers at the directory's socket. end is called when somebody asks for the
// cluster's end.
func (c *Cluster) serve(end func()) (stop func(), err error) {
	listener, err := unixsocket.Listen(c.dir.Path, socketFile)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: c.handler(end), ReadHeaderTimeout: shutdownTime}
	go server.Serve(listener)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		server.Shutdown(ctx)
		server.Close()
	}, nil
}

func (c *Cluster) handler(end func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, c.Status(r.Context()), nil)
	})
	mux.HandleFunc("DELETE "+clusterPath, func(w http.ResponseWriter, r *http.Request) {
		end()
		select {
		case <-c.ended:
		case <-r.Context().Done():
		}
		answer(w, nil, nil)
	})
	mux.HandleFunc("POST "+workersPath, func(w http.ResponseWriter, r *http.Request) {
		var body addBody
		err := decode(r, &body)
		if err == nil {
			err = c.Add(r.Context(), body.Name, body.Replace)
		}
		answer(w, nil, err)
	})
	mux.HandleFunc("GET "+objectsPath+"/{kind}", func(w http.ResponseWriter, r *http.Request) {
		objects, err := c.objects(r.Context(), r.PathValue("kind"))
		answer(w, objects, err)
	})
	c.handleNetwork(mux)
	return mux
}

// handleNetwork answers what is about the network.
func (c *Cluster) handleNetwork(mux *http.ServeMux) {
	mux.HandleFunc("GET "+routesPath, whenRunning(c, func() any { return c.Routes() }))
	mux.HandleFunc("PUT "+routesPath, change(c, func(r route) error { return c.SetRoute(r.Destination, r.NextHop) }))
	mux.HandleFunc("DELETE "+routesPath, change(c, func(r route) error { c.network.RemoveRoute(r.Destination); return nil }))
	mux.HandleFunc("GET "+rulesPath, whenRunning(c, func() any { return c.network.Rules() }))
	mux.HandleFunc("PUT "+rulesPath, change(c, c.SetRule))
	mux.HandleFunc("DELETE "+rulesPath, change(c, func(r vpc.Rule) error { c.network.RemoveRule(r.Name); return nil }))
	mux.HandleFunc("PUT "+forwardPath, change(c, func(b forwardBody) error { return c.SetCanIPForward(b.Worker, b.On) }))
}

// whenRunning answers with what get returns.
func whenRunning(c *Cluster, get func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := c.isRunning(); err != nil {
			answer(w, nil, err)
			return
		}
		answer(w, get(), nil)
	}
}

// change does what a body asks for.
func change[T any](c *Cluster, apply func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		err := errors.Join(decode(r, &body), c.isRunning())
		if err == nil {
			err = apply(body)
		}
		answer(w, nil, err)
	}
}

// objects returns a list of the API server's, of one of objectKinds.
func (c *Cluster) objects(ctx context.Context, kind string) (json.RawMessage, error) {
	if err := c.isRunning(); err != nil {
		return nil, err
	}
	if !slices.Contains(objectKinds(), kind) {
		return nil, &manifest.ArgumentError{Err: fmt.Errorf("%s are not shown", kind)}
	}
	return c.controlPlane.Get(ctx, "/api/v1/"+kind)
}

// objectKinds are the objects that say how a cluster is, and have no secrets of it.
func objectKinds() []string { return []string{"events", "nodes"} }

func decode(r *http.Request, v any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	return nil
}

// answer sends v, or err where it is not nil.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		_, input := errors.AsType[*manifest.ArgumentError](err)
		status := http.StatusInternalServerError
		if input {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		v = errorBody{err.Error(), input}
	}
	json.NewEncoder(w).Encode(v)
}
