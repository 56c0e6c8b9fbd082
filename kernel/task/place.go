package task

import (
	"math/bits"
	"runtime"
)

// A thread that may run on some processors only keeps a thread of the runtime for itself, which the floor runs on those.

// place applies the affinity of t, on its own goroutine.
func (t *Task) place() {
	p := t.proc
	p.mu.Lock()
	t.flags.And(^uint32(workPlace))
	set, all := t.sched.affinity[0], AllCPUs(t.k.Machine.CPUs())[0]
	p.mu.Unlock()
	if set == all {
		t.unplace()
		return
	}
	if !t.bound {
		runtime.LockOSThread()
		t.bound = true
	}
	t.cpu.Bind(set)
}

// unplace lets t run everywhere.
func (t *Task) unplace() {
	if t.bound {
		t.bound = false
		t.cpu.Bind(0)
		runtime.UnlockOSThread()
	}
}

// everywhere reports whether s has all of the machine's processors.
func (s *sched) everywhere(k *Kernel) bool {
	return bits.OnesCount64(s.affinity[0]) >= min(k.Machine.CPUs(), 64)
}
