package ext4

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/sorting"
	"gosv/kernel/vfs"
)

// Extended attributes (Documentation/filesystems/ext4/attributes.rst) lie behind the fields of a large inode, and in one block
// that several inodes may share.
const (
	xattrMagic = 0xea020000
	xattrHead  = 32 // of the block; the inode's part has the magic only
	xattrEntry = 16

	xRefs   = 4
	xBlocks = 8
	xHash   = 12
	xSum    = 16
)

// prefixes of names by index.
var prefixes = [...]string{1: "user.", 4: "trusted.", 6: "security."}

type attr struct {
	index uint8
	name  string // without prefix
	value []byte
}

// splitName finds the index of a name: EOPNOTSUPP.
func splitName(name string) (uint8, string, error) {
	for i, p := range prefixes {
		if p != "" && strings.HasPrefix(name, p) && len(name) > len(p) {
			return uint8(i), name[len(p):], nil
		}
	}
	return 0, "", unix.EOPNOTSUPP
}

// parse reads entries, whose values' offsets count from base: EUCLEAN.
func parseAttrs(entries, base []byte) (list []attr, err error) {
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < xattrEntry {
			return nil, unix.EUCLEAN
		}
		n := int(entries[0])
		size := (xattrEntry + n + 3) &^ 3
		off, length := int(le.Uint16(entries[2:])), int(le.Uint32(entries[8:]))
		if size > len(entries) || le.Uint32(entries[4:]) != 0 || off > len(base) || length < 0 || length > len(base)-off {
			return nil, unix.EUCLEAN
		}
		list = append(list, attr{entries[1], string(entries[xattrEntry : xattrEntry+n]), slices.Clone(base[off : off+length])})
		entries = entries[size:]
	}
	return list, nil
}

// inodeRoom is the part of a raw inode that extended attributes have.
func (fs *fileSystem) inodeRoom(raw []byte) []byte {
	at := goodInode + fs.extra(raw)
	if fs.inodeSize <= goodInode || at+4+xattrEntry > fs.inodeSize || at < goodInode+4 {
		return nil
	}
	return raw[at:]
}

// attrs returns all extended attributes of n: EUCLEAN, EIO.
func (n *node) attrs() ([]attr, error) {
	_, raw, err := n.fs.rawInode(n.ino)
	if err != nil {
		return nil, err
	}
	var list []attr
	if room := n.fs.inodeRoom(raw); room != nil && le.Uint32(room) == xattrMagic {
		if list, err = parseAttrs(room[4:], room[4:]); err != nil {
			return nil, err
		}
	}
	if n.xattr == 0 {
		return list, nil
	}
	b, err := n.fs.read(n.xattr, xattrKind, n.checkXattr)
	if err != nil {
		return nil, err
	}
	if le.Uint32(b.data) != xattrMagic || le.Uint32(b.data[xBlocks:]) != 1 {
		return nil, unix.EUCLEAN
	}
	more, err := parseAttrs(b.data[xattrHead:], b.data)
	return append(list, more...), err
}

func (n *node) xattrSum(b []byte) uint32 {
	var number [8]byte
	le.PutUint64(number[:], n.xattr)
	sum := crc32c(n.fs.seed, number[:])
	sum = crc32c(sum, b[:xSum])
	sum = crc32cZeros(sum, 4)
	return crc32c(sum, b[xSum+4:])
}

func (n *node) checkXattr(b []byte) error {
	if n.fs.csum && n.xattrSum(b) != le.Uint32(b[xSum:]) {
		return unix.EUCLEAN
	}
	return nil
}

// Getxattr implements vfs.XattrOps.
func (n *node) Getxattr(_ *vfs.Inode, name string) (_ []byte, err error) {
	index, rest, err := splitName(name)
	if err != nil {
		return nil, err
	}
	defer n.fs.caught(&err)
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	list, err := n.attrs()
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.index == index && a.name == rest {
			return a.value, nil
		}
	}
	return nil, unix.ENODATA
}

// Listxattr implements vfs.XattrOps.
func (n *node) Listxattr(*vfs.Inode) (names []byte, err error) {
	defer n.fs.caught(&err)
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	list, err := n.attrs()
	for _, a := range list {
		if int(a.index) < len(prefixes) && prefixes[a.index] != "" {
			names = append(append(append(names, prefixes[a.index]...), a.name...), 0)
		}
	}
	return names, err
}

// Setxattr implements vfs.XattrOps.
func (n *node) Setxattr(i *vfs.Inode, name string, value []byte, flags int) error {
	return n.changeAttr(i, name, func(list []attr, at int, index uint8, rest string) ([]attr, error) {
		switch {
		case at >= 0 && flags&unix.XATTR_CREATE != 0:
			return nil, unix.EEXIST
		case at < 0 && flags&unix.XATTR_REPLACE != 0:
			return nil, unix.ENODATA
		case at >= 0:
			list[at].value = value
			return list, nil
		}
		return append(list, attr{index, rest, value}), nil
	})
}

