// Package ramfs keeps files in memory (tmpfs(5)): directories and names in the
// dentries of package vfs, contents in the page cache.
//
// An instance may be limited in size, number of inodes and rights of its root by mount
// options; without them half of the machine's memory, and half as many inodes as it has pages, is the limit. All instances together
// have share.Pages and share.Inodes.
package ramfs

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Options are the mount options of tmpfs(5).
type Options struct {
	// Type is the name of the file system, by default "tmpfs".
	Type string
	// Pages and Inodes are the most that the instance may hold; 0: no limit.
	Pages  int64
	Inodes int64
	// Mode, UID and GID are the root directory's.
	Mode     uint32
	UID, GID uint32
	// Huge makes it hugetlbfs: files are in large pages of mem.HugePool.
	Huge bool
}

// root reads an option about the number of inodes or the root: EINVAL.
func (o *Options) root(key, value string) (err error) {
	switch key {
	case "nr_inodes":
		o.Inodes, err = parseCount(value)
	case "mode":
		o.Mode, err = parseID(value, 8)
		o.Mode &= 0o7777
	case "uid":
		o.UID, err = parseID(value, 10)
	case "gid":
		o.GID, err = parseID(value, 10)
	}
	return err
}

// ParseOptions reads the data argument of mount(2): EINVAL. total is the memory of the machine in
// pages, for sizes in percent.
func ParseOptions(data string, total uint64) (o Options, err error) {
	o.Mode = 0o1777
	o.Pages = int64(total / 2)
	o.Inodes = int64(total / 2)
	for word := range strings.SplitSeq(data, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "":
		case "size":
			o.Pages, err = parseSize(value, total)
		case "nr_blocks":
			o.Pages, err = parseCount(value)
		case "nr_inodes", "mode", "uid", "gid":
			err = o.root(key, value)
		case "huge", "mpol", "inode32", "inode64", "noswap":
			err = checkHint(word)
		default:
			err = unix.EINVAL
		}
		if err != nil {
			return o, unix.EINVAL
		}
	}
	return o, nil
}

// checkHint takes an option that is advice about memory, and changes nothing that a program sees: EINVAL for what Linux does not know.
func checkHint(word string) error {
	key, value, valued := strings.Cut(word, "=")
	known := !valued
	switch key {
	case "huge":
		known = value == "never" || value == "always" || value == "within_size" || value == "advise"
	case "mpol":
		mode, _, _ := strings.Cut(value, ":")
		mode, _, _ = strings.Cut(mode, "=")
		known = mode == "default" || mode == "prefer" || mode == "bind" || mode == "interleave" || mode == "local"
	}
	if !known {
		return unix.EINVAL
	}
	return nil
}

func parseID(s string, base int) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	return uint32(n), err
}

// parseCount reads a number with an optional suffix k, m or g.
func parseCount(s string) (int64, error) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmg", s[len(s)-1]|0x20); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 0 || n > 1<<62>>shift) {
		err = unix.EINVAL
	}
	return n << shift, err
}

// parseSize reads a number of bytes or, with %, a part of the memory; in pages.
func parseSize(s string, total uint64) (int64, error) {
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(percent, 10, 16)
		return int64(total / 100 * n), err
	}
	n, err := parseCount(s)
	return (n + vfs.BlockSize - 1) / vfs.BlockSize, err
}

// instance is one ramfs; it serves all its inodes.
type instance struct {
	vfs.InodeDefaults
	fs     *vfs.FS
	pool   *mem.Pool
	huge   bool
	pages  atomic.Int64
	inodes atomic.Int64
	// The most of both; 0: no limit.
	maxPages, maxInodes atomic.Int64
}

