package hostfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// Operations (linux/fuse.h).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opAccess        = 34
	opCreate        = 35
	opDestroy       = 38
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
)

const (
	fuseMajor  = 7
	fuseMinor  = 38
	leastMinor = 27

	// mostData is the most bytes in one READ or WRITE.
	mostData  = 1 << 20
	pageSize  = 4096
	mostPages = mostData / pageSize

	writeInSize = 40
	entrySize   = 128
	attrSize    = 88
)

// Flags of INIT that the server knows.
const (
	initFlags = 1<<0 | // ASYNC_READ
		1<<5 | // BIG_WRITES
		1<<6 | // DONT_MASK
		1<<12 | // AUTO_INVAL_DATA
		1<<13 | // DO_READDIRPLUS
		1<<14 | // READDIRPLUS_AUTO
		1<<18 | // PARALLEL_DIROPS
		1<<19 | // HANDLE_KILLPRIV
		1<<22 | // MAX_PAGES
		1<<23 // CACHE_SYMLINKS

	fattrMode     = 1 << 0
	fattrUID      = 1 << 1
	fattrGID      = 1 << 2
	fattrSize     = 1 << 3
	fattrAtime    = 1 << 4
	fattrMtime    = 1 << 5
	fattrFH       = 1 << 6
	fattrAtimeNow = 1 << 7
	fattrMtimeNow = 1 << 8

	getattrFH     = 1 << 0
	fopenKeep     = 1 << 1
	fsyncDatasync = 1 << 0
	writeCache    = 1 << 0
)

// putAttr appends struct fuse_attr.
func (s *Server) putAttr(b []byte, st *unix.Stat_t) []byte {
	const inoBits = 48
	ino := st.Ino ^ s.devs.index(st.Dev)<<inoBits
	for _, v := range []uint64{ino, uint64(st.Size), uint64(st.Blocks), uint64(st.Atim.Sec), uint64(st.Mtim.Sec), uint64(st.Ctim.Sec)} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range []uint32{
		uint32(st.Atim.Nsec), uint32(st.Mtim.Nsec), uint32(st.Ctim.Nsec), st.Mode, uint32(st.Nlink), st.Uid, st.Gid,
		encodeDev(st.Rdev), uint32(st.Blksize), 0,
	} {
		b = le.AppendUint32(b, v)
	}
	return b
}

func encodeDev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// putEntry appends struct fuse_entry_out; without a node, that there is no such name.
func (s *Server) putEntry(b []byte, n *node, st *unix.Stat_t) []byte {
	sec, nsec := uint64(s.valid/1e9), uint32(s.valid%1e9)
	id := uint64(0)
	if n != nil {
		id = n.id
	}
	b = le.AppendUint64(le.AppendUint64(b, id), 0)
	b = le.AppendUint64(le.AppendUint64(b, sec), sec)
	b = le.AppendUint32(le.AppendUint32(b, nsec), nsec)
	return s.putAttr(b, st)
}

// attrOut is struct fuse_attr_out.
func (s *Server) attrOut(st *unix.Stat_t) *body {
	b := le.AppendUint64(nil, uint64(s.valid/1e9))
	b = le.AppendUint32(le.AppendUint32(b, uint32(s.valid%1e9)), 0)
	return &body{bytes: s.putAttr(b, st)}
}

// init answers INIT, and forgets what a kernel before it asked for.
func (s *Server) init(r *request) (*body, error) {
	if r.u32(0) != fuseMajor || r.u32(4) < leastMinor {
		return nil, unix.EPROTO
	}
	s.reset()
	s.nodes.clear()
	b := le.AppendUint32(nil, fuseMajor)
	b = le.AppendUint32(b, fuseMinor)
	b = le.AppendUint32(b, min(r.u32(8), mostData))
	b = le.AppendUint32(b, r.u32(12)&initFlags)
	b = le.AppendUint16(le.AppendUint16(b, 64), 48) // background requests
	b = le.AppendUint32(le.AppendUint32(b, mostData), 1)
	b = le.AppendUint16(le.AppendUint16(b, mostPages), 0)
	return &body{bytes: append(b, make([]byte, 32)...)}, nil
}
