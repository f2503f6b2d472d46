package format

// XattrBlockHeader is struct ext4_xattr_header (attributes.rst).
type XattrBlockHeader struct {
	Magic    uint32
	RefCount uint32
	Blocks   uint32 // 1
	Hash     uint32 // of all attributes; 0 where one has none
	Checksum uint32
	_        [3]uint32
}

// XattrEntry is the fixed part of struct ext4_xattr_entry, the name follows.
type XattrEntry struct {
	NameLen   uint8
	NameIndex uint8
	ValueOffs uint16 // in a block: from its start; in an inode: from the first entry
	ValueInum uint32 // feature ea_inode
	ValueSize uint32
	Hash      uint32 // zero in an inode
}

// Of extended attributes. In an inode they begin with the magic alone.
const (
	XattrMagic           = 0xea020000
	XattrBlockHeaderSize = 32
	XattrChecksumOffset  = 16
	XattrEntrySize       = 16
	XattrInodeHeaderSize = 4
	XattrEnd             = 4 // zero bytes that end the entries
	XattrPad             = 4
)

// XattrEntry.NameIndex: the prefix of the name.
const (
	XattrUser       = 1
	XattrACLAccess  = 2 // all of the name
	XattrACLDefault = 3 // all of the name
	XattrTrusted    = 4
	XattrSecurity   = 6
	XattrSystem     = 7
)

// POSIX ACLs on disk (fs/ext4/acl.h): a version word, then entries of a tag and
// permissions, with an identity where the tag needs one. Outside, in the value that
// getxattr(2) gives (include/uapi/linux/posix_acl_xattr.h), the version is 2 and every entry has
// an identity.
const (
	ACLVersionDisk  = 1
	ACLVersionXattr = 2
	ACLHeaderSize   = 4
	ACLEntryShort   = 4
	ACLEntryLong    = 8
	ACLTagUserObj   = 0x01
	ACLTagUser      = 0x02
	ACLTagGroupObj  = 0x04
	ACLTagGroup     = 0x08
	ACLTagMask      = 0x10
	ACLTagOther     = 0x20
	ACLNoID         = 0xffffffff
)
