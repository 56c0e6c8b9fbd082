package fuse

import (
	"encoding/binary"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/vfs"
)

var le = binary.LittleEndian

// message builds a request behind its header.
type message struct{ b []byte }

// start makes room for what most requests have.
func (m *message) start() {
	if m.b == nil {
		m.b = make([]byte, 0, 48)
	}
}

func (m *message) u32(v ...uint32) {
	m.start()
	for _, v := range v {
		m.b = le.AppendUint32(m.b, v)
	}
}

func (m *message) u64(v ...uint64) {
	m.start()
	for _, v := range v {
		m.b = le.AppendUint64(m.b, v)
	}
}

// name appends a string with its NUL.
func (m *message) name(s string) { m.b = append(append(m.b, s...), 0) }

// attr is struct fuse_attr, checked.
type attr struct {
	ino                 uint64
	size, blocks        int64
	atime, mtime, ctime int64 // ns
	mode, nlink         uint32
	uid, gid            uint32
	rdev                uint64
}

// entry is struct fuse_entry_out, checked. A node of 0 says that there is no such name.
type entry struct {
	node, generation      uint64
	entryValid, attrValid int64 // ns from now on
	attr                  attr
}

// parseAttr reads struct fuse_attr: EIO for what no file can have. b is long enough.
func parseAttr(b []byte) (a attr, err error) {
	a.ino = le.Uint64(b)
	size, blocks := le.Uint64(b[8:]), le.Uint64(b[16:])
	a.mode = le.Uint32(b[60:])
	a.nlink, a.uid, a.gid = le.Uint32(b[64:]), le.Uint32(b[68:]), le.Uint32(b[72:])
	a.rdev = decodeDev(le.Uint32(b[76:]))
	if size > math.MaxInt64 || blocks > math.MaxInt64 || !validMode(a.mode) {
		return a, unix.EIO
	}
	a.size, a.blocks = int64(size), int64(blocks)
	for i, t := range [...]*int64{&a.atime, &a.mtime, &a.ctime} {
		if *t, err = parseTime(le.Uint64(b[24+8*i:]), le.Uint32(b[48+4*i:])); err != nil {
			return a, err
		}
	}
	return a, nil
}

func validMode(mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return mode>>16 == 0
	}
	return false
}

// parseTime makes ns of a time, which is kept within what 64 bits can say: EIO when the nanoseconds are none.
func parseTime(sec uint64, nsec uint32) (int64, error) {
	const most = math.MaxInt64/1_000_000_000 - 1
	if nsec >= 1e9 {
		return 0, unix.EIO
	}
	return min(max(int64(sec), -most), most)*1e9 + int64(nsec), nil
}

// parseTimeout makes ns of a time that something stays valid, at most a day.
func parseTimeout(sec uint64, nsec uint32) int64 {
	const most = 24 * 3600
	return int64(min(sec, most))*1e9 + int64(min(nsec, 1e9-1))
}

// decodeDev reads a device number in the form that FUSE has for it (new_encode_dev).
func decodeDev(v uint32) uint64 { return unix.Mkdev(v>>8&0xfff, v&0xff|v>>12&0xfff00) }

func encodeDev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// parseEntry reads struct fuse_entry_out: EIO.
func parseEntry(b []byte) (e entry, err error) {
	e.node, e.generation = le.Uint64(b), le.Uint64(b[8:])
	e.entryValid = parseTimeout(le.Uint64(b[16:]), le.Uint32(b[32:]))
	e.attrValid = parseTimeout(le.Uint64(b[24:]), le.Uint32(b[36:]))
	if e.node == 0 {
		return e, nil
	}
	if e.node == fuseabi.RootID {
		return e, unix.EIO
	}
	e.attr, err = parseAttr(b[40:])
	return e, err
}

// parseAttrOut reads struct fuse_attr_out.
func parseAttrOut(b []byte) (a attr, valid int64, err error) {
	a, err = parseAttr(b[16:])
	return a, parseTimeout(le.Uint64(b), le.Uint32(b[8:])), err
}

// validName reports whether a directory may contain an entry of that name.
func validName(s string) bool {
	return s != "" && len(s) <= vfs.NameMax && strings.IndexByte(s, '/') < 0 && strings.IndexByte(s, 0) < 0
}

// dirent is struct fuse_dirent, or fuse_direntplus.
type dirent struct {
	entry  entry // only with plus; node 0: nothing known
	ino    uint64
	cookie uint64 // behind the entry
	mode   uint32 // type bits
	name   string
}

// parseDirent reads the first entry of a listing and returns its length, 0 at the end. A listing may end in
// the middle of an entry, which the server will give again. EIO.
func parseDirent(b []byte, plus bool) (d dirent, n int, err error) {
	head := 0
	if plus {
		head = fuseabi.EntrySize
	}
	if len(b) < head+fuseabi.DirentSize {
		return d, 0, nil
	}
	if plus {
		if d.entry, err = parseEntry(b); err != nil {
			// . and .. of the root may name the root.
			d.entry.node = 0
		}
	}
	b = b[head:]
	d.ino, d.cookie = le.Uint64(b), le.Uint64(b[8:])
	length, typ := le.Uint32(b[16:]), le.Uint32(b[20:])
	if length == 0 || length > vfs.NameMax {
		return d, 0, unix.EIO
	}
	if len(b) < fuseabi.DirentSize+int(length) {
		return d, 0, nil
	}
	d.name = string(b[fuseabi.DirentSize : fuseabi.DirentSize+length])
	d.mode = typ << 12 & unix.S_IFMT
	if !validName(d.name) || d.cookie > math.MaxInt64 {
		return d, 0, unix.EIO
	}
	if err != nil && d.name != "." && d.name != ".." {
		return d, 0, err
	}
	size := head + (fuseabi.DirentSize+int(length)+7)&^7
	return d, min(size, head+len(b)), nil
}