// New returns an empty file system. now tells the wall clock in ns.
func New(pool *mem.Pool, now func() int64, o Options) *vfs.FS {
	if o.Type == "" {
		o.Type = "tmpfs"
	}
	r := &instance{pool: pool, huge: o.Huge}
	r.maxPages.Store(o.Pages)
	r.maxInodes.Store(o.Inodes)
	r.fs = vfs.NewFS(o.Type, r, now)
	r.fs.Resident = true
	total, _ := pool.Usage()
	r.fs.MaxXattrs = int64(total) * vfs.BlockSize / 16
	r.inodes.Store(1)
	share.Inodes.Force(inodeCost) // mounts have a bound of their own
	r.fs.SetRoot(r.fs.NewInode(r, &vfs.NewNode{Mode: unix.S_IFDIR | o.Mode, UID: o.UID, GID: o.GID}, nil))
	return r.fs
}

// Type returns what makes instances for mount(2), under one of the names "tmpfs" and "ramfs".
func Type(name string, pool *mem.Pool, now func() int64) vfs.Type {
	return vfs.Type{Name: name, Anyone: true, New: func(r *vfs.MountRequest) (*vfs.FS, error) {
		total, _ := pool.Usage()
		o, err := parseFor(r, total)
		if err != nil {
			return nil, r.Fail(err, "bad options "+r.Options)
		}
		o.Type = name
		return New(pool, now, o), nil
	}}
}

// parseFor is ParseOptions with the owner in numbers of who mounts, and that one as the default.
func parseFor(r *vfs.MountRequest, total uint64) (Options, error) {
	data, u := r.Options, (*namespace.User)(nil)
	if r.Ctx != nil && r.Ctx.Cred != nil {
		c := r.Ctx.Cred
		u = c.User
		data = "uid=" + strconv.FormatUint(uint64(u.UID(c.FSUID)), 10) + ",gid=" + strconv.FormatUint(uint64(u.GID(c.FSGID)), 10) + "," + data
	}
	o, err := ParseOptions(data, total)
	if o.UID, o.GID = u.RealUID(o.UID), u.RealGID(o.GID); err == nil && (o.UID == namespace.None || o.GID == namespace.None) {
		err = unix.EINVAL
	}
	return o, err
}

// Remount implements vfs.Remounter: the limits may change, but not below what is there (EINVAL).
func (r *instance) Remount(m *vfs.MountRequest) error {
	if m.Options == "" {
		return nil
	}
	if r.huge {
		return m.Fail(unix.EINVAL, "hugetlbfs cannot be changed")
	}
	total, _ := r.pool.Usage()
	o, err := ParseOptions(m.Options, total)
	if err != nil {
		return m.Fail(err, "bad options "+m.Options)
	}
	for word := range strings.SplitSeq(m.Options, ",") {
		switch key, _, _ := strings.Cut(word, "="); key {
		case "size", "nr_blocks":
			if old := r.maxPages.Load(); old == 0 || o.Pages == 0 {
				return m.Fail(unix.EINVAL, "a limit of size cannot come or go later")
			}
			if r.pages.Load() > o.Pages {
				return m.Fail(unix.EINVAL, "the files are larger than "+word)
			}
			r.maxPages.Store(o.Pages)
		case "nr_inodes":
			if o.Inodes != 0 && r.inodes.Load() > o.Inodes {
				return m.Fail(unix.EINVAL, "there are more inodes than "+word)
			}
			r.maxInodes.Store(o.Inodes)
		}
	}
	return nil
}

// chargePages counts pages of files: ENOSPC.
func (r *instance) chargePages(n int64) error {
	of := share.Pages
	if r.huge {
		of = share.Unbounded // they are of a pool of their own
	}
	if !of.Charge(&r.pages, r.maxPages.Load(), n, machine.PageSize) {
		return unix.ENOSPC
	}
	return nil
}

// inodeCost is what an inode, or a name, takes of share.Inodes, in bytes.
const inodeCost = 1 << 10

