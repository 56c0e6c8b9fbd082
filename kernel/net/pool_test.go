package net

import (
	"sync"
	"sync/atomic"
	"testing"

	gsync "gvisor.dev/gvisor/pkg/sync"
)

// Nobody gets from a pool what another has, however many ask at once.
func TestQuickPool(t *testing.T) {
	type element struct{ held atomic.Bool }
	p := gsync.Pool{New: func() any { return new(element) }}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var mine []*element
			for i := range 20000 {
				if i/50%2 == 0 { // more than the pool keeps
					e := p.Get().(*element)
					if e.held.Swap(true) {
						t.Error("an element that is held")
						return
					}
					mine = append(mine, e)
				} else if n := len(mine) - 1; n >= 0 {
					mine[n].held.Store(false)
					p.Put(mine[n])
					mine = mine[:n]
				}
			}
		})
	}
	wg.Wait()
}
