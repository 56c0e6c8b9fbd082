package syscall

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// hostile are addresses and numbers that nobody should pass.
var hostile = []uint64{
	0, 1, 7, 0x1000, 65535, 0x10000, dataBase + dataSize - 1, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, machine.UserTop - 1,
	machine.UserTop - 4096, machine.UserTop, 1 << 47, 1<<63 - 1, 1 << 63, 0xffffffff80000000, ^uint64(0) - 4095, ^uint64(0) - 7, ^uint64(0),
}

// TestHostileArguments makes every call with hostile values in each argument,
// the others being sensible for at least some calls. Whatever the call does
// to the program, the kernel must not panic and must not hang.
func TestHostileArguments(t *testing.T) {
	names := New(Options{}).rows
	for nr := range names {
		if names[nr].call == nil || nr == unix.SYS_EXIT || nr == unix.SYS_EXIT_GROUP {
			continue
		}
		t.Run(names[nr].name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{Strace: nr%2 == 0})
			w.put("/file", 0o666, []byte("contents"))
			made := 0
			status, sig := w.run(func(u *user) {
				u.handle(unix.SIGALRM, 0, func(*user) {})
				u.must(unix.SYS_SETITIMER, 0, u.words(0, 300, 0, 300), 0)
				fd := u.must(unix.SYS_OPEN, u.str("/file"), unix.O_RDWR, 0)
				path, buf := u.str("/file"), u.alloc(4096)
				for _, base := range [][6]uint64{{}, {fd, buf, 64, 0, 0, 0}, {path, path, 8, 8, 0, 0}, {fd, path, buf, 8, buf, 8}, {buf, 1, buf, 0, 0, 0}} {
					for i := range max(len(names[nr].args), 1) {
						for _, v := range hostile {
							a := base
							a[i] = v
							u.call(uint64(nr), a[:]...)
							made++
						}
					}
				}
				u.exit(0)
			})
			t.Logf("%d calls, ended with %d, %v", made, status, sig)
		})
	}
}

// FuzzCalls makes sequences of calls whose arguments come from a pool of good and bad values, so
// that one call finds what others left behind. The kernel must survive all of them.
func FuzzCalls(f *testing.F) {
	f.Add([]byte{unix.SYS_OPEN, 0, 0, 1, 2, 3, 4, 5, unix.SYS_READ, 0, 6, 7, 8, 9, 10, 11})
	f.Add([]byte{unix.SYS_PIPE, 0, 0, 0, 0, 0, 0, 0, unix.SYS_FORK, 0, 0, 0, 0, 0, 0, 0, unix.SYS_WRITE, 0, 33, 22, 25, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, Options{})
		w.patience = 300 * time.Millisecond
		w.put("/file", 0o666, []byte("contents"))
		w.run(func(u *user) {
			u.handle(unix.SIGALRM, 0, func(*user) {})
			u.must(unix.SYS_SETITIMER, 0, u.words(0, 300, 0, 300), 0)
			pool := append([]uint64{
				u.alloc(512), u.str("/file"), u.str("/tmp/new"), u.str("."), u.words(0, 1, 0, 1), u.words(dataBase, 8, dataBase+64, 8),
				2, 3, 4, 5, 6, 8, 16, 64, 512, 4096, 8192, unix.O_RDWR | unix.O_CREAT, unix.O_NONBLOCK, cwd, 0x8000000, uint64(unix.SIGUSR1),
				unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, unix.MAP_SHARED, unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_ANONYMOUS,
			}, hostile...)
			for calls := 0; len(script) >= 8 && calls < 64; script, calls = script[8:], calls+1 {
				nr := (uint64(script[0]) | uint64(script[1])<<8) % numbers
				if nr == unix.SYS_EXIT || nr == unix.SYS_EXIT_GROUP {
					continue
				}
				var a [6]uint64
				for i := range a {
					a[i] = pool[int(script[2+i])%len(pool)]
				}
				u.call(nr, a[:]...)
			}
			u.exit(0)
		})
	})
}
