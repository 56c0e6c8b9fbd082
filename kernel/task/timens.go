package task

import (
	"sync"
	"sync/atomic"

	"gosv/kernel/mm"
	"gosv/kernel/namespace"

	"golang.org/x/sys/unix"
)

// TimeNamespace is a time namespace (time_namespaces(7)): how far its CLOCK_MONOTONIC and CLOCK_BOOTTIME, and the clocks that
// belong to those, are ahead of the machine's. The offsets can be set until the first task is in it.
type TimeNamespace struct {
	namespace.Head
	initial    bool
	mu         sync.Mutex // guards changes of the offsets
	frozen     bool       // guarded by mu
	mono, boot atomic.Int64
}

// maxTime is the latest time that a clock may show when its offset is set, in seconds: half of what there is.
const maxTime int64 = (1<<63 - 1) / 1_000_000_000 / 2

// A TimeOffset is how far a clock, CLOCK_MONOTONIC or CLOCK_BOOTTIME, is ahead of the machine's.
type TimeOffset struct {
	Clock int32
	Sec   int64
	Nsec  int64 // 0 to 999,999,999
}

// newTime makes a namespace with the offsets of another: ENOSPC.
func (n *TimeNamespace) newTime(owner *namespace.User) (*TimeNamespace, error) {
	c := new(TimeNamespace)
	c.mono.Store(n.mono.Load())
	c.boot.Store(n.boot.Load())
	return c, c.Init(namespace.Time, owner, nil)
}

// ahead is how far a clock is ahead of the machine's, in ns.
func (n *TimeNamespace) ahead(clock int32) int64 {
	switch clock {
	case unix.CLOCK_MONOTONIC, unix.CLOCK_MONOTONIC_RAW, unix.CLOCK_MONOTONIC_COARSE:
		return n.mono.Load()
	case unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return n.boot.Load()
	}
	return 0
}

// Offsets returns both offsets.
func (n *TimeNamespace) Offsets() [2]TimeOffset {
	split := func(clock int32, ns int64) TimeOffset {
		o := TimeOffset{clock, ns / 1e9, ns % 1e9}
		if o.Nsec < 0 {
			o.Sec, o.Nsec = o.Sec-1, o.Nsec+1e9
		}
		return o
	}
	return [2]TimeOffset{split(unix.CLOCK_MONOTONIC, n.mono.Load()), split(unix.CLOCK_BOOTTIME, n.boot.Load())}
}

// SetOffsets changes offsets; now is the machine's monotonic time, in ns. ERANGE when a clock would show a time before 0 or too late a
// one, EACCES when a task is in the namespace already.
func (n *TimeNamespace) SetOffsets(list []TimeOffset, now int64) error {
	for _, o := range list {
		if o.Sec < -maxTime || o.Sec > maxTime {
			return unix.ERANGE
		}
		if at := now + o.Sec*1e9 + o.Nsec; at < 0 || at > maxTime*1e9 {
			return unix.ERANGE
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen {
		return unix.EACCES
	}
	for _, o := range list {
		to := &n.mono
		if o.Clock == unix.CLOCK_BOOTTIME {
			to = &n.boot
		}
		to.Store(o.Sec*1e9 + o.Nsec)
	}
	return nil
}

// enterTime puts the task, whose namespaces nobody else has yet, into the time namespace of its children.
func (n *Namespaces) enterTime() {
	to := n.List[namespace.Time].(*TimeNamespace)
	to.mu.Lock()
	to.frozen = true
	to.mu.Unlock()
	if n.time != nil {
		n.time.Put()
	}
	n.time, n.moves = nil, false
	if !to.initial {
		to.Hold()
		n.time = to
	}
}

// childrenAsk reports whether the time namespace of n's children is another than the first, so that their vDSO has to ask the kernel.
func (n *Namespaces) childrenAsk() bool { return !n.List[namespace.Time].(*TimeNamespace).initial }

// showClocks has the vDSO of an address space tell the time of the first time namespace, or ask the kernel: ENOMEM.
func (k *Kernel) showClocks(as *mm.AddressSpace, ask bool) error {
	if k.Clocks == nil {
		return nil
	}
	return k.Clocks(as, ask)
}

// Ahead is how far a clock is ahead of the machine's for t, in ns.
func (t *Task) Ahead(clock int32) int64 {
	t.proc.mu.Lock()
	defer t.proc.mu.Unlock()
	if t.ns == nil || t.ns.time == nil {
		return 0
	}
	return t.ns.time.ahead(clock)
}

// MachineTime translates a time of a clock as t, the caller, sees it into the machine's: in ns, at least 1, so that it may serve as a deadline.
func (t *Task) MachineTime(clock int32, ns int64) int64 {
	if n := t.ns.time; n != nil {
		ns = behind(ns, n.ahead(clock))
	}
	return max(ns, 1)
}

// behind is ns-offset for ns ≥ 0, the end of time for what is later.
func behind(ns, offset int64) int64 {
	if d := ns - offset; offset >= 0 || d >= ns {
		return d
	}
	return 1<<63 - 1
}
