package floor

import "sync/atomic"

// The Linux system calls that the Go runtime makes, x86-64 numbers. What is not
// here the runtime can do without: ENOSYS.

const (
	eperm, enoent, esrch, eagain, enomem, einval, enosys, etimedout = 1, 2, 3, 11, 12, 22, 38, 110
)

func errno(e uint64) uint64 { return -e }

type sigaction struct{ handler, flags, restorer, mask uint64 }

var actions [65]sigaction

// serve serves one call of the running thread. mine is false when the thread
// blocked or ended; keep is false when it gives way.
func serve(c *cpu, t *thread, x *context) (mine, keep bool) {
	nr, a, b, d := x.RAX, x.RDI, x.RSI, x.RDX
	if nr >= serviceBase {
		return service(c, t, x), true
	}
	x.RAX = 0
	switch nr {
	case 0: // read
		x.RAX = read(c, a, b)
	case 1: // write
		x.RAX = write(c, a, b, d)
	case 3, 10: // close, mprotect
	case 9: // mmap
		x.RAX = reserve(c, a, b, x.R10&0x10 != 0)
	case 11: // munmap
		heapDrop(c, a, b)
	case 13:
		x.RAX = setAction(c, a, b, d)
	case 14:
		setMask(c, t, a, b, d)
	case 15:
		sigreturn(c, t, x)
	case 24: // sched_yield
		return true, false
	case 28: // madvise: DONTNEED, FREE
		if d == 4 || d == 8 {
			heapDrop(c, a, b)
		}
	case 35: // nanosleep
		t.key = 0
		touchRange(c, a, 16)
		block(c, t, nil, now()+sleepTime(ld64(a)*1000000000+ld64(a+8)))
		return false, false
	case 39: // getpid
		x.RAX = 1
	case 186: // gettid
		x.RAX = uint64(t.id)
	case 56:
		x.RAX = clone(c, t, x)
	case 60: // exit: the stack may be gone already
		freeThread(c, t)
		return false, false
	case 72: // fcntl F_GETFL
		if b == 3 {
			x.RAX = 2
			if a == fdDevice {
				x.RAX = 0x802 // O_RDWR|O_NONBLOCK
			}
		}
	case 131:
		altStack(c, t, a, b)
	case 158: // arch_prctl ARCH_SET_FS
		if a != 0x1002 {
			x.RAX = errno(einval)
			break
		}
		t.fs = b
		c.thrFS = b
	case 202:
		return futexCall(c, t, x), true
	case 204: // sched_getaffinity
		touchRange(c, d, 8)
		st64(d, 1<<ncpu-1)
		x.RAX = 8
	case 228: // clock_gettime
		clockGet(c, a, b)
	case 231: // exit_group
		exitGroup(a)
	case 233:
		touchRange(c, x.R10, 12)
		x.RAX = epollControl(b, d, x.R10)
	case 232, 281: // epoll_wait, epoll_pwait
		return !epollWait(c, t, b, int32(x.R10)), true
	case 234: // tgkill
		x.RAX = sendSignal(c, b, d)
	case 257, 267: // openat, readlinkat
		x.RAX = errno(enoent)
	case 290: // eventfd2
		x.RAX = fdEvent
	case 291: // epoll_create1
		x.RAX = fdEpoll
	case 302: // prlimit64
		if x.R10 != 0 {
			touchRange(c, x.R10, 16)
			st64(x.R10, 1024)
			st64(x.R10+8, 1024)
		}
	case 157: // prctl
		x.RAX = errno(einval)
	default:
		x.RAX = errno(enosys)
	}
	return true, true
}

func futexCall(c *cpu, t *thread, x *context) (mine bool) {
	switch x.RSI & 127 {
	case 0: // FUTEX_WAIT
		deadline := uint64(0)
		if x.R10 != 0 {
			touchRange(c, x.R10, 16)
			deadline = now() + ld64(x.R10)*1000000000 + ld64(x.R10+8)
		}
		if futexWait(c, t, x.RDI, uint32(x.RDX), deadline) {
			return false
		}
		x.RAX = errno(eagain)
	case 1: // FUTEX_WAKE
		x.RAX = futexWake(c, x.RDI, x.RDX)
	default:
		x.RAX = errno(enosys)
	}
	return true
}

func clockGet(c *cpu, clock, p uint64) {
	touchRange(c, p, 16)
	v := now()
	if clock == 0 {
		v += wallOffset
	}
	st64(p, v/1000000000)
	st64(p+8, v%1000000000)
}

func read(c *cpu, fd, p uint64) uint64 {
	touchRange(c, p, 8)
	switch fd {
	case fdEvent:
		if n := atomic.SwapUint64(&eventCount, 0); n != 0 {
			st64(p, n)
			return 8
		}
		return errno(eagain)
	case fdDevice:
		if atomic.LoadUint64(&devicePending) == 0 {
			return errno(eagain)
		}
		st8(p, 0)
		return 1
	}
	return 0
}

func write(c *cpu, fd, p, n uint64) uint64 {
	touchRange(c, p, n)
	if fd == fdEvent {
		atomic.AddUint64(&eventCount, ld64(p))
		wakePoller(c)
		return 8
	}
	for i := uint64(0); i < n; i++ {
		b := ld8(p + i)
		if b == '\n' {
			putc('\r')
		}
		putc(b)
	}
	return n
}

func exitGroup(status uint64) {
	if status != 0 {
		putkv("\ngosv: the kernel ended with status ", status)
		puts("\n")
		stop(statusPanic)
	}
	stop(0)
}

// clone(2) as the runtime's newosproc calls it.
func clone(c *cpu, t *thread, x *context) uint64 {
	n := newThread(c)
	if n == nil {
		return errno(eagain)
	}
	n.ctx.Regs = x.Regs
	n.ctx.RAX = 0
	n.ctx.RSP = x.RSI
	n.fs = t.fs
	if x.RDI&0x80000 != 0 { // CLONE_SETTLS
		n.fs = x.R8
	}
	n.mask = t.mask
	n.altFlag = 2 // SS_DISABLE
	n.cpu = uint32(c.index)
	id := uint64(n.id)
	n.state = threadBlocked
	ready(c, n)
	return id
}

// Of the runtime's sleeps those from monitorSleep on are its monitor's (runtime.sysmon), which looks 50 times in a row, as short a time apart, whenever
// there is work again, and then less and less often. It takes back what was in one goroutine's hands for 10 ms: to look each monitorPace is often enough, and
// each look is an interrupt.
const (
	monitorSleep = 20000   // ns
	monitorPace  = 1000000 // ns
)

// sleepTime is how long a thread of the runtime that asks for d ns is to sleep.
func sleepTime(d uint64) uint64 {
	if d >= monitorSleep && d < monitorPace {
		return monitorPace
	}
	return d
}
