package mem

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Overcommit is a value of /proc/sys/vm/overcommit_memory.
type Overcommit int32

// The modes (proc_sys_vm(5)).
const (
	OvercommitHeuristic Overcommit = iota // refuse what can never be there
	OvercommitAlways
	OvercommitNever // refuse what would exceed the commit limit
)

// commit counts the pages that programs were promised.
type commit struct {
	pages atomic.Int64
	mode  atomic.Int32
	ratio atomic.Int32 // percent, for OvercommitNever
}

// Commit promises n pages of memory. It fails with ENOMEM when the mode forbids the
// promise; noReserve is MAP_NORESERVE, which only OvercommitNever does not honour.
func (p *Pool) Commit(n uint64, noReserve bool) error {
	switch Overcommit(p.commit.mode.Load()) {
	case OvercommitHeuristic:
		if total, _ := p.Usage(); n > total && !noReserve {
			return unix.ENOMEM
		}
	case OvercommitNever:
		if uint64(p.commit.pages.Load())+n > p.CommitLimit() {
			return unix.ENOMEM
		}
	}
	p.commit.pages.Add(int64(n))
	return nil
}

// Uncommit takes the promise of n pages back.
func (p *Pool) Uncommit(n uint64) { p.commit.pages.Add(-int64(n)) }

// Committed returns the number of pages promised (Committed_AS).
func (p *Pool) Committed() uint64 { return uint64(max(p.commit.pages.Load(), 0)) }

// CommitLimit returns the number of pages that OvercommitNever promises at most.
func (p *Pool) CommitLimit() uint64 {
	total, _ := p.Usage()
	return total * uint64(p.commit.ratio.Load()) / 100
}

// Overcommit returns the mode and the ratio (vm.overcommit_ratio) in percent.
func (p *Pool) Overcommit() (Overcommit, int) {
	return Overcommit(p.commit.mode.Load()), int(p.commit.ratio.Load())
}

// SetOvercommit sets them; EINVAL for a mode that does not exist or a negative ratio.
func (p *Pool) SetOvercommit(mode Overcommit, ratio int) error {
	if mode < OvercommitHeuristic || mode > OvercommitNever || ratio < 0 || ratio > 1<<20 {
		return unix.EINVAL
	}
	p.commit.mode.Store(int32(mode))
	p.commit.ratio.Store(int32(ratio))
	return nil
}
