package fuse

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// dirFile is an open directory.
type dirFile struct {
	vfs.FileDefaults
	n  *node
	fh uint64
}

// listSize is how many bytes of entries are asked for at a time.
const listSize = 32 << 10

func (n *node) openDir(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
	var m message
	m.u32(openFlags(f.Flags()), 0)
	in := make([]byte, fuseabi.OpenOutSize)
	if err := n.k.exact(fuseabi.OpOpendir, n.id, callerOf(ctx), m.b, in); err != nil {
		return nil, err
	}
	return &dirFile{n: n, fh: le.Uint64(in)}, nil
}

// Read implements vfs.FileOps.
func (*dirFile) Read(*vfs.File, uio.Sink, int64) (int64, error) { return 0, unix.EISDIR }

// Release implements vfs.FileOps.
func (d *dirFile) Release(*vfs.File) { d.n.k.release(fuseabi.OpReleasedir, d.n.id, d.fh, 0) }

// release closes a handle at the server, which may take its time.
func (k *conn) release(op uint32, node, fh uint64, flags uint32) {
	var m message
	m.u64(fh)
	m.u32(flags, 0)
	m.u64(0)
	k.background.Go(func() { _, _ = k.call(op, node, caller{}, m.b, nil) }) // whom would an error concern?
}

// Sync implements vfs.FileOps.
func (d *dirFile) Sync(*vfs.File) error {
	if d.n.k.noFsyncdir.Load() {
		return nil
	}
	return missing(d.n.fsync(fuseabi.OpFsyncdir, d.fh), &d.n.k.noFsyncdir)
}

// Places of . and .., behind which the server's are moved.
const (
	atDot    = 1
	atDotDot = 2
)

// Readdir implements vfs.FileOps.
func (d *dirFile) Readdir(ctx *vfs.Context, f *vfs.File, off int64, emit func(vfs.Dirent) bool) error {
	dentry := f.Path().Dentry
	if off < atDot && !emit(vfs.Dirent{Name: ".", Ino: dentry.Inode().Ino, Mode: unix.S_IFDIR, Next: atDot}) {
		return nil
	}
	if off < atDotDot {
		up := dentry
		if p := dentry.Parent(); p != nil {
			up = p
		}
		if !emit(vfs.Dirent{Name: "..", Ino: up.Inode().Ino, Mode: unix.S_IFDIR, Next: atDotDot}) {
			return nil
		}
	}
	cookie := uint64(0)
	if off > atDotDot {
		cookie = uint64(off - atDotDot)
	}
	// Attributes come along at the first look, and as long as they seem to be wanted.
	plus := d.n.k.plus && (d.n.ahead.Swap(false) || cookie == 0)
	for {
		at, seen := d.n.k.changes.Load(), dentry.Changes()
		list, err := d.list(ctx, cookie, plus)
		if err != nil || len(list) == 0 {
			return err
		}
		more, next, err := d.emit(dentry, list, plus, at, seen, emit)
		if err != nil || !more {
			return err
		}
		if next == cookie {
			return unix.EIO // a listing that leads nowhere
		}
		cookie = next
	}
}

func (d *dirFile) list(ctx *vfs.Context, cookie uint64, plus bool) ([]byte, error) {
	op := uint32(fuseabi.OpReaddir)
	if plus {
		op = fuseabi.OpReaddirplus
	}
	var m message
	m.u64(d.fh, cookie)
	m.u32(listSize, 0)
	m.u64(0)
	m.u32(0, 0)
	return d.n.k.variable(op, d.n.id, callerOf(ctx), m.b, listSize)
}

// emit hands out the entries of a list; more says whether all went out, next is the place behind them. What came along
// about them is kept in any case.
func (d *dirFile) emit(dir *vfs.Dentry, list []byte, plus bool, at, seen uint64, emit func(vfs.Dirent) bool) (more bool, next uint64, err error) {
	more = true
	for {
		e, n, err := parseDirent(list, plus)
		if err != nil {
			return false, next, err
		}
		if n == 0 {
			return more, next, nil
		}
		list = list[n:]
		if e.name == "." || e.name == ".." {
			next = e.cookie
			continue
		}
		if e.entry.node != 0 {
			d.keep(dir, &e, at, seen)
		}
		if !more {
			if !plus {
				return more, next, nil
			}
			continue
		}
		next = e.cookie
		where := int64(math.MaxInt64)
		if e.cookie < math.MaxInt64-atDotDot {
			where = int64(e.cookie) + atDotDot
		}
		more = emit(vfs.Dirent{Name: e.name, Ino: e.ino, Mode: e.mode, Next: where})
	}
}

// keep remembers an entry with attributes, which counts as a lookup.
func (d *dirFile) keep(dir *vfs.Dentry, e *dirent, at, seen uint64) {
	i, err := d.n.k.inode(&e.entry, at)
	if err != nil {
		return // it will be looked up, and found bad, if anybody wants it
	}
	dir.Prime(e.name, i, seen)
}