// chargeInodes counts inodes and further names for them: ENOSPC.
func (r *instance) chargeInodes(n int64) error {
	if !share.Inodes.Charge(&r.inodes, r.maxInodes.Load(), n, inodeCost) {
		return unix.ENOSPC
	}
	return nil
}

// CountName implements vfs.NameCounter: a further name counts as an inode, as in Linux's tmpfs.
func (r *instance) CountName(n int) error { return r.chargeInodes(int64(n)) }

// Create implements vfs.InodeOps: ENOSPC.
func (r *instance) Create(dir *vfs.Inode, _ string, n *vfs.NewNode) (*vfs.Inode, error) {
	if err := r.chargeInodes(weigh(n.Target)); err != nil {
		return nil, err
	}
	var cache *mem.Cache
	if n.Mode&unix.S_IFMT == unix.S_IFREG {
		cache = r.newCache()
		cache.SetCharge(r.chargePages)
	}
	i := r.fs.NewInode(r, n, cache)
	if dir.HasFlags(inheritedFlags) {
		flags, _ := r.Flags(dir)
		i.SetFlags(flags & inheritedFlags)
	}
	return i, nil
}

// The flags of chattr(1) that files have, and those that go over to what is made in a directory.
const (
	fileFlags      = vfs.FlagImmutable | vfs.FlagAppend | vfs.FlagNodump | vfs.FlagNoatime
	inheritedFlags = vfs.FlagNodump | vfs.FlagNoatime
)

// Flags implements vfs.FlagOps.
func (r *instance) Flags(i *vfs.Inode) (uint32, error) { return i.EnforcedFlags(), nil }

// ChangeFlags implements vfs.FlagOps.
func (r *instance) ChangeFlags(_ *cred.Cred, i *vfs.Inode, flags uint32) error {
	if flags&^fileFlags != 0 {
		return unix.EOPNOTSUPP
	}
	i.SetFlags(flags)
	i.SetTimes(-1, -1, r.fs.Now())
	return nil
}

// MayChange implements vfs.InodeOps.
func (r *instance) MayChange(*vfs.Inode) error { return nil }

// MaySetAttr implements vfs.InodeOps.
func (r *instance) MaySetAttr(*vfs.Inode) error { return nil }

// Evict implements vfs.InodeOps.
func (r *instance) Evict(i *vfs.Inode) {
	r.InodeDefaults.Evict(i)
	_ = r.chargeInodes(-weigh(i.Target())) // giving up is never refused
}

// weigh returns as how many inodes a file counts: the long target of a symbolic link takes as much memory as several.
func weigh(target string) int64 { return 1 + int64(len(target)/1024) }

// LimitInodes gives an instance without a limit of inodes one: half as many as the machine's memory has pages, as every other has, beside
// those that are there already.
func LimitInodes(fs *vfs.FS) {
	r := fs.Ops().(*instance)
	total, _ := r.pool.Usage()
	r.maxInodes.Store(r.inodes.Load() + int64(total/2))
}

// Statfs implements vfs.FSOps.
func (r *instance) Statfs(s *unix.Statfs_t) {
	if r.huge {
		r.statHuge(s)
		return
	}
	s.Type = unix.TMPFS_MAGIC
	total, free := r.pool.Usage()
	s.Blocks, s.Bfree = total, free
	if most := r.maxPages.Load(); most != 0 {
		s.Blocks = uint64(most)
		s.Bfree = uint64(max(most-r.pages.Load(), 0))
	}
	s.Bfree = min(s.Bfree, uint64(max(share.Pages.Most()-share.Pages.Used(), 0)/machine.PageSize))
	s.Bavail = s.Bfree
	if most := r.maxInodes.Load(); most != 0 {
		s.Files = uint64(most)
		s.Ffree = uint64(max(most-r.inodes.Load(), 0))
	}
}

// Sync implements vfs.FSOps: memory is where the files are kept.
func (r *instance) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (r *instance) Unmounted() { r.fs.EvictAll() }
