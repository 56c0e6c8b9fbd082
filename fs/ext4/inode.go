package ext4

import (
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/vfs"
)

// Places in an inode (Documentation/filesystems/ext4/inodes.rst).
const (
	iMode        = 0x00
	iUIDLo       = 0x02
	iSizeLo      = 0x04
	iAtime       = 0x08
	iCtime       = 0x0c
	iMtime       = 0x10
	iDtime       = 0x14
	iGIDLo       = 0x18
	iLinks       = 0x1a
	iBlocksLo    = 0x1c
	iFlags       = 0x20
	iBlock       = 0x28
	iBlockSize   = 60
	iGeneration  = 0x64
	iXattrLo     = 0x68
	iSizeHi      = 0x6c
	iBlocksHi    = 0x74
	iXattrHi     = 0x76
	iUIDHi       = 0x78
	iGIDHi       = 0x7a
	iSumLo       = 0x7c
	iExtraSize   = 0x80
	iSumHi       = 0x82
	iCtimeExtra  = 0x84
	iMtimeExtra  = 0x88
	iAtimeExtra  = 0x8c
	iCrtime      = 0x90
	iCrtimeExtra = 0x94

	goodInode = 128 // bytes of the first inodes
)

// Flags of an inode.
const (
	flagImmutable = vfs.FlagImmutable
	flagAppend    = vfs.FlagAppend
	flagIndex     = 0x1000
	flagHugeFile  = 0x40000
	flagExtents   = 0x80000
	flagEAInode   = 0x200000
	flagInline    = 0x10000000
	flagEncrypt   = 0x800
	flagCasefold  = 0x40000000
	refusedFlags  = flagEAInode | flagInline | flagEncrypt | flagCasefold
)

const (
	rootInode = 2
	linkMax   = 65000
)

// node is the file system's part of an inode; it serves as its vfs.InodeOps. fs.mu guards it.
type node struct {
	vfs.InodeDefaults
	fs         *fileSystem
	ino        uint32
	generation uint32
	flags      uint32
	seed       uint32 // of checksums
	cache      *mem.Cache
	vfs        weak.Pointer[vfs.Inode]
	// pin keeps the inode in memory while it differs from the disk.
	pin *vfs.Inode

	size    int64  // as on the disk
	blocks  uint64 // space taken, in units of 512 bytes
	xattr   uint64 // block of extended attributes, or 0
	crtime  int64
	fast    bool // a symbolic link whose target is in the inode
	deleted bool

	mapped  atomic.Bool // the map was read
	tree    extentTree
	delayed map[uint64]struct{} // blocks that are written to in memory and have no place yet
	// missing is the name that was looked for last in vain, if no name changed since.
	missing atomic.Pointer[string]
	orphan  bool   // on the list of orphans
	next    uint32 // on that list
}

// inodePlace returns where an inode lies: EUCLEAN.
func (fs *fileSystem) inodePlace(ino uint32) (block uint64, at int, err error) {
	if ino == 0 || ino > fs.inodes {
		return 0, 0, unix.EUCLEAN
	}
	g, i := (ino-1)/fs.inodesGroup, (ino-1)%fs.inodesGroup
	off := uint64(i) * uint64(fs.inodeSize)
	return fs.groups[g].inodeTable + off>>fs.blockBits, int(off & uint64(fs.blockSize-1)), nil
}

// rawInode returns the buffer with an inode, and the inode in it. fs.mu is held.
func (fs *fileSystem) rawInode(ino uint32) (*buffer, []byte, error) {
	block, at, err := fs.inodePlace(ino)
	if err != nil {
		return nil, nil, err
	}
	b, err := fs.read(block, tableKind, nil)
	if err != nil {
		return nil, nil, err
	}
	return b, b.data[at : at+fs.inodeSize], nil
}

// extra is how many bytes behind the first 128 have fields.
func (fs *fileSystem) extra(raw []byte) int {
	if fs.inodeSize <= goodInode {
		return 0
	}
	return min(int(le.Uint16(raw[iExtraSize:])), fs.inodeSize-goodInode)
}

