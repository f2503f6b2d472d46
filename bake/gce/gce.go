// Package gce has what is so on Compute Engine: limits, names, features and what
// each needs of a kernel, and the gcloud commands that bake prints. It calls
// nothing, and imports no client of Google's.
//
// What a worker itself must know of it is package firstboot/config's.
package gce

// MaxImageSize is the largest disk in bytes that an image is made of: 2048 GB
// (Manually import boot disks,
// cloud.google.com/compute/docs/import/import-existing-image). It counts in
// powers of ten here: a disk of 2048 GiB would be refused where that is meant.
const MaxImageSize = 2048_000_000_000

// MaxDiskSize is the largest disk of an instance, in bytes.
const MaxDiskSize = 64 << 40

// GiB is what sizes of disks are multiples of, in bytes.
const GiB = 1 << 30

// An instance finds its metadata server, DNS and NTP under this address and name
// (About VM metadata, cloud.google.com/compute/docs/metadata/overview).
const (
	MetadataAddress = "169.254.169.254"
	MetadataHost    = "metadata.google.internal"
)

// MTU is that of networks that were made with no other.
const MTU = 1460
