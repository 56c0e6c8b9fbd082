package socket

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/bpf"
	"gosv/kernel/share"
)

// A Filter is the BPF program that chooses what a socket is given (socket(7), SO_ATTACH_FILTER). The zero value lets
// everything in. Any goroutine may use it.
type Filter struct {
	prog atomic.Pointer[[]bpf.Insn]
}

// SetOption is SO_ATTACH_FILTER, whose value is the program itself here, and SO_DETACH_FILTER. What waits was let in by the
// old program and stays, as on Linux. EINVAL; EPERM when the program is locked; ENOENT when there is none to detach; ENOPROTOOPT
// for every other option; ENOMEM.
func (f *Filter) SetOption(o *Options, name int, value []byte) error {
	switch name {
	case unix.SO_ATTACH_FILTER:
		if o.Is(LockFilter) {
			return unix.EPERM
		}
		prog, err := bpf.Parse(value)
		if err != nil {
			return err
		}
		cost := int64(64 + bpf.Size*len(prog))
		if !share.Filters.TakeCollected(cost) {
			return unix.ENOMEM
		}
		share.Collected(share.Filters, &prog, cost)
		f.prog.Store(&prog)
	case unix.SO_DETACH_FILTER:
		if o.Is(LockFilter) {
			return unix.EPERM
		}
		if f.prog.Swap(nil) == nil {
			return unix.ENOENT
		}
	default:
		return unix.ENOPROTOOPT
	}
	return nil
}

// Wants returns how many bytes of p the program lets in, at most those that are there; ok is false when it drops p.
func (f *Filter) Wants(p *bpf.Packet) (n int, ok bool) {
	prog := f.prog.Load()
	if prog == nil {
		return len(p.Data), true
	}
	want := bpf.Run(*prog, p)
	return int(min(uint64(want), uint64(len(p.Data)))), want != 0
}
