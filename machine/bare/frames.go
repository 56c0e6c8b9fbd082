package bare

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

// frames keeps some frames at hand, so that most allocations do not enter the
// floor. Several shards keep CPUs apart.
type frames struct {
	shards [8]shard
	watch  atomic.Pointer[watch]
}

// A watch is what OnFreed asked for.
type watch struct {
	left atomic.Int64
	tell func()
}

type shard struct {
	mu   sync.Mutex
	n    int         // guarded by mu
	list [128]uint64 // guarded by mu
	_    [40]byte
}

func (fs *frames) shard() *shard { return &fs.shards[floor.ThisCPU()&7] }

// Alloc implements machine.Frames.
func (fs *frames) Alloc() (machine.Frame, error) {
	f := fs.take()
	if f == 0 {
		return machine.NoFrame, machine.ErrNoMemory
	}
	floor.ClearPages(floor.DirectMap+f*machine.PageSize, 1)
	return machine.Frame(f), nil
}

// take takes one frame, or returns 0.
func (fs *frames) take() uint64 {
	s := fs.shard()
	s.mu.Lock()
	if s.n == 0 {
		s.n = floor.Refill(s.list[:64])
		if s.n == 0 {
			s.mu.Unlock()
			return fs.scrape()
		}
		// The lowest first: what a program touches page by page is then one run of frames, which fork and exit
		// handle at once.
		slices.Reverse(s.list[:s.n])
	}
	s.n--
	f := s.list[s.n]
	s.mu.Unlock()
	return f
}

// scrape looks for a frame in the other shards when the floor has no more.
func (fs *frames) scrape() uint64 {
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		if s.n > 0 {
			s.n--
			f := s.list[s.n]
			s.mu.Unlock()
			return f
		}
		s.mu.Unlock()
	}
	return 0
}

// AllocRun implements machine.Frames.
func (fs *frames) AllocRun(n int) (machine.Frame, error) {
	f := fs.takeRun(n)
	if f == 0 {
		return machine.NoFrame, machine.ErrNoMemory
	}
	floor.ClearPages(floor.DirectMap+f*machine.PageSize, uint64(n))
	return machine.Frame(f), nil
}

// AllocRaw implements machine.Frames.
func (fs *frames) AllocRaw(n int) (machine.Frame, error) {
	f := uint64(0)
	if n == 1 {
		f = fs.take()
	} else {
		f = fs.takeRun(n)
	}
	if f == 0 {
		return machine.NoFrame, machine.ErrNoMemory
	}
	return machine.Frame(f), nil
}

// takeRun takes n frames, or returns 0.
func (fs *frames) takeRun(n int) uint64 {
	if n <= 0 || n > 1024 {
		return 0
	}
	order := 0
	for 1<<order < n {
		order++
	}
	f := floor.TakeRun(order)
	if extra := 1<<order - n; f != 0 && extra > 0 {
		floor.FreeRun(f+uint64(n), uint64(extra))
	}
	return f
}

// Free implements machine.Frames.
func (fs *frames) Free(f machine.Frame, n int) {
	if end := machine.Frame(floor.FrameUsable()); f+machine.Frame(n) > end {
		// The end of the initial RAM disk, in memory that is not ours to use.
		if f >= end {
			return
		}
		n = int(end - f)
	}
	if n != 1 {
		floor.FreeRun(uint64(f), uint64(n))
		fs.freed(n)
		return
	}
	s := fs.shard()
	s.mu.Lock()
	full := s.n == len(s.list)
	if full {
		s.n -= 64
		floor.Drain(s.list[s.n:])
	}
	s.list[s.n] = uint64(f)
	s.n++
	s.mu.Unlock()
	if full {
		fs.freed(64)
	}
}

// freed counts frames that went back to the floor.
func (fs *frames) freed(n int) {
	if w := fs.watch.Load(); w != nil && w.left.Add(-int64(n)) <= 0 && fs.watch.CompareAndSwap(w, nil) {
		w.tell()
	}
}

// OnFreed implements machine.FreeBlocks.
func (fs *frames) OnFreed(n int, tell func()) {
	w := &watch{tell: tell}
	w.left.Store(int64(n))
	fs.watch.Store(w)
}

// TakeFree implements machine.FreeBlocks.
func (fs *frames) TakeFree(f machine.Frame) int { return int(floor.TakeFree(uint64(f))) }

// Bytes implements machine.Frames.
func (*frames) Bytes(f machine.Frame, n int) []byte {
	return unsafe.Slice((*byte)(direct(uint64(f)*machine.PageSize)), n*machine.PageSize)
}

// Limit implements machine.Frames.
func (*frames) Limit() machine.Frame { return machine.Frame(floor.FrameLimit()) }

// Usage implements machine.Frames.
func (fs *frames) Usage() (total, free uint64) {
	total, free, _ = floor.FrameUsage()
	for i := range fs.shards {
		s := &fs.shards[i]
		s.mu.Lock()
		free += uint64(s.n)
		s.mu.Unlock()
	}
	return total, free
}

// direct is the address of physical memory in the direct map.
func direct(pa uint64) unsafe.Pointer {
	return unsafe.Add(nil, uintptr(floor.DirectMap+pa))
}
