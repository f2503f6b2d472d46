package dns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The objects of the API as kubectl prints them (-o json), as far as they matter
// here (k8s.io/api/core/v1, apps/v1).
type (
	metadata struct {
		Name       string            `json:"name"`
		Namespace  string            `json:"namespace"`
		Labels     map[string]string `json:"labels"`
		Generation int64             `json:"generation"`
		Deleted    string            `json:"deletionTimestamp"`
	}

	object struct {
		Kind     string   `json:"kind"`
		Metadata metadata `json:"metadata"`
	}

	condition struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}

	nodeObject struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			Unschedulable bool `json:"unschedulable"`
		} `json:"spec"`
		Status struct {
			Conditions []condition `json:"conditions"`
			Images     []struct {
				Names []string `json:"names"`
			} `json:"images"`
			NodeInfo struct {
				KubeletVersion string `json:"kubeletVersion"`
			} `json:"nodeInfo"`
		} `json:"status"`
	}

	serviceObject struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			ClusterIP string `json:"clusterIP"`
		} `json:"spec"`
	}

	deploymentObject struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			Replicas int `json:"replicas"`
		} `json:"spec"`
		Status struct {
			ObservedGeneration int64       `json:"observedGeneration"`
			Replicas           int         `json:"replicas"`
			Updated            int         `json:"updatedReplicas"`
			Available          int         `json:"availableReplicas"`
			Conditions         []condition `json:"conditions"`
		} `json:"status"`
	}

	podObject struct {
		Metadata metadata `json:"metadata"`
		Spec     struct {
			NodeName   string      `json:"nodeName"`
			Containers []container `json:"containers"`
		} `json:"spec"`
		Status struct {
			PodIP             string            `json:"podIP"`
			Conditions        []condition       `json:"conditions"`
			ContainerStatuses []containerStatus `json:"containerStatuses"`
		} `json:"status"`
	}

	container struct {
		Image string `json:"image"`
	}

	containerStatus struct {
		Ready        bool           `json:"ready"`
		RestartCount int            `json:"restartCount"`
		State        containerState `json:"state"`
	}

	containerState struct {
		Waiting *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"waiting"`
		Terminated *struct {
			Reason   string `json:"reason"`
			ExitCode int    `json:"exitCode"`
		} `json:"terminated"`
	}

	eventObject struct {
		Type     string    `json:"type"`
		Reason   string    `json:"reason"`
		Message  string    `json:"message"`
		Last     time.Time `json:"lastTimestamp"`
		Involved struct {
			Name string `json:"name"`
		} `json:"involvedObject"`
	}
)

// parseList reads a list, or the one object that kubectl prints in place of a list
// of one, or nothing.
func parseList[T any](data []byte) ([]T, error) {
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil, nil
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("reading what kubectl prints: %w", err)
	}
	if list.Items == nil && !strings.HasSuffix(list.Kind, "List") {
		list.Items = []json.RawMessage{data}
	}
	var all []T
	for _, item := range list.Items {
		var one T
		if err := json.Unmarshal(item, &one); err != nil {
			return nil, fmt.Errorf("reading what kubectl prints: %w", err)
		}
		all = append(all, one)
	}
	return all, nil
}

// find returns one condition of a list.
func find(conditions []condition, name string) condition {
	i := slices.IndexFunc(conditions, func(c condition) bool { return c.Type == name })
	if i < 0 {
		return condition{}
	}
	return conditions[i]
}

// ready says whether pods can be put onto a node.
func (n nodeObject) ready() bool {
	return find(n.Status.Conditions, "Ready").Status == "True" && !n.Spec.Unschedulable
}

// why says what keeps a node from being ready.
func (n nodeObject) why() string {
	c := find(n.Status.Conditions, "Ready")
	switch {
	case n.Spec.Unschedulable:
		return n.Metadata.Name + " takes no pods (kubectl uncordon " + n.Metadata.Name + ")"
	case c.Type == "":
		return n.Metadata.Name + " has not said yet how it is"
	}
	return fmt.Sprintf("%s is not Ready: %s: %s", n.Metadata.Name, c.Reason, oneLine(c.Message))
}

// images returns the names of the images that a node has.
func (n nodeObject) images() []string {
	var all []string
	for _, image := range n.Status.Images {
		all = append(all, image.Names...)
	}
	return all
}

// oneLine joins lines, and cuts what is long.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
