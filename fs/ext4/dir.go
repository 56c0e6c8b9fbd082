package ext4

import (
	"bytes"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// Directories (Documentation/filesystems/ext4/directory.rst): blocks of records, each an inode number, the length of the record, that of
// the name, a type, and the name. With checksums the last 12 bytes of a block are a record that holds one.
const (
	direntHead   = 8
	direntTail   = 12
	tailType     = 0xde
	maxDirBlocks = 1 << 20
	// offBase is added to the place of a record to make its offset for getdents(2): above those of . and ...
	offBase = 3
)

// types are the file types of records as mode bits.
var types = [...]uint32{1: unix.S_IFREG, 2: unix.S_IFDIR, 3: unix.S_IFCHR, 4: unix.S_IFBLK, 5: unix.S_IFIFO, 6: unix.S_IFSOCK, 7: unix.S_IFLNK}

func (fs *fileSystem) fileType(mode uint32) byte {
	if fs.incompat&incompatFileType != 0 {
		for t, m := range types {
			if m != 0 && m == mode&unix.S_IFMT {
				return byte(t)
			}
		}
	}
	return 0
}

// A dirent is one record of a directory.
type dirent struct {
	at, length int // of the record in its block
	ino        uint32
	typ        byte
	name       []byte
}

// A recordHead is the first 8 bytes of a record: the inode's number, the record's length, that of the name, the type.
type recordHead uint64

func (h recordHead) ino() uint32  { return uint32(h) }
func (h recordHead) length() int  { return int(uint16(h >> 32)) }
func (h recordHead) nameLen() int { return int(uint8(h >> 48)) }
func (h recordHead) typ() byte    { return byte(h >> 56) }
func (h recordHead) bad(left int, inodes uint32) bool {
	n := h.length()
	return n < direntHead || n%4 != 0 || n > left || h.nameLen() > n-direntHead || h.ino() > inodes
}

// headAt returns the head of the record at a place of a block; ok is false when it is none (EUCLEAN). Searches look at each record of
// a block by it, so it is to be inlined.
func headAt(b []byte, at int, inodes uint32) (h recordHead, ok bool) {
	if at > len(b)-direntHead {
		return 0, false
	}
	h = recordHead(le.Uint64(b[at:]))
	return h, !h.bad(len(b)-at, inodes)
}

// record returns the record at a place of a block: EUCLEAN.
func (fs *fileSystem) record(b []byte, at int) (dirent, error) {
	h, ok := headAt(b, at, fs.inodes)
	if !ok {
		return dirent{}, unix.EUCLEAN
	}
	d := dirent{at: at, ino: h.ino(), length: h.length(), typ: h.typ(), name: b[at+direntHead:][:h.nameLen()]}
	if fs.incompat&incompatFileType == 0 {
		d.typ = 0
	}
	return d, nil
}

// need is how long a record for a name is.
func need(n int) int { return (direntHead + n + 3) &^ 3 }

// records is how many bytes of a block have records.
func (fs *fileSystem) records() int { return fs.blockSize - direntTail*b2i(fs.csum) }

// dirBlock returns block i of the directory n: EUCLEAN, EIO. fs.mu is held.
func (n *node) dirBlock(i uint64) (*buffer, error) {
	e := n.tree.find(i)
	if e.pblock == 0 || e.unwritten {
		return nil, unix.EUCLEAN
	}
	return n.fs.read(e.pblock, dirKind, n.checkDir)
}

// checkDir verifies the checksum of a block of a directory, an index block's too.
func (n *node) checkDir(b []byte) error {
	fs := n.fs
	if !fs.csum {
		return nil
	}
	if tail := b[len(b)-direntTail:]; le.Uint32(tail) == 0 && le.Uint16(tail[4:]) == direntTail && tail[6] == 0 && tail[7] == tailType {
		if crc32c(n.seed, b[:len(b)-direntTail]) != le.Uint32(tail[8:]) {
			return unix.EUCLEAN
		}
		return nil
	}
	if at, ok := n.indexPlace(b); ok {
		return n.checkIndex(b, at)
	}
	return unix.EUCLEAN
}

// sumDir stores the checksum of a block of records.
func (n *node) sumDir(b []byte) {
	if !n.fs.csum {
		return
	}
	tail := b[len(b)-direntTail:]
	clear(tail)
	le.PutUint16(tail[4:], direntTail)
	tail[7] = tailType
	le.PutUint32(tail[8:], crc32c(n.seed, b[:len(b)-direntTail]))
}

func (n *node) dirBlocks() uint64 { return uint64(n.size) >> n.fs.blockBits }

// ready makes the directory's map known; fs.mu is held for writing, or the map is known already.
func (n *node) ready() error {
	if n.mapped.Load() {
		return nil
	}
	return n.load()
}

// found is where a name was found.
type found struct {
	buf  *buffer
	prev int // the record before it in the block, -1 for none
	dirent
}

// lookup finds a name: ENOENT, EUCLEAN, EIO.
func (n *node) lookup(name string) (*found, error) {
	if n.flags&flagIndex != 0 {
		f, err := n.lookupIndex(name)
		if err != errNoIndex {
			return f, err
		}
	}
	for i := range n.dirBlocks() {
		buf, err := n.dirBlock(i)
		if err != nil {
			return nil, err
		}
		if f, err := n.scan(buf, name); f != nil || err != nil {
			return f, err
		}
	}
	return nil, unix.ENOENT
}

// scan looks for a name in one block; nil when it is not there.
func (n *node) scan(buf *buffer, name string) (*found, error) {
	b, inodes := buf.data[:n.fs.blockSize], n.fs.inodes
	if !buf.sound.Load() {
		if !soundRecords(b, inodes) {
			return n.scanDamaged(buf, name)
		}
		buf.sound.Store(true)
	}
	for at, prev := 0, -1; ; {
		var h recordHead
		if at, prev, h = candidate(b, at, prev, len(name), name[len(name)-1]); at < 0 {
			return nil, nil
		}
		if string(b[at+direntHead:][:len(name)]) == name {
			d, err := n.fs.record(buf.data, at)
			return &found{buf, prev, d}, err
		}
		at, prev = at+h.length(), at
	}
}

// candidate returns the first record at or behind a place of a block of sound records whose name has a length and a last byte, and the record before
// it; at is negative when there is none. Names of a directory tend to begin alike. Without calls, it costs a third of what it costs in scan.
func candidate(b []byte, from, before, length int, last byte) (at, prev int, h recordHead) {
	for at, prev = from, before; at >= 0 && at <= len(b)-direntHead; {
		h = recordHead(le.Uint64(b[at:]))
		if h.nameLen() == length && h.ino() != 0 {
			if end := at + direntHead + length - 1; end < len(b) && b[end] == last {
				return at, prev, h
			}
		}
		prev = at
		at += max(h.length(), direntHead)
	}
	return -1, 0, 0
}

// scanDamaged is scan for a block that is not records from one end to the other: what comes before the damage can be found.
func (n *node) scanDamaged(buf *buffer, name string) (*found, error) {
	for at, prev := 0, -1; at < n.fs.blockSize; {
		d, err := n.fs.record(buf.data, at)
		if err != nil {
			return nil, err
		}
		if d.ino != 0 && string(d.name) == name {
			return &found{buf, prev, d}, nil
		}
		at, prev = at+d.length, at
	}
	return nil, nil
}

// soundRecords reports whether a block is records from one end to the other.
func soundRecords(b []byte, inodes uint32) bool {
	for at := 0; at < len(b); {
		h, ok := headAt(b, at, inodes)
		if !ok {
			return false
		}
		at += h.length()
	}
	return true
}

// sound reports whether a name can be one.
func sound(name []byte) bool {
	return len(name) > 0 && bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, 0) < 0
}

