package erofs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Layouts of an inode's data.
const (
	flatPlain = iota
	compressedFull
	flatInline // the last, partial block stands behind the inode
	compressedCompact
	chunkBased
	layouts
)

const (
	inodeUnit     = 32 // bytes; a nid counts them
	compactSize   = 32
	extendedSize  = 64
	noBlock       = 0xffffffff
	xattrHeader   = 12
	mapHeaderSize = 8
)

// node is an inode as it lies in the image, checked as far as it can be alone.
type node struct {
	fs     *fileSystem
	nid    uint64
	layout int
	mode   uint32
	uid    uint32
	gid    uint32
	nlink  uint32
	mtime  int64
	size   int64
	u      uint32 // raw_blkaddr, rdev or chunk format
	at     int64  // where it is in the image
	xattrs int64  // where the xattrs begin
	behind int64  // and what is behind them

	z *zmap // of a compressed file
}

// readNode reads inode nid: EUCLEAN, EIO.
func (fs *fileSystem) readNode(nid uint64) (*node, error) {
	if nid > uint64(fs.size)/inodeUnit {
		return nil, unix.EUCLEAN
	}
	n := &node{fs: fs, nid: nid, at: int64(fs.metaBlock)<<fs.blockBits + int64(nid)*inodeUnit, nlink: 1}
	var b [extendedSize]byte
	if err := fs.read(b[:compactSize], n.at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	format, icount := le.Uint16(b[:]), le.Uint16(b[2:])
	n.layout = int(format >> 1 & 7)
	n.mode = uint32(le.Uint16(b[4:]))
	n.u = le.Uint32(b[16:])
	size := int64(compactSize)
	if format&1 == 0 {
		n.nlink, n.size = uint32(le.Uint16(b[6:])), int64(le.Uint32(b[8:]))
		n.uid, n.gid = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		n.mtime = fs.buildTime
	} else {
		size = extendedSize
		if err := fs.read(b[compactSize:], n.at+compactSize); err != nil {
			return nil, err
		}
		long := le.Uint64(b[8:])
		if long > 1<<62 {
			return nil, unix.EUCLEAN
		}
		n.size = int64(long)
		n.uid, n.gid, n.nlink = le.Uint32(b[24:]), le.Uint32(b[28:]), le.Uint32(b[44:])
		n.mtime = nanoseconds(le.Uint64(b[32:]), le.Uint32(b[40:]))
	}
	n.xattrs = n.at + size
	n.behind = n.xattrs
	if icount > 0 {
		n.behind += xattrHeader + 4*int64(icount-1)
	}
	return n, n.check(format)
}

// check refuses what no sound image has.
func (n *node) check(format uint16) error {
	if format>>4 != 0 || n.layout >= layouts || n.nlink == 0 || n.behind > n.fs.size {
		return unix.EUCLEAN
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		// Directories and links are small enough to be in the image as they are, or at most a little compressed.
		if n.size > n.fs.size {
			return unix.EUCLEAN
		}
	case unix.S_IFLNK:
		if n.size == 0 || n.size >= maxTarget {
			return unix.EUCLEAN
		}
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		n.size = 0
		return nil
	default:
		return unix.EUCLEAN
	}
	switch n.layout {
	case flatPlain, flatInline:
		return n.checkFlat()
	case chunkBased:
		return n.checkChunks()
	}
	return nil
}

// rdev decodes the number of a device (Linux's new_encode_dev).
func (n *node) rdev() uint64 {
	return unix.Mkdev(n.u>>8&0xfff, n.u&0xff|n.u>>12&0xfff00)
}

// checkFlat checks that all blocks are in the image.
func (n *node) checkFlat() error {
	mask := n.fs.blockSize() - 1
	blocks := uint64(n.size+mask) >> n.fs.blockBits
	if n.layout == flatInline {
		blocks = uint64(n.size) >> n.fs.blockBits
		if tail := n.size & mask; tail != 0 && n.behind&mask+tail > n.fs.blockSize() {
			return unix.EUCLEAN
		}
	}
	if blocks > 0 && (uint64(n.u) >= n.fs.blocks || blocks > n.fs.blocks-uint64(n.u)) {
		return unix.EUCLEAN
	}
	return nil
}

// Chunk formats.
const (
	chunkBits    = 0x1f
	chunkIndexes = 0x20
)

func (n *node) checkChunks() error {
	format := n.u & 0xffff
	if format&^(chunkBits|chunkIndexes) != 0 || uint(format&chunkBits)+n.fs.blockBits > 62 {
		return unix.EUCLEAN
	}
	return nil
}

// An extent is where a piece of a file lies.
type extent struct {
	at   int64 // in the image; negative: a hole
	size int64 // bytes, at least one
}

// flat finds the piece of an uncompressed file that begins at off, which is in the file: EUCLEAN, EIO.
func (n *node) flat(off int64) (extent, error) {
	switch n.layout {
	case flatPlain:
		return extent{int64(n.u)<<n.fs.blockBits + off, n.size - off}, nil
	case flatInline:
		whole := n.size &^ (n.fs.blockSize() - 1)
		if off >= whole {
			return extent{n.behind + off - whole, n.size - off}, nil
		}
		return extent{int64(n.u)<<n.fs.blockBits + off, whole - off}, nil
	}
	return n.chunk(off)
}

// chunk is flat for a file of chunks.
func (n *node) chunk(off int64) (extent, error) {
	bits := uint(n.u&chunkBits) + n.fs.blockBits
	number := off >> bits
	unit := int64(4)
	if n.u&chunkIndexes != 0 {
		unit = 8
	}
	table := (n.behind + unit - 1) &^ (unit - 1)
	if number > (n.fs.size-table)/unit {
		return extent{}, unix.EUCLEAN
	}
	var b [8]byte
	if err := n.fs.read(b[:unit], table+number*unit); err != nil {
		return extent{}, err
	}
	block := binary.LittleEndian.Uint32(b[:])
	if unit == 8 {
		if device := binary.LittleEndian.Uint16(b[2:]); device != 0 {
			return extent{}, unix.EUCLEAN
		}
		block = binary.LittleEndian.Uint32(b[4:])
	}
	in := off - number<<bits
	e := extent{-1, min(int64(1)<<bits-in, n.size-off)}
	if block == noBlock {
		return e, nil
	}
	e.at = int64(block)<<n.fs.blockBits + in
	if e.at > n.fs.size-e.size {
		return e, unix.EUCLEAN
	}
	return e, nil
}

// read fills p from a file at off, all of which is in the file: EUCLEAN, EIO, EOPNOTSUPP.
func (n *node) read(p []byte, off int64) error {
	if n.layout == compressedFull || n.layout == compressedCompact {
		return n.readCompressed(p, off)
	}
	for len(p) > 0 {
		e, err := n.flat(off)
		if err != nil {
			return err
		}
		k := min(int64(len(p)), e.size)
		if e.at < 0 {
			clear(p[:k])
		} else if err := n.fs.read(p[:k], e.at); err != nil {
			return err
		}
		p, off = p[k:], off+k
	}
	return nil
}
