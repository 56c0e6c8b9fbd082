package vfs

import (
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
)

// Limits of extended attributes (xattr(7)).
const (
	XattrNameMax = 255
	XattrSizeMax = 65536
	xattrSpace   = 256 << 10 // most that one file may hold
)

// xattrAllowed checks the rights that the namespace of a name asks for: EOPNOTSUPP, EINVAL, EPERM, ENODATA, EACCES.
func (p Path) xattrAllowed(c *cred.Cred, name string, write bool) error {
	if len(name) == 0 || len(name) > XattrNameMax {
		return unix.ERANGE
	}
	i := p.Inode()
	if write && i.HasFlags(FlagImmutable|FlagAppend) {
		return unix.EPERM
	}
	space, rest, dot := strings.Cut(name, ".")
	switch {
	case !dot:
		return unix.EOPNOTSUPP
	case rest == "" && (space == "user" || space == "trusted" || space == "security"):
		return unix.EINVAL
	}
	switch space {
	case "user":
		if t := i.Type(); t != unix.S_IFREG && t != unix.S_IFDIR {
			if write {
				return unix.EPERM
			}
			return unix.ENODATA
		}
		if write && i.IsDir() && i.mode.Load()&unix.S_ISVTX != 0 && !i.owns(c) {
			return unix.EPERM
		}
	case "trusted":
		if !c.Capable(unix.CAP_SYS_ADMIN) {
			if write {
				return unix.EPERM
			}
			return unix.ENODATA
		}
		return nil
	case "security":
		if write && !c.Capable(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		return nil
	default:
		return unix.EOPNOTSUPP
	}
	if write {
		return i.Access(c, MayWrite)
	}
	return i.Access(c, MayRead)
}

// Getxattr is getxattr(2); the caller must not change what it returns. ENODATA, EOPNOTSUPP, EACCES.
func Getxattr(ctx *Context, p Path, name string) ([]byte, error) {
	if err := p.xattrAllowed(ctx.Cred, name, false); err != nil {
		return nil, err
	}
	if o, ok := p.Inode().ops.(XattrOps); ok {
		return o.Getxattr(p.Inode(), name)
	}
	if r := p.Inode().rare.Load(); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if v, ok := r.xattrs[name]; ok {
			return v, nil
		}
	}
	return nil, unix.ENODATA
}

// Setxattr is setxattr(2), and keeps value. flags: XATTR_CREATE, XATTR_REPLACE. EEXIST, ENODATA, E2BIG, ENOSPC.
func Setxattr(ctx *Context, p Path, name string, value []byte, flags int) (err error) {
	if err = p.mayChangeXattr(ctx, name); err != nil {
		return err
	}
	if len(value) > XattrSizeMax {
		return unix.E2BIG
	}
	defer func() {
		if err == nil {
			p.Dentry.notify(unix.IN_ATTRIB)
		}
	}()
	if o, ok := p.Inode().ops.(XattrOps); ok {
		return o.Setxattr(p.Inode(), name, value, flags)
	}
	r := p.Inode().getRare()
	r.mu.Lock()
	defer r.mu.Unlock()
	old, exists := r.xattrs[name]
	switch {
	case exists && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !exists && flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	}
	more := xattrBytes(name, value)
	if exists {
		more -= xattrBytes(name, old)
	}
	if r.xattrBytes()+more > xattrSpace {
		return unix.ENOSPC
	}
	if !p.Inode().fs.takeXattrs(more) {
		return unix.ENOSPC
	}
	if r.xattrs == nil {
		r.xattrs = make(map[string][]byte)
	}
	r.xattrs[name] = value
	p.Inode().touchAttr()
	return nil
}

func (p Path) mayChangeXattr(ctx *Context, name string) error {
	if err := p.xattrAllowed(ctx.Cred, name, true); err != nil {
		return err
	}
	return p.maySetAttr(0) // flags were looked at
}

// Removexattr is removexattr(2): ENODATA.
func Removexattr(ctx *Context, p Path, name string) (err error) {
	if err = p.mayChangeXattr(ctx, name); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			p.Dentry.notify(unix.IN_ATTRIB)
		}
	}()
	if o, ok := p.Inode().ops.(XattrOps); ok {
		return o.Removexattr(p.Inode(), name)
	}
	r := p.Inode().getRare()
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.xattrs[name]
	if !ok {
		return unix.ENODATA
	}
	delete(r.xattrs, name)
	p.Inode().fs.takeXattrs(-xattrBytes(name, old))
	p.Inode().touchAttr()
	return nil
}

// Listxattr is listxattr(2): the names, each with a NUL behind it.
func Listxattr(ctx *Context, p Path) ([]byte, error) {
	if o, ok := p.Inode().ops.(XattrOps); ok {
		return o.Listxattr(p.Inode())
	}
	var list []byte
	if r := p.Inode().rare.Load(); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		names := make(sort.StringSlice, 0, len(r.xattrs))
		for name := range r.xattrs {
			names = append(names, name)
		}
		sort.Sort(names)
		for _, name := range names {
			if !strings.HasPrefix(name, "trusted.") || ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
				list = append(append(list, name...), 0)
			}
		}
	}
	return list, nil
}

// xattrOverhead is about what an attribute takes beside its name and value, in bytes.
const xattrOverhead = 64

func xattrBytes(name string, value []byte) int64 {
	return int64(len(name) + len(value) + xattrOverhead)
}

// xattrBytes returns what all attributes take; r.mu is held.
//
// +checklocks:r.mu
func (r *rare) xattrBytes() (n int64) {
	for name, v := range r.xattrs {
		n += xattrBytes(name, v)
	}
	return n
}

// dropXattrs takes away the attributes of an inode that is given up.
func (i *Inode) dropXattrs() {
	if r := i.rare.Load(); r != nil {
		r.mu.Lock()
		i.fs.takeXattrs(-r.xattrBytes())
		r.xattrs = nil
		r.mu.Unlock()
	}
}

// takeXattrs counts n bytes of extended attributes more, or less, and reports whether there is room: giving up is never refused.
func (fs *FS) takeXattrs(n int64) bool { return share.Xattrs.Charge(&fs.xattrs, fs.MaxXattrs, n, 1) }
