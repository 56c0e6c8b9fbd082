// Package share bounds what the kernel's own objects take of the machine's memory, kind by kind, and all kinds together.
//
// What the kernel holds for programs, queued datagrams, interests, locks, is no process's memory: when it runs out, the killer of processes
// would find the wrong one. So each kind has a share of what was free when the kernel had started, and who asks for more gets an error. A
// quarter is the most for all kinds together. Costs are what an object takes about, in bytes; they need not be exact, but giving
// back must be what was taken.
//
// Before SetMemory, as in tests on the host, there is no bound. Everything here is atomic; there are no locks.
package share

import (
	"math"
	"runtime"
	"sync/atomic"
)

// A Share is what the objects of one kind may have.
type Share struct {
	used, most atomic.Int64 // bytes; most 0: no bound
	part       int64
	alone      bool // not among those that share a quarter
}

// least is the smallest bound, in bytes.
const least = 64 << 10

// all is what every Share that is not alone is part of.
var all = Share{part: 4, alone: true}

// The shares there are. docs/limits.md says what of.
var (
	Datagrams = of(8)  // received by sockets of UDP, ICMP, raw and packet, and not read; packets on the way between interfaces or to a neighbour
	Fragments = of(16) // of IP, that wait for the rest of their datagrams
	Streams   = of(8)  // in connections of TCP
	Unix      = of(8)  // in sockets of AF_UNIX
	Interests = of(25) // of epoll instances
	Watches   = of(25) // of inotify, and their events
	Locks     = of(64) // of files
	IPC       = of(16) // message queues of both kinds, and semaphores
	Filters   = of(32) // programs of seccomp and socket filters
	Groups    = of(64) // supplementary groups
	Rings     = of(8)  // requests, provided buffers and waiting completions of io_uring
	Inodes    = of(8)  // of file systems in memory, and names for them
	Xattrs    = of(32) // of file systems in memory
)

func of(part int64) *Share {
	s := &Share{part: part}
	shares = append(shares, s)
	return s
}

var shares []*Share

// Sockets are those of AF_INET and AF_INET6, with their places in the stack, beside the quarter: a server may have many.
var Sockets = &Share{part: 4, alone: true}

// Pipes are the capacities of pipes, in bytes, beside the quarter too: what they hold are frames of memory, not the kernel's objects.
var Pipes = &Share{part: 4, alone: true}

// Unbounded is for what has a bound of another kind.
var Unbounded = &Share{alone: true}

// SetMemory says of how many bytes they are shares.
func SetMemory(n int64) {
	all.set(n)
	Sockets.set(n)
	Pipes.set(n)
	for _, s := range shares {
		s.set(n)
	}
}

func (s *Share) set(n int64) { s.most.Store(s.used.Load() + max(n/s.part, least)) }

// Take takes n bytes, and reports whether they were there.
func (s *Share) Take(n int64) bool {
	if !s.take(n) {
		return false
	}
	if !s.alone && !all.take(n) {
		s.used.Add(-n)
		return false
	}
	return true
}

func (s *Share) take(n int64) bool {
	most := s.most.Load()
	if s.used.Add(n) > most && most != 0 {
		s.used.Add(-n)
		return false
	}
	return true
}

// Force takes n bytes, whether they were there or not.
func (s *Share) Force(n int64) { s.Give(-n) }

// Charge counts n units more, or fewer, of which used are and most may be there (0: no bound), and takes cost bytes for each. It reports whether
// there was room; giving up is never refused.
func (s *Share) Charge(used *atomic.Int64, most, n, cost int64) bool {
	if n <= 0 {
		used.Add(n)
		s.Give(-n * cost)
		return true
	}
	if used.Add(n) > most && most != 0 || !s.Take(n*cost) {
		used.Add(-n)
		return false
	}
	return true
}

// Give gives n bytes back that were taken.
func (s *Share) Give(n int64) {
	s.used.Add(-n)
	if !s.alone {
		all.used.Add(-n)
	}
}

// Used returns how many bytes are taken.
func (s *Share) Used() int64 { return s.used.Load() }

// Most returns how many bytes may be taken, math.MaxInt64 when there is no bound.
func (s *Share) Most() int64 {
	if n := s.most.Load(); n != 0 {
		return n
	}
	return math.MaxInt64
}

// SetMost changes the bound, in bytes, to less or more; all shares together keep theirs. What is taken stays.
func (s *Share) SetMost(n int64) { s.most.Store(max(n, 1)) }

// Pages are those of files in memory: of tmpfs, memfd_create(2) and System V's shared memory. They lie beside the quarter, and outlive whoever
// wrote them. Nobody else has less than half of a small machine, or a quarter of a large one, for that.
var Pages = &Share{alone: true}

const middling = 64 << 20 // bytes that are left in any case, but for half

// SetPages says that n bytes are free, of which Pages gets its share.
func SetPages(n int64) {
	Pages.most.Store(Pages.used.Load() + max(n-max(n/4, min(n/2, middling)), least))
}

// TakeCollected is Take for what the collector finds when it is gone: before it says no, it collects.
func (s *Share) TakeCollected(n int64) bool {
	if s.Take(n) {
		return true
	}
	for range 3 { // cleanups run on goroutines of their own, in no order
		collect()
		if s.Take(n) {
			return true
		}
	}
	return false
}

// collect runs the collector, and returns when a cleanup of that cycle has run.
func collect() {
	done := make(chan struct{})
	type object struct{ done chan struct{} }
	runtime.AddCleanup(&object{done}, func(c chan struct{}) { close(c) }, done)
	runtime.GC()
	<-done
}

// Collected has n bytes that were taken given back when p is collected.
func Collected[T any](s *Share, p *T, n int64) { runtime.AddCleanup(p, s.Give, n) }
