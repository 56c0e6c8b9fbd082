package syscall

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// errTooLong says that a string has no NUL within its limit.
var errTooLong = errors.New("string too long")

// readString reads a string of at most max bytes with its NUL: EFAULT, errTooLong.
func readString(t *task.Task, addr uint64, max int) (string, error) {
	// Most strings are short: look at what the page has of the first 128 bytes.
	b := t.Scratch[:min(uint64(max), 128, machine.PageSize-addr%machine.PageSize)]
	if n, _ := t.Mem().CopyIn(b, addr); n == len(b) {
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i]), nil
		}
	}
	s, ok, err := t.Mem().ReadString(addr, max)
	if err == nil && !ok {
		err = errTooLong
	}
	return s, err
}

// efault is the error of a copy that came short.
func efault(err error) error {
	if err == nil {
		return unix.EFAULT
	}
	return err
}

// copyOut writes all of b to the program's memory: EFAULT.
func copyOut(t *task.Task, addr uint64, b []byte) error {
	if n, err := t.Mem().CopyOut(addr, b); n < len(b) {
		return efault(err)
	}
	return nil
}

// copyIn fills b from the program's memory: EFAULT.
func copyIn(t *task.Task, b []byte, addr uint64) error {
	if n, err := t.Mem().CopyIn(b, addr); n < len(b) {
		return efault(err)
	}
	return nil
}

// done is the end of calls that return 0.
func done(err error) (uint64, error) { return 0, err }

// value is the end of calls that return a number.
func value[T ~int | ~int32 | ~int64](n T, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return uint64(int64(n)), nil
}

// view is t's view of the tree of files, good for one call.
func view(t *task.Task) *vfs.Context {
	t.View = t.VFS()
	return &t.View
}

// file returns the open file fd with a reference: EBADF.
func file(t *task.Task, fd int32) (*vfs.File, error) {
	switch fd {
	case task.GivenFD:
		return t.Given()
	case task.OtherFD:
		return t.Other()
	}
	return t.Files.Get(int(fd))
}

// realFile is file without those that were opened with O_PATH: EBADF.
func realFile(t *task.Task, fd int32) (*vfs.File, error) {
	f, err := file(t, fd)
	if err == nil && f.PathOnly() {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, err
}

// A place is where a path begins: the directory that a descriptor names.
type place struct {
	vfs.Path
	f *vfs.File
}

// at finds the place that dirfd and path name together (open(2)): EBADF,
// ENOTDIR. The caller ends it by done.
func at(t *task.Task, dirfd int32, path string) (place, error) {
	if dirfd == unix.AT_FDCWD || path != "" && path[0] == '/' {
		return place{}, nil
	}
	f, err := file(t, dirfd)
	if err != nil {
		return place{}, err
	}
	if path != "" && !f.Inode().IsDir() {
		f.DecRef()
		return place{}, unix.ENOTDIR
	}
	return place{f.Path(), f}, nil
}

func (p place) done() {
	if p.f != nil {
		p.f.DecRef()
	}
}

// install gives f, which was opened just now, the lowest descriptor, or closes it: EMFILE, ENFILE.
func install(t *task.Task, f *vfs.File, flags int) (uint64, error) {
	if err := vfs.RoomForFiles(0); err != nil {
		f.DecRef()
		return 0, err
	}
	return installOld(t, f, flags)
}

// installOld is install for a file that was open before.
func installOld(t *task.Task, f *vfs.File, flags int) (uint64, error) {
	fd, err := t.Files.Install(f, flags, 0, openLimit(t))
	if err != nil {
		f.DecRef()
	}
	return value(fd, err)
}

// openLimit is RLIMIT_NOFILE.
func openLimit(t *task.Task) int {
	return int(min(t.Process().Limit(unix.RLIMIT_NOFILE).Cur, 1<<20))
}

// length checks the length of a transfer: EINVAL when it is negative; what is
// more than Linux moves at once is cut (read(2)).
func length(n uint64) (uint64, error) {
	if int64(n) < 0 {
		return 0, unix.EINVAL
	}
	return min(n, abi.MaxRW), nil
}

// buffer checks a transfer's buffer: EFAULT when it does not lie among a program's
// addresses, as Linux does first; the length is cut as length does.
func buffer(addr, n uint64) (uint64, error) {
	if n > machine.UserTop || addr > machine.UserTop-n {
		return 0, unix.EFAULT
	}
	return min(n, abi.MaxRW), nil
}

// ranges reads an array of iovecs: EINVAL for more than UIO_MAXIOV or a
// negative length, EFAULT. The total is cut like a length. The result lives until the call's end.
func ranges(t *task.Task, addr uint64, count uint64) ([]mm.Range, error) {
	if count > abi.MaxIOV {
		return nil, unix.EINVAL
	}
	list := t.Ranges[:0]
	left := uint64(abi.MaxRW)
	for i := range count {
		b := t.Scratch[:abi.SizeofIovec]
		if err := copyIn(t, b, addr+i*abi.SizeofIovec); err != nil {
			return nil, err
		}
		v := abi.GetIovec(b)
		if int64(v.Len) < 0 {
			return nil, unix.EINVAL
		}
		n := min(v.Len, left)
		left -= n
		list = append(list, mm.Range{Addr: v.Base, Len: n})
	}
	return list, nil
}
