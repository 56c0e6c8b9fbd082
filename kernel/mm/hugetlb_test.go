package mm

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/machine"
)

const hugeAnon = anon | unix.MAP_HUGETLB

// hugeSide is one process of TestHugeTLBRandom: what it should see at each large page.
type hugeSide struct {
	as     *AddressSpace
	val    [hugeBlocks]byte
	mapped [hugeBlocks]bool
	read   [hugeBlocks]bool // it may only be read
}

const hugeBlocks = 6

// TestHugeTLBRandom does to a private mapping of the pool what can be done to it, and compares with one byte for each
// page. With a small pool pages may be lost, but never counted wrongly or seen by others.
func TestHugeTLBRandom(t *testing.T) {
	for seed := range uint64(8) {
		total := uint64(40)
		if seed%2 == 1 {
			total = hugeBlocks + 1
		}
		hugeRun(t, rand.New(rand.NewPCG(seed, 8)), seed, total)
	}
}

func hugeRun(t *testing.T, r *rand.Rand, seed, total uint64) {
	const size = machine.HugeSize
	w := newWorld(t, int(total+4)*512)
	pool := w.pool.Huge()
	pool.SetTotal(total)
	if s := pool.Stats(); s.Total != total || s.Free != total {
		t.Fatalf("pool %+v, want %d", s, total)
	}
	base := w.mmap(w.as, MapArgs{Addr: 1 << 32, Length: hugeBlocks * size, Prot: rw, Flags: hugeAnon | unix.MAP_FIXED})
	parent := &hugeSide{as: w.as}
	for i := range parent.mapped {
		parent.mapped[i] = true
	}
	sides := []*hugeSide{parent}
	scarce := total < 40
	for range 200 {
		s := sides[r.IntN(len(sides))]
		i := r.IntN(hugeBlocks)
		n := 1 + r.IntN(hugeBlocks-i)
		at := base + uint64(i)*size
		inside := at + uint64(r.IntN(512))*pageSize + probe
		switch r.IntN(12) {
		case 0, 1, 2, 3:
			v := byte(r.Uint32())
			_, err := s.as.CopyOut(at+probe, []byte{v})
			if may := s.mapped[i] && !s.read[i]; (err == nil) != may && !(scarce && err != nil) {
				t.Fatalf("seed %d: write of page %d: %v", seed, i, err)
			}
			if err == nil {
				s.val[i] = v
			}
		case 4, 5:
			var b [1]byte
			_, err := s.as.CopyIn(b[:], at+probe)
			if (err == nil) != s.mapped[i] && !scarce || err == nil && b[0] != s.val[i] {
				t.Fatalf("seed %d: page %d reads %d, %v; want %d", seed, i, b[0], err, s.val[i])
			}
			if _, err := s.as.CopyIn(b[:], inside+1); err == nil && b[0] != 0 {
				t.Fatalf("seed %d: page %d is not zero inside", seed, i)
			}
		case 6:
			if s.as.Advise(at, uint64(n)*size, unix.MADV_DONTNEED, nil) == nil {
				clear(s.val[i : i+n])
			} else {
				for k := i; k < i+n; k++ {
					if s.mapped[k] {
						s.val[k] = 0
					}
				}
			}
		case 7:
			w.check("Unmap inside", s.as.Unmap(at, uint64(n)*size), nil)
			clear(s.mapped[i : i+n])
			clear(s.val[i : i+n])
			clear(s.read[i : i+n])
			if _, err := s.as.Map(MapArgs{Addr: at, Length: uint64(n) * size, Prot: rw, Flags: hugeAnon | unix.MAP_FIXED}); err == nil {
				for k := range n {
					s.mapped[i+k] = true
				}
			} else if !scarce {
				t.Fatalf("seed %d: map: %v", seed, err)
			}
		case 8:
			prot := []int{unix.PROT_READ, rw}[r.IntN(2)]
			for k := i; k < i+n && s.mapped[k]; k++ {
				w.check("Protect", s.as.Protect(base+uint64(k)*size, size, prot), nil)
				s.read[k] = prot != rw
			}
		case 9:
			sides = forkOrEnd(w, r, sides, s, func(s *hugeSide) **AddressSpace { return &s.as })
		case 10:
			if s.mapped[i] {
				away := uint64(1 << 36)
				got, err := s.as.Remap(at, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, away, nil)
				if err != nil || got != away {
					t.Fatalf("seed %d: remap: %#x, %v", seed, got, err)
				}
				_, err = s.as.Remap(away, size, size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, at, nil)
				w.check("Remap back", err, nil)
			}
		case 11:
			w.check("Unmap of a part", s.as.Unmap(at+pageSize, pageSize), map[bool]error{true: unix.EINVAL}[s.mapped[i]])
		}
		if s := pool.Stats(); s.Total != total || s.Surplus != 0 || s.Reserved > s.Free {
			t.Fatalf("seed %d: pool %+v", seed, s)
		}
	}
	for _, s := range sides {
		checkAreas(t, s.as)
		if s != parent {
			s.as.Release()
		}
	}
	w.check("Unmap", w.as.Unmap(1<<32, 1<<37), nil)
	if s := pool.Stats(); s.Free != total || s.Reserved != 0 {
		t.Fatalf("seed %d: at the end the pool is %+v", seed, s)
	}
	pool.SetTotal(0)
	if n := w.m.InUse(); n > 20 {
		t.Fatalf("seed %d: %d frames in use", seed, n)
	}
}

// TestHugeTLBShared checks what is promised to a file, and that truncation gives it back.
func TestHugeTLBShared(t *testing.T) {
	const size = machine.HugeSize
	w := newWorld(t, 10*512)
	pool := w.pool.Huge()
	pool.SetTotal(4)
	at := w.mmap(w.as, MapArgs{Length: 3 * size, Prot: rw, Flags: sharedA | unix.MAP_HUGETLB})
	if s := pool.Stats(); s.Reserved != 3 {
		t.Fatalf("%+v", s)
	}
	_, err := w.as.Map(MapArgs{Length: 2 * size, Prot: rw, Flags: sharedA | unix.MAP_HUGETLB})
	w.check("too many", err, unix.ENOMEM)
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	_, err = child.CopyOut(at+size, []byte{9})
	w.check("write", err, nil)
	var b [1]byte
	_, err = w.as.CopyIn(b[:], at+size)
	if err != nil || b[0] != 9 {
		t.Fatalf("%d, %v", b[0], err)
	}
	// What is promised is given to its file when it shrinks, and to nobody twice.
	w.as.mu.RLock()
	c := w.as.find(at).cache
	w.as.mu.RUnlock()
	w.check("Truncate", c.Truncate(size), nil)
	if s := pool.Stats(); s.Reserved != 1 || s.Free != 4 {
		t.Fatalf("%+v", s)
	}
	if err := w.as.Fault(at+size, machine.Read); err != errBus {
		t.Fatal(err)
	}
	child.Release()
	w.check("Unmap", w.as.Unmap(at, 3*size), nil)
	if s := pool.Stats(); s.Reserved != 0 || s.Free != 4 {
		t.Fatalf("%+v", s)
	}
	pool.SetTotal(0)
}
