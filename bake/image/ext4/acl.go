package ext4

import (
	"encoding/binary"
	"fmt"

	"github.com/nodebake/bake/bake/image/ext4/internal/format"
)

// aclHasID reports whether entries of a tag name a user or a group.
func aclHasID(tag uint16) (hasID, known bool) {
	switch tag {
	case format.ACLTagUser, format.ACLTagGroup:
		return true, true
	case format.ACLTagUserObj, format.ACLTagGroupObj, format.ACLTagMask, format.ACLTagOther:
		return false, true
	}
	return false, false
}

// encodeACL makes a POSIX ACL as ext4 stores it of the value that getxattr(2) gives.
func encodeACL(value []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(value) < format.ACLHeaderSize || (len(value)-format.ACLHeaderSize)%format.ACLEntryLong != 0 ||
		le.Uint32(value) != format.ACLVersionXattr {
		return nil, fmt.Errorf("%d bytes are not a POSIX ACL of version %d", len(value), format.ACLVersionXattr)
	}
	out := le.AppendUint32(nil, format.ACLVersionDisk)
	for e := value[format.ACLHeaderSize:]; len(e) > 0; e = e[format.ACLEntryLong:] {
		hasID, known := aclHasID(le.Uint16(e))
		if !known {
			return nil, fmt.Errorf("POSIX ACL with unknown tag %#x", le.Uint16(e))
		}
		if hasID {
			out = append(out, e[:format.ACLEntryLong]...)
		} else {
			out = append(out, e[:format.ACLEntryShort]...)
		}
	}
	return out, nil
}

// decodeACL is the inverse of encodeACL.
func decodeACL(disk []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(disk) < format.ACLHeaderSize || le.Uint32(disk) != format.ACLVersionDisk {
		return nil, fmt.Errorf("%d bytes are not a POSIX ACL of version %d", len(disk), format.ACLVersionDisk)
	}
	out := le.AppendUint32(nil, format.ACLVersionXattr)
	for e := disk[format.ACLHeaderSize:]; len(e) > 0; {
		if len(e) < format.ACLEntryShort {
			return nil, fmt.Errorf("POSIX ACL ends inside of an entry")
		}
		hasID, known := aclHasID(le.Uint16(e))
		if !known {
			return nil, fmt.Errorf("POSIX ACL with unknown tag %#x", le.Uint16(e))
		}
		out = append(out, e[:format.ACLEntryShort]...)
		e = e[format.ACLEntryShort:]
		if !hasID {
			out = le.AppendUint32(out, format.ACLNoID)
			continue
		}
		if len(e) < format.ACLEntryLong-format.ACLEntryShort {
			return nil, fmt.Errorf("POSIX ACL ends inside of an entry")
		}
		out = append(out, e[:format.ACLEntryLong-format.ACLEntryShort]...)
		e = e[format.ACLEntryLong-format.ACLEntryShort:]
	}
	return out, nil
}
