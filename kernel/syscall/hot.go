package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// hot are the most frequent calls. They take the registers as they are, which spares some ten instructions for each
// argument. That is right for kinds that cannot fail; paths and flags are decoded here as their kinds would.
// In all else, strace too, their rows hold.
var hot = []struct {
	nr   int
	call func(*task.Task) (uint64, error)
}{
	{unix.SYS_READ, hotRead},
	{unix.SYS_WRITE, hotWrite},
	{unix.SYS_PREAD64, func(t *task.Task) (uint64, error) {
		return sysPread(t, int32(t.Ctx.RDI), t.Ctx.RSI, t.Ctx.RDX, int64(t.Ctx.R10))
	}},
	{unix.SYS_PWRITE64, func(t *task.Task) (uint64, error) {
		return sysPwrite(t, int32(t.Ctx.RDI), t.Ctx.RSI, t.Ctx.RDX, int64(t.Ctx.R10))
	}},
	{unix.SYS_READV, func(t *task.Task) (uint64, error) { return sysReadv(t, int32(t.Ctx.RDI), t.Ctx.RSI, t.Ctx.RDX) }},
	{unix.SYS_WRITEV, func(t *task.Task) (uint64, error) { return sysWritev(t, int32(t.Ctx.RDI), t.Ctx.RSI, t.Ctx.RDX) }},
	{unix.SYS_LSEEK, func(t *task.Task) (uint64, error) {
		return sysLseek(t, int32(t.Ctx.RDI), int64(t.Ctx.RSI), int32(t.Ctx.RDX))
	}},
	{unix.SYS_CLOSE, func(t *task.Task) (uint64, error) { return sysClose(t, int32(t.Ctx.RDI)) }},
	{unix.SYS_OPEN, func(t *task.Task) (uint64, error) {
		path, err := decodePath(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		return sysOpenat(t, unix.AT_FDCWD, path, int32(t.Ctx.RSI), uint32(t.Ctx.RDX))
	}},
	{unix.SYS_OPENAT, func(t *task.Task) (uint64, error) {
		path, err := decodePath(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		return sysOpenat(t, int32(t.Ctx.RDI), path, int32(t.Ctx.RDX), uint32(t.Ctx.R10))
	}},
	{unix.SYS_STAT, func(t *task.Task) (uint64, error) { return statPath(t, unix.AT_FDCWD, t.Ctx.RDI, t.Ctx.RSI, 0) }},
	{unix.SYS_LSTAT, func(t *task.Task) (uint64, error) {
		return statPath(t, unix.AT_FDCWD, t.Ctx.RDI, t.Ctx.RSI, unix.AT_SYMLINK_NOFOLLOW)
	}},
	{unix.SYS_NEWFSTATAT, func(t *task.Task) (uint64, error) {
		return statPath(t, int32(t.Ctx.RDI), t.Ctx.RSI, t.Ctx.RDX, uint32(t.Ctx.R10))
	}},
	{unix.SYS_FSTAT, func(t *task.Task) (uint64, error) { return sysFstat(t, int32(t.Ctx.RDI), lStat.at(t.Ctx.RSI)) }},
	{unix.SYS_MMAP, func(t *task.Task) (uint64, error) {
		c := t.Ctx
		return sysMmap(t, c.RDI, c.RSI, uint32(c.RDX), uint32(c.R10), int32(c.R8), c.R9)
	}},
	{unix.SYS_MUNMAP, func(t *task.Task) (uint64, error) { return done(t.Mem().Unmap(t.Ctx.RDI, t.Ctx.RSI)) }},
	{unix.SYS_MPROTECT, func(t *task.Task) (uint64, error) {
		return done(t.Mem().Protect(t.Ctx.RDI, t.Ctx.RSI, int(uint32(t.Ctx.RDX))))
	}},
	{unix.SYS_CLOCK_GETTIME, func(t *task.Task) (uint64, error) {
		return sysClockGettime(t, int32(t.Ctx.RDI), lTimespec.at(t.Ctx.RSI))
	}},
	{unix.SYS_EPOLL_WAIT, hotEpollWait},
	{unix.SYS_RT_SIGACTION, func(t *task.Task) (uint64, error) {
		c := t.Ctx
		set, err := lSigAction.loadOpt(t, c.RSI)
		if err != nil {
			return 0, err
		}
		return sysSigaction(t, unix.Signal(int32(c.RDI)), set, lSigAction.at(c.RDX), c.R10)
	}},
	{unix.SYS_TGKILL, func(t *task.Task) (uint64, error) {
		ids := t.Process().PIDs()
		return sysTgkill(t, ids.Argument(int32(t.Ctx.RDI)), ids.Argument(int32(t.Ctx.RSI)), unix.Signal(int32(t.Ctx.RDX)))
	}},
	{unix.SYS_FUTEX, func(t *task.Task) (uint64, error) {
		c := t.Ctx
		return sysFutex(t, c.RDI, uint32(c.RSI), uint32(c.RDX), c.R10, c.R8, uint32(c.R9))
	}},
}

// statPath is newfstatat(2) before its arguments are decoded.
func statPath(t *task.Task, dirfd int32, addr, to uint64, flags uint32) (uint64, error) {
	path, err := decodePath(t, addr)
	if err != nil {
		return 0, err
	}
	if flags&^(statFlags|syncFlags) != 0 {
		return 0, unix.EINVAL
	}
	return sysFstatat(t, dirfd, path, lStat.at(to), flags)
}
