package smoke

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What is read of the objects that kubectl prints as JSON
// (kubernetes.io/docs/reference/generated/kubernetes-api/v1.36).

type metadataJSON struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

type conditionJSON struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type nodeList struct {
	Items []struct {
		Metadata metadataJSON `json:"metadata"`
		Spec     struct {
			Unschedulable bool `json:"unschedulable"`
			Taints        []struct {
				Key    string `json:"key"`
				Effect string `json:"effect"`
			} `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []conditionJSON `json:"conditions"`
			Addresses  []struct {
				Type    string `json:"type"`
				Address string `json:"address"`
			} `json:"addresses"`
			NodeInfo struct {
				KubeletVersion string `json:"kubeletVersion"`
			} `json:"nodeInfo"`
			Images []struct {
				Names []string `json:"names"`
			} `json:"images"`
		} `json:"status"`
	} `json:"items"`
}

type stateJSON struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Terminated *struct {
		ExitCode int    `json:"exitCode"`
		Reason   string `json:"reason"`
	} `json:"terminated"`
}

type podList struct {
	Items []struct {
		Metadata metadataJSON `json:"metadata"`
		Spec     struct {
			NodeName string `json:"nodeName"`
		} `json:"spec"`
		Status struct {
			PodIP             string          `json:"podIP"`
			Conditions        []conditionJSON `json:"conditions"`
			ContainerStatuses []struct {
				Name      string    `json:"name"`
				Image     string    `json:"image"`
				State     stateJSON `json:"state"`
				LastState stateJSON `json:"lastState"`
			} `json:"containerStatuses"`
		} `json:"status"`
	} `json:"items"`
}

type serviceList struct {
	Items []struct {
		Metadata metadataJSON `json:"metadata"`
		Spec     struct {
			ClusterIP string `json:"clusterIP"`
			Ports     []struct {
				Name     string `json:"name"`
				NodePort int    `json:"nodePort"`
			} `json:"ports"`
		} `json:"spec"`
	} `json:"items"`
}

type eventList struct {
	Items []struct {
		Type           string `json:"type"`
		Reason         string `json:"reason"`
		Message        string `json:"message"`
		InvolvedObject struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"involvedObject"`
	} `json:"items"`
}

// node is what the run knows of a node.
type node struct {
	name     string
	notReady string // why it is not Ready; "": it is
	taint    string // that keeps pods away
	version  string
	internal netip.Addr
	external netip.Addr
	images   []string
}

func parseNodes(text string) ([]node, error) {
	var list nodeList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading nodes: %w", err)
	}
	var nodes []node
	for _, item := range list.Items {
		n := node{name: item.Metadata.Name, notReady: "it has no condition Ready", version: item.Status.NodeInfo.KubeletVersion}
		for _, c := range item.Status.Conditions {
			if c.Type == "Ready" {
				n.notReady = ""
				if c.Status != "True" {
					n.notReady = reason(c.Reason, c.Message)
				}
			}
		}
		if item.Spec.Unschedulable {
			n.taint = "it is cordoned"
		}
		for _, t := range item.Spec.Taints {
			if t.Effect != "PreferNoSchedule" && n.taint == "" {
				n.taint = "its taint " + t.Key
			}
		}
		for _, a := range item.Status.Addresses {
			address, err := netip.ParseAddr(a.Address)
			switch {
			case err != nil || !address.Is4():
			case a.Type == "InternalIP" && !n.internal.IsValid():
				n.internal = address
			case a.Type == "ExternalIP" && !n.external.IsValid():
				n.external = address
			}
		}
		for _, image := range item.Status.Images {
			n.images = append(n.images, image.Names...)
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b node) int { return compareNames(a.name, b.name) })
	return nodes, nil
}

// compareNames sorts worker-10 behind worker-9.
func compareNames(a, b string) int {
	headA, headB := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
	if headA == headB && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// pod is what the run knows of a pod.
type pod struct {
	name    string
	node    string
	ip      netip.Addr
	ready   bool
	waiting string // why a container waits, or why it is on no node
	fatal   bool   // and goes on waiting
	images  []string
}

// parsePods returns pods in the order of their nodes.
func parsePods(text string) ([]pod, error) {
	var list podList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading pods: %w", err)
	}
	var pods []pod
	for _, item := range list.Items {
		p := pod{name: item.Metadata.Name, node: item.Spec.NodeName}
		p.ip, _ = netip.ParseAddr(item.Status.PodIP) // it has none before it runs
		for _, c := range item.Status.Conditions {
			switch {
			case c.Type == "Ready":
				p.ready = c.Status == "True"
			case c.Type == "PodScheduled" && c.Status == "False":
				p.waiting = reason(c.Reason, c.Message)
			}
		}
		for _, c := range item.Status.ContainerStatuses {
			p.images = append(p.images, c.Image)
			if w := c.State.Waiting; w != nil && (p.waiting == "" || isFatal(w.Reason)) && !p.fatal {
				p.waiting = "container " + c.Name + ": " + reason(w.Reason, w.Message)
				p.fatal = isFatal(w.Reason)
			}
		}
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b pod) int {
		if c := compareNames(a.node, b.node); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return pods, nil
}

// isFatal says whether a container that waits for this goes on waiting: kubelet
// tries again, but what it tries stays the same.
func isFatal(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff",
		"CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return true
	}
	return false
}

// reason joins what Kubernetes says for programs and for people.
func reason(reason, message string) string {
	message = oneLine(message)
	if message == "" || reason == "" {
		return reason + message
	}
	return reason + ": " + message
}

// oneLine is text without line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
