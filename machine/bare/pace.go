package bare

import (
	"runtime"
	"runtime/debug"
)

// pace lets the Go heap grow by a share of the memory between two cycles of the collector, however little of it is alive. The
// runtime's own rule, as much again as is alive and to 4 MiB at least, has a kernel whose heap is small spend a third of what fork(2) costs
// on collecting.
type pace struct {
	room    uint64 // how many bytes the heap may grow by
	percent int    // what SetGCPercent was told last
	stats   runtime.MemStats
}

const (
	share       = 32       // of the memory
	mostRoom    = 32 << 20 // bytes
	runtimeRoom = 4 << 20  // the runtime's own, at 100 percent
)

// newPace returns nil when memory is so small that the runtime's own rule is as good.
func newPace(memory uint64) *pace {
	p := &pace{room: min(memory/share, mostRoom)}
	if p.room <= runtimeRoom {
		return nil
	}
	p.percent = p.percentFor(0)
	return p
}

// percentFor returns for how many percent of what is alive the heap may grow by room, or by as much again if that is more.
func (p *pace) percentFor(live uint64) int {
	return int(max(100, p.room*100/max(live, runtimeRoom)))
}

// cycle is p's finalizer: it runs once for each cycle of the collector.
func (p *pace) cycle() {
	runtime.ReadMemStats(&p.stats)
	// What is alive is what the runtime has made its goal of; package runtime/metrics would say it, but costs 20 kB and 0.07 ms of each boot.
	live := p.stats.NextGC * 100 / uint64(100+p.percent)
	if n := p.percentFor(live); n != p.percent {
		p.percent = n
		debug.SetGCPercent(n)
	}
	runtime.SetFinalizer(p, (*pace).cycle)
}
