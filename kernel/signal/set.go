// Package signal knows what signals are, as signal(7), sigaction(2) and
// Linux's kernel/signal.c describe them: sets, what is pending, what a process
// has asked to be done, the default actions, and the frame that a handler runs
// on. Who gets a signal, and when, is decided by package task.
//
// Nothing here locks except Handlers, whose lock is a leaf; all the rest is guarded by its owner.
package signal

import (
	"math/bits"

	"golang.org/x/sys/unix"
)

// Max is the highest signal number; RTMin is the first real-time signal as the kernel counts.
const (
	Max   = 64
	RTMin = 32
)

// A Set is a set of signals as sigset_t: bit n-1 stands for signal n.
type Set uint64

// Of returns the set of the given signals.
func Of(sigs ...unix.Signal) Set {
	var s Set
	for _, sig := range sigs {
		s |= bit(sig)
	}
	return s
}

func bit(sig unix.Signal) Set { return 1 << (uint(sig-1) & 63) }

// Has reports whether sig is in the set.
func (s Set) Has(sig unix.Signal) bool { return s&bit(sig) != 0 }

// First returns the lowest signal of the set, 0 when it is empty.
func (s Set) First() unix.Signal {
	if s == 0 {
		return 0
	}
	return unix.Signal(bits.TrailingZeros64(uint64(s)) + 1)
}

// The sets that the rules speak of.
var (
	// Unblockable are SIGKILL and SIGSTOP.
	Unblockable = Of(unix.SIGKILL, unix.SIGSTOP)
	// Stops are the signals that stop by default.
	Stops = Of(unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	// Synchronous are those that an instruction causes; they are delivered before others.
	Synchronous = Of(unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGTRAP, unix.SIGFPE, unix.SIGSYS)
)

// Valid reports whether sig is the number of a signal.
func Valid(sig unix.Signal) bool { return sig >= 1 && sig <= Max }

// An Action is what a signal without a handler does.
type Action uint8

// The default actions (signal(7)).
const (
	Terminate Action = iota
	Core
	Ignore
	Stop
	Continue
)

// Default returns the default action of sig.
func Default(sig unix.Signal) Action {
	switch sig {
	case unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGFPE, unix.SIGSEGV, unix.SIGBUS,
		unix.SIGSYS, unix.SIGXCPU, unix.SIGXFSZ:
		return Core
	case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH:
		return Ignore
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return Stop
	case unix.SIGCONT:
		return Continue
	}
	return Terminate
}
