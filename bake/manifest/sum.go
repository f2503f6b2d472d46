package manifest

// Sum is a digest in the form ALGORITHM:HEX, "sha256:" or "sha512:".
type Sum string
