package vfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
)

// dirFile is an open directory.
type dirFile struct{ FileDefaults }

// Directory is the FileOps of an open directory, for file systems to embed.
type Directory = dirFile

var directory FileOps = &dirFile{}

func (*dirFile) Read(*File, uio.Sink, int64) (int64, error) { return 0, unix.EISDIR }

func (*dirFile) Sync(f *File) error { return f.inode.fs.ops.Sync() }

// Offsets of . and .., behind which those of the entries are moved.
const (
	offDot    = 1
	offDotDot = 2
)

func (*dirFile) Readdir(ctx *Context, f *File, off int64, emit func(Dirent) bool) error {
	d := f.path.Dentry
	if off < offDot && !emit(Dirent{".", d.inode.Ino, unix.S_IFDIR, offDot}) {
		return nil
	}
	if off < offDotDot {
		up := d
		if p := d.parent.Load(); p != nil {
			up = p
		}
		if !emit(Dirent{"..", up.inode.Ino, unix.S_IFDIR, offDotDot}) {
			return nil
		}
	}
	off = max(off, offDotDot)
	if d.dir == nil {
		return d.inode.ops.Readdir(ctx, d, off, emit)
	}
	for {
		var batch [16]Dirent
		list := d.dir.list(off-offDotDot, batch[:0])
		for _, e := range list {
			if e.Next += offDotDot; !emit(e) {
				return nil
			}
			off = e.Next
		}
		if len(list) < len(batch) {
			return nil
		}
	}
}

// list appends entries behind off to batch as far as its capacity goes.
func (s *dirState) list(off int64, batch []Dirent) []Dirent {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.order[s.after(off):] {
		if e.dentry == nil {
			continue
		}
		if len(batch) == cap(batch) {
			break
		}
		batch = append(batch, Dirent{e.dentry.name, e.dentry.inode.Ino, e.dentry.inode.Type(), e.offset})
	}
	return batch
}

// Getdents is getdents64(2), or with legacy getdents(2): it writes entries
// to dst and returns the number of bytes. ENOTDIR, EBADF, ENOENT for a removed directory, EINVAL when
// dst has no room for one entry.
func (f *File) Getdents(ctx *Context, dst uio.Sink, legacy bool) (int64, error) {
	if f.kind&pathOnly != 0 {
		return 0, unix.EBADF
	}
	if !f.inode.IsDir() {
		return 0, unix.ENOTDIR
	}
	if f.path.Dentry.gone.Load() {
		return 0, unix.ENOENT
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var done int64
	var failure error
	var record [dirRecordMax]byte
	err := f.ops.Readdir(ctx, f, f.pos, func(e Dirent) bool {
		n := putDirent(record[:], e, legacy)
		if n > dst.Left() {
			failure = unix.EINVAL
			return false
		}
		m, err := dst.Put(record[:n])
		if m < n || err != nil {
			failure = unix.EFAULT
			return false
		}
		done += int64(n)
		f.pos = e.Next
		return true
	})
	f.accessed(done)
	if done > 0 {
		f.inode.accessed(f.path.Mount)
		return done, nil
	}
	if err == nil {
		err = failure
	}
	return 0, err
}

const dirRecordMax = (19 + NameMax + 1 + 7) &^ 7

// putDirent writes struct linux_dirent64 or linux_dirent and returns its length.
func putDirent(b []byte, e Dirent, legacy bool) int {
	name := e.Name
	if len(name) > NameMax {
		name = name[:NameMax]
	}
	typ := byte(e.Mode >> 12)
	head, tail := 19, 1
	if legacy {
		head, tail = 18, 2
	}
	n := (head + len(name) + tail + 7) &^ 7
	clear(b[:n])
	binary.LittleEndian.PutUint64(b, e.Ino)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.Next))
	binary.LittleEndian.PutUint16(b[16:], uint16(n))
	copy(b[head:], name)
	if legacy {
		b[n-1] = typ
	} else {
		b[18] = typ
	}
	return n
}

// ReadDir lists a directory that p leads to, for the kernel's own use, without . and ...
func ReadDir(ctx *Context, p Path, emit func(Dirent) bool) error {
	f, err := Reopen(p, ctx.Cred, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.DecRef()
	return f.ops.Readdir(ctx, f, offDotDot, emit)
}
