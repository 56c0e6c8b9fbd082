// Package mm is what Linux calls mm: the address spaces of processes. It knows
// which area of addresses maps what with which rights (mmap(2) and its family),
// serves page faults from that, and copies between the kernel and programs.
//
// The areas are the truth; page tables (machine.Space) are a cache of it that
// may lack pages and rights but never has too many. So most operations change
// areas and take pages away, and Fault puts pages back, one by one: anonymous memory from
// the pool, files from their page cache (package mem), and, when a page that others
// hold too is written through a private mapping, a copy. Whether others hold it is the frame's
// reference count: mem.Pool.Exclusive. Large areas get large pages as long as memory is plentiful.
//
// The manual pages followed are mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), msync(2),
// mincore(2), mlock(2), brk(2), fork(2) and proc_sys_vm(5).
//
// # Locks
//
//	AddressSpace.mu           areas, their fields, layout, limits, counters
//	  AddressSpace.stripes    one for each 64 KiB of addresses, by hash: the page table entries
//	    mem.Cache.mu
//
// Faults and lookups hold mu shared, everything that changes areas holds it alone,
// and so do the calls of package mem that take pages of a truncated file away, which
// come before mu in the lock order of that package. A holder of mu shared changes the page table
// entries of a 64 KiB block only with the block's stripe, which is also what fault-around maps at
// once; what changes large pages holds mu alone. One plain mutex would save some 40 of
// the 800 instructions of a fault, but threads that fault at once on other CPUs would wait
// for each other while pages are zeroed and copied, which is most of a fault's time.
// Nothing that may block for long, or enter the file system (Backing, DecRef), is called
// under a lock of this package.
package mm

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

const (
	pageSize = machine.PageSize
	pageMask = pageSize - 1
	userTop  = machine.UserTop

	// minAddr is vm.mmap_min_addr: nobody may map below, so that a nil pointer faults.
	minAddr = 65536
)

// AddressSpace is the memory of a process, or of several that share it (CLONE_VM).
// All methods may be called from several goroutines, but Release only when nobody else
// uses the address space any more.
type AddressSpace struct {
	space   machine.Space
	machine machine.Spaces
	pool    *mem.Pool

	mu sync.RWMutex
	// +checklocks:mu
	areas []*area // in order of address, none overlaps another
	// +checklocks:mu
	layout Layout
	// +checklocks:mu
	brk uint64 // end of the heap, in bytes
	// +checklocks:mu
	gaps gapHint
	// +checklocks:mu
	limits Limits
	// +checklocks:mu
	future flags // what mlockall(2) gives new areas: flagLocked, flagOnFault
	// +checklocks:mu
	size uint64 // pages in all areas
	// +checklocks:mu
	peak uint64 // the highest size ever
	// +checklocks:mu
	data uint64 // pages in private writable areas that are not stacks
	// +checklocks:mu
	locked uint64 // pages in locked areas
	// +checklocks:mu
	maxRSS   uint64                                  // the highest number of resident pages noticed so far
	gone     mem.Tally                               // what zap's callback counted; guarded by mu
	giveBack func(va uint64, f machine.Frame, n int) // zap's callback, made once
	// +checklocks:mu
	released []Mappable
	// +checklocks:mu
	emptied int // page tables that may have become empty since trim looked for them
	// +checklocks:mu
	spare []*area // anonymous areas for reuse

	recent  atomic.Uint32 // index of the area found last
	stripes [stripeCount]sync.Mutex
	rss     [mem.Kinds]atomic.Int64 // resident pages, by kind
}

// New returns an empty address space; ENOMEM.
func New(m machine.Spaces, pool *mem.Pool) (*AddressSpace, error) {
	space, err := m.NewSpace()
	if err != nil {
		return nil, unix.ENOMEM
	}
	as := &AddressSpace{space: space, machine: m, pool: pool}
	as.mu.Lock()
	defer as.mu.Unlock()
	as.giveBack = func(_ uint64, f machine.Frame, n int) { pool.UnrefRun(f, n, &as.gone) }
	as.limits = Limits{AS: math.MaxUint64, Data: math.MaxUint64, Stack: 8 << 20, Memlock: math.MaxUint64}
	as.layout = NewLayout(nil, as.limits.Stack)
	as.brk = as.layout.BrkStart
	return as, nil
}

// Space returns the page tables, for machine.CPU.Enter.
func (as *AddressSpace) Space() machine.Space { return as.space }

// Pool returns the pool that the memory comes from.
func (as *AddressSpace) Pool() *mem.Pool { return as.pool }

// Release unmaps everything and frees the page tables. Nobody may use the
// address space any more, nor Enter it.
func (as *AddressSpace) Release() {
	as.mu.Lock()
	if n := len(as.areas); n > 0 {
		as.removeAreas(0, n)
	}
	as.emptied = 0 // all tables go
	as.unlock()
	as.space.Destroy()
}

// unlock releases mu, and then the files that were unmapped under it.
//
// +checklocksrelease:as.mu
func (as *AddressSpace) unlock() {
	if as.emptied >= idleTables {
		as.trim()
	}
	released := as.released
	as.released = nil
	as.mu.Unlock()
	for _, o := range released {
		o.DecRef()
	}
}

// idleTables is how many empty page tables an address space may keep at least: whoever maps and unmaps the same addresses again and
// again needs the table again too.
const idleTables = 64

// trim frees the page tables in which nothing is mapped any more, once they may be half of all: to look through all costs
// little for each page that was unmapped. as.mu is held.
//
// +checklocks:as.mu
func (as *AddressSpace) trim() {
	n := int(as.space.Tables())
	if n >= idleTables && as.emptied < n/2 {
		return
	}
	as.emptied = 0
	if n >= idleTables {
		as.space.Trim()
	}
}

// Limits are the resource limits that concern memory, in bytes (math.MaxUint64,
// RLIM_INFINITY: none); getrlimit(2).
type Limits struct {
	AS, Data, Stack, Memlock uint64
	// IPCLock is the capability CAP_IPC_LOCK: Memlock does not count.
	IPCLock bool
}

// SetLimits sets the limits that hold from now on. A new address space has none, but a
// stack of 8 MiB.
func (as *AddressSpace) SetLimits(l Limits) {
	as.mu.Lock()
	defer as.unlock()
	as.limits = l
}

func pageUp(n uint64) uint64   { return (n + pageMask) &^ pageMask }
func pageDown(n uint64) uint64 { return n &^ pageMask }

// span returns the page-aligned range of a system call's address and length.
// The address must be aligned and the range within the user's half; ok is false otherwise.
func span(addr, length uint64) (start, end uint64, ok bool) {
	if addr&pageMask != 0 || addr > userTop || length > userTop {
		return 0, 0, false
	}
	end = addr + pageUp(length)
	return addr, end, end <= userTop
}
