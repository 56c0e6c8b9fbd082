// Package erofs writes and reads file systems in the Enhanced Read-Only File
// System format of Linux (Documentation/filesystems/erofs.rst,
// fs/erofs/erofs_fs.h; Linux 5.4 to 6.1 mount what Write makes).
//
// Write is a pure function of the tree it is given: equal trees give equal
// bytes, the UUID included, which is taken from the contents. Equal files share
// their blocks, long runs of zeros are holes, the tails of small files lie
// behind their inodes, and with Options.Compress contents are LZ4.
//
// Open takes foreign bytes: every number is checked before it is used, and what
// a well-formed image of that kind would not have is an error.
package erofs

import "io"

// BlockSize is the size of a block, in bytes; the format calls it 1 << blkszbits.
const BlockSize = 4096

const (
	blockBits   = 12
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xe0f5e1e2
	slotSize    = 32 // unit of inode numbers (nid)

	compatChecksum  = 1 << 0
	incompatLZ4     = 1 << 0 // LZ4_0PADDING: compressed blocks end at the block's end
	incompatChunked = 1 << 2
	incompatKnown   = incompatLZ4 | incompatChunked

	compactInode  = 32
	extendedInode = 64
	direntSize    = 12
	maxName       = 255
	maxTarget     = 4095
	nullBlock     = 0xffffffff // a hole, in a chunk's index

	// Data layouts of an inode.
	layoutPlain      = 0
	layoutCompressed = 1 // with full indexes
	layoutInline     = 2
	layoutChunk      = 4

	chunkIndexes = 1 << 5 // chunk format: 8-byte indexes in place of 4-byte addresses
	chunkBits    = 0x1f   // mask of the chunk's size
)

// Types and bits of st_mode (inode(7)).
const (
	modeType = 0o170000
	ModeDir  = 0o040000
	ModeReg  = 0o100000
	ModeLink = 0o120000
	ModeChar = 0o020000
	ModeBlk  = 0o060000
	ModeFIFO = 0o010000
	ModeSock = 0o140000
)

// Inode is a file. The same *Inode under several names is one file with that
// many hard links; a directory has one name.
type Inode struct {
	Mode     uint32 // st_mode
	UID, GID uint32
	MTime    int64 // seconds since the epoch
	Nanosec  uint32
	Major    uint32 // of a device
	Minor    uint32
	Size     int64                         // of a regular file, in bytes
	Open     func() (io.ReadCloser, error) // its contents; nil for none
	Target   string                        // of a symbolic link
	Xattrs   map[string]string             // by full name: user.x, security.capability
	Entries  map[string]*Inode             // of a directory; "." and ".." are implied
}

func (i *Inode) kind() uint32 { return i.Mode & modeType }

// direntType is the file type in a directory entry.
func direntType(mode uint32) byte {
	switch mode & modeType {
	case ModeReg:
		return 1
	case ModeDir:
		return 2
	case ModeChar:
		return 3
	case ModeBlk:
		return 4
	case ModeFIFO:
		return 5
	case ModeSock:
		return 6
	case ModeLink:
		return 7
	}
	return 0
}

// encodeDevice is Linux's new_encode_dev.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

func decodeDevice(v uint32) (major, minor uint32) {
	return v >> 8 & 0xfff, v&0xff | v>>12&0xfff00
}

// prefixes of the names of extended attributes, by their index in the format.
var prefixes = []struct {
	index  byte
	prefix string
	whole  bool // nothing follows
}{
	{1, "user.", false}, {2, "system.posix_acl_access", true}, {3, "system.posix_acl_default", true}, {4, "trusted.", false}, {6, "security.", false},
}

// blocks returns how many blocks hold n bytes.
func blocks(n int64) int64 { return (n + BlockSize - 1) / BlockSize }

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }
