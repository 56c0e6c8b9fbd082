package syscall

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/dnotify"
	"gosv/kernel/klog"
)

// run runs p as process 1 and expects status 0.
func run(t *testing.T, p program) *world {
	t.Helper()
	w := newWorld(t, Options{})
	if status, sig := w.run(p); status != 0 || sig != 0 {
		t.Errorf("ended with %d, %v", status, sig)
	}
	return w
}

const (
	cwd    = 1<<64 - 100 // AT_FDCWD
	none   = 1<<64 - 1
	eagain = 1<<64 - 11 // -EAGAIN
)

func TestReadWriteSeek(t *testing.T) {
	run(t, func(u *user) {
		buf := u.alloc(256)
		fd := u.must(unix.SYS_OPENAT, cwd, u.str("/tmp/f"), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o640)
		u.fails(unix.EEXIST, unix.SYS_OPENAT, cwd, u.str("/tmp/f"), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o640)
		u.write(buf, []byte("hello, world"))
		if n := u.must(unix.SYS_WRITE, fd, buf, 12); n != 12 {
			t.Errorf("write: %d", n)
		}
		if n := u.must(unix.SYS_LSEEK, fd, 7, unix.SEEK_SET); n != 7 {
			t.Errorf("lseek: %d", n)
		}
		clear := buf + 128
		if n := u.must(unix.SYS_READ, fd, clear, 100); n != 5 || string(u.read(clear, 5)) != "world" {
			t.Errorf("read: %d %q", n, u.read(clear, 5))
		}
		if n := u.must(unix.SYS_READ, fd, clear, 100); n != 0 {
			t.Errorf("read at the end: %d", n)
		}
		if n := u.must(unix.SYS_PREAD64, fd, clear, 4, 1); n != 4 || string(u.read(clear, 4)) != "ello" {
			t.Errorf("pread: %d %q", n, u.read(clear, 4))
		}
		u.must(unix.SYS_PWRITE64, fd, buf, 5, 100)
		st := u.alloc(144)
		u.must(unix.SYS_FSTAT, fd, st)
		if s := abi.GetStat(u.read(st, 144)); s.Size != 105 || s.Mode != unix.S_IFREG|0o640 || s.Nlink != 1 {
			t.Errorf("fstat: %+v", s)
		}
		u.must(unix.SYS_FTRUNCATE, fd, 3)
		u.must(unix.SYS_NEWFSTATAT, cwd, u.str("/tmp/f"), st, 0)
		if s := abi.GetStat(u.read(st, 144)); s.Size != 3 {
			t.Errorf("after ftruncate: %+v", s)
		}
		iov := u.words(buf, 2, clear, 0, buf+7, 5)
		if n := u.must(unix.SYS_WRITEV, fd, iov, 3); n != 7 {
			t.Errorf("writev: %d", n)
		}
		if n := u.must(unix.SYS_PREADV, fd, u.words(clear, 3, clear+10, 50), 2, 10); n != 9 {
			t.Errorf("preadv: %d", n)
		}
		u.must(unix.SYS_CLOSE, fd)
		u.fails(unix.EBADF, unix.SYS_CLOSE, fd)
		u.fails(unix.EBADF, unix.SYS_READ, fd, buf, 1)
		u.fails(unix.EBADF, unix.SYS_READ, none, buf, 1)
		fd = u.must(unix.SYS_OPEN, u.str("/tmp/f"), unix.O_RDONLY)
		u.fails(unix.EBADF, unix.SYS_WRITE, fd, buf, 1)
		u.fails(unix.EFAULT, unix.SYS_READ, fd, 0x1000, 1)
		u.fails(unix.EFAULT, unix.SYS_READ, fd, 0xffffffff80000000, 1)
		u.fails(unix.EFAULT, unix.SYS_READ, fd, buf, 1<<63)
		u.fails(unix.EINVAL, unix.SYS_READV, fd, iov, 1025)
		u.fails(unix.EINVAL, unix.SYS_READV, fd, u.words(buf, 1<<63), 1)
		u.fails(unix.EFAULT, unix.SYS_READV, fd, 8, 1)
		u.fails(unix.EINVAL, unix.SYS_PREAD64, fd, buf, 1, none)
	})
}

func TestPaths(t *testing.T) {
	run(t, func(u *user) {
		f, d, l := u.str("/tmp/f"), u.str("/tmp/d"), u.str("/tmp/l")
		u.must(unix.SYS_MKDIR, d, 0o777)
		u.fails(unix.EEXIST, unix.SYS_MKDIR, d, 0o777)
		u.must(unix.SYS_CLOSE, u.must(unix.SYS_CREAT, f, 0o666))
		u.must(unix.SYS_SYMLINK, f, l)
		buf := u.alloc(4096)
		if n := u.must(unix.SYS_READLINK, l, buf, 100); string(u.read(buf, n)) != "/tmp/f" {
			t.Errorf("readlink: %q", u.read(buf, n))
		}
		if n := u.must(unix.SYS_READLINK, l, buf, 2); n != 2 {
			t.Errorf("short readlink: %d", n)
		}
		u.fails(unix.EINVAL, unix.SYS_READLINK, f, buf, 100)
		u.fails(unix.ENOENT, unix.SYS_OPEN, u.str("/none"), 0, 0)
		u.fails(unix.ENOENT, unix.SYS_OPEN, u.str(""), 0, 0)
		u.fails(unix.EFAULT, unix.SYS_OPEN, 3, 0, 0)
		u.fails(unix.ENAMETOOLONG, unix.SYS_OPEN, u.str("/"+strings.Repeat("a", 4096)), 0, 0)
		u.fails(unix.ENAMETOOLONG, unix.SYS_OPEN, u.str("/"+strings.Repeat("a", 256)), 0, 0)
		u.fails(unix.ELOOP, unix.SYS_OPEN, l, unix.O_NOFOLLOW, 0)
		u.fails(unix.ENOTDIR, unix.SYS_OPEN, f, unix.O_DIRECTORY, 0)
		u.fails(unix.EISDIR, unix.SYS_OPEN, d, unix.O_WRONLY, 0)
		u.must(unix.SYS_RENAME, f, u.str("/tmp/d/g"))
		dir := u.must(unix.SYS_OPEN, d, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
		g := u.must(unix.SYS_OPENAT, dir, u.str("g"), unix.O_RDWR, 0)
		u.fails(unix.ENOTDIR, unix.SYS_OPENAT, g, u.str("x"), 0, 0)
		u.fails(unix.EBADF, unix.SYS_OPENAT, 77, u.str("x"), 0, 0)
		u.must(unix.SYS_LINKAT, dir, u.str("g"), dir, u.str("h"), 0)
		if n := u.must(unix.SYS_GETDENTS64, dir, buf, 4096); n == 0 || !bytes.Contains(u.read(buf, n), []byte("h\x00")) {
			t.Errorf("getdents64: %q", u.read(buf, n))
		}
		if n := u.must(unix.SYS_GETDENTS64, dir, buf, 4096); n != 0 {
			t.Errorf("getdents64 at the end: %d", n)
		}
		u.fails(unix.ENOTDIR, unix.SYS_GETDENTS64, g, buf, 4096)
		u.fails(unix.ENOTEMPTY, unix.SYS_RMDIR, d)
		u.must(unix.SYS_UNLINKAT, dir, u.str("h"), 0)
		u.fails(unix.EINVAL, unix.SYS_UNLINKAT, dir, u.str("h"), 1)
		u.must(unix.SYS_FCHMOD, g, 0o600)
		u.must(unix.SYS_FCHOWN, g, 12, 13)
		u.must(unix.SYS_UTIMENSAT, dir, u.str("g"), u.words(1, 2, 3, 4), 0)
		st := u.alloc(256)
		u.must(unix.SYS_FSTAT, g, st)
		if s := abi.GetStat(u.read(st, 144)); s.Mode != unix.S_IFREG|0o600 || s.Uid != 12 || s.Gid != 13 || s.Atim.Sec != 1 || s.Mtim.Nsec != 4 {
			t.Errorf("fstat: %+v", s)
		}
		u.must(unix.SYS_STATX, g, u.str(""), unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, st)
		u.fails(unix.ENOENT, unix.SYS_STATX, g, u.str(""), 0, unix.STATX_BASIC_STATS, st)
		u.must(unix.SYS_CHDIR, d)
		if n := u.must(unix.SYS_GETCWD, buf, 100); string(u.read(buf, n)) != "/tmp/d\x00" {
			t.Errorf("getcwd: %q", u.read(buf, n))
		}
		u.fails(unix.ERANGE, unix.SYS_GETCWD, buf, 3)
		u.must(unix.SYS_FCHDIR, dir)
		u.must(unix.SYS_ACCESS, u.str("../d/g"), unix.R_OK)
		u.fails(unix.EINVAL, unix.SYS_ACCESS, u.str("g"), 8)
		u.must(unix.SYS_UNLINK, u.str("g"))
		u.must(unix.SYS_RMDIR, d)
		u.fails(unix.ENOENT, unix.SYS_GETCWD, buf, 100)
		u.must(unix.SYS_STATFS, u.str("/"), buf)
		if old := u.must(unix.SYS_UMASK, 0o77); old != 0o22 {
			t.Errorf("umask: %o", old)
		}
	})
}

func TestExtendedAttributes(t *testing.T) {
	run(t, func(u *user) {
		f, name, buf := u.str("/tmp/f"), u.str("user.x"), u.alloc(64)
		fd := u.must(unix.SYS_CREAT, f, 0o666)
		u.fails(unix.ENODATA, unix.SYS_GETXATTR, f, name, buf, 64)
		u.must(unix.SYS_SETXATTR, f, name, u.str("value"), 5, 0)
		if n := u.must(unix.SYS_FGETXATTR, fd, name, buf, 64); string(u.read(buf, n)) != "value" {
			t.Errorf("fgetxattr: %q", u.read(buf, n))
		}
		if n := u.must(unix.SYS_LGETXATTR, f, name, 0, 0); n != 5 {
			t.Errorf("size: %d", n)
		}
		u.fails(unix.ERANGE, unix.SYS_GETXATTR, f, name, buf, 2)
		if n := u.must(unix.SYS_LISTXATTR, f, buf, 64); string(u.read(buf, n)) != "user.x\x00" {
			t.Errorf("listxattr: %q", u.read(buf, n))
		}
		u.fails(unix.ERANGE, unix.SYS_GETXATTR, f, u.str(""), buf, 2)
		u.fails(unix.EEXIST, unix.SYS_FSETXATTR, fd, name, buf, 1, unix.XATTR_CREATE)
		u.must(unix.SYS_REMOVEXATTR, f, name)
		u.fails(unix.ENODATA, unix.SYS_FREMOVEXATTR, fd, name)
	})
}

func TestDescriptors(t *testing.T) {
	run(t, func(u *user) {
		fd := u.must(unix.SYS_OPEN, u.str("/bin/init"), unix.O_RDONLY|unix.O_CLOEXEC)
		if n := u.must(unix.SYS_FCNTL, fd, unix.F_GETFD); n != unix.FD_CLOEXEC {
			t.Errorf("F_GETFD: %d", n)
		}
		if n := u.must(unix.SYS_FCNTL, fd, unix.F_DUPFD, 100); n != 100 {
			t.Errorf("F_DUPFD: %d", n)
		}
		if n := u.must(unix.SYS_FCNTL, 100, unix.F_GETFD); n != 0 {
			t.Errorf("F_GETFD of the copy: %d", n)
		}
		if n := u.must(unix.SYS_DUP2, fd, 50); n != 50 {
			t.Errorf("dup2: %d", n)
		}
		if n := u.must(unix.SYS_DUP2, 50, 50); n != 50 {
			t.Errorf("dup2 to itself: %d", n)
		}
		u.fails(unix.EINVAL, unix.SYS_DUP3, 50, 50, 0)
		u.fails(unix.EINVAL, unix.SYS_DUP3, 50, 51, 1)
		u.fails(unix.EBADF, unix.SYS_DUP2, 50, 1<<30)
		u.fails(unix.EBADF, unix.SYS_DUP2, 51, 51)
		u.fails(unix.EINVAL, unix.SYS_FCNTL, fd, unix.F_DUPFD, 1<<30)
		u.must(unix.SYS_FCNTL, fd, unix.F_SETFL, unix.O_NONBLOCK|unix.O_WRONLY)
		if n := u.must(unix.SYS_FCNTL, 100, unix.F_GETFL); n&unix.O_NONBLOCK == 0 || n&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("F_GETFL: %o", n)
		}
		u.must(unix.SYS_IOCTL, fd, abi.FIONBIO, u.words(0))
		if n := u.must(unix.SYS_FCNTL, fd, unix.F_GETFL); n&unix.O_NONBLOCK != 0 {
			t.Errorf("F_GETFL after FIONBIO: %o", n)
		}
		u.fails(unix.ENOTTY, unix.SYS_IOCTL, fd, unix.TCGETS, u.alloc(64))
		u.fails(unix.EINVAL, unix.SYS_FCNTL, fd, 999)
		u.must(unix.SYS_CLOSE_RANGE, 50, 1<<32-1, 0)
		u.fails(unix.EBADF, unix.SYS_FCNTL, 100, unix.F_GETFD)
		u.fails(unix.EINVAL, unix.SYS_CLOSE_RANGE, 5, 4, 0)
		u.must(unix.SYS_SETRLIMIT, unix.RLIMIT_NOFILE, u.words(fd+2, fd+2))
		u.must(unix.SYS_DUP, fd)
		u.fails(unix.EMFILE, unix.SYS_DUP, fd)
		u.fails(unix.EMFILE, unix.SYS_PIPE2, u.alloc(8), 0)
	})
}

func TestLocks(t *testing.T) {
	run(t, func(u *user) {
		fd := u.must(unix.SYS_CREAT, u.str("/tmp/f"), 0o666)
		lock := func(u *user, typ int16) uint64 {
			b := make([]byte, 32)
			abi.PutFlock(b, unix.Flock_t{Type: typ})
			a := u.alloc(32)
			u.write(a, b)
			return a
		}
		ready := u.alloc(8)
		u.must(unix.SYS_PIPE, ready)
		r, w := uint64(u.half(ready)), uint64(u.half(ready+4))
		u.must(unix.SYS_FCNTL, fd, unix.F_SETLK, lock(u, unix.F_WRLCK))
		u.must(unix.SYS_FLOCK, fd, unix.LOCK_EX)
		child := u.fork(func(c *user) {
			c.fails(unix.EAGAIN, unix.SYS_FCNTL, fd, unix.F_SETLK, lock(c, unix.F_WRLCK))
			other := c.must(unix.SYS_OPEN, c.str("/tmp/f"), unix.O_RDWR)
			c.fails(unix.EAGAIN, unix.SYS_FLOCK, other, unix.LOCK_SH|unix.LOCK_NB)
			l := lock(c, unix.F_WRLCK)
			c.must(unix.SYS_FCNTL, fd, unix.F_GETLK, l)
			if got := abi.GetFlock(c.read(l, 32)); got.Type != unix.F_WRLCK || got.Pid != 1 {
				t.Errorf("F_GETLK: %+v", got)
			}
			c.must(unix.SYS_WRITE, w, l, 1)
			c.must(unix.SYS_FCNTL, fd, unix.F_SETLKW, lock(c, unix.F_WRLCK))
			c.must(unix.SYS_FLOCK, other, unix.LOCK_SH)
			c.exit(0)
		})
		u.must(unix.SYS_READ, r, u.alloc(8), 1)
		time.Sleep(5 * time.Millisecond)
		u.must(unix.SYS_FCNTL, fd, unix.F_SETLK, lock(u, unix.F_UNLCK))
		u.must(unix.SYS_FLOCK, fd, unix.LOCK_UN)
		if n := u.must(unix.SYS_WAIT4, child, 0, 0, 0); n != child {
			t.Errorf("wait4: %d", n)
		}
	})
}

func TestPipe(t *testing.T) {
	run(t, func(u *user) {
		fds, buf := u.alloc(8), u.alloc(64)
		u.must(unix.SYS_PIPE2, fds, unix.O_CLOEXEC)
		r, w := uint64(u.half(fds)), uint64(u.half(fds+4))
		child := u.fork(func(c *user) {
			c.must(unix.SYS_CLOSE, r)
			time.Sleep(3 * time.Millisecond)
			c.write(buf, []byte("abc"))
			c.must(unix.SYS_WRITE, w, buf, 3)
			c.exit(9)
		})
		u.must(unix.SYS_CLOSE, w)
		if n := u.must(unix.SYS_READ, r, buf, 64); string(u.read(buf, n)) != "abc" {
			t.Errorf("read: %q", u.read(buf, n))
		}
		if n := u.must(unix.SYS_READ, r, buf, 64); n != 0 {
			t.Errorf("read at the end: %d", n)
		}
		status := u.alloc(8)
		u.must(unix.SYS_WAIT4, child, status, 0, 0)
		if s := u.half(status); s != 9<<8 {
			t.Errorf("status %#x", s)
		}
		u.fails(unix.ECHILD, unix.SYS_WAIT4, none, 0, 0, 0)
		u.fails(unix.EFAULT, unix.SYS_PIPE2, 16, 0)
		u.fails(unix.EINVAL, unix.SYS_PIPE2, fds, 1)
	})
}

func TestPipeNonblockingAndBroken(t *testing.T) {
	run(t, func(u *user) {
		fds, buf := u.alloc(8), u.alloc(64)
		u.must(unix.SYS_PIPE2, fds, unix.O_NONBLOCK)
		r, w := uint64(u.half(fds)), uint64(u.half(fds+4))
		u.fails(unix.EAGAIN, unix.SYS_READ, r, buf, 1)
		total := uint64(0)
		for {
			n := u.call(unix.SYS_WRITE, w, dataBase, 4096)
			if int64(n) < 0 {
				if n != eagain {
					t.Errorf("write: %d", int64(n))
				}
				break
			}
			total += n
		}
		if total != 65536 || u.must(unix.SYS_FCNTL, r, unix.F_GETPIPE_SZ) != total {
			t.Errorf("the pipe holds %d", total)
		}
		broken := 0
		u.handle(unix.SIGPIPE, 0, func(*user) { broken++ })
		u.must(unix.SYS_CLOSE, r)
		u.fails(unix.EPIPE, unix.SYS_WRITE, w, buf, 1)
		if broken != 1 {
			t.Errorf("%d SIGPIPE", broken)
		}
		pid := u.fork(func(c *user) {
			c.must(unix.SYS_RT_SIGACTION, uint64(unix.SIGPIPE), c.words(0, 0, 0, 0), 0, 8)
			c.call(unix.SYS_WRITE, w, buf, 1)
			t.Error("survived SIGPIPE")
		})
		status := u.alloc(8)
		u.must(unix.SYS_WAIT4, pid, status, 0, 0)
		if s := u.half(status); s != uint32(unix.SIGPIPE) {
			t.Errorf("status %#x", s)
		}
	})
}

func TestInterruptedRead(t *testing.T) {
	run(t, func(u *user) {
		fds, buf := u.alloc(8), u.alloc(64)
		u.must(unix.SYS_PIPE2, fds, 0)
		r, w := uint64(u.half(fds)), uint64(u.half(fds+4))
		hits := 0
		u.handle(unix.SIGALRM, 0, func(*user) { hits++ })
		never, often := u.words(0, 0, 0, 0), u.words(0, 2000, 0, 2000) // the first may come before the read
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		u.fails(unix.EINTR, unix.SYS_READ, r, buf, 1)
		u.must(unix.SYS_SETITIMER, 0, never, 0)
		if hits == 0 {
			t.Error("interrupted by nothing")
		}
		u.handle(unix.SIGALRM, 0x10000000, func(h *user) { // SA_RESTART
			hits++
			h.must(unix.SYS_WRITE, w, buf, 1)
		})
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		if n := u.must(unix.SYS_READ, r, buf, 10); n == 0 || hits < 2 {
			t.Errorf("read %d after %d signals", n, hits)
		}
		rest := u.alloc(16)
		u.handle(unix.SIGALRM, 0x10000000, func(*user) { hits++ })
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		u.fails(unix.EINTR, unix.SYS_NANOSLEEP, u.words(100, 0), rest)
		u.must(unix.SYS_SETITIMER, 0, never, 0)
		if s := u.word(rest); s < 90 || s > 99 {
			t.Errorf("%d s are left", s)
		}
		u.must(unix.SYS_NANOSLEEP, u.words(0, 1000), 0)
		u.fails(unix.EINVAL, unix.SYS_NANOSLEEP, u.words(0, 1000000000), 0)
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		u.fails(unix.EINTR, unix.SYS_PAUSE)
	})
}

// Whoever opens a FIFO waits for the other side without using the processor, and a signal ends that: also where the FIFO is ready, as it is for
// a writer (POLLERR says that nobody reads), and for a reader when there is data whose writer is gone.
func TestInterruptedOpen(t *testing.T) {
	run(t, func(u *user) {
		u.handle(unix.SIGALRM, 0, func(*user) {})
		often, never := u.words(0, 20_000, 0, 20_000), u.words(0, 0, 0, 0)
		name := u.str("/fifo")
		u.must(unix.SYS_MKNOD, name, unix.S_IFIFO|0o600, 0)
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		u.fails(unix.EINTR, unix.SYS_OPEN, name, unix.O_WRONLY)
		u.fails(unix.EINTR, unix.SYS_CREAT, name, 0o600)
		u.must(unix.SYS_SETITIMER, 0, never, 0)
		u.must(unix.SYS_OPEN, name, unix.O_RDONLY|unix.O_NONBLOCK)
		w := u.must(unix.SYS_OPEN, name, unix.O_WRONLY)
		u.must(unix.SYS_WRITE, w, name, 1)
		u.must(unix.SYS_CLOSE, w)
		u.must(unix.SYS_SETITIMER, 0, often, 0)
		u.fails(unix.EINTR, unix.SYS_OPEN, name, unix.O_RDONLY)
		u.must(unix.SYS_SETITIMER, 0, never, 0)
	})
}

