package erofs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Extended attributes stand behind the inode: a header, the numbers of shared ones, which stand together elsewhere, and
// the inode's own, each a header of 4 bytes, the name without its prefix, and the value, padded to 4 bytes.

// xattrPrefixes are the prefixes by e_name_index. ACLs are not shown, as nothing here heeds them.
var xattrPrefixes = [...]string{1: "user.", 4: "trusted.", 6: "security."}

const xattrEntryHeader = 4

// xattr is one attribute.
type xattr struct {
	name string // "" when its prefix is not known
	at   int64  // of the value
	size int64
	next int64 // where the next one begins
}

// xattrAt reads the attribute at a place: EUCLEAN, EIO.
func (fs *fileSystem) xattrAt(at int64) (x xattr, err error) {
	var h [xattrEntryHeader]byte
	if err := fs.read(h[:], at); err != nil {
		return x, err
	}
	length := int64(h[0])
	x.at = at + xattrEntryHeader + length
	x.size = int64(binary.LittleEndian.Uint16(h[2:]))
	x.next = (x.at + x.size + 3) &^ 3
	if x.at+x.size > fs.size {
		return x, unix.EUCLEAN
	}
	if index := int(h[1]); index < len(xattrPrefixes) && xattrPrefixes[index] != "" {
		name := make([]byte, length)
		if err := fs.read(name, at+xattrEntryHeader); err != nil {
			return x, err
		}
		x.name = xattrPrefixes[index] + string(name)
	}
	return x, nil
}

// eachXattr calls f for each attribute of n until it returns false: EUCLEAN, EIO.
func (n *node) eachXattr(f func(xattr) bool) error {
	if n.behind == n.xattrs {
		return nil
	}
	var h [xattrHeader]byte
	if err := n.fs.read(h[:], n.xattrs); err != nil {
		return err
	}
	shared := int64(h[4])
	at := n.xattrs + xattrHeader
	if at+4*shared > n.behind {
		return unix.EUCLEAN
	}
	for range shared {
		var id [4]byte
		if err := n.fs.read(id[:], at); err != nil {
			return err
		}
		at += 4
		x, err := n.fs.xattrAt(int64(n.fs.xattrBlock)<<n.fs.blockBits + 4*int64(binary.LittleEndian.Uint32(id[:])))
		if err != nil {
			return err
		}
		if x.name != "" && !f(x) {
			return nil
		}
	}
	for at < n.behind {
		x, err := n.fs.xattrAt(at)
		if err != nil {
			return err
		}
		if x.next > n.behind {
			return unix.EUCLEAN
		}
		if x.name != "" && !f(x) {
			return nil
		}
		at = x.next
	}
	return nil
}

// getXattr returns a value: ENODATA, EUCLEAN, EIO.
func (n *node) getXattr(name string) (value []byte, err error) {
	found := false
	walk := n.eachXattr(func(x xattr) bool {
		if x.name != name {
			return true
		}
		found = true
		value = make([]byte, x.size)
		err = n.fs.read(value, x.at)
		return false
	})
	switch {
	case walk != nil:
		return nil, walk
	case !found:
		return nil, unix.ENODATA
	}
	return value, err
}

// listXattrs returns the names, each with a NUL behind it.
func (n *node) listXattrs() (list []byte, err error) {
	err = n.eachXattr(func(x xattr) bool {
		list = append(append(list, x.name...), 0)
		return len(list) < maxXattrList
	})
	return list, err
}

const maxXattrList = 64 << 10
