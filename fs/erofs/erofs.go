// Package erofs reads EROFS, Linux's compressed read-only file system (Documentation/filesystems/erofs.rst, and the layout in
// fs/erofs/erofs_fs.h of Linux 6.1): compact and extended inodes; flat, inline and chunk-based files; LZ4 with its
// full and compact indexes and big physical clusters; shared and inline extended attributes.
//
// Several devices, fragments, dedupe, ztailpacking, long xattr prefixes and other ways of compression are refused with EOPNOTSUPP
// and a reason. Everything in an image is foreign: what makes no sense is EUCLEAN. An image that lies in memory is used
// in place, its pages mapped into programs without a copy.
//
// Lock order: fileSystem.mapping and decompressed.mu are leaves, but for the page cache's locks.
package erofs

import (
	"encoding/binary"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// maxTarget is the most bytes of a symbolic link's target, NUL included.
const maxTarget = vfs.PathMax

// fileSystem is a mounted image.
type fileSystem struct {
	vfs.InodeDefaults
	*reader
	super
	vfs      *vfs.FS
	pool     *mem.Pool
	closed   func()
	known    vfs.InodeTable[uint64]
	caches   vfs.Caches
	unpacked decompressed
	mapping  sync.Mutex // guards node.z while it is loaded
}

// New mounts an image for r: EINVAL when it is no EROFS, EUCLEAN when it is damaged, EOPNOTSUPP, EIO. closed is called
// when it was unmounted, not after an error.
func New(image Image, pool *mem.Pool, now func() int64, r *vfs.MountRequest, closed func()) (*vfs.FS, error) {
	if err := checkOptions(r); err != nil {
		return nil, err
	}
	if image.Size() < superOffset+superSize {
		return nil, r.Fail(unix.EINVAL, "no EROFS superblock")
	}
	in, err := newReader(image, pool)
	if err != nil {
		return nil, err
	}
	fs, err := open(in, pool, now, r)
	if err != nil {
		in.release()
		return nil, err
	}
	fs.closed = closed
	return fs.vfs, nil
}

// Type returns what makes instances for mount(2), of the images that find finds.
func Type(find vfs.Opener[Image], pool *mem.Pool, now func() int64) vfs.Type {
	return vfs.ImageType("erofs", find, func(image Image, r *vfs.MountRequest, closed func()) (*vfs.FS, error) {
		return New(image, pool, now, r, closed)
	})
}

// Probe reports whether b, the beginning of an image, looks like an EROFS.
func Probe(b []byte) bool {
	return len(b) >= superOffset+superSize && binary.LittleEndian.Uint32(b[superOffset:]) == magic
}

// Identity returns the label and the UUID of the file system on an image, both empty when there is none.
func Identity(image Image) (label, uuid string) {
	b := make([]byte, superOffset+512)
	if image.Size() < int64(len(b)) || image.ReadAt(b, 0) != nil || !Probe(b) {
		return "", ""
	}
	const digits = "0123456789abcdef"
	var text []byte
	for i, c := range b[superOffset+48:][:16] {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return unix.ByteSliceToString(b[superOffset+64:][:16]), string(text)
}

// checkOptions takes the options of Linux's EROFS that change nothing here: EINVAL for others.
func checkOptions(r *vfs.MountRequest) error {
	return r.EachOption(func(key, value string) bool {
		switch key {
		case "user_xattr", "nouser_xattr", "acl", "noacl":
			return value == ""
		case "cache_strategy":
			return value == "disabled" || value == "readahead" || value == "readaround"
		}
		return false
	})
}

func open(in *reader, pool *mem.Pool, now func() int64, r *vfs.MountRequest) (*fileSystem, error) {
	b := make([]byte, min(1<<maxBlockBits, in.size)-superOffset)
	if err := in.read(b, superOffset); err != nil {
		return nil, err
	}
	s, err := parseSuper(b, in.size, r)
	if err != nil {
		return nil, err
	}
	in.size = int64(s.blocks << s.blockBits)
	fs := &fileSystem{reader: in, super: *s, pool: pool}
	fs.vfs = vfs.NewFS("erofs", fs, now)
	fs.vfs.Cached, fs.vfs.NoAtime, fs.vfs.ReadOnly = true, true, true
	root, err := fs.inode(s.rootNID)
	if err == nil && !root.IsDir() {
		err = unix.EUCLEAN
	}
	if err != nil {
		return nil, r.Fail(err, "the root directory is damaged")
	}
	fs.vfs.SetRoot(root)
	return fs, nil
}

// inode returns the inode with a nid: EUCLEAN, EIO.
func (fs *fileSystem) inode(nid uint64) (*vfs.Inode, error) {
	if i := fs.known.Peek(nid); i != nil {
		return i, nil
	}
	n, err := fs.readNode(nid)
	if err != nil {
		return nil, err
	}
	node := vfs.NewNode{Mode: n.mode, UID: n.uid, GID: n.gid}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		node.Rdev = n.rdev()
	case unix.S_IFLNK:
		if node.Target, err = n.target(); err != nil {
			return nil, err
		}
	}
	return fs.known.Get(nid, func() *vfs.Inode { return fs.newInode(n, &node) }), nil
}

func (n *node) target() (string, error) {
	b := make([]byte, n.size)
	if err := n.read(b, 0); err != nil {
		return "", err
	}
	for _, c := range b {
		if c == 0 {
			return "", unix.EUCLEAN
		}
	}
	return string(b), nil
}

func (fs *fileSystem) newInode(n *node, made *vfs.NewNode) *vfs.Inode {
	var cache *mem.Cache
	if made.Mode&unix.S_IFMT == unix.S_IFREG {
		var backing mem.Backing = contents{n}
		if fs.paged != nil {
			backing = pagedContents{contents{n}}
		}
		cache = mem.NewCache(fs.pool, backing)
		if cache.Truncate(n.size) != nil {
			panic("erofs: a size that was checked is refused")
		}
	}
	i := fs.vfs.NewInode(&file{node: n}, made, cache)
	i.Ino = n.nid
	i.Restore(n.mode, n.uid, n.gid, n.nlink)
	i.SetTimes(n.mtime, n.mtime, n.mtime)
	if cache != nil {
		fs.caches.Tie(i)
	}
	runtime.AddCleanup(i, func(nid uint64) { fs.known.Drop(nid, nil) }, n.nid)
	return i
}

// Statfs implements vfs.FSOps.
func (fs *fileSystem) Statfs(s *unix.Statfs_t) {
	s.Type = unix.EROFS_SUPER_MAGIC_V1
	s.Bsize, s.Frsize = fs.blockSize(), fs.blockSize()
	s.Blocks = fs.blocks
	s.Files = fs.inodes
}

// Sync implements vfs.FSOps.
func (fs *fileSystem) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (fs *fileSystem) Unmounted() {
	fs.vfs.DropNames()
	fs.caches.ReleaseAll()
	fs.release()
	fs.closed()
}

// file is the part of an inode that is this package's.
type file struct {
	vfs.ReadOnlyInode
	*node
}

// Lookup implements vfs.InodeOps.
func (f *file) Lookup(_ *vfs.Context, _ *vfs.Dentry, name string) (*vfs.Inode, error) {
	if name == "." || name == ".." {
		return nil, unix.ENOENT
	}
	nid, err := f.find(name)
	if err != nil {
		return nil, err
	}
	return f.fs.inode(nid)
}

// Readdir implements vfs.InodeOps.
func (f *file) Readdir(_ *vfs.Context, _ *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	return f.list(off, emit)
}

// Space implements vfs.AttrOps.
func (f *file) Space(*vfs.Inode) (size, blocks int64) {
	stored := (f.size + f.fs.blockSize() - 1) &^ (f.fs.blockSize() - 1)
	if f.layout == compressedFull || f.layout == compressedCompact {
		stored = int64(f.u) << f.fs.blockBits
	}
	return f.size, stored / 512
}

// Getxattr implements vfs.XattrOps.
func (f *file) Getxattr(_ *vfs.Inode, name string) ([]byte, error) { return f.getXattr(name) }

// Listxattr implements vfs.XattrOps.
func (f *file) Listxattr(*vfs.Inode) ([]byte, error) { return f.listXattrs() }

// contents is the Backing of a file's pages.
type contents struct{ *node }

// ReadPage implements mem.Backing.
func (c contents) ReadPage(index uint64, page []byte) error {
	off := int64(index) * machine.PageSize
	n := min(c.size-off, int64(len(page)))
	clear(page[n:])
	return c.read(page[:n], off)
}

// WritePage implements mem.Backing; no page is ever dirty.
func (contents) WritePage(uint64, []byte) error { return unix.EROFS }

// Frame implements mem.InPlace: a whole page that lies in memory uncompressed, at a page's boundary.
func (c contents) Frame(index uint64) machine.Frame {
	off := int64(index) * machine.PageSize
	if c.fs.memory == nil || c.layout == compressedFull || c.layout == compressedCompact || c.size-off < machine.PageSize {
		return machine.NoFrame
	}
	e, err := c.flat(off)
	if err != nil || e.at < 0 || e.size < machine.PageSize || e.at%machine.PageSize != 0 {
		return machine.NoFrame
	}
	return c.fs.memory.Frame(e.at)
}

// pagedContents is contents on an image that reads into pages.
type pagedContents struct{ contents }

// ReadPages implements mem.RangeBacking: runs of pages that are as they are in the image are read at once.
func (c pagedContents) ReadPages(index uint64, frames []machine.Frame) error {
	for len(frames) > 0 {
		n := c.run(index, len(frames))
		var err error
		if n > 0 {
			e, _ := c.flat(int64(index) * machine.PageSize) // run has looked
			err = c.fs.paged.ReadFrames(e.at, frames[:n])
		} else {
			n = 1
			err = c.ReadPage(index, c.fs.pool.Bytes(frames[0]))
		}
		if err != nil {
			return err
		}
		index, frames = index+uint64(n), frames[n:]
	}
	return nil
}

// run returns how many pages from index on, n at most, follow each other in the image.
func (c pagedContents) run(index uint64, n int) int {
	off := int64(index) * machine.PageSize
	if c.layout == compressedFull || c.layout == compressedCompact || c.size-off < machine.PageSize {
		return 0
	}
	e, err := c.flat(off)
	if err != nil || e.at < 0 || e.at%machine.PageSize != 0 || e.at > c.fs.image.Size()-machine.PageSize {
		return 0
	}
	return int(min(e.size/machine.PageSize, int64(n)))
}

// WritePages implements mem.RangeBacking; no page is ever dirty.
func (pagedContents) WritePages(uint64, []machine.Frame) error { return unix.EROFS }
