//go:build !race

package machine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

//go:noinline
func plainStore(p *uint32, v uint32) { *p = v }

//go:noinline
func plainLoad(p *uint32) uint32 { return *p }

// overtakes counts how often, of n times, two processors that each store and then load what the other stores both miss it: then the loads
// have overtaken the stores.
func overtakes(n int, settle func()) (count int) {
	var words [2]struct {
		v uint32
		_ [60]byte
	}
	var seen [2]uint32
	var round [2]atomic.Int64
	var wg sync.WaitGroup
	for me := range 2 {
		wg.Go(func() {
			for i := range n {
				round[me].Store(int64(3*i + 1))
				for round[1-me].Load() < int64(3*i+1) {
				}
				plainStore(&words[me].v, 1)
				settle()
				seen[me] = plainLoad(&words[1-me].v)
				round[me].Store(int64(3*i + 2))
				for round[1-me].Load() < int64(3*i+2) {
				}
				if me == 0 {
					if seen == [2]uint32{} {
						count++
					}
					words[0].v, words[1].v = 0, 0
				}
				round[me].Store(int64(3*i + 3))
				for round[1-me].Load() < int64(3*i+3) {
				}
			}
		})
	}
	wg.Wait()
	return count
}

// Settle does without a barrier what a barrier does.
func TestSettle(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one processor")
	}
	const n = 20000
	defer func() { Emulated = false }()
	Emulated = true
	if c := overtakes(n, Settle); c != 0 {
		t.Errorf("loads overtook stores %d times of %d", c, n)
	}
	Emulated = false
	t.Logf("without it, %d times of %d", overtakes(n, Settle), n)
}
