package node

import (
	"cmp"
	"encoding/base64"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Kubeconfig describes a kubeconfig with one cluster, one user and everything
// embedded.
type Kubeconfig struct {
	Server string
	CA     []byte // PEM
	User   string
	Name   string // of the cluster and the context; default: kubernetes and default

	// The user's certificate and key in PEM, or a token.
	Certificate, Key []byte
	Token            string
}

// The file; see k8s.io/client-go/tools/clientcmd/api/v1.
type (
	kubeconfigFile struct {
		APIVersion     string         `yaml:"apiVersion"`
		Kind           string         `yaml:"kind"`
		Clusters       []namedCluster `yaml:"clusters"`
		Contexts       []namedContext `yaml:"contexts"`
		CurrentContext string         `yaml:"current-context"`
		Preferences    struct{}       `yaml:"preferences"`
		Users          []namedUser    `yaml:"users"`
	}
	namedCluster struct {
		Name    string `yaml:"name"`
		Cluster struct {
			CA     string `yaml:"certificate-authority-data"`
			Server string `yaml:"server"`
		} `yaml:"cluster"`
	}
	namedContext struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	}
	namedUser struct {
		Name string `yaml:"name"`
		User struct {
			Certificate string `yaml:"client-certificate-data,omitempty"`
			Key         string `yaml:"client-key-data,omitempty"`
			Token       string `yaml:"token,omitempty"`
		} `yaml:"user"`
	}
)

// Encode writes the kubeconfig as YAML.
func (k Kubeconfig) Encode() ([]byte, error) {
	clusterName, contextName := cmp.Or(k.Name, "kubernetes"), cmp.Or(k.Name, "default")
	cluster := namedCluster{Name: clusterName}
	cluster.Cluster.CA = base64.StdEncoding.EncodeToString(k.CA)
	cluster.Cluster.Server = k.Server
	context := namedContext{Name: contextName}
	context.Context.Cluster = clusterName
	context.Context.User = k.User
	user := namedUser{Name: k.User}
	user.User.Certificate = base64.StdEncoding.EncodeToString(k.Certificate)
	user.User.Key = base64.StdEncoding.EncodeToString(k.Key)
	user.User.Token = k.Token
	data, err := yaml.Marshal(kubeconfigFile{
		APIVersion:     "v1",
		Kind:           "Config",
		Clusters:       []namedCluster{cluster},
		Contexts:       []namedContext{context},
		CurrentContext: contextName,
		Users:          []namedUser{user},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the kubeconfig of %s: %w", k.User, err)
	}
	return data, nil
}