// list returns some entries behind off: an empty list at the end.
func (n *node) list(off int64, list []vfs.Dirent) ([]vfs.Dirent, error) {
	if off = off - offBase + 1; off < 0 {
		off = 0
	}
	for i := uint64(off) >> n.fs.blockBits; i < n.dirBlocks(); i++ {
		buf, err := n.dirBlock(i)
		if err != nil {
			return list, err
		}
		base := int64(i) << n.fs.blockBits
		for at := 0; at < n.fs.blockSize; {
			d, err := n.fs.record(buf.data, at)
			if err != nil {
				return list, err
			}
			place := base + int64(at)
			at += d.length
			if d.ino == 0 || place < off || string(d.name) == "." || string(d.name) == ".." {
				continue
			}
			if !sound(d.name) {
				return list, unix.EUCLEAN
			}
			mode := uint32(0)
			if int(d.typ) < len(types) {
				mode = types[d.typ]
			}
			if len(list) == cap(list) {
				return list, nil
			}
			list = append(list, vfs.Dirent{Name: string(d.name), Ino: uint64(d.ino), Mode: mode, Next: place + offBase})
		}
	}
	return list, nil
}

// isEmpty reports whether the directory has no entries but . and ...
func (n *node) isEmpty() (bool, error) {
	var room [1]vfs.Dirent
	list, err := n.list(0, room[:0])
	return len(list) == 0, err
}

