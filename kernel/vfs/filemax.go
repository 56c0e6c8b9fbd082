package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// How many files may be open on the whole machine (/proc/sys/fs/file-max, proc_sys_fs(5)). What an open file costs the kernel is
// memory that no process is charged for: up to 1 KiB without what is in its buffers. With 8 KiB of memory for each (Linux: 10 KiB),
// all of them together have an eighth.
const (
	fileShare  = 2 // pages of memory for each
	leastFiles = 256
)

// files counts open files, however they are held: by descriptors, mappings, messages on the way, or the kernel.
var files struct {
	open, max atomic.Int64 // max 0: no limit
}

// LimitFiles sets the limit that a machine with so many pages of memory starts with.
func LimitFiles(pages uint64) { files.max.Store(max(int64(pages/fileShare), leastFiles)) }

// MaxFiles returns the limit, 0 when there is none. Linux lets CAP_SYS_ADMIN exceed it. Here it holds for all: programs mostly
// run as root, and it is there so that one of them does not end the machine.
func MaxFiles() int64 { return files.max.Load() }

// SetMaxFiles changes the limit: EINVAL. What is open stays open.
func SetMaxFiles(n int64) error {
	if n < 1 {
		return unix.EINVAL
	}
	files.max.Store(n)
	return nil
}

// OpenFiles returns how many files are open.
func OpenFiles() int64 { return files.open.Load() }

// RoomForFiles checks that n more may be opened, of which some may be open already but not used yet: ENFILE. Who opens many at
// once may exceed the limit by as many as do so at that moment.
func RoomForFiles(n int64) error {
	if most := files.max.Load(); most != 0 && files.open.Load() > most-n {
		return unix.ENFILE
	}
	return nil
}