// inodeSum is the checksum of an inode.
func (fs *fileSystem) inodeSum(seed uint32, raw []byte) uint32 {
	sum := crc32c(seed, raw[:iSumLo])
	sum = crc32cZeros(sum, 2)
	sum = crc32cShort(sum, raw[iSumLo+2:goodInode])
	if fs.inodeSize > goodInode {
		sum = crc32cShort(sum, raw[goodInode:iSumHi])
		at := iSumHi
		if fs.extra(raw) >= iSumHi+2-goodInode {
			sum = crc32cZeros(sum, 2)
			at += 2
		}
		sum = crc32c(sum, raw[at:])
	}
	return sum
}

func (fs *fileSystem) inodeSeed(ino, generation uint32) uint32 {
	return crc32c32(crc32c32(fs.seed, ino), generation)
}

// checkInode verifies the checksum of an inode: EUCLEAN.
func (fs *fileSystem) checkInode(ino uint32, raw []byte) error {
	if !fs.csum {
		return nil
	}
	sum := fs.inodeSum(fs.inodeSeed(ino, le.Uint32(raw[iGeneration:])), raw)
	have := uint32(le.Uint16(raw[iSumLo:]))
	if fs.extra(raw) >= iSumHi+2-goodInode {
		have |= uint32(le.Uint16(raw[iSumHi:])) << 16
	} else {
		sum &= 0xffff
	}
	if sum != have {
		return unix.EUCLEAN
	}
	return nil
}

// sumInode stores the checksum of an inode.
func (n *node) sumInode(raw []byte) {
	if !n.fs.csum {
		return
	}
	sum := n.fs.inodeSum(n.seed, raw)
	le.PutUint16(raw[iSumLo:], uint16(sum))
	if n.fs.extra(raw) >= iSumHi+2-goodInode {
		le.PutUint16(raw[iSumHi:], uint16(sum>>16))
	}
}

// decodeTime reads a time stamp, whose extra field has two more bits of seconds, and nanoseconds.
func (fs *fileSystem) decodeTime(raw []byte, at, extraAt int) int64 {
	sec := int64(int32(le.Uint32(raw[at:])))
	ns := int64(0)
	if fs.extra(raw) >= extraAt+4-goodInode {
		e := le.Uint32(raw[extraAt:])
		sec += int64(e&3) << 32
		ns = int64(e>>2) % 1e9
	}
	return clampTime(sec)*1e9 + ns
}

func clampTime(sec int64) int64 {
	const most = 1<<63/1_000_000_000 - 1
	return min(max(sec, -most), most)
}

func (fs *fileSystem) encodeTime(raw []byte, at, extraAt int, t int64) {
	sec, ns := t/1e9, t%1e9
	if ns < 0 {
		sec, ns = sec-1, ns+1e9
	}
	wide := fs.extra(raw) >= extraAt+4-goodInode
	if !wide {
		sec = min(max(sec, -1<<31), 1<<31-1)
	}
	sec = min(sec, 1<<34-1<<31-1)
	le.PutUint32(raw[at:], uint32(sec))
	if wide {
		le.PutUint32(raw[extraAt:], uint32(ns)<<2|uint32((sec-int64(int32(sec)))>>32)&3)
	}
}

// inode returns an inode, read from the disk if need be: EUCLEAN, EIO. fs.mu is held.
func (fs *fileSystem) inode(ino uint32) (*vfs.Inode, error) {
	if i := fs.table.Peek(ino); i != nil {
		return i, nil
	}
	_, raw, err := fs.rawInode(ino)
	if err != nil {
		return nil, err
	}
	if err := fs.checkInode(ino, raw); err != nil {
		return nil, err
	}
	i, err := fs.decodeInode(ino, raw)
	if err != nil {
		return nil, err
	}
	made := false
	found := fs.table.Get(ino, func() *vfs.Inode { made = true; return i })
	if made {
		fs.tie(found)
	} else if i.Cache() != nil {
		i.Cache().Release() // somebody was faster
	}
	return found, nil
}

