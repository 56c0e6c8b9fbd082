package mm

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHugeRandom does to an area with large pages what breaks them up, and compares with
// one byte for each page.
func TestHugeRandom(t *testing.T) {
	const pages = 12 << 20 / pageSize
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, 28*512)
		base := w.mmap(w.as, MapArgs{Addr: 1 << 32, Length: pages * pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
		type side struct {
			as     *AddressSpace
			val    [pages]byte
			mapped [pages]bool
		}
		parent := &side{as: w.as}
		for i := range parent.mapped {
			parent.mapped[i] = true
		}
		sides := []*side{parent}
		for range 300 {
			s := sides[r.IntN(len(sides))]
			i := r.IntN(pages)
			n := 1 + r.IntN(min(pages-i, 700))
			if r.IntN(4) == 0 {
				i, n = i&^511, min(512, pages-i&^511)
			}
			at := base + uint64(i)*pageSize
			switch r.IntN(12) {
			case 0, 1, 2, 3, 4, 5:
				v := byte(r.Uint32())
				if _, err := s.as.CopyOut(at+probe, []byte{v}); (err == nil) != s.mapped[i] {
					t.Fatalf("seed %d: write of page %d: %v", seed, i, err)
				}
				if s.mapped[i] {
					s.val[i] = v
				}
			case 6, 7:
				var b [1]byte
				if _, err := s.as.CopyIn(b[:], at+probe); (err == nil) != s.mapped[i] || err == nil && b[0] != s.val[i] {
					t.Fatalf("seed %d: page %d reads %d, %v; want %d", seed, i, b[0], err, s.val[i])
				}
			case 8:
				_ = s.as.Advise(at, uint64(n)*pageSize, unix.MADV_DONTNEED, nil)
				clear(s.val[i : i+n])
			case 9:
				w.check("Unmap", s.as.Unmap(at, uint64(n)*pageSize), nil)
				clear(s.val[i : i+n])
				clear(s.mapped[i : i+n])
				if r.IntN(2) == 0 {
					w.mmap(s.as, MapArgs{Addr: at, Length: uint64(n) * pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
					for k := range n {
						s.mapped[i+k] = true
					}
				}
			case 10:
				if s.as.Protect(at, uint64(n)*pageSize, unix.PROT_READ) == nil {
					w.check("Protect", s.as.Protect(at, uint64(n)*pageSize, rw), nil)
				} else {
					_ = s.as.Protect(at, uint64(n)*pageSize, rw)
				}
			case 11:
				sides = forkOrEnd(w, r, sides, s, func(s *side) **AddressSpace { return &s.as })
			}
		}
		for _, s := range sides {
			checkAreas(t, s.as)
			for i := range s.val {
				var b [1]byte
				if _, err := s.as.CopyIn(b[:], base+uint64(i)*pageSize+probe); (err == nil) != s.mapped[i] || err == nil && b[0] != s.val[i] {
					t.Fatalf("seed %d: at the end page %d reads %d, %v; want %d", seed, i, b[0], err, s.val[i])
				}
			}
			if s != parent {
				s.as.Release()
			}
		}
		w.check("Unmap", w.as.Unmap(1<<32, 1<<32), nil)
		if n := w.m.InUse(); n > 10 {
			t.Fatalf("seed %d: %d frames in use", seed, n)
		}
	}
}

// forkOrEnd makes one more side, a copy of s, while there are less than three; else it ends one that is not the first.
func forkOrEnd[S any](w *world, r *rand.Rand, sides []*S, s *S, space func(*S) **AddressSpace) []*S {
	if len(sides) == 3 {
		k := 1 + r.IntN(2)
		(*space(sides[k])).Release()
		return append(sides[:k], sides[k+1:]...)
	}
	as, err := (*space(s)).Fork()
	w.check("Fork", err, nil)
	child := *s
	*space(&child) = as
	return append(sides, &child)
}
