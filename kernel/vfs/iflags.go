package vfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// Flags of inodes (ioctl_iflags(2)) that every file system here means the same by. The first three are enforced by this package.
const (
	FlagImmutable = 0x10 // FS_IMMUTABLE_FL: nothing about it changes
	FlagAppend    = 0x20 // FS_APPEND_FL: it only grows
	FlagNoatime   = 0x80 // FS_NOATIME_FL
	FlagNodump    = 0x40 // FS_NODUMP_FL
)

// FlagOps is the InodeOps of regular files and directories that have flags, which chattr(1) changes.
type FlagOps interface {
	// Flags returns the flags as FS_IOC_GETFLAGS shows them: ENOTTY when this one has none.
	Flags(i *Inode) (uint32, error)
	// ChangeFlags sets them, and with Inode.SetFlags those that are enforced: EOPNOTSUPP, EPERM. The inode is locked; the caller owns it,
	// and may change what needs CAP_LINUX_IMMUTABLE.
	ChangeFlags(c *cred.Cred, i *Inode, flags uint32) error
}

// SetFlags says which flags are in force; for file systems.
func (i *Inode) SetFlags(flags uint32) { i.flags.Store(flags) }

// EnforcedFlags returns the flags in force.
func (i *Inode) EnforcedFlags() uint32 { return i.flags.Load() }

// HasFlags reports whether one of some flags is in force.
func (i *Inode) HasFlags(flags uint32) bool { return i.flags.Load()&flags != 0 }

// statxFlags are those that statx(2) shows.
func (i *Inode) statxFlags() (set uint64) {
	flags := i.flags.Load()
	for _, p := range [...][2]uint64{
		{FlagImmutable, unix.STATX_ATTR_IMMUTABLE}, {FlagAppend, unix.STATX_ATTR_APPEND}, {FlagNodump, unix.STATX_ATTR_NODUMP},
	} {
		if uint64(flags)&p[0] != 0 {
			set |= p[1]
		}
	}
	return set
}

// flagsIoctl is FS_IOC_GETFLAGS and FS_IOC_SETFLAGS: ENOTTY, EFAULT, EROFS, EPERM, EOPNOTSUPP.
func (f *File) flagsIoctl(a *IoctlArgs) error {
	o, ok := f.inode.ops.(FlagOps)
	if t := f.inode.Type(); t != unix.S_IFREG && t != unix.S_IFDIR {
		ok = false
	}
	if a.Cmd == unix.FS_IOC_GETFLAGS {
		if !ok {
			return unix.ENOTTY
		}
		flags, err := o.Flags(f.inode)
		if err != nil {
			return err
		}
		return a.PutInt32(int32(flags))
	}
	var b [4]byte
	if _, err := a.Mem.CopyIn(b[:], a.Arg); err != nil {
		return err
	}
	switch {
	case f.path.Mount.Flags()&unix.MS_RDONLY != 0:
		return unix.EROFS
	case !ok:
		return unix.ENOTTY
	}
	return f.inode.ChangeFlags(a.Ctx.Cred, binary.LittleEndian.Uint32(b[:]))
}

// ChangeFlags is FS_IOC_SETFLAGS: ENOTTY, EPERM, EOPNOTSUPP.
func (i *Inode) ChangeFlags(c *cred.Cred, flags uint32) error {
	o, ok := i.ops.(FlagOps)
	switch {
	case !ok:
		return unix.ENOTTY
	case !i.owns(c):
		return unix.EPERM
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	old, err := o.Flags(i)
	if err != nil {
		return err
	}
	if (old^flags)&(FlagImmutable|FlagAppend) != 0 && !c.Capable(unix.CAP_LINUX_IMMUTABLE) {
		return unix.EPERM
	}
	return o.ChangeFlags(c, i, flags)
}
