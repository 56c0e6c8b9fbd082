package syscall

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// TestHotRowsDecodeAlike gives bad arguments to the hot calls and to the rows whose place they take: the errors are the same.
func TestHotRowsDecodeAlike(t *testing.T) {
	var rows table
	for _, f := range []func(*table){ioRows, fdRows, pathRows, memRows, timeRows, epollRows, sigRows, futexRows} {
		f(&rows)
	}
	inside(t, func(u *user, call caller) {
		self := u.w.k.Task(1)
		const fd = 50 // a file, open before each call
		file := u.must(unix.SYS_OPEN, u.str("/tmp/f"), unix.O_RDWR|unix.O_CREAT, 0o666)
		u.must(unix.SYS_WRITE, file, u.alloc(64), 64)
		words := []uint64{0, fd, ^uint64(0), 1<<32 | 99, 1 << 47, u.str("/proc/self/none/x")}
		for _, h := range hot {
			if h.nr == unix.SYS_MUNMAP || h.nr == unix.SYS_MPROTECT {
				continue // they would change the program itself
			}
			for i := range 6 * 6 * 6 * 6 {
				a := [4]uint64{words[i%6], words[i/6%6], words[i/36%6], words[i/216]}
				if uint32(a[0]) == 0 {
					continue // not standard input
				}
				errs := [2]error{}
				for n, serve := range []func(*task.Task) (uint64, error){rows[h.nr].call, h.call} {
					call(unix.SYS_DUP2, [6]uint64{file, fd})
					call(unix.SYS_LSEEK, [6]uint64{file, 0, unix.SEEK_SET})
					c := self.Ctx
					c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = a[0], a[1], a[2], a[3], 1<<32|99, 8
					_, errs[n] = serve(self)
				}
				if errs[0] != errs[1] {
					t.Errorf("%s%#x: %v, and hot %v", rows[h.nr].name, a, errs[0], errs[1])
					return
				}
			}
		}
	})
}
