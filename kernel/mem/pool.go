// Package mem holds the memory that programs use, page by page: frames with
// reference counts (Pool), and the page cache of each file (Cache), which read(2),
// write(2) and mmap(2) share. It lies below mm, which decides what a program
// sees at which address, and knows nothing of address spaces but the Mapper that
// an area is.
//
// A frame belongs to everyone who holds a reference: the cache that it is a page
// of, each page table entry that points to it, and whoever reads or writes it
// just now. The last Unref frees it. A page that a private mapping may write is
// one with a single reference; all others are copied first.
//
// The frames of a device's memory (machine.Bus.DeviceMemory) are there for good: their references are not counted, and they are of the kind File and
// never exclusive.
//
// Lock order: Cache.truncating → Cache.syncing → an address space's lock (taken by a Mapper) →
// Cache.mu. No lock is held while bytes are copied from or to a program, or
// while a Backing reads or writes.
package mem

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

// Kind says what a frame holds, as /proc/PID/status counts it.
type Kind uint32

// The kinds of frames.
const (
	Anonymous Kind = iota // private memory of programs
	File                  // a page of a file
	Shmem                 // a page of shared anonymous memory, a memfd or tmpfs
	ZeroPage              // the frame of Pool.Zero, which counts as nobody's
	Huge                  // of a large page of HugePool
	Kinds                 // how many there are
)

// A frame's reference word: its Kind in the three highest bits, the count below.
const (
	kindShift = 29
	countMask = 1<<kindShift - 1
)

// Pool hands out the machine's frames and counts the references to them.
type Pool struct {
	frames machine.Frames
	refs   []atomic.Uint32 // by frame number; frames beyond are a device's
	zero   atomic.Uint64   // the frame of Zero, or 0
	commit commit
	huge   HugePool
	back   writeBack

	mu     sync.Mutex
	caches []*Cache // those with a Backing, for reclaim; guarded by mu
	hand   int      // where the next reclaim starts; guarded by mu
}

// NewPool returns a pool of the machine's frames.
func NewPool(frames machine.Frames) *Pool {
	p := &Pool{frames: frames, refs: make([]atomic.Uint32, frames.Limit())}
	p.commit.ratio.Store(50)
	p.huge.init(p)
	return p
}

// Alloc returns a zeroed frame with one reference. When none is left it
// gives up clean pages of files first, then fails with ENOMEM.
func (p *Pool) Alloc() (machine.Frame, error) {
	f, err := p.frames.Alloc()
	for try := 0; err != nil; try++ {
		// Others, the kernel's heap among them, may take what was given up.
		if try == reclaimTries || p.Reclaim(reclaimBatch) == 0 {
			return machine.NoFrame, unix.ENOMEM
		}
		f, err = p.frames.Alloc()
	}
	p.refs[f].Store(1)
	return f, nil
}

// allocRaw fills list from its beginning with frames that the caller overwrites before anybody sees them, each of kind k with one
// reference, in runs as long as there are. It returns how many it got; ENOMEM when that is 0, having given up clean pages of files.
func (p *Pool) allocRaw(list []machine.Frame, k Kind) (n int, err error) {
	for n < len(list) {
		run := 1 << (bits.Len(uint(len(list)-n)) - 1)
		f, err := p.frames.AllocRaw(run)
		for ; err != nil && run > 1; f, err = p.frames.AllocRaw(run) {
			run /= 2
		}
		if err != nil {
			if n > 0 {
				break
			}
			if f, err = p.Alloc(); err != nil {
				return 0, err
			}
		}
		for range run {
			p.refs[f].Store(uint32(k)<<kindShift | 1)
			list[n] = f
			f, n = f+1, n+1
		}
	}
	return n, nil
}

// AllocRaw fills list with frames that the caller overwrites before anybody sees them, with one reference each, in runs as long as there
// are: ENOMEM, and then there are none.
func (p *Pool) AllocRaw(list []machine.Frame) error {
	for n := 0; n < len(list); {
		m, err := p.allocRaw(list[n:], Anonymous)
		if err != nil {
			for _, f := range list[:n] {
				p.Unref(f)
			}
			return err
		}
		n += m
	}
	return nil
}

// HugeFrames is the number of frames in a large page.
const HugeFrames = machine.HugeSize / machine.PageSize

// AllocHuge returns the first of 512 zeroed frames that make a large page, each
// with one reference, or ENOMEM.
func (p *Pool) AllocHuge() (machine.Frame, error) {
	f, err := p.frames.AllocRun(HugeFrames)
	if err != nil {
		return machine.NoFrame, unix.ENOMEM
	}
	for i := range machine.Frame(HugeFrames) {
		p.refs[f+i].Store(1)
	}
	return f, nil
}

// adopt takes a frame of the machine's that was not allocated here, as of
// the initial RAM disk, with one reference.
func (p *Pool) adopt(f machine.Frame, k Kind) {
	if !p.refs[f].CompareAndSwap(0, uint32(k)<<kindShift|1) {
		panic("mem: adoption of a frame in use")
	}
}

// AdoptRun takes n frames that the machine handed out in some other way, as those of the initial RAM disk, with one reference each.
func (p *Pool) AdoptRun(f machine.Frame, n int) {
	for i := range machine.Frame(n) {
		p.adopt(f+i, File)
	}
}

// Ref adds a reference to a frame that has one.
func (p *Pool) Ref(f machine.Frame) { p.ref(f) }

// foreign reports whether f is of a device's memory.
func (p *Pool) foreign(f machine.Frame) bool { return uint64(f) >= uint64(len(p.refs)) }

