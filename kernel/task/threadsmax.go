package task

import "golang.org/x/sys/unix"

// How many threads there may be (set_max_threads in Linux's kernel/fork.c): with 16 KiB for the stack of each in the kernel they may have an
// eighth of the memory. When a signal wakes them all at once, a stack here grows to that much too.
const (
	threadShare  = 32 // pages of memory for each
	leastThreads = 20
	mostThreads  = 0x3fffffff // FUTEX_TID_MASK
)

// MaxThreads is /proc/sys/kernel/threads-max (proc(5)): as many threads, and processes that were not waited for, there may be.
func (k *Kernel) MaxThreads() int { return int(k.maxThreads.Load()) }

// SetMaxThreads sets it: EINVAL.
func (k *Kernel) SetMaxThreads(n int) error {
	if n < 1 || n > mostThreads {
		return unix.EINVAL
	}
	k.maxThreads.Store(int32(n))
	return nil
}

// full reports whether there may be no more threads. k.mu is held.
func (k *Kernel) full() bool {
	return len(k.ids)+int(k.workers.Load()) >= min(k.MaxThreads(), PIDMax-300)
}
