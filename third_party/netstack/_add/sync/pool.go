package sync

import (
	"sync"
)

// poolKept is how many elements a Pool keeps for good.
const poolKept = 32

// A Pool is sync.Pool with a short stack in front of it. A request and its answer take ten elements from pools and give ten back, and the
// standard library's, which is made for many processors, takes 170 instructions for each; the stack takes 40.
// What does not fit, and who meets another processor there, goes to the sync.Pool behind it.
type Pool struct {
	// New makes an element.
	New func() any
	// Passing pools keep nothing for good: their elements are large.
	Passing bool

	behind sync.Pool
	mu     sync.Mutex
	n      int           // elements of kept; guarded by mu
	kept   [poolKept]any // guarded by mu
}

// Get takes an element out of the pool, or makes one.
func (p *Pool) Get() any {
	if p.mu.TryLock() {
		if n := p.n - 1; n >= 0 {
			x := p.kept[n]
			p.n = n
			p.mu.Unlock()
			return x
		}
		p.mu.Unlock()
	}
	if x := p.behind.Get(); x != nil {
		return x
	}
	return p.New()
}

// Put gives an element to the pool.
func (p *Pool) Put(x any) {
	if !p.Passing && p.mu.TryLock() {
		if p.n < poolKept {
			p.kept[p.n] = x
			p.n++
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
	p.behind.Put(x)
}