// counted returns how many of n frames from f on are not of a device's memory, which is above, and counts the others in t.
func (p *Pool) counted(f machine.Frame, n int, t *Tally) int {
	own := n
	if end := uint64(len(p.refs)); uint64(f)+uint64(n) > end {
		own = int(max(end, uint64(f)) - uint64(f))
		t[File] += int64(n - own)
	}
	return own
}

func (p *Pool) ref(f machine.Frame) Kind {
	if p.foreign(f) {
		return File
	}
	word := p.refs[f].Add(1)
	if word&countMask <= 1 {
		panic("mem: reference to a free frame")
	}
	return Kind(word >> kindShift)
}

// A Tally counts frames by kind.
type Tally [Kinds]int64

// Count counts the frames in use by kind. It looks at each.
func (p *Pool) Count() (t Tally) {
	for i := range p.refs {
		if word := p.refs[i].Load(); word != 0 {
			t[word>>kindShift]++
		}
	}
	return t
}

// RefRun adds a reference to each of n frames and counts them in t.
func (p *Pool) RefRun(f machine.Frame, n int, t *Tally) {
	if n = p.counted(f, n, t); n == 0 {
		return
	}
	refs := p.refs[f:][:n]
	for i := range refs {
		word := refs[i].Add(1)
		if word&countMask <= 1 {
			panic("mem: reference to a free frame")
		}
		t[word>>kindShift]++
	}
}

const tooFew = "mem: a frame has fewer references than were given back"

// drop takes a reference away and reports whether it was the last.
func (p *Pool) drop(f machine.Frame) (k Kind, last bool) {
	if p.foreign(f) {
		return File, false
	}
	word := p.refs[f].Add(^uint32(0))
	if word&countMask == countMask {
		panic(tooFew)
	}
	if last = word&countMask == 0; last {
		p.refs[f].Store(0)
	}
	return Kind(word >> kindShift), last
}

// Unref gives a reference back; the last one frees the frame, which nothing may
// map then.
func (p *Pool) Unref(f machine.Frame) {
	switch k, last := p.drop(f); {
	case !last:
	case k == Huge:
		p.huge.put(f)
	default:
		p.frames.Free(f, 1)
	}
}

// UnrefRun gives a reference to each of n frames back and counts them in t.
func (p *Pool) UnrefRun(f machine.Frame, n int, t *Tally) {
	if n = p.counted(f, n, t); n == 0 {
		return
	}
	refs := p.refs[f:][:n]
	free := 0 // frames before f+i that are to be freed
	for i := range refs {
		word := refs[i].Add(^uint32(0))
		t[word>>kindShift]++
		if word&countMask == 0 {
			refs[i].Store(0)
			if word < uint32(Huge)<<kindShift {
				free++
				continue
			}
			p.huge.put(f + machine.Frame(i))
		} else if word&countMask == countMask {
			panic(tooFew)
		}
		if free > 0 {
			p.frames.Free(f+machine.Frame(i-free), free)
			free = 0
		}
	}
	if free > 0 {
		p.frames.Free(f+machine.Frame(n-free), free)
	}
}

// Refs returns the number of references to f.
func (p *Pool) Refs(f machine.Frame) int32 {
	if p.foreign(f) {
		return countMask
	}
	return int32(p.refs[f].Load() & countMask)
}

// Kind returns what f holds.
func (p *Pool) Kind(f machine.Frame) Kind {
	if p.foreign(f) {
		return File
	}
	return Kind(p.refs[f].Load() >> kindShift)
}

// Exclusive reports whether f is private memory with a single reference: the
// holder of that reference may write to it without a copy.
func (p *Pool) Exclusive(f machine.Frame) bool { return !p.foreign(f) && p.refs[f].Load() == 1 }

// setKind changes the kind of a frame that the caller alone uses.
func (p *Pool) setKind(f machine.Frame, k Kind) {
	if p.foreign(f) {
		return
	}
	for {
		old := p.refs[f].Load()
		if p.refs[f].CompareAndSwap(old, old&countMask|uint32(k)<<kindShift) {
			return
		}
	}
}

// Bytes returns the memory of f.
func (p *Pool) Bytes(f machine.Frame) []byte { return p.frames.Bytes(f, 1) }

// BytesRun returns the memory of n frames from f on.
func (p *Pool) BytesRun(f machine.Frame, n int) []byte { return p.frames.Bytes(f, n) }

// maxZeroRefs keeps the count of the zero frame far from overflow.
const maxZeroRefs = 1 << 28

// Zero returns a reference to the frame that is all zeros and that nobody may
// write, or a fresh one when too many hold that one; ENOMEM.
func (p *Pool) Zero() (machine.Frame, error) {
	z := machine.Frame(p.zero.Load())
	if z == machine.NoFrame {
		f, err := p.Alloc()
		if err != nil {
			return machine.NoFrame, err
		}
		p.setKind(f, ZeroPage)
		if !p.zero.CompareAndSwap(0, uint64(f)) {
			p.Unref(f)
		}
		z = machine.Frame(p.zero.Load())
	}
	if p.Refs(z) > maxZeroRefs {
		return p.Alloc()
	}
	p.Ref(z)
	return z, nil
}

// IsZero reports whether f is the frame of Zero.
func (p *Pool) IsZero(f machine.Frame) bool { return p.Kind(f) == ZeroPage }

// Close gives back the frames that the pool keeps for itself.
func (p *Pool) Close() {
	if z := p.zero.Swap(0); z != 0 {
		p.Unref(machine.Frame(z))
	}
}

// Usage returns the number of frames that the machine has, and how many of them
// are free.
func (p *Pool) Usage() (total, free uint64) { return p.frames.Usage() }
