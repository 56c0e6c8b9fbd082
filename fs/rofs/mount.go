package rofs

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// fileSystem is a mounted image.
type fileSystem struct {
	*tables
	image  Image
	vfs    *vfs.FS
	pool   *mem.Pool
	closed func()
	known  vfs.InodeTable[uint32]
	caches vfs.Caches
}

// New mounts an image for r: EINVAL when it is no ROFS, EUCLEAN when it is damaged, EOPNOTSUPP, EIO. closed is called
// when it was unmounted, not after an error.
func New(image Image, pool *mem.Pool, now func() int64, r *vfs.MountRequest, closed func()) (*vfs.FS, error) {
	if err := r.EachOption(func(string, string) bool { return false }); err != nil {
		return nil, err
	}
	t, err := readTables(image, r)
	if err != nil {
		return nil, err
	}
	fs := &fileSystem{tables: t, image: image, pool: pool, closed: closed}
	fs.vfs = vfs.NewFS("rofs", fs, now)
	fs.vfs.Cached, fs.vfs.NoAtime, fs.vfs.ReadOnly = true, true, true
	fs.vfs.SetRoot(fs.inode(0))
	return fs.vfs, nil
}

// Type returns what makes instances for mount(2), of the images that find finds.
func Type(find vfs.Opener[Image], pool *mem.Pool, now func() int64) vfs.Type {
	return vfs.ImageType("rofs", find, func(image Image, r *vfs.MountRequest, closed func()) (*vfs.FS, error) {
		return New(image, pool, now, r, closed)
	})
}

// perm is what everybody may do with all files.
const perm = 0o555

func (fs *fileSystem) inode(index uint32) *vfs.Inode {
	return fs.known.Get(index, func() *vfs.Inode {
		n := fs.nodes[index]
		made := vfs.NewNode{Mode: n.mode | perm}
		var cache *mem.Cache
		switch n.mode {
		case unix.S_IFLNK:
			made.Mode = unix.S_IFLNK | 0o777
			made.Target = fs.targets[n.first]
		case unix.S_IFREG:
			cache = mem.NewCache(fs.pool, &contents{fs.image, n})
			if cache.Truncate(n.count) != nil {
				panic("rofs: a size that was checked is refused")
			}
		}
		i := fs.vfs.NewInode(&file{fs: fs, node: n}, &made, cache)
		i.Ino = uint64(index) + 1
		i.SetTimes(0, 0, 0)
		if cache != nil {
			fs.caches.Tie(i)
		}
		runtime.AddCleanup(i, func(index uint32) { fs.known.Drop(index, nil) }, index)
		return i
	})
}

// Statfs implements vfs.FSOps.
func (fs *fileSystem) Statfs(s *unix.Statfs_t) {
	s.Type = magic
	s.Bsize, s.Frsize = blockSize, blockSize
	s.Blocks, s.Files = uint64(fs.blocks), uint64(len(fs.nodes))
}

// Sync implements vfs.FSOps.
func (fs *fileSystem) Sync() error { return nil }

// Unmounted implements vfs.FSOps.
func (fs *fileSystem) Unmounted() {
	fs.vfs.DropNames()
	fs.caches.ReleaseAll()
	fs.closed()
}

// file is the part of an inode that is this package's.
type file struct {
	vfs.ReadOnlyInode
	node
	fs *fileSystem

	once  sync.Once
	names map[string]uint32 // of a directory, once it is needed
}

// Lookup implements vfs.InodeOps.
func (f *file) Lookup(_ *vfs.Context, _ *vfs.Dentry, name string) (*vfs.Inode, error) {
	f.once.Do(func() {
		f.names = make(map[string]uint32, f.count)
		for _, e := range f.fs.entries[f.first : f.first+f.count] {
			f.names[e.name] = e.inode
		}
	})
	index, ok := f.names[name]
	if !ok {
		return nil, unix.ENOENT
	}
	return f.fs.inode(index), nil
}

// firstOffset is behind those that package vfs uses itself.
const firstOffset = 3

// Readdir implements vfs.InodeOps.
func (f *file) Readdir(_ *vfs.Context, _ *vfs.Dentry, off int64, emit func(vfs.Dirent) bool) error {
	for k := max(off-firstOffset+1, 0); k < f.count; k++ {
		e := f.fs.entries[f.first+k]
		if !emit(vfs.Dirent{Name: e.name, Ino: uint64(e.inode) + 1, Mode: f.fs.nodes[e.inode].mode, Next: k + firstOffset}) {
			break
		}
	}
	return nil
}

// Space implements vfs.AttrOps.
func (f *file) Space(i *vfs.Inode) (size, blocks int64) {
	switch f.mode {
	case unix.S_IFREG:
		return f.count, (f.count + blockSize - 1) / blockSize
	case unix.S_IFLNK:
		return int64(len(i.Target())), 0
	}
	return f.count, 0
}

// contents is the Backing of a file's pages.
type contents struct {
	image Image
	node
}

// ReadPage implements mem.Backing.
func (c *contents) ReadPage(index uint64, page []byte) error {
	off := int64(index) * machine.PageSize
	n := (min(c.count-off, machine.PageSize) + blockSize - 1) &^ (blockSize - 1)
	clear(page[n:])
	return c.image.ReadAt(page[:n], c.first*blockSize+off)
}

// WritePage implements mem.Backing; no page is ever dirty.
func (*contents) WritePage(uint64, []byte) error { return unix.EROFS }
