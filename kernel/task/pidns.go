package task

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
)

// A PIDNamespace is what pid_namespaces(7) describes. The kernel itself has one number for each process, thread, group and session, that of
// the first namespace; a namespace has a number of its own for each of them that is in it or in one below. Numbers are translated where
// programs see them.
//
// Its lock is a leaf. Numbers come and go with Kernel.mu held.
type PIDNamespace struct {
	namespace.Head
	k      *Kernel
	parent *PIDNamespace // nil for the first
	level  int
	init   *Process // nil until the first process was made, and after its end; guarded by Kernel.mu
	dead   bool     // init has ended; guarded by Kernel.mu
	ending *Task    // waits for procs to become 1; guarded by Kernel.mu
	procs  int      // processes in it and below that have tasks; guarded by Kernel.mu

	mu     sync.RWMutex
	local  map[int32]int32 // its numbers by the first's; guarded by mu
	global map[int32]int32 // guarded by mu
	last   int32           // guarded by mu
}

// noID is a number that no process has.
const noID = 1<<31 - 1

// newPIDs makes a namespace below ns: ENOSPC.
func (ns *PIDNamespace) newPIDs(owner *namespace.User) (*PIDNamespace, error) {
	if ns.level >= namespace.MaxLevel {
		return nil, unix.ENOSPC
	}
	n := &PIDNamespace{k: ns.k, parent: ns, level: ns.level + 1, local: map[int32]int32{}, global: map[int32]int32{}}
	if err := n.Init(namespace.PID, owner, ns.Put); err != nil {
		return nil, err
	}
	ns.Hold()
	return n, nil
}

// Local returns the number that ns has for one of the first namespace: 0 when it has none.
func (ns *PIDNamespace) Local(n int32) int32 {
	if ns.parent == nil {
		return n
	}
	return ns.toLocal(n)
}

func (ns *PIDNamespace) toLocal(n int32) int32 {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.local[n]
}

// Global is the inverse of Local; for a number that stands for nothing it returns one that nobody has. 0 stays 0.
func (ns *PIDNamespace) Global(n int32) int32 {
	if ns.parent == nil || n == 0 {
		return n
	}
	return ns.toGlobal(n)
}

func (ns *PIDNamespace) toGlobal(n int32) int32 {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if g, ok := ns.global[n]; ok {
		return g
	}
	return noID
}

// Argument is Global for an argument of kill(2) and wait4(2), where numbers below −1 stand for groups.
func (ns *PIDNamespace) Argument(n int32) int32 {
	if ns.parent == nil {
		return n
	}
	return ns.argument(n)
}

func (ns *PIDNamespace) argument(n int32) int32 {
	switch {
	case n == -1 || n == -1<<31:
		return n
	case n < 0:
		return -ns.Global(-n)
	}
	return ns.Global(n)
}

// Level is how deep ns lies, 0 for the first.
func (ns *PIDNamespace) Level() int { return ns.level }

// Within reports whether ns is o or lies below it.
func (ns *PIDNamespace) Within(o *PIDNamespace) bool {
	for ; ns != nil; ns = ns.parent {
		if ns == o {
			return true
		}
	}
	return false
}

// Last returns the number given last (/proc/loadavg).
func (ns *PIDNamespace) Last() int32 {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.last
}

// Chain returns the numbers that ns and the namespaces below it have for one of the first's, from ns inward, as far as in is (NSpid of
// /proc/PID/status).
func (ns *PIDNamespace) Chain(n int32, in *PIDNamespace) (list []int32) {
	for ; in != nil; in = in.parent {
		list = append(list, in.Local(n))
		if in == ns {
			break
		}
	}
	if in == nil {
		return nil
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// ParentFor implements nsfs.Nested.
func (ns *PIDNamespace) ParentFor(task any) (namespace.Object, error) {
	t, ok := task.(*Task)
	if !ok || ns.parent == nil || !ns.parent.Within(t.proc.pids) {
		return nil, unix.EPERM
	}
	return ns.parent, nil
}

// enter gives the number n of the first namespace one in ns: want, or any for 0. EEXIST, EINVAL, EAGAIN.
func (ns *PIDNamespace) enter(n, want int32) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if len(ns.global) >= PIDMax-300 {
		return unix.EAGAIN
	}
	l := want
	switch {
	case want == 0:
		l = ns.free()
	case ns.global[want] != 0:
		return unix.EEXIST
	}
	ns.global[l], ns.local[n] = n, l
	return nil
}

// free finds a free number. ns.mu is held.
func (ns *PIDNamespace) free() int32 {
	for {
		ns.last++
		if ns.last >= PIDMax {
			ns.last = 300
		}
		if ns.global[ns.last] == 0 {
			return ns.last
		}
	}
}

// leave takes a number of the first namespace out of ns and those above.
func (ns *PIDNamespace) leave(n int32) {
	for ; ns != nil && ns.parent != nil; ns = ns.parent {
		ns.mu.Lock()
		if l, ok := ns.local[n]; ok {
			delete(ns.local, n)
			delete(ns.global, l)
		}
		ns.mu.Unlock()
	}
}

// number reserves numbers for t in ns and the namespaces above: those of want, from the innermost outward, and any for the rest. EAGAIN, EEXIST,
// EINVAL, ENOMEM when ns is dead. k.mu is held.
func (k *Kernel) number(t *Task, ns *PIDNamespace, want []int32) (int32, error) {
	switch {
	case ns.dead:
		return 0, unix.ENOMEM
	case ns.init == nil && ns.parent != nil && len(want) > 0 && want[0] != 1:
		return 0, unix.EINVAL
	}
	n := int32(0)
	if len(want) > ns.level {
		n = want[ns.level]
	}
	switch {
	case k.full():
		return 0, unix.EAGAIN
	case n == 0:
		if n = k.newID(t); n == 0 {
			return 0, unix.EAGAIN
		}
	case k.ids[n] != nil:
		return 0, unix.EEXIST
	default:
		k.ids[n] = &id{task: t}
	}
	for i, in := 0, ns; in.parent != nil; i, in = i+1, in.parent {
		w := int32(0)
		if i < len(want) {
			w = want[i]
		}
		if err := in.enter(n, w); err != nil {
			ns.leave(n)
			delete(k.ids, n)
			return 0, err
		}
	}
	k.ids[n].ns = ns
	return n, nil
}

// count adds to the processes of ns and those above, and wakes the first process of one that waits to be the last. k.mu is held.
func (ns *PIDNamespace) count(d int) {
	for ; ns != nil; ns = ns.parent {
		ns.procs += d
		if d < 0 && ns.procs <= 1 && ns.ending != nil {
			ns.ending.Wake()
		}
	}
}

// reaper returns the process that orphans of ns become children of. k.mu is held.
func (k *Kernel) reaper(ns *PIDNamespace) *Process {
	for ; ns != nil && ns.parent != nil; ns = ns.parent {
		if ns.init != nil {
			return ns.init
		}
	}
	return k.init
}

// PIDs returns the PID namespace that p is in.
func (p *Process) PIDs() *PIDNamespace { return p.pids }

// PIDs returns the first PID namespace.
func (k *Kernel) PIDs() *PIDNamespace { return k.pids }

// Own returns p's number in its own namespace.
func (p *Process) Own() int32 { return p.own }

// Number is what t calls a number of the first namespace: 0 when it does not know it.
func (t *Task) Number(n int32) int32 { return t.proc.pids.Local(n) }

// OwnTID returns t's number in its own namespace.
func (t *Task) OwnTID() int32 { return t.ownTID.Load() }