// insert puts a name into a block if it has room: ok is false when not.
func (n *node) insert(buf *buffer, name string, ino uint32, typ byte) (ok bool, err error) {
	fs := n.fs
	b := buf.data
	want := need(len(name))
	at := 0
	if want >= buf.least {
		at = buf.from
	}
	for at < fs.records() {
		h, ok := headAt(b, at, fs.inodes)
		if !ok {
			return false, unix.EUCLEAN
		}
		used, length := 0, h.length()
		if h.ino() != 0 {
			used = need(h.nameLen())
		}
		if length-used >= want && at+length <= fs.records() {
			if used > 0 {
				le.PutUint16(b[at+4:], uint16(used))
			}
			putRecord(b[at+used:], ino, length-used, typ, name)
			n.sumDir(b)
			buf.changed(fs)
			buf.from, buf.least = at+used, want
			return true, nil
		}
		at += length
	}
	return false, nil
}

// changed is change for a block of records that are as sound as they were.
func (b *buffer) changed(fs *fileSystem) {
	sound := b.sound.Load()
	fs.change(b)
	b.sound.Store(sound)
}

func putRecord(b []byte, ino uint32, length int, typ byte, name string) {
	le.PutUint32(b, ino)
	le.PutUint16(b[4:], uint16(length))
	b[6], b[7] = byte(len(name)), typ
	copy(b[direntHead:], name)
}

// grow adds an empty block to the directory: ENOSPC, EFBIG.
func (n *node) grow() (uint64, *buffer, error) {
	i := n.dirBlocks()
	if i >= maxDirBlocks {
		return 0, nil, unix.EFBIG
	}
	buf, err := n.newMeta(dirKind)
	if err != nil {
		return 0, nil, err
	}
	if n.tree.indirect {
		err = n.setIndirect(i, buf.block)
	}
	n.tree.put(extent{lblock: i, pblock: buf.block, length: 1}, n.fs.leafRoom())
	if err == nil {
		err = n.storeMap()
	}
	if err != nil {
		return 0, nil, err
	}
	n.size += int64(n.fs.blockSize)
	putRecord(buf.data, 0, n.fs.records(), 0, "")
	n.sumDir(buf.data)
	return i, buf, n.store()
}

// add enters a name, which is not there: ENOSPC, EFBIG, EUCLEAN, EIO.
func (n *node) add(name string, ino uint32, typ byte) error {
	n.missing.Store(nil)
	if n.flags&flagIndex != 0 {
		return clean(n.addIndex(name, ino, typ))
	}
	for i := range n.dirBlocks() {
		buf, err := n.dirBlock(i)
		if err != nil {
			return err
		}
		if ok, err := n.insert(buf, name, ino, typ); ok || err != nil {
			return err
		}
	}
	if n.dirBlocks() == 1 && n.fs.compat&compatDirIndex != 0 && n.fs.hashVersion <= hashTea {
		if err := n.makeIndex(); err != nil {
			return err
		}
		return clean(n.addIndex(name, ino, typ))
	}
	_, buf, err := n.grow()
	if err != nil {
		return err
	}
	ok, err := n.insert(buf, name, ino, typ)
	if err == nil && !ok {
		err = unix.EUCLEAN
	}
	return err
}

// remove takes a record out.
func (n *node) remove(f *found) {
	b := f.buf.data
	if f.prev >= 0 {
		le.PutUint16(b[f.prev+4:], le.Uint16(b[f.prev+4:])+uint16(f.length))
	} else {
		le.PutUint32(b[f.at:], 0)
	}
	n.sumDir(b)
	f.buf.changed(n.fs)
}

// replace makes a record stand for another inode.
func (n *node) replace(f *found, ino uint32, typ byte) {
	b := f.buf.data
	le.PutUint32(b[f.at:], ino)
	b[f.at+7] = typ
	n.resum(f.buf)
	f.buf.changed(n.fs)
}

// resum stores the checksum of a block of whatever kind: . and .. are in the root of an index.
func (n *node) resum(buf *buffer) {
	if at, ok := n.indexPlace(buf.data); ok && n.flags&flagIndex != 0 {
		n.sumIndex(buf.data, at)
		return
	}
	n.sumDir(buf.data)
}

// clean makes an index that is not understood EUCLEAN, where names change.
func clean(err error) error {
	if err == errNoIndex {
		return unix.EUCLEAN
	}
	return err
}