// Removexattr implements vfs.XattrOps.
func (n *node) Removexattr(i *vfs.Inode, name string) error {
	return n.changeAttr(i, name, func(list []attr, at int, _ uint8, _ string) ([]attr, error) {
		if at < 0 {
			return nil, unix.ENODATA
		}
		return slices.Delete(list, at, at+1), nil
	})
}

// changeAttr changes the list of attributes.
func (n *node) changeAttr(i *vfs.Inode, name string, change func(list []attr, at int, index uint8, rest string) ([]attr, error)) error {
	index, rest, err := splitName(name)
	if err != nil {
		return err
	}
	return n.fs.update(func() error {
		list, err := n.attrs()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(a attr) bool { return a.index == index && a.name == rest })
		if list, err = change(list, at, index, rest); err != nil {
			return err
		}
		i.SetTimes(-1, -1, n.fs.vfs.Now())
		return n.storeAttrs(list)
	})
}

// space is how much room an attribute takes.
func (a *attr) space() int { return (xattrEntry+len(a.name)+3)&^3 + (len(a.value)+3)&^3 }

// storeAttrs writes all attributes: into the inode as far as they fit, the rest into a block: ENOSPC.
func (n *node) storeAttrs(list []attr) error {
	fs := n.fs
	b, raw, err := fs.rawInode(n.ino)
	if err != nil {
		return err
	}
	room := fs.inodeRoom(raw)
	var inside, outside []attr
	left := len(room) - 4 - 4
	for _, a := range list {
		if room != nil && a.space() <= left {
			inside = append(inside, a)
			left -= a.space()
		} else {
			outside = append(outside, a)
		}
	}
	need := xattrHead + 4
	for i := range outside {
		need += outside[i].space()
	}
	if need > fs.blockSize {
		return unix.ENOSPC
	}
	if err := n.storeAttrBlock(outside); err != nil {
		return err
	}
	if room != nil {
		clear(room)
		if len(inside) > 0 {
			le.PutUint32(room, xattrMagic)
			putAttrs(room[4:], room[4:], inside)
		}
	}
	fs.change(b)
	return n.store()
}

// putAttrs writes entries, and their values from the end of base down.
func putAttrs(entries, base []byte, list []attr) {
	sorting.Sort(list, func(a, b attr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	end := len(base)
	for _, a := range list {
		end -= (len(a.value) + 3) &^ 3
		off := end
		if len(a.value) == 0 {
			off = 0
		}
		copy(base[end:], a.value)
		entries[0], entries[1] = byte(len(a.name)), a.index
		le.PutUint16(entries[2:], uint16(off))
		le.PutUint32(entries[8:], uint32(len(a.value)))
		le.PutUint32(entries[12:], a.hash())
		copy(entries[xattrEntry:], a.name)
		entries = entries[(xattrEntry+len(a.name)+3)&^3:]
	}
}

// hash is the e_hash of an entry.
func (a *attr) hash() uint32 {
	h := uint32(0)
	for i := range len(a.name) {
		h = h<<5 ^ h>>27 ^ uint32(a.name[i])
	}
	for v := a.value; len(v) > 0; v = v[min(4, len(v)):] {
		var word [4]byte
		copy(word[:], v)
		h = h<<16 ^ h>>16 ^ le.Uint32(word[:])
	}
	return h
}

// storeAttrBlock makes the block hold list, or frees it.
func (n *node) storeAttrBlock(list []attr) error {
	fs := n.fs
	if err := n.dropAttrBlock(len(list) > 0); err != nil || len(list) == 0 {
		return err
	}
	var b *buffer
	var err error
	if n.xattr == 0 {
		if b, err = n.newMeta(xattrKind); err != nil {
			return err
		}
		n.xattr = b.block
	} else if b, err = fs.read(n.xattr, xattrKind, n.checkXattr); err != nil {
		return err
	}
	clear(b.data)
	le.PutUint32(b.data, xattrMagic)
	le.PutUint32(b.data[xRefs:], 1)
	le.PutUint32(b.data[xBlocks:], 1)
	putAttrs(b.data[xattrHead:], b.data, list)
	h := uint32(0)
	for i := range list {
		h = h<<16 ^ h>>16 ^ list[i].hash()
	}
	le.PutUint32(b.data[xHash:], h)
	if fs.csum {
		le.PutUint32(b.data[xSum:], n.xattrSum(b.data))
	}
	fs.change(b)
	return nil
}

// dropAttrBlock ends the use of the block: a shared one loses a reference, one's own is freed, or kept if it is
// going to be used again.
func (n *node) dropAttrBlock(keep bool) error {
	if n.xattr == 0 {
		return nil
	}
	b, err := n.fs.read(n.xattr, xattrKind, n.checkXattr)
	if err != nil {
		return err
	}
	refs := le.Uint32(b.data[xRefs:])
	switch {
	case refs > 1:
		le.PutUint32(b.data[xRefs:], refs-1)
		if n.fs.csum {
			le.PutUint32(b.data[xSum:], n.xattrSum(b.data))
		}
		n.fs.change(b)
		n.blocks -= min(n.blocks, uint64(n.fs.blockSize)/512)
	case keep:
		return nil
	default:
		if err := n.freeMeta(n.xattr); err != nil {
			return err
		}
	}
	n.xattr = 0
	return nil
}
