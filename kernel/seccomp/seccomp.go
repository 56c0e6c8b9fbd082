// Package seccomp decides about system calls by programs of the classic BPF
// machine (kernel/bpf), as seccomp(2) describes them.
//
// A program is foreign code: New checks it as Linux does (kernel/bpf's rules; and only the
// call's own data is loaded), so that Run ends after as many steps as the program is long at most, and cannot fail.
//
// Filters are never changed; a task's filters are a chain from the newest to the oldest.
package seccomp

import (
	"gosv/kernel/bpf"

	"golang.org/x/sys/unix"
)

// What a filter answers: an action in the upper half, data for it in the lower (seccomp(2)).
const (
	KillProcess = 0x80000000
	KillThread  = 0x00000000
	Trap        = 0x00030000
	Errno       = 0x00050000
	UserNotif   = 0x7fc00000
	Trace       = 0x7ff00000
	Log         = 0x7ffc0000
	Allow       = 0x7fff0000
	ActionMask  = 0xffff0000
	DataMask    = 0x0000ffff
)

// Known reports whether action is one of the actions (SECCOMP_GET_ACTION_AVAIL).
func Known(action uint32) bool {
	switch action {
	case KillProcess, KillThread, Trap, Errno, UserNotif, Trace, Log, Allow:
		return true
	}
	return false
}

// ArchX86_64 is AUDIT_ARCH_X86_64.
const ArchX86_64 = 0xc000003e

// Data is struct seccomp_data, what filters see of a call.
type Data struct {
	NR   int32
	Arch uint32
	IP   uint64
	Args [6]uint64
}

// dataSize is the size of struct seccomp_data in bytes.
const dataSize = 64

// Limits of Linux on the instructions of a chain, where each program counts four more.
const (
	maxChain = 32768
	penalty  = 4
)

// Filter is one program and those that were there before it.
type Filter struct {
	prog []bpf.Insn
	prev *Filter
	size int // instructions of the chain
	// Log says that its decisions other than Allow are to be logged (SECCOMP_FILTER_FLAG_LOG).
	Log bool
	// Listener is who is asked when the answer is UserNotif; nil for nobody.
	Listener any
}

// Strict is the filter of SECCOMP_MODE_STRICT: read, write, exit and rt_sigreturn.
var Strict = &Filter{}

// New returns prog on top of prev, which may be nil: EINVAL for a program that is not right, ENOMEM
// when the chain gets too long.
func New(prog []bpf.Insn, prev *Filter) (*Filter, error) {
	if err := check(prog); err != nil {
		return nil, err
	}
	f := &Filter{prog: prog, prev: prev, size: len(prog)}
	if prev != nil {
		f.size += prev.size + penalty
	}
	if f.size > maxChain {
		return nil, unix.ENOMEM
	}
	return f, nil
}

// Length returns the number of filters in the chain.
func (f *Filter) Length() (n int) {
	for ; f != nil && f != Strict; f = f.prev {
		n++
	}
	return n
}

// Nth returns the filter of the chain that has n older ones below it, nil when there is none.
func (f *Filter) Nth(n uint64) *Filter {
	length := uint64(f.Length())
	if n >= length {
		return nil
	}
	for range length - 1 - n {
		f = f.prev
	}
	return f
}

// Program returns the instructions, which are not to be changed.
func (f *Filter) Program() []bpf.Insn { return f.prog }

// Each calls f with the filters of the chain, the newest first.
func (f *Filter) Each(call func(*Filter)) {
	for ; f != nil; f = f.prev {
		call(f)
	}
}

// Under reports whether f is the chain g or the older part of it; nil is under everything.
func (f *Filter) Under(g *Filter) bool {
	for ; g != nil; g = g.prev {
		if f == g {
			return true
		}
	}
	return f == nil
}

// Run asks all filters of the chain; the strictest answer counts, of equal ones the newest's. by is the filter that gave it.
func (f *Filter) Run(d *Data) (answer uint32, by *Filter) {
	if f == Strict {
		return strict(d.NR), f
	}
	answer = Allow
	b := d.packet()
	p := bpf.Packet{Data: b[:], Len: dataSize}
	for ; f != nil; f = f.prev {
		a := bpf.Run(f.prog, &p) // 0, when it divides by 0, is KillThread
		if by == nil || int32(a&ActionMask) < int32(answer&ActionMask) {
			answer, by = a, f
		}
	}
	return answer, by
}

func strict(nr int32) uint32 {
	switch nr {
	case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EXIT, unix.SYS_RT_SIGRETURN:
		return Allow
	}
	return KillThread
}