// tie makes the cache of an inode end with it.
func (fs *fileSystem) tie(i *vfs.Inode) {
	if i.Cache() != nil {
		fs.caches.Tie(i)
	}
}

// decodeInode makes an inode of its raw form: EUCLEAN, ENOENT for a free one.
func (fs *fileSystem) decodeInode(ino uint32, raw []byte) (*vfs.Inode, error) {
	n := &node{fs: fs, ino: ino, generation: le.Uint32(raw[iGeneration:]), flags: le.Uint32(raw[iFlags:])}
	n.seed = fs.inodeSeed(ino, n.generation)
	nn := vfs.NewNode{Mode: uint32(le.Uint16(raw[iMode:]))}
	if nn.Mode == 0 {
		return nil, unix.ENOENT
	}
	if n.flags&refusedFlags != 0 || !n.decodeSpace(raw, nn.Mode&unix.S_IFMT) || !n.decodeType(raw, &nn) {
		return nil, unix.EUCLEAN
	}
	i := fs.vfs.NewInode(n, &nn, n.cache)
	i.Ino = uint64(ino)
	n.vfs = weak.Make(i)
	i.SetFlags(n.flags & enforcedFlags)
	uid := uint32(le.Uint16(raw[iUIDLo:])) | uint32(le.Uint16(raw[iUIDHi:]))<<16
	gid := uint32(le.Uint16(raw[iGIDLo:])) | uint32(le.Uint16(raw[iGIDHi:]))<<16
	i.Restore(nn.Mode, uid, gid, uint32(le.Uint16(raw[iLinks:])))
	if fs.extra(raw) >= iCrtimeExtra+4-goodInode {
		n.crtime = fs.decodeTime(raw, iCrtime, iCrtimeExtra)
	}
	i.SetTimes(0, 0, 0)
	i.RestoreTimes(fs.decodeTime(raw, iAtime, iAtimeExtra), fs.decodeTime(raw, iMtime, iMtimeExtra),
		fs.decodeTime(raw, iCtime, iCtimeExtra), n.crtime)
	return i, nil
}

// decodeSpace reads the size and what is taken on the disk; false when they make no sense.
func (n *node) decodeSpace(raw []byte, typ uint32) bool {
	fs := n.fs
	n.size = int64(le.Uint32(raw[iSizeLo:]))
	if typ == unix.S_IFREG || typ == unix.S_IFDIR {
		n.size |= int64(le.Uint32(raw[iSizeHi:])) << 32
	}
	n.blocks = uint64(le.Uint32(raw[iBlocksLo:]))
	if fs.roCompat&roHugeFile != 0 {
		n.blocks |= uint64(le.Uint16(raw[iBlocksHi:])) << 32
		if n.flags&flagHugeFile != 0 {
			n.blocks <<= fs.blockBits - 9
		}
	}
	n.xattr = uint64(le.Uint32(raw[iXattrLo:]))
	if fs.is64 {
		n.xattr |= uint64(le.Uint16(raw[iXattrHi:])) << 32
	}
	return n.size >= 0 && n.size <= fs.maxSize() && (n.xattr == 0 || fs.inside(n.xattr, 1))
}

// decodeType reads what inodes of one type have; false when it makes no sense.
func (n *node) decodeType(raw []byte, nn *vfs.NewNode) bool {
	switch nn.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.cache = mem.NewCache(n.fs.pool, &pages{n})
		_ = n.cache.Truncate(n.size) // nothing is in it yet
	case unix.S_IFDIR:
		return n.size%int64(n.fs.blockSize) == 0 && n.size>>n.fs.blockBits <= maxDirBlocks
	case unix.S_IFLNK:
		if n.size == 0 || n.size >= vfs.PathMax {
			return false
		}
		if n.fast = n.size < iBlockSize && n.flags&flagExtents == 0 && n.dataBlocks() == 0; n.fast {
			nn.Target = string(raw[iBlock : iBlock+n.size])
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		nn.Rdev = decodeDev(le.Uint32(raw[iBlock:]), le.Uint32(raw[iBlock+4:]))
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return false
	}
	return true
}

