package ext4

import (
	"math/rand/v2"
	"testing"
)

// TestExtentTree puts extents into a map and cuts ranges out of it, at random, beside a map block by block.
func TestExtentTree(t *testing.T) {
	const blocks, room = 400, 6
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var tree extentTree
		model := map[uint64]extent{}
		for range 600 {
			at, n := r.Uint64N(blocks), 1+r.Uint64N(9)
			if r.IntN(2) == 0 {
				for _, e := range tree.cut(at, at+n, room) {
					for i := range uint64(e.length) {
						if m := model[e.lblock+i]; m.pblock != e.pblock+i || m.unwritten != e.unwritten {
							t.Fatalf("seed %d: cut %+v, in the model %+v", seed, e, m)
						}
						delete(model, e.lblock+i)
					}
				}
				for i := range n {
					if _, ok := model[at+i]; ok {
						t.Fatalf("seed %d: block %d was left", seed, at+i)
					}
				}
			} else if free := tree.find(at); free.pblock == 0 {
				e := extent{lblock: at, pblock: 1000 + at + 1000*r.Uint64N(2), length: uint32(min(n, uint64(free.length))), unwritten: r.IntN(3) == 0}
				tree.put(e, room)
				for i := range uint64(e.length) {
					model[at+i] = extent{pblock: e.pblock + i, unwritten: e.unwritten}
				}
			}
			for _, l := range tree.leaves {
				if len(l.extents) == 0 || len(l.extents) > room {
					t.Fatalf("seed %d: a leaf of %d extents, of which %d fit", seed, len(l.extents), room)
				}
			}
		}
		for b := range uint64(blocks + 10) {
			if e, m := tree.find(b), model[b]; e.pblock != m.pblock || e.unwritten != m.unwritten {
				t.Fatalf("seed %d, block %d: %+v, in the model %+v", seed, b, e, m)
			}
		}
	}
}
