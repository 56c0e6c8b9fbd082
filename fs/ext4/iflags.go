package ext4

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/vfs"
)

// Further flags of an inode that chattr(1) knows (Documentation/filesystems/ext4/inodes.rst).
const (
	flagSecureDelete = 0x1
	flagUndelete     = 0x2
	flagCompress     = 0x4
	flagSync         = 0x8
	flagNodump       = vfs.FlagNodump
	flagNoatime      = vfs.FlagNoatime
	flagDirty        = 0x100
	flagCompressed   = 0x200
	flagNoCompress   = 0x400
	flagJournalData  = 0x4000
	flagNoTail       = 0x8000
	flagDirSync      = 0x10000
	flagTopDir       = 0x20000
	flagVerity       = 0x100000
	flagDAX          = 0x2000000
	flagProjInherit  = 0x20000000

	settableFlags = flagSecureDelete | flagUndelete | flagCompress | flagSync | flagImmutable | flagAppend | flagNodump | flagNoatime |
		flagJournalData | flagNoTail | flagDirSync | flagTopDir | flagExtents | flagDAX | flagProjInherit | flagCasefold
	visibleFlags = settableFlags | flagDirty | flagCompressed | flagNoCompress | flagEncrypt | flagIndex | flagVerity | flagInline
	// dirFlags are for directories only, and fixedFlags are not changed here: files are not moved from one map to the other, and data does not
	// go through the journal.
	dirFlags   = flagDirSync | flagTopDir | flagCasefold | flagProjInherit
	fixedFlags = flagExtents | flagJournalData | flagDAX | flagCasefold
	// inheritedFlags go over to what is made in a directory.
	inheritedFlags = flagSecureDelete | flagUndelete | flagCompress | flagSync | flagNodump | flagNoatime | flagNoCompress | flagNoTail |
		flagDirSync | flagProjInherit
	otherFlags = flagNodump | flagNoatime // of what is neither a file nor a directory
	// enforcedFlags are those that package vfs or this one looks at where the inode is used.
	enforcedFlags = flagImmutable | flagAppend | flagNodump | flagNoatime | flagSync | flagDirSync
)

// ioctlVersion is FS_IOC_GETVERSION, which asks for the generation.
const ioctlVersion = 0x80087601

// inherit returns the flags of what is made in n with a mode.
func (n *node) inherit(mode uint32) uint32 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return n.flags & inheritedFlags
	case unix.S_IFREG:
		return n.flags & inheritedFlags &^ dirFlags
	}
	return n.flags & inheritedFlags & otherFlags
}

// Flags implements vfs.FlagOps.
func (n *node) Flags(i *vfs.Inode) (uint32, error) {
	n.fs.mu.RLock()
	defer n.fs.mu.RUnlock()
	flags := n.flags & visibleFlags
	if !i.IsDir() {
		flags &^= flagProjInherit
	}
	return flags, nil
}

// ChangeFlags implements vfs.FlagOps.
func (n *node) ChangeFlags(_ *cred.Cred, i *vfs.Inode, flags uint32) error {
	if flags&^visibleFlags != 0 || !i.IsDir() && flags&dirFlags != 0 {
		return unix.EOPNOTSUPP
	}
	if flags&flagImmutable != 0 && n.cache != nil {
		if err := n.cache.Sync(0, math.MaxUint64); err != nil {
			return err
		}
	}
	return n.fs.update(func() error {
		changed := (n.flags ^ flags) & settableFlags
		switch {
		case n.flags&flags&flagImmutable != 0 && changed != 0:
			return unix.EPERM // as long as it is immutable, so are its other flags
		case changed&fixedFlags != 0:
			return unix.EOPNOTSUPP
		}
		n.flags ^= changed
		i.SetFlags(n.flags & enforcedFlags)
		i.SetTimes(-1, -1, n.fs.vfs.Now())
		return n.store()
	})
}

// Statx implements vfs.StatxOps.
func (n *node) Statx(i *vfs.Inode, want uint32, st *unix.Statx_t) {
	st.Attributes_mask |= unix.STATX_ATTR_COMPRESSED | unix.STATX_ATTR_ENCRYPTED | unix.STATX_ATTR_VERITY
	n.fs.mu.RLock()
	flags := n.flags
	n.fs.mu.RUnlock()
	if flags&flagCompress != 0 {
		st.Attributes |= unix.STATX_ATTR_COMPRESSED
	}
	if flags&flagVerity != 0 {
		st.Attributes |= unix.STATX_ATTR_VERITY
	}
	if want&unix.STATX_DIOALIGN != 0 && i.Type() == unix.S_IFREG {
		vfs.DirectAlign(st, n.fs.disk.Limits().BlockSize)
	}
}

// synced makes a change of names in a directory durable where chattr(1) asks for that.
func (fs *fileSystem) synced(err error, dirs ...*vfs.Inode) error {
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if d.HasFlags(flagSync | flagDirSync) {
			return fs.syncJournal()
		}
	}
	return nil
}

// ioctl are the requests to regular files and directories: ENOTTY for others.
func (n *node) ioctl(a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case fitrim:
		return 0, n.fs.trimIoctl(a)
	case ioctlVersion:
		return 0, a.PutInt32(int32(n.generation))
	}
	return 0, unix.ENOTTY
}

// Ioctl implements vfs.FileOps.
func (o *directory) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) { return o.n.ioctl(a) }

// Ioctl implements vfs.FileOps.
func (o *file) Ioctl(f *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if v, err := o.n.ioctl(a); err != unix.ENOTTY {
		return v, err
	}
	return o.CachedFile.Ioctl(f, a)
}