func TestPollSelectEpoll(t *testing.T) {
	run(t, func(u *user) {
		fds, buf := u.alloc(8), u.alloc(64)
		u.must(unix.SYS_PIPE2, fds, 0)
		r, w := uint64(u.half(fds)), uint64(u.half(fds+4))
		poll := u.words(r|unix.POLLIN<<32, w|unix.POLLOUT<<32, 1<<32-1)
		if n := u.must(unix.SYS_POLL, poll, 3, 1000); n != 1 || u.word(poll+8)>>48 != unix.POLLOUT || u.word(poll)>>48 != 0 {
			t.Errorf("poll: %d %#x %#x", n, u.word(poll), u.word(poll+8))
		}
		if n := u.must(unix.SYS_POLL, poll, 1, 2); n != 0 {
			t.Errorf("poll times out: %d", n)
		}
		bad := u.words(77 | unix.POLLIN<<32)
		if n := u.must(unix.SYS_POLL, bad, 1, none); n != 1 || u.word(bad)>>48 != unix.POLLNVAL {
			t.Errorf("poll of a bad descriptor: %d %#x", n, u.word(bad))
		}
		ep := u.must(unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC)
		event := u.alloc(16)
		u.write(event, []byte{unix.EPOLLIN, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
		u.must(unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, r, event)
		u.fails(unix.EEXIST, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_ADD, r, event)
		u.fails(unix.EFAULT, unix.SYS_EPOLL_CTL, ep, unix.EPOLL_CTL_MOD, r, 8)
		u.fails(unix.EINVAL, unix.SYS_EPOLL_WAIT, ep, buf, 0, 0)
		if n := u.must(unix.SYS_EPOLL_WAIT, ep, buf, 4, 1); n != 0 {
			t.Errorf("epoll_wait: %d", n)
		}
		child := u.fork(func(c *user) {
			time.Sleep(3 * time.Millisecond)
			c.must(unix.SYS_WRITE, w, buf, 1)
			c.exit(0)
		})
		if n := u.must(unix.SYS_EPOLL_PWAIT, ep, buf, 4, none, u.words(0), 8); n != 1 || !bytes.Equal(u.read(buf, 12), []byte{unix.EPOLLIN, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}) {
			t.Errorf("epoll_pwait: %d %x", n, u.read(buf, 12))
		}
		set := u.words(1 << r)
		if n := u.must(unix.SYS_SELECT, r+1, set, 0, 0, 0); n != 1 || u.word(set) != 1<<r {
			t.Errorf("select: %d %#x", n, u.word(set))
		}
		u.must(unix.SYS_READ, r, buf, 1)
		timeout := u.words(0, 3000000)
		if n := u.must(unix.SYS_PSELECT6, r+1, set, 0, 0, timeout, 0); n != 0 || u.word(set) != 0 || u.word(timeout+8) != 0 {
			t.Errorf("pselect6: %d %#x, %d ns left", n, u.word(set), u.word(timeout+8))
		}
		u.fails(unix.EBADF, unix.SYS_SELECT, 64, 0, u.words(1<<40), 0, 0)
		u.must(unix.SYS_WAIT4, child, 0, 0, 0)
		// A signal that only ppoll lets in interrupts it.
		hits := 0
		u.handle(unix.SIGUSR1, 0x10000000, func(*user) { hits++ })
		blocked := u.words(1 << (uint(unix.SIGUSR1) - 1))
		u.must(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, blocked, 0, 8)
		u.must(unix.SYS_KILL, u.must(unix.SYS_GETPID), uint64(unix.SIGUSR1))
		u.fails(unix.EINTR, unix.SYS_PPOLL, poll, 1, 0, u.words(0), 8)
		if hits != 1 {
			t.Errorf("%d signals", hits)
		}
		old := u.alloc(8)
		u.must(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, 0, old, 8)
		if m := u.word(old); m != u.word(blocked) {
			t.Errorf("mask %#x after ppoll", m)
		}
	})
}

func TestEventfd(t *testing.T) {
	run(t, func(u *user) {
		fd := u.must(unix.SYS_EVENTFD2, 3, unix.EFD_NONBLOCK)
		buf := u.words(5)
		u.must(unix.SYS_WRITE, fd, buf, 8)
		if n := u.must(unix.SYS_READ, fd, buf, 8); n != 8 || u.word(buf) != 8 {
			t.Errorf("eventfd: %d %d", n, u.word(buf))
		}
		u.fails(unix.EAGAIN, unix.SYS_READ, fd, buf, 8)
		u.fails(unix.EINVAL, unix.SYS_EVENTFD2, 0, 2)
	})
}

func TestMemfd(t *testing.T) {
	run(t, func(u *user) {
		fd := u.must(unix.SYS_MEMFD_CREATE, u.str("name"), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if n := u.must(unix.SYS_FCNTL, fd, unix.F_GETFD); n != unix.FD_CLOEXEC {
			t.Errorf("F_GETFD: %d", n)
		}
		u.must(unix.SYS_FTRUNCATE, fd, 4096)
		m := u.must(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, fd, 0)
		u.write(m, []byte("shared"))
		buf := u.alloc(16)
		if u.must(unix.SYS_PREAD64, fd, buf, 6, 0); string(u.read(buf, 6)) != "shared" {
			t.Errorf("read %q", u.read(buf, 6))
		}
		u.must(unix.SYS_FCNTL, fd, unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
		u.fails(unix.EPERM, unix.SYS_FTRUNCATE, fd, 0)
		u.fails(unix.EINVAL, unix.SYS_MEMFD_CREATE, u.str(strings.Repeat("x", 250)), 0)
	})
}

func TestExec(t *testing.T) {
	w := newWorld(t, Options{})
	var got []string
	w.install("/bin/prog", func(u *user) {
		sp := u.c.RSP
		argc := u.word(sp)
		str := func(a uint64) string {
			b := []byte{}
			for ; ; a++ {
				c := u.read(a, 1)[0]
				if c == 0 {
					return string(b)
				}
				b = append(b, c)
			}
		}
		for i := range argc {
			got = append(got, str(u.word(sp+8+8*i)))
		}
		for a := sp + 8*(argc+2); u.word(a) != 0; a += 8 {
			got = append(got, "env "+str(u.word(a)))
		}
		name := u.alloc(16)
		u.must(unix.SYS_PRCTL, unix.PR_GET_NAME, name)
		got = append(got, "comm "+strings.TrimRight(string(u.read(name, 16)), "\x00"))
		u.must(unix.SYS_FCNTL, 20, unix.F_GETFD)
		u.fails(unix.EBADF, unix.SYS_FCNTL, 21, unix.F_GETFD)
		u.exit(42)
	})
	w.put("/bin/script", 0o755, []byte("#!/bin/prog -x\n"))
	w.put("/bin/text", 0o755, []byte("just text"))
	w.put("/bin/plain", 0o644, []byte("#!/bin/prog"))
	w.put("/bin/bad", 0o755, []byte("#!/bin/none"))
	status, _ := w.run(func(u *user) {
		empty := u.words(0)
		for path, e := range map[string]unix.Errno{
			"/bin/none": unix.ENOENT, "/bin/text": unix.ENOEXEC, "/bin/plain": unix.EACCES, "/bin": unix.EACCES, "/bin/bad": unix.ENOENT, "": unix.ENOENT,
		} {
			u.fails(e, unix.SYS_EXECVE, u.str(path), empty, empty)
		}
		long := u.str(strings.Repeat("x", 131072))
		u.fails(unix.E2BIG, unix.SYS_EXECVE, u.str("/bin/prog"), u.words(long, 0), empty)
		u.fails(unix.EFAULT, unix.SYS_EXECVE, u.str("/bin/prog"), u.words(8, 0), empty)
		busy := u.must(unix.SYS_OPEN, u.str("/bin/prog"), unix.O_WRONLY)
		u.fails(unix.ETXTBSY, unix.SYS_EXECVE, u.str("/bin/prog"), empty, empty)
		u.must(unix.SYS_CLOSE, busy)
		fd := u.must(unix.SYS_OPEN, u.str("/bin"), unix.O_RDONLY)
		u.must(unix.SYS_DUP2, fd, 20)
		u.must(unix.SYS_DUP3, fd, 21, unix.O_CLOEXEC)
		u.call(unix.SYS_EXECVEAT, fd, u.str("script"), u.strings("zero", "one"), u.strings("K=v"), 0)
		t.Error("execveat returned")
	})
	if status != 42 {
		t.Errorf("status %d", status)
	}
	want := []string{"/bin/prog", "-x", "/dev/fd/0/script", "one", "env K=v", "comm script"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestThreadsAndFutex(t *testing.T) {
	run(t, func(u *user) {
		word, stack := u.words(0), u.alloc(4096)+4096
		const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM |
			unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
		tidAt := u.alloc(8)
		u.c.R12 = u.fn(func(c *user) {
			if c.c.FSBase != 0x123000 {
				t.Errorf("TLS %#x", c.c.FSBase)
			}
			time.Sleep(3 * time.Millisecond)
			c.write(word, []byte{1})
			if n := c.must(unix.SYS_FUTEX, word, 1|128, 1); n > 1 {
				t.Errorf("woke %d", n)
			}
			c.call(unix.SYS_EXIT, 0)
		})
		args := u.words(flags, 0, tidAt, tidAt, 0, stack-4096, 4096, 0x123000, 0, 0, 0)
		tid := u.must(unix.SYS_CLONE3, args, 88)
		if r := u.call(unix.SYS_FUTEX, word, 0|128, 0, 0); r != 0 && r != eagain {
			t.Errorf("FUTEX_WAIT: %d", int64(r))
		}
		for u.half(tidAt) != 0 {
			if r := u.call(unix.SYS_FUTEX, tidAt, 0, tid, 0); r != 0 && r != eagain {
				t.Errorf("join: %d", int64(r))
			}
		}
		u.fails(unix.ETIMEDOUT, unix.SYS_FUTEX, word, 128, 1, u.words(0, 1000000))
		u.fails(unix.EAGAIN, unix.SYS_FUTEX, word, 128, 0, 0)
		u.fails(unix.EINVAL, unix.SYS_FUTEX, word+1, 128, 0, 0)
		u.fails(unix.EFAULT, unix.SYS_FUTEX, 0x1000, 128, 0, 0)
		u.fails(unix.ENOSYS, unix.SYS_FUTEX, word, 99, 0, 0)
		u.fails(unix.EINVAL, unix.SYS_CLONE3, args, 8)
		u.fails(unix.E2BIG, unix.SYS_CLONE3, u.words(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), 96)
		u.fails(unix.EINVAL, unix.SYS_CLONE, unix.CLONE_THREAD)
	})
}

func TestSystemInformation(t *testing.T) {
	run(t, func(u *user) {
		buf := u.alloc(1024)
		u.must(unix.SYS_UNAME, buf)
		b := u.read(buf, 390)
		for i, want := range []string{"Linux", "here", "6.1.0-gosv", "#1 SMP gosv", "x86_64", "(none)"} {
			if got := string(bytes.TrimRight(b[65*i:65*(i+1)], "\x00")); got != want {
				t.Errorf("uname[%d]: %q", i, got)
			}
		}
		u.must(unix.SYS_SETHOSTNAME, u.str("other"), 5)
		u.must(unix.SYS_UNAME, buf)
		if got := string(u.read(buf+65, 6)); got != "other\x00" {
			t.Errorf("nodename %q", got)
		}
		u.must(unix.SYS_SYSINFO, buf)
		if total, free := u.word(buf+32), u.word(buf+40); total != 8192*4096 || free == 0 || free >= total {
			t.Errorf("sysinfo: %d of %d", free, total)
		}
		u.w.calls.o.Log.Add(klog.Kernel, "hello")
		u.w.calls.o.Log.Add(klog.Kernel, "again")
		whole := u.must(unix.SYS_SYSLOG, klog.ActionSizeUnread, 0, 0)
		for _, action := range []uint64{klog.ActionRead, klog.ActionReadAll, klog.ActionReadClear} {
			if n := u.must(unix.SYS_SYSLOG, action, buf, 1000); n != whole || !bytes.HasSuffix(u.read(buf, n), []byte("] again\n")) {
				t.Errorf("syslog %d: %d of %d", action, n, whole)
			}
		}
		if n := u.must(unix.SYS_SYSLOG, klog.ActionReadAll, buf, 1000); n != 0 {
			t.Errorf("%d bytes are left of what was cleared", n)
		}
		u.fails(unix.EINVAL, unix.SYS_SYSLOG, klog.ActionReadAll, 0, 10)
		u.fails(unix.EINVAL, unix.SYS_SYSLOG, klog.ActionReadAll, buf, none)
		u.fails(unix.EINVAL, unix.SYS_SYSLOG, 11, 0, 0)
		u.fails(unix.EPERM, unix.SYS_SYSLOG, klog.ActionConsoleLevel, 0, 3)
		if n := u.must(unix.SYS_SCHED_GETAFFINITY, 0, 128, buf); n != 8 || u.word(buf) != 3 {
			t.Errorf("sched_getaffinity: %d %#x", n, u.word(buf))
		}
		u.fails(unix.EINVAL, unix.SYS_SCHED_GETAFFINITY, 0, 7, buf)
		u.fails(unix.ESRCH, unix.SYS_SCHED_GETAFFINITY, none, 128, buf)
		u.must(unix.SYS_GETRLIMIT, unix.RLIMIT_NOFILE, buf)
		if soft, hard := u.word(buf), u.word(buf+8); soft != 1024 || hard != 1<<20 {
			t.Errorf("limit on descriptors: %d, %d", soft, hard)
		}
		u.must(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_STACK, 0, buf)
		if u.word(buf) != 8<<20 {
			t.Errorf("RLIMIT_STACK %d", u.word(buf))
		}
		u.fails(unix.EINVAL, unix.SYS_PRLIMIT64, 0, 99, 0, buf)
		if n := u.must(unix.SYS_GETRANDOM, buf, 1024, 0); n != 1024 || bytes.Count(u.read(buf, 1024), []byte{0}) > 30 {
			t.Errorf("getrandom: %d", n)
		}
		u.fails(unix.EINVAL, unix.SYS_GETRANDOM, buf, 1, 8)
		a := u.must(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, buf)
		u.must(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, buf)
		u.fails(unix.EINVAL, unix.SYS_CLOCK_GETTIME, 55, buf)
		u.fails(unix.EFAULT, unix.SYS_CLOCK_GETTIME, 0, 8+a)
		u.must(unix.SYS_ARCH_PRCTL, archSetFS, 0x7000)
		u.must(unix.SYS_ARCH_PRCTL, archGetFS, buf)
		if u.word(buf) != 0x7000 || u.c.FSBase != 0x7000 {
			t.Errorf("FS base %#x", u.word(buf))
		}
		u.fails(unix.EPERM, unix.SYS_ARCH_PRCTL, archSetFS, 0xffffffff80000000)
		u.fails(unix.ENOSYS, 335)
		u.fails(unix.ENOSYS, 5000)
		u.fails(unix.ENOSYS, 1<<32-1)
		u.must(unix.SYS_SETUID, 1000)
		u.fails(unix.EPERM, unix.SYS_SETUID, 0)
		u.fails(unix.EPERM, unix.SYS_SETHOSTNAME, buf, 1)
		u.fails(unix.EPERM, unix.SYS_SYSLOG, klog.ActionSizeUnread, 0, 0)
		if n := u.must(unix.SYS_GETEUID); n != 1000 {
			t.Errorf("geteuid: %d", n)
		}
	})
}

func TestMemory(t *testing.T) {
	run(t, func(u *user) {
		const rw = unix.PROT_READ | unix.PROT_WRITE
		a := u.must(unix.SYS_MMAP, 0, 8192, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, none, 0)
		u.write(a, []byte("x"))
		u.must(unix.SYS_MPROTECT, a, 4096, unix.PROT_READ)
		u.fails(unix.EFAULT, unix.SYS_UNAME, a)
		u.must(unix.SYS_MUNMAP, a, 8192)
		u.fails(unix.EFAULT, unix.SYS_UNAME, a)
		u.fails(unix.EINVAL, unix.SYS_MMAP, 0, 0, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, none, 0)
		u.fails(unix.EINVAL, unix.SYS_MMAP, 0, 4096, rw, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, none, 1)
		u.fails(unix.EBADF, unix.SYS_MMAP, 0, 4096, rw, unix.MAP_PRIVATE, none, 0)
		fd := u.must(unix.SYS_CREAT, u.str("/tmp/f"), 0o666)
		u.must(unix.SYS_WRITE, fd, u.str("contents"), 8)
		u.fails(unix.EACCES, unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, fd, 0)
		fd = u.must(unix.SYS_OPEN, u.str("/tmp/f"), unix.O_RDONLY)
		u.fails(unix.EACCES, unix.SYS_MMAP, 0, 4096, rw, unix.MAP_SHARED, fd, 0)
		m := u.must(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_SHARED, fd, 0)
		if got := string(u.read(m, 8)); got != "contents" {
			t.Errorf("mapped %q", got)
		}
		u.fails(unix.EACCES, unix.SYS_MPROTECT, m, 4096, rw)
		brk := u.must(unix.SYS_BRK, 0)
		if got := u.must(unix.SYS_BRK, brk+4096); got != brk+4096 {
			t.Errorf("brk: %#x", got)
		}
		u.write(brk, []byte("heap"))
		vec := u.alloc(8)
		u.must(unix.SYS_MINCORE, brk, 4096, vec)
		if u.read(vec, 1)[0]&1 != 1 {
			t.Error("mincore: the page is not there")
		}
		u.fails(unix.EINVAL, unix.SYS_MADVISE, brk, 4096, 12345)
		u.must(unix.SYS_MADVISE, brk, 4096, unix.MADV_DONTNEED)
	})
}

func TestSendfile(t *testing.T) {
	run(t, func(u *user) {
		u.must(unix.SYS_WRITE, u.must(unix.SYS_CREAT, u.str("/tmp/a"), 0o666), u.str("0123456789"), 10)
		in := u.must(unix.SYS_OPEN, u.str("/tmp/a"), unix.O_RDONLY)
		out := u.must(unix.SYS_OPEN, u.str("/tmp/b"), unix.O_RDWR|unix.O_CREAT, 0o666)
		off, buf := u.words(2), u.alloc(64)
		if n := u.must(unix.SYS_SENDFILE, out, in, off, 5); n != 5 || u.word(off) != 7 {
			t.Errorf("sendfile: %d, offset %d", n, u.word(off))
		}
		if n := u.must(unix.SYS_SENDFILE, out, in, 0, 100); n != 10 {
			t.Errorf("sendfile: %d", n)
		}
		if n := u.must(unix.SYS_COPY_FILE_RANGE, in, u.words(8), out, u.words(0), 100, 0); n != 2 {
			t.Errorf("copy_file_range: %d", n)
		}
		if n := u.must(unix.SYS_PREAD64, out, buf, 64, 0); string(u.read(buf, n)) != "894560123456789" {
			t.Errorf("got %q", u.read(buf, n))
		}
		u.fails(unix.EBADF, unix.SYS_SENDFILE, in, in, 0, 1)
	})
}

func TestStrace(t *testing.T) {
	w := newWorld(t, Options{Strace: true})
	w.run(func(u *user) {
		u.call(unix.SYS_OPENAT, cwd, u.str("/none"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		u.call(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, u.words(1<<1|1<<14), 0, 8)
		u.call(unix.SYS_BRK, 0)
		u.call(unix.SYS_GETPID)
		u.call(unix.SYS_SOCKET, 2, 1, 0)
		u.call(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, 0, u.words(0, 1000), 0)
		u.call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, none, 0)
		u.call(unix.SYS_PIPE2, u.alloc(8), unix.O_CLOEXEC)
		u.call(unix.SYS_WRITE, 9, u.str("hi\n"), 3)
		u.call(337, 1, 2)
		u.exit(5)
	})
	log := strings.Join(w.log, "\n")
	for _, want := range []string{
		`1 openat(AT_FDCWD, "/none", O_RDONLY|O_CLOEXEC, 0) = -1 ENOENT (no such file or directory)`,
		`1 rt_sigprocmask(SIG_BLOCK, [INT TERM], NULL, 8) = 0`,
		`1 brk(NULL) = 0x`,
		`1 getpid() = 1`,
		`1 clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=0, tv_nsec=1000}, NULL) = 0`,
		`1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7`,
		`1 pipe2([0, 1], O_CLOEXEC) = 0`,
		`1 write(9, "hi\n", 3) = -1 EBADF (bad file descriptor)`,
		`1 syscall_0x151(0x1, 0x2, 0, 0, 0, 0) = -1 ENOSYS (function not implemented)`,
		`1 socket(AF_INET, SOCK_STREAM, 0) = -1 EAFNOSUPPORT`,
		`1 exit_group(5) = ?`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if strings.Count(log, "exit_group") != 1 {
		t.Errorf("exit_group shows more than once in\n%s", log)
	}
}

func TestMissingCallIsLoggedOnce(t *testing.T) {
	w := run(t, func(u *user) {
		u.fails(unix.ENOSYS, unix.SYS_BPF, 0)
		u.fails(unix.ENOSYS, unix.SYS_BPF, 0)
	})
	if len(w.log) != 1 || w.log[0] != "init: system call bpf is not implemented: Landlock, keys, BPF, profiling: not part of this kernel" {
		t.Errorf("log %q", w.log)
	}
}

func TestSplice(t *testing.T) {
	const nonblock = spliceNonblock
	run(t, func(u *user) {
		pipe := func() (r, w uint64) {
			fds := u.alloc(8)
			u.must(unix.SYS_PIPE2, fds, 0)
			return uint64(u.half(fds)), uint64(u.half(fds + 4))
		}
		buf := u.alloc(64)
		expect := func(what string, want string, nr uint64, fd uint64) {
			t.Helper()
			if n := u.must(nr, fd, buf, 64); string(u.read(buf, n)) != want {
				t.Errorf("%s: %q, want %q", what, u.read(buf, n), want)
			}
		}
		moves := func(want, nr uint64, args ...uint64) {
			t.Helper()
			if n := u.must(nr, args...); n != want {
				t.Errorf("moved %d of %d", n, want)
			}
		}
		ar, aw := pipe()
		br, bw := pipe()
		file := u.must(unix.SYS_OPEN, u.str("/tmp/splice"), unix.O_RDWR|unix.O_CREAT, 0o666)
		u.must(unix.SYS_WRITE, aw, u.str("abcdef"), 6)
		moves(3, unix.SYS_TEE, ar, bw, 3, 0)
		moves(2, unix.SYS_SPLICE, ar, 0, bw, 0, 2, 0)
		u.must(unix.SYS_WRITE, bw, u.str("XY"), 2) // beside a page that the other pipe reads on
		u.must(unix.SYS_WRITE, aw, u.str("gh"), 2)
		expect("tee, splice", "abcabXY", unix.SYS_READ, br)
		expect("what is left", "cdefgh", unix.SYS_READ, ar)

		u.must(unix.SYS_WRITE, file, u.str("0123456789"), 10)
		off := u.words(2)
		moves(5, unix.SYS_SPLICE, file, off, aw, 0, 5, 0)
		if u.word(off) != 7 {
			t.Errorf("offset %d", u.word(off))
		}
		moves(0, unix.SYS_SPLICE, file, 0, aw, 0, 5, 0) // at the end of the file
		moves(5, unix.SYS_SPLICE, ar, 0, file, 0, 100, 0)
		moves(8, unix.SYS_SPLICE, file, off, aw, 0, 100, 0)
		expect("file to pipe", "78923456", unix.SYS_READ, ar)
		u.must(unix.SYS_WRITE, aw, u.str("zz"), 2)
		moves(2, unix.SYS_SPLICE, ar, 0, file, u.words(0), 2, 0)
		u.must(unix.SYS_LSEEK, file, 0, unix.SEEK_SET)
		expect("pipe to file", "zz2345678923456", unix.SYS_READ, file)

		iov := u.words(u.str("one"), 3, u.str("two"), 3)
		moves(6, unix.SYS_VMSPLICE, aw, iov, 2, 0)
		moves(6, unix.SYS_VMSPLICE, ar, u.words(buf, 64), 1, 0)
		if string(u.read(buf, 6)) != "onetwo" {
			t.Errorf("vmsplice: %q", u.read(buf, 6))
		}

		u.fails(unix.EAGAIN, unix.SYS_SPLICE, ar, 0, bw, 0, 1, nonblock)
		u.fails(unix.EAGAIN, unix.SYS_SPLICE, ar, 0, file, 0, 1, nonblock)
		u.fails(unix.EAGAIN, unix.SYS_TEE, ar, bw, 1, nonblock)
		u.fails(unix.EINVAL, unix.SYS_SPLICE, ar, 0, aw, 0, 1, 0)
		u.fails(unix.EINVAL, unix.SYS_SPLICE, ar, 0, bw, 0, 1, 16)
		u.fails(unix.EINVAL, unix.SYS_SPLICE, file, 0, file, 0, 1, 0)
		u.fails(unix.ESPIPE, unix.SYS_SPLICE, ar, off, bw, 0, 1, 0)
		u.fails(unix.EBADF, unix.SYS_SPLICE, aw, 0, bw, 0, 1, 0)
		u.fails(unix.EINVAL, unix.SYS_TEE, file, bw, 1, 0)
		u.fails(unix.EBADF, unix.SYS_VMSPLICE, file, iov, 1, 0)
		moves(0, unix.SYS_SPLICE, none, 0, none, 0, 0, 16)

		child := u.fork(func(c *user) {
			time.Sleep(3 * time.Millisecond)
			c.must(unix.SYS_WRITE, aw, c.str("late"), 4)
			c.exit(0)
		})
		moves(4, unix.SYS_SPLICE, ar, 0, bw, 0, 100, 0) // waits
		u.must(unix.SYS_WAIT4, child, 0, 0, 0)
		u.must(unix.SYS_CLOSE, aw)
		moves(0, unix.SYS_SPLICE, ar, 0, bw, 0, 100, 0)
		u.must(unix.SYS_CLOSE, br)
		u.must(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, u.words(1<<(unix.SIGPIPE-1)), 0, 8)
		u.fails(unix.EPIPE, unix.SYS_SPLICE, file, u.words(0), bw, 0, 1, 0)
	})
}

func TestHandles(t *testing.T) {
	run(t, func(u *user) {
		buf := u.alloc(4096)
		// A timer.
		timer := u.must(unix.SYS_TIMERFD_CREATE, unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
		u.fails(unix.EAGAIN, unix.SYS_READ, timer, buf, 8)
		u.must(unix.SYS_TIMERFD_SETTIME, timer, unix.TFD_TIMER_ABSTIME, u.words(0, 0, 0, 1), 0)
		for u.call(unix.SYS_READ, timer, buf, 8) == eagain {
			u.must(unix.SYS_SCHED_YIELD)
		}
		if n := u.word(buf); n != 1 {
			t.Errorf("%d expirations", n)
		}
		u.fails(unix.EINVAL, unix.SYS_TIMERFD_SETTIME, timer, 8, u.words(0, 0, 0, 1), 0)
		u.fails(unix.EINVAL, unix.SYS_TIMERFD_CREATE, 77, 0)
		// A signal, which is blocked.
		mask := u.words(1 << (unix.SIGUSR1 - 1))
		u.must(unix.SYS_RT_SIGPROCMASK, 0, mask, 0, 8)
		sig := u.must(unix.SYS_SIGNALFD4, none, mask, 8, unix.SFD_NONBLOCK)
		u.fails(unix.EAGAIN, unix.SYS_READ, sig, buf, 128)
		u.fails(unix.EINVAL, unix.SYS_READ, sig, buf, 127)
		pid := u.must(unix.SYS_GETPID)
		u.must(unix.SYS_KILL, pid, uint64(unix.SIGUSR1))
		if n := u.must(unix.SYS_READ, sig, buf, 1000); n != 128 || le.Uint32(u.read(buf, 4)) != uint32(unix.SIGUSR1) || le.Uint32(u.read(buf+12, 4)) != uint32(pid) {
			t.Errorf("%d bytes of signalfd: % x", n, u.read(buf, 24))
		}
		u.fails(unix.EINVAL, unix.SYS_WRITE, sig, buf, 128)
		u.fails(unix.EINVAL, unix.SYS_SIGNALFD4, timer, mask, 8, 0)
		// A process.
		self := u.must(unix.SYS_PIDFD_OPEN, pid, 0)
		u.must(unix.SYS_PIDFD_SEND_SIGNAL, self, 0, 0, 0)
		u.must(unix.SYS_PIDFD_SEND_SIGNAL, self, uint64(unix.SIGUSR1), 0, 0)
		u.must(unix.SYS_READ, sig, buf, 128)
		u.fails(unix.EBADF, unix.SYS_PIDFD_SEND_SIGNAL, timer, 0, 0, 0)
		u.fails(unix.ESRCH, unix.SYS_PIDFD_OPEN, 4000, 0)
		u.fails(unix.EINVAL, unix.SYS_PIDFD_OPEN, 0, 0)
		if fd := u.must(unix.SYS_PIDFD_GETFD, self, timer, 0); u.must(unix.SYS_FCNTL, fd, unix.F_GETFD) != unix.FD_CLOEXEC {
			t.Error("pidfd_getfd without close-on-exec")
		}
		// A directory.
		in := u.must(unix.SYS_INOTIFY_INIT1, unix.IN_NONBLOCK)
		wd := u.must(unix.SYS_INOTIFY_ADD_WATCH, in, u.str("/tmp"), unix.IN_CREATE)
		u.must(unix.SYS_MKDIR, u.str("/tmp/new"), 0o700)
		if n := u.must(unix.SYS_READ, in, buf, 1000); n != 32 || string(u.read(buf+16, 4)) != "new\x00" ||
			le.Uint32(u.read(buf+4, 4)) != unix.IN_CREATE|unix.IN_ISDIR {
			t.Errorf("%d bytes of inotify: % x", n, u.read(buf, 32))
		}
		u.must(unix.SYS_INOTIFY_RM_WATCH, in, wd)
		u.fails(unix.EINVAL, unix.SYS_INOTIFY_RM_WATCH, in, wd)
		u.fails(unix.EINVAL, unix.SYS_INOTIFY_RM_WATCH, timer, wd)
		dir := u.must(unix.SYS_OPEN, u.str("/tmp"), unix.O_RDONLY)
		u.must(unix.SYS_FCNTL, dir, unix.F_NOTIFY, dnotify.Multishot)
		u.must(unix.SYS_FCNTL, dir, unix.F_NOTIFY, dnotify.Create)
		u.must(unix.SYS_FCNTL, dir, unix.F_NOTIFY, 0)
		u.must(unix.SYS_FCNTL, timer, unix.F_NOTIFY, 0)
		u.fails(unix.ENOTDIR, unix.SYS_FCNTL, timer, unix.F_NOTIFY, dnotify.Create)
	})
}
