package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
)

// memfdInode is the InodeOps of a file that memfd_create(2) made.
type memfdInode struct{ InodeDefaults }

func (*memfdInode) MaySetAttr(*Inode) error { return nil }

// MemfdNameMax is the longest name that memfd_create(2) takes.
const MemfdNameMax = 249

// NewMemfd is memfd_create(2) without the descriptor: an open file in memory without a name, which shows as
// "/memfd:name (deleted)". flags: MFD_ALLOW_SEALING, MFD_CLOEXEC (for the descriptor); EINVAL for others and for a
// name that is too long.
func NewMemfd(ns *Namespace, c *cred.Cred, name string, flags int) (*File, error) {
	huge := flags&unix.MFD_HUGETLB != 0
	if huge {
		const sizes = unix.MFD_HUGE_MASK << unix.MFD_HUGE_SHIFT
		if size := flags & sizes; size != 0 && size != unix.MFD_HUGE_2MB {
			return nil, unix.ENODEV
		}
		flags &^= unix.MFD_HUGETLB | sizes
	}
	if flags&^(unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC) != 0 || len(name) > MemfdNameMax {
		return nil, unix.EINVAL
	}
	m := anonMount()
	i := &Inode{Ino: m.FS.ino.Add(1), fs: m.FS, ops: &memfdInode{}}
	if huge {
		i.cache = mem.NewHuge(ns.Pool)
	} else {
		i.cache = mem.NewShmem(ns.Pool)
		i.cache.SetCharge(mem.Kept)
	}
	i.mode.Store(unix.S_IFREG | 0o777)
	i.uid.Store(c.FSUID)
	i.gid.Store(c.FSGID)
	now := ns.Now()
	i.SetTimes(now, now, now)
	i.btime.Store(now)
	seals := uint32(unix.F_SEAL_SEAL)
	if flags&unix.MFD_ALLOW_SEALING != 0 {
		seals = 0
	}
	i.MakeSealable(seals)
	i.hold()
	i.writers.Add(1)
	m.writers.Add(1)
	m.FS.writers.Add(1)
	f := newFile(Path{m, &Dentry{inode: i, name: "/memfd:" + name + deletedMark}}, c, unix.O_RDWR)
	f.ops = cached
	return f, nil
}
