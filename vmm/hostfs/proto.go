package hostfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

var le = binary.LittleEndian

// mostData is the most bytes in one READ or WRITE.
const (
	mostData  = 1 << 20
	pageSize  = 4096
	mostPages = mostData / pageSize
)

// initFlags are the flags of INIT that the server knows.
const initFlags = fuseabi.InitAsyncRead | fuseabi.InitBigWrites | fuseabi.InitDontMask | fuseabi.InitAutoInval | fuseabi.InitReaddirplus | fuseabi.InitReaddirAuto |
	fuseabi.InitParallelDirops | fuseabi.InitHandleKillpriv | fuseabi.InitMaxPages | fuseabi.InitCacheSymlinks

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
	if r.u32(0) != fuseabi.Major || r.u32(4) < fuseabi.LeastMinor {
		return nil, unix.EPROTO
	}
	s.reset()
	s.nodes.clear()
	b := le.AppendUint32(nil, fuseabi.Major)
	b = le.AppendUint32(b, fuseabi.Minor)
	b = le.AppendUint32(b, min(r.u32(8), mostData))
	b = le.AppendUint32(b, r.u32(12)&initFlags)
	b = le.AppendUint16(le.AppendUint16(b, 64), 48) // background requests
	b = le.AppendUint32(le.AppendUint32(b, mostData), 1)
	b = le.AppendUint16(le.AppendUint16(b, mostPages), 0)
	return &body{bytes: append(b, make([]byte, 32)...)}, nil
}
