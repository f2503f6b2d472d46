package record

// Where an image holds what bake itself puts there: paths without a leading slash.
// The program firstboot, which imports nothing of bake's, knows Path as well.
const (
	Path           = "usr/lib/bake/image.json" // the record, without what is known only when the disk is laid out
	SBOMPath       = "usr/lib/bake/sbom.spdx.json"
	ProvenancePath = "usr/lib/bake/provenance.json"
	FirstbootPath  = "usr/lib/bake/firstboot"

	// InputsDir has what the image was made from. The files have the bytes that were
	// given and names of their own; modules lie as the versions file names them, the
	// definition's files in a directory of theirs.
	InputsDir      = "usr/lib/bake/inputs"
	VersionsName   = "versions.yaml"
	LockName       = "versions.lock"
	DefinitionName = "definition"

	// LicensesDir has a copyright file of each component that was built from Go
	// modules: see package license.
	LicensesDir = "usr/lib/bake/licenses"
)
