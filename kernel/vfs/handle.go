package vfs

import (
	"encoding/binary"
	"sync"
	"weak"

	"golang.org/x/sys/unix"
)

// HandleSize is the length of a file handle in bytes.
const HandleSize = 16

// HandleType is the handle_type of our handles; Linux has none of that number.
const HandleType = 0x81

// handles are the files of an FS that somebody has a handle of. A handle is good as long as the file is in memory:
// in a Resident file system, as long as it exists.
type handles struct {
	mu    sync.Mutex
	known map[uint64]weak.Pointer[Dentry] // by inode number; guarded by mu
	sweep int                             // size at which what is gone is cleaned out; guarded by mu
}

// Handle returns the handle of p for name_to_handle_at(2): EOPNOTSUPP for what has no name.
func (p Path) Handle() ([HandleSize]byte, error) {
	var b [HandleSize]byte
	if p.anonName() != "" {
		return b, unix.EOPNOTSUPP
	}
	i, h := p.Inode(), &p.Mount.FS.handles
	binary.LittleEndian.PutUint64(b[:], i.Ino)
	binary.LittleEndian.PutUint64(b[8:], uint64(i.btime.Load())) // tells a number that is used again
	const least = 64
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known, h.sweep = make(map[uint64]weak.Pointer[Dentry]), least
	}
	if d := h.known[i.Ino].Value(); d == nil || d.gone.Load() || d.inode != i {
		h.known[i.Ino] = weak.Make(p.Dentry)
	}
	if len(h.known) >= h.sweep {
		for ino, d := range h.known {
			if d.Value() == nil {
				delete(h.known, ino)
			}
		}
		h.sweep = max(2*len(h.known), least)
	}
	return b, nil
}

// OpenHandle is open_by_handle_at(2) on the mount that at is on: EPERM, ESTALE, and what open(2) gives.
func OpenHandle(ctx *Context, at Path, handle []byte, flags int) (*File, error) {
	if !ctx.Cred.Capable(unix.CAP_DAC_READ_SEARCH) {
		return nil, unix.EPERM
	}
	if len(handle) != HandleSize {
		return nil, unix.ESTALE
	}
	h := &at.Mount.FS.handles
	h.mu.Lock()
	d := h.known[binary.LittleEndian.Uint64(handle)].Value()
	h.mu.Unlock()
	if d == nil || d.inode.nlink.Load() == 0 || uint64(d.inode.btime.Load()) != binary.LittleEndian.Uint64(handle[8:]) {
		return nil, unix.ESTALE
	}
	f, err := openAt(ctx, Path{at.Mount, d}, flags&^creationFlags|flags&unix.O_TRUNC)
	if err == unix.ENOENT {
		err = unix.ESTALE
	}
	return f, err
}