// dataBlocks is the space taken but for the block of extended attributes.
func (n *node) dataBlocks() uint64 {
	if n.xattr != 0 {
		return n.blocks - min(n.blocks, uint64(n.fs.blockSize)/512)
	}
	return n.blocks
}

// maxSize is the largest size of a file.
func (fs *fileSystem) maxSize() int64 { return 1<<32*int64(fs.blockSize) - 1 }

// decodeDev reads a device number, which has an old form and a new one.
func decodeDev(old, wide uint32) uint64 {
	if old != 0 {
		return unix.Mkdev(old>>8&0xff, old&0xff)
	}
	return unix.Mkdev(wide>>8&0xfff, wide&0xff|wide>>12&0xfff00)
}

func encodeDev(raw []byte, dev uint64) {
	major, minor := unix.Major(dev), unix.Minor(dev)
	if major < 256 && minor < 256 {
		le.PutUint32(raw[iBlock:], major<<8|minor)
		le.PutUint32(raw[iBlock+4:], 0)
		return
	}
	le.PutUint32(raw[iBlock:], 0)
	le.PutUint32(raw[iBlock+4:], minor&0xff|major<<8|minor&^0xff<<12)
}

// store writes an inode to its place in the transaction. fs.mu is held for writing.
func (n *node) store() error {
	b, raw, err := n.fs.rawInode(n.ino)
	if err != nil {
		return err
	}
	n.encode(raw)
	n.fs.change(b)
	return nil
}

func (n *node) encode(raw []byte) {
	fs := n.fs
	if i := n.inode(); i != nil {
		mode, uid, gid := i.Mode(), i.UID(), i.GID()
		le.PutUint16(raw[iMode:], uint16(mode))
		le.PutUint16(raw[iUIDLo:], uint16(uid))
		le.PutUint16(raw[iUIDHi:], uint16(uid>>16))
		le.PutUint16(raw[iGIDLo:], uint16(gid))
		le.PutUint16(raw[iGIDHi:], uint16(gid>>16))
		links := i.Nlink()
		if i.IsDir() && links >= linkMax {
			links = 1
		}
		le.PutUint16(raw[iLinks:], uint16(links))
		atime, mtime, ctime := i.Times()
		fs.encodeTime(raw, iAtime, iAtimeExtra, atime)
		fs.encodeTime(raw, iMtime, iMtimeExtra, mtime)
		fs.encodeTime(raw, iCtime, iCtimeExtra, ctime)
	}
	le.PutUint32(raw[iSizeLo:], uint32(n.size))
	if typ := le.Uint16(raw[iMode:]) & unix.S_IFMT; typ == unix.S_IFREG || typ == unix.S_IFDIR {
		le.PutUint32(raw[iSizeHi:], uint32(n.size>>32))
	}
	n.flags &^= flagHugeFile
	le.PutUint32(raw[iBlocksLo:], uint32(n.blocks))
	if fs.roCompat&roHugeFile != 0 {
		le.PutUint16(raw[iBlocksHi:], uint16(n.blocks>>32))
	}
	le.PutUint32(raw[iFlags:], n.flags)
	le.PutUint32(raw[iGeneration:], n.generation)
	le.PutUint32(raw[iXattrLo:], uint32(n.xattr))
	if fs.is64 {
		le.PutUint16(raw[iXattrHi:], uint16(n.xattr>>32))
	}
	if n.orphan {
		le.PutUint32(raw[iDtime:], n.next)
	} else if !n.deleted {
		le.PutUint32(raw[iDtime:], 0)
	}
	n.sumInode(raw)
}

// inode returns the inode that n belongs to, nil when nobody has it any more.
func (n *node) inode() *vfs.Inode {
	if n.pin != nil {
		return n.pin
	}
	return n.vfs.Value()
}

// of returns the node of an inode.
func of(i *vfs.Inode) *node { return i.Ops().(*node) }
