package syscall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// struct file_handle: two 32-bit words, the number of bytes and the type, and the bytes.
const (
	handleHead = 8
	maxHandle  = 128 // MAX_HANDLE_SZ
)

func fileHandleRows(r *table) {
	r.set(unix.SYS_NAME_TO_HANDLE_AT, call5("name_to_handle_at", aDirFD, aPath, aAddr, aAddr,
		flags("flags", unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH, atNames), sysNameToHandleAt))
	r.set(unix.SYS_OPEN_BY_HANDLE_AT, call3("open_by_handle_at", aDirFD, aAddr, aOpenFlags, sysOpenByHandleAt))
}

func sysNameToHandleAt(t *task.Task, dirfd int32, path string, handle, mountID uint64, flags uint32) (uint64, error) {
	how := int(flags &^ unix.AT_SYMLINK_FOLLOW)
	if flags&unix.AT_SYMLINK_FOLLOW == 0 {
		how |= unix.AT_SYMLINK_NOFOLLOW
	}
	from, err := at(t, dirfd, path)
	if err != nil {
		return 0, err
	}
	defer from.done()
	p, err := vfs.Lookup(view(t), from.Path, path, how)
	if err != nil {
		return 0, err
	}
	b, err := p.Handle()
	if err != nil {
		return 0, err
	}
	var head [handleHead]byte
	if err := copyIn(t, head[:4], handle); err != nil {
		return 0, err
	}
	room := binary.LittleEndian.Uint32(head[:])
	if room > maxHandle {
		return 0, unix.EINVAL
	}
	var id [4]byte
	binary.LittleEndian.PutUint32(id[:], uint32(p.Mount.ID))
	binary.LittleEndian.PutUint32(head[:], vfs.HandleSize)
	binary.LittleEndian.PutUint32(head[4:], vfs.HandleType)
	if err := copyOut(t, mountID, id[:]); err != nil {
		return 0, err
	}
	if err := copyOut(t, handle, head[:]); err != nil {
		return 0, err
	}
	if room < vfs.HandleSize {
		return 0, unix.EOVERFLOW
	}
	return done(copyOut(t, handle+handleHead, b[:]))
}

func sysOpenByHandleAt(t *task.Task, mountFD int32, handle uint64, flags int32) (uint64, error) {
	var head [handleHead]byte
	if err := copyIn(t, head[:], handle); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxHandle {
		return 0, unix.EINVAL
	}
	b := make([]byte, n)
	if err := copyIn(t, b, handle+handleHead); err != nil {
		return 0, err
	}
	from := view(t).Cwd
	if mountFD != unix.AT_FDCWD {
		p, err := at(t, mountFD, "")
		if err != nil {
			return 0, err
		}
		defer p.done()
		from = p.Path
	}
	if binary.LittleEndian.Uint32(head[4:]) != vfs.HandleType {
		return 0, unix.ESTALE
	}
	f, err := vfs.OpenHandle(view(t), from, b, int(flags))
	return opened(t, f, err, int(flags))
}
