package fuse

import (
	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/vfs"
)

// Getxattr implements vfs.XattrOps.
func (n *node) Getxattr(_ *vfs.Inode, name string) ([]byte, error) {
	var m message
	m.u32(vfs.XattrSizeMax, 0)
	m.name(name)
	return n.xattr(fuseabi.OpGetxattr, m.b)
}

// Listxattr implements vfs.XattrOps.
func (n *node) Listxattr(*vfs.Inode) ([]byte, error) {
	var m message
	m.u32(vfs.XattrSizeMax, 0)
	list, err := n.xattr(fuseabi.OpListxattr, m.b)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	length := 0
	for _, c := range list {
		if c != 0 {
			length++
			continue
		}
		if length == 0 || length > vfs.XattrNameMax {
			return nil, unix.EIO
		}
		length = 0
	}
	if length != 0 {
		return nil, unix.EIO
	}
	return list, nil
}

func (n *node) xattr(op uint32, args []byte) ([]byte, error) {
	if n.k.noXattr.Load() {
		return nil, unix.EOPNOTSUPP
	}
	b, err := n.k.variable(op, n.id, caller{}, args, vfs.XattrSizeMax)
	return b, n.noXattr(err)
}

func (n *node) noXattr(err error) error {
	if err == unix.ENOSYS {
		n.k.noXattr.Store(true)
		return unix.EOPNOTSUPP
	}
	return err
}

// Setxattr implements vfs.XattrOps.
func (n *node) Setxattr(_ *vfs.Inode, name string, value []byte, flags int) error {
	if n.k.noXattr.Load() {
		return unix.EOPNOTSUPP
	}
	var m message
	m.u32(uint32(len(value)), uint32(flags)) // the short form: SETXATTR_EXT is not asked for
	m.name(name)
	d, err := n.k.dataOf(value)
	if err != nil {
		return err
	}
	defer d.free()
	_, err = n.k.callData(fuseabi.OpSetxattr, n.id, caller{}, m.b, nil, d.frames, 0, d.n, true)
	n.attrExpires.Store(0)
	return n.noXattr(err)
}

// Removexattr implements vfs.XattrOps.
func (n *node) Removexattr(_ *vfs.Inode, name string) error {
	if n.k.noXattr.Load() {
		return unix.EOPNOTSUPP
	}
	var m message
	m.name(name)
	_, err := n.k.call(fuseabi.OpRemovexattr, n.id, caller{}, m.b, nil)
	n.attrExpires.Store(0)
	return n.noXattr(err)
}
