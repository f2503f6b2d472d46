package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Node is what the cluster knows of a worker.
type Node struct {
	Name           string
	Registered     time.Time // to the second
	Ready          bool
	Message        string // why it is ready or not, in the kubelet's words
	BootID         string // another one after a reboot, as soon as the kubelet runs
	KubeletVersion string
	Runtime        string // "containerd://2.3.4"
	OSImage        string
	PodCIDR        string // "" where the node brings its own
}

// Node asks for one node. That there is none is an error.
func (c *ControlPlane) Node(ctx context.Context, name string) (Node, error) {
	data, err := c.Get(ctx, "/api/v1/nodes/"+name)
	if err != nil {
		return Node{}, err
	}
	return ParseNode(data)
}

// ParseNode reads a Node of the API server, as JSON.
func ParseNode(data []byte) (Node, error) {
	var got struct {
		Metadata struct {
			Name              string
			CreationTimestamp time.Time
		}
		Spec   struct{ PodCIDR string }
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
			NodeInfo   struct{ BootID, KubeletVersion, ContainerRuntimeVersion, OSImage string }
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return Node{}, fmt.Errorf("reading a node: %w", err)
	}
	n := Node{
		Name: got.Metadata.Name, Registered: got.Metadata.CreationTimestamp, Message: "its kubelet has not reported yet",
		BootID: got.Status.NodeInfo.BootID, KubeletVersion: got.Status.NodeInfo.KubeletVersion,
		Runtime: got.Status.NodeInfo.ContainerRuntimeVersion, OSImage: got.Status.NodeInfo.OSImage, PodCIDR: got.Spec.PodCIDR,
	}
	for _, condition := range got.Status.Conditions {
		if condition.Type == "Ready" {
			n.Ready = condition.Status == "True"
			n.Message = condition.Reason + ": " + condition.Message
		}
	}
	return n, nil
}

// WaitNode waits until there is a node of which done is true, and returns it.
// Where ctx ends first, the error has what was known last.
func (c *ControlPlane) WaitNode(ctx context.Context, name string, done func(Node) bool) (n Node, err error) {
	err = waitFor(ctx, "node "+name, c.processes, func(ctx context.Context) error {
		if n, err = c.Node(ctx, name); err != nil {
			return err
		}
		if !done(n) {
			return fmt.Errorf("ready: %v: %s", n.Ready, n.Message)
		}
		return nil
	})
	return n, err
}
