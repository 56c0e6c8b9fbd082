package overlay

import (
	"strings"
	"sync"
	"weak"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// weakInode is the inode that a node belongs to, which has the node.
type weakInode struct{ p weak.Pointer[vfs.Inode] }

func (w *weakInode) set(i *vfs.Inode) { w.p = weak.Make(i) }

// pins keeps the inodes of files that have several names and were copied up under one of them: the others find
// the copy through the inode.
type pins struct {
	mu   sync.Mutex
	kept map[*vfs.Inode]struct{} // guarded by mu
}

func (p *pins) keep(i *vfs.Inode) {
	p.mu.Lock()
	if p.kept == nil {
		p.kept = make(map[*vfs.Inode]struct{})
	}
	p.kept[i] = struct{}{}
	p.mu.Unlock()
}

func (p *pins) let(i *vfs.Inode) {
	p.mu.Lock()
	delete(p.kept, i)
	p.mu.Unlock()
}

func (p *pins) drop() {
	p.mu.Lock()
	p.kept = nil
	p.mu.Unlock()
}

// copyUp brings a file to the upper layer unless it is there: EROFS, ENOSPC, EIO. Of a regular file's contents only the
// first size bytes are copied, all with -1.
func (n *node) copyUp(i *vfs.Inode, size int64) error {
	if n.upper.Load() != nil {
		return nil
	}
	if err := n.o.writable(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.upper.Load() != nil {
		return nil
	}
	if i.Nlink() == 0 {
		return n.copyNameless(i, size)
	}
	if err := n.parent.copyUpDir(); err != nil {
		return err
	}
	work, name := n.o.work, n.o.tempName()
	from := n.lowers[0]
	r := from.Inode()
	made := vfs.NewNode{Mode: r.Mode(), UID: r.UID(), GID: r.GID(), Rdev: r.Rdev}
	if r.Type() == unix.S_IFLNK {
		var err error
		if made.Target, err = r.Ops().Readlink(n.o.ctx, r); err != nil {
			return err
		}
	}
	to, err := work.Make(name, &made)
	if err != nil {
		return err
	}
	err = n.copyAll(from, to, i.Ino, size)
	if err == nil {
		err = n.o.place(*n.parent.upper.Load(), name, n.name)
	}
	if err != nil {
		_ = n.o.remove(work, name) // what is left is removed by the next mount
		return err
	}
	return n.settled(i, to)
}

// place moves what was made in the work directory to its place; the directory's times stay.
func (o *overlay) place(dir vfs.Path, temp, name string) error {
	var st unix.Stat_t
	dir.Inode().Stat(&st)
	if err := vfs.Rename(o.ctx, o.work, temp, dir, name, 0); err != nil {
		return err
	}
	return dir.Inode().Change(o.ctx.Cred, timesOf(&st))
}

func timesOf(st *unix.Stat_t) *vfs.Attr {
	return &vfs.Attr{Valid: vfs.AttrAtime | vfs.AttrMtime, Atime: st.Atim.Nano(), Mtime: st.Mtim.Nano()}
}

// settled makes to the real file; n.mu is held.
//
// +checklocks:n.mu
func (n *node) settled(i *vfs.Inode, to vfs.Path) error {
	if links := n.lowers[0].Inode().Nlink(); links > 1 && !i.IsDir() && i.Nlink() > 0 {
		if err := vfs.Link(n.o.ctx, to, "", n.o.work, n.o.indexName(i), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		n.links = int(i.Nlink())
		n.o.pins.keep(i)
	}
	n.upper.Store(&to)
	return nil
}

// copyUpDir is copyUp for a directory that has an inode in use.
func (n *node) copyUpDir() error {
	if n.upper.Load() != nil {
		return nil
	}
	i := n.inode.p.Value()
	if i == nil {
		return unix.ENOENT
	}
	return n.copyUp(i, -1)
}

// copyNameless is copyUp for a file that was removed while it is in use.
func (n *node) copyNameless(i *vfs.Inode, size int64) error {
	from := n.lowers[0]
	r := from.Inode()
	if r.Type() != unix.S_IFREG {
		return unix.ENOENT
	}
	to, err := n.o.work.MakeNameless(&vfs.NewNode{Mode: r.Mode(), UID: r.UID(), GID: r.GID()})
	if err != nil {
		return err
	}
	if err := n.copyAll(from, to, i.Ino, size); err != nil {
		return err
	}
	n.upper.Store(&to)
	return nil
}

// copyAll copies contents, attributes and extended attributes.
func (n *node) copyAll(from, to vfs.Path, number uint64, size int64) error {
	r := from.Inode()
	if r.Type() == unix.S_IFREG {
		if err := n.o.copyData(from, to, size); err != nil {
			return err
		}
	}
	if err := n.o.copyXattrs(from, to); err != nil {
		return err
	}
	if r.Type() != unix.S_IFLNK { // whose number is kept by nobody
		if err := n.o.setOrigin(to, number); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	r.Stat(&st)
	a := timesOf(&st)
	a.Valid |= vfs.AttrMode
	a.Mode = st.Mode & 0o7777
	return to.Inode().Change(n.o.ctx.Cred, a)
}

const copyChunk = 64 << 10

// copyData copies the first size bytes, or with -1 all, with their holes.
func (o *overlay) copyData(from, to vfs.Path, size int64) error {
	src, err := vfs.Reopen(from, o.ctx.Cred, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.DecRef()
	dst, err := vfs.Reopen(to, o.ctx.Cred, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer dst.DecRef()
	whole := from.Inode().Size()
	if size >= 0 {
		whole = min(whole, size)
	}
	b := make([]byte, min(copyChunk, whole))
	for off, end := int64(0), int64(0); off < whole; {
		if off >= end {
			data, err := src.Seek(off, unix.SEEK_DATA)
			if err == unix.ENXIO || err == nil && data >= whole {
				break
			}
			if err == nil {
				off = data
			}
			if end, err = src.Seek(off, unix.SEEK_HOLE); err != nil {
				end = whole
			}
			end = min(end, whole)
		}
		in := uio.Buffer(b[:min(int64(len(b)), end-off)])
		n, err := src.Pread(&in, off)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		out := uio.Buffer(b[:n])
		done, err := dst.Pwrite(&out, off)
		if err != nil {
			return err
		}
		off += done
	}
	if to.Inode().Size() < whole {
		return dst.Truncate(whole)
	}
	return nil
}

// copyXattrs copies the extended attributes but for the overlay's.
func (o *overlay) copyXattrs(from, to vfs.Path) error {
	if !hasXattrs(from) {
		return nil
	}
	all, err := vfs.Listxattr(o.ctx, from)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(all), "\x00") {
		if name == "" || o.own(name) {
			continue
		}
		v, err := vfs.Getxattr(o.ctx, from, name)
		if err == nil {
			err = vfs.Setxattr(o.ctx, to, name, append([]byte(nil), v...), 0)
		}
		if err != nil && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}
