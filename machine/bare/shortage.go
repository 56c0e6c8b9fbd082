package bare

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"gosv/machine"
	"gosv/machine/floor"
)

// shortage divides the memory between programs and the Go heap. While there is
// plenty the collector has no limit; when the floor says that memory runs short, its limit
// becomes what the runtime has and what is free, less half of the reserve. When
// that does not help, the kernel is asked to make programs give some back.
type shortage struct {
	kernel atomic.Pointer[func()]
	told   chan struct{}
}

// small is the number of frames below which the collector is told to run more
// often from the beginning.
const small = 8192

func (s *shortage) start(in *interrupts) {
	if total, _, _ := floor.FrameUsage(); total < small {
		debug.SetGCPercent(40)
	} else if p := newPace(total * machine.PageSize); p != nil {
		debug.SetGCPercent(p.percent)
		runtime.SetFinalizer(p, (*pace).cycle)
	}
	s.told = make(chan struct{}, 1)
	in.setHandler(floor.ShortageBit, func() {
		select {
		case s.told <- struct{}{}:
		default:
		}
	})
	go func() {
		for range s.told {
			s.relieve()
		}
	}()
}

// setLimit sets the collector's limit to what the heap may grow to now.
func (s *shortage) setLimit() {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	limit := stats.Sys - stats.HeapReleased
	_, free, _ := floor.FrameUsage()
	if half := floor.FrameReserve() / 2; free > half {
		limit += (free - half) * machine.PageSize
	}
	debug.SetMemoryLimit(int64(limit))
}

func (s *shortage) relieve() {
	s.setLimit()
	if _, free, _ := floor.FrameUsage(); free >= floor.FrameReserve() {
		return
	}
	debug.FreeOSMemory()
	if _, free, _ := floor.FrameUsage(); free < floor.FrameReserve()*3/4 {
		if f := s.kernel.Load(); f != nil {
			(*f)()
		}
	}
	s.setLimit()
}

// OnShortage implements machine.Frames.
func (s *shortage) OnShortage(f func()) { s.kernel.Store(&f) }
