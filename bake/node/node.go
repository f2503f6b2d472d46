// Package node makes a worker's metadata on the operator's machine: the
// certificate, key and kubeconfigs that firstboot wants, signed by the cluster's
// CA.
package node
