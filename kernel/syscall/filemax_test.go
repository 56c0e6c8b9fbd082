package syscall

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// TestFileMax: at the machine's limit every call that opens something gives ENFILE, and leaves nothing open; a copy of a descriptor is no new file.
func TestFileMax(t *testing.T) {
	run(t, func(u *user) {
		fd := u.must(unix.SYS_EPOLL_CREATE1, 0)
		open := vfs.OpenFiles()
		if err := vfs.SetMaxFiles(open); err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = vfs.SetMaxFiles(math.MaxInt64) }()
		u.fails(unix.ENFILE, unix.SYS_EVENTFD2, 0, 0)
		u.fails(unix.ENFILE, unix.SYS_EPOLL_CREATE1, 0)
		u.fails(unix.ENFILE, unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, 0)
		u.fails(unix.ENFILE, unix.SYS_INOTIFY_INIT1, 0)
		u.fails(unix.ENFILE, unix.SYS_PIPE2, u.alloc(8), 0)
		u.fails(unix.ENFILE, unix.SYS_MEMFD_CREATE, u.str("x"), 0)
		u.fails(unix.ENFILE, unix.SYS_OPEN, u.str("/"), unix.O_RDONLY, 0)
		u.fails(unix.ENFILE, unix.SYS_PIDFD_OPEN, u.must(unix.SYS_GETPID), 0)
		if n := vfs.OpenFiles(); n != open {
			t.Errorf("%d files are open, before %d", n, open)
		}
		copied := u.must(unix.SYS_DUP, fd)
		u.must(unix.SYS_CLOSE, copied)
		u.must(unix.SYS_CLOSE, fd)
		u.must(unix.SYS_EVENTFD2, 0, 0)
	})
}
