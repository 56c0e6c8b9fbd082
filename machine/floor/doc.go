// Package floor is what the Go runtime stands on: it serves, from ring 0 of a
// bare x86-64 machine and inside the same binary, the few Linux system calls
// that the runtime makes, and gives programs their way into ring 3 and back.
//
// # How it runs
//
// The floor is entered by SYSCALL from the runtime, by interrupts, and by
// exceptions; always with interrupts off, on a small stack of the CPU's own,
// with a g that has nothing but stack bounds. Whatever ran before is saved
// whole in its context (see context), so a thread may be resumed by any CPU as
// soon as it is on a run queue, even while the CPU that saved it is still in
// the floor. The threads are the runtime's Ms; goroutines are the runtime's
// business.
//
// # Rules
//
// Code in this package must not allocate, store a pointer anywhere but on the
// stack (a write barrier would run), use maps, closures, defer, string
// concatenation or runtime locks. That is why links between threads are
// numbers and addresses are uint64. internal/archtest checks the disassembly.
//
// # Locks
//
// All are spin locks that are taken with interrupts off; whoever spins
// answers TLB shootdowns meanwhile (see shootdown.go). Order:
//
//	vmLock → frameLock
//	vmLock → waitq.lock → cpu.lock (run queue, timers)
//	freeLock
//
// vmLock comes before a wait queue's lock because a page that is mapped may
// raise the shortage of memory (checkShortage), which wakes the poller.
//
// A thread's fields are its own while it runs or is off every queue; on a wait
// queue they belong to that queue's lock, on a run queue to the CPU's.
//
// Sources: Intel SDM volumes 2 and 3; Linux man pages futex(2), clone(2),
// sigaction(2), sigaltstack(2); the PVH boot ABI (Xen docs/misc/pvh).
package floor
