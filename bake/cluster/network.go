package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/nodebake/bake/bake/manifest"
	"github.com/nodebake/bake/bake/vm/vpc"
)

// rules are the guide's, and one for services of the type NodePort, which the guide
// makes for the port that its smoke test gets.
func rules() []vpc.Rule {
	return []vpc.Rule{vpc.AllowInternal(), vpc.AllowExternal(), {
		Name: AllowNodePorts, Sources: vpc.AllowExternal().Sources,
		Allow: []vpc.Traffic{{Protocol: vpc.TCP, Port: 30000, Last: 32767}, {Protocol: vpc.UDP, Port: 30000, Last: 32767}},
	}}
}

// AllowNodePorts is the name of the firewall rule by which services of the type
// NodePort are reached from outside.
const AllowNodePorts = "kubernetes-the-hard-way-allow-node-ports"

// route leads addresses of pods to a worker.
type route struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nextHop"` // a worker's address
}

// Routes returns the routes of the network: a worker's address for each range.
func (c *Cluster) Routes() map[netip.Prefix]netip.Addr {
	routes := map[netip.Prefix]netip.Addr{}
	for _, r := range c.network.Routes() {
		routes[r.Prefix] = r.Machine
	}
	return routes
}

// SetRoute sets a route in place of the one that its range may have.
func (c *Cluster) SetRoute(destination netip.Prefix, nextHop netip.Addr) error {
	if err := c.network.SetRoute(destination, nextHop); err != nil {
		return &manifest.ArgumentError{Err: fmt.Errorf("setting a route for %s: %w", destination, err)}
	}
	return nil
}

// SetRule sets a firewall rule in place of the one that has its name.
func (c *Cluster) SetRule(rule vpc.Rule) error {
	if err := c.network.SetRule(rule); err != nil {
		return &manifest.ArgumentError{Err: err}
	}
	return nil
}

// SetCanIPForward says whether a worker may send and receive for its pods.
func (c *Cluster) SetCanIPForward(worker string, on bool) error {
	for _, m := range c.all() {
		if m.Name == worker {
			return c.network.SetCanIPForward(m.IP, on)
		}
	}
	return &manifest.ArgumentError{Err: fmt.Errorf("there is no worker %s", worker)}
}

// Routes asks for the routes: see [Cluster.Routes]. With the next two methods, a
// Client is a table of package routes.
func (c *Client) Routes(ctx context.Context) (map[netip.Prefix]netip.Addr, error) {
	var routes map[netip.Prefix]netip.Addr
	return routes, c.do(ctx, http.MethodGet, routesPath, nil, &routes)
}

// SetRoute sets a route in place of the one that its range may have.
func (c *Client) SetRoute(ctx context.Context, destination netip.Prefix, nextHop netip.Addr) error {
	return c.do(ctx, http.MethodPut, routesPath, route{destination, nextHop}, nil)
}

// RemoveRoute removes the route that a range has, if there is one.
func (c *Client) RemoveRoute(ctx context.Context, destination netip.Prefix) error {
	return c.do(ctx, http.MethodDelete, routesPath, route{Destination: destination}, nil)
}

// Rules asks for the firewall rules.
func (c *Client) Rules(ctx context.Context) ([]vpc.Rule, error) {
	var rules []vpc.Rule
	return rules, c.do(ctx, http.MethodGet, rulesPath, nil, &rules)
}

// SetRule sets a firewall rule in place of the one that has its name.
func (c *Client) SetRule(ctx context.Context, rule vpc.Rule) error {
	return c.do(ctx, http.MethodPut, rulesPath, rule, nil)
}

// RemoveRule removes the firewall rule of a name, if there is one.
func (c *Client) RemoveRule(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, rulesPath, vpc.Rule{Name: name}, nil)
}

// SetCanIPForward says whether a worker may send and receive for its pods.
func (c *Client) SetCanIPForward(ctx context.Context, worker string, on bool) error {
	return c.do(ctx, http.MethodPut, forwardPath, forwardBody{worker, on}, nil)
}
