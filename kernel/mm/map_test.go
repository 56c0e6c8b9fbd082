package mm

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

func newFile(w *world, pages int) *file {
	f := &file{cache: mem.NewCache(w.pool, nil), name: "/lib/libx.so"}
	w.caches = append(w.caches, f.cache)
	w.check("Truncate", f.cache.Truncate(int64(pages)*pageSize), nil)
	return f
}

func TestMapErrors(t *testing.T) {
	w := newWorld(t, 256)
	f := newFile(w, 2)
	sealed := newFile(w, 1)
	w.check("SealWrites", sealed.cache.SealWrites(), nil)
	taken := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: anon})
	const fixed = anon | unix.MAP_FIXED
	tests := []struct {
		name string
		args MapArgs
		want error
	}{
		{"no length", MapArgs{Flags: anon}, unix.EINVAL},
		{"no type", MapArgs{Length: 1, Flags: unix.MAP_ANONYMOUS}, unix.EINVAL},
		{"length beyond everything", MapArgs{Length: math.MaxUint64, Flags: anon}, unix.ENOMEM},
		{"length of the whole", MapArgs{Length: userTop, Flags: anon | unix.MAP_NORESERVE}, unix.ENOMEM},
		{"offset not aligned", MapArgs{Length: 1, Flags: unix.MAP_PRIVATE, Object: f, Offset: 1}, unix.EINVAL},
		{"offset overflow", MapArgs{Length: pageSize, Flags: unix.MAP_PRIVATE, Object: f, Offset: math.MaxUint64 &^ pageMask}, unix.EOVERFLOW},
		{"offset beyond files", MapArgs{Length: 2 * pageSize, Flags: unix.MAP_PRIVATE, Object: f, Offset: math.MaxInt64 &^ pageMask}, unix.EOVERFLOW},
		{"fixed, not aligned", MapArgs{Addr: 0x10001, Length: 1, Flags: fixed}, unix.EINVAL},
		{"fixed, too low", MapArgs{Addr: 0, Length: 1, Flags: fixed}, unix.EPERM},
		{"fixed, too high", MapArgs{Addr: userTop, Length: 1, Flags: fixed}, unix.ENOMEM},
		{"fixed, over the top", MapArgs{Addr: userTop - pageSize, Length: 2 * pageSize, Flags: fixed}, unix.ENOMEM},
		{"fixed, wrapping", MapArgs{Addr: math.MaxUint64 &^ pageMask, Length: 2 * pageSize, Flags: fixed}, unix.ENOMEM},
		{"fixed, last page", MapArgs{Addr: userTop - pageSize, Length: 1, Flags: fixed}, nil},
		{"no replace", MapArgs{Addr: taken, Length: 1, Flags: anon | unix.MAP_FIXED_NOREPLACE}, unix.EEXIST},
		{"no replace, free", MapArgs{Addr: 0x20000, Length: 1, Flags: anon | unix.MAP_FIXED_NOREPLACE}, nil},
		{"not open for writing", MapArgs{Length: 1, Prot: rw, Flags: unix.MAP_SHARED, Object: f, MaxProt: unix.PROT_READ}, unix.EACCES},
		{"cannot be mapped", MapArgs{Length: 1, Flags: unix.MAP_SHARED, Object: &file{}}, unix.ENODEV},
		{"sealed", MapArgs{Length: 1, Prot: rw, Flags: unix.MAP_SHARED, Object: sealed}, unix.EPERM},
		{"sealed, read only", MapArgs{Length: 1, Prot: unix.PROT_READ, Flags: unix.MAP_SHARED, Object: sealed, MaxProt: unix.PROT_READ}, nil},
		{"sealed, private", MapArgs{Length: 1, Prot: rw, Flags: unix.MAP_PRIVATE, Object: sealed}, nil},
		{"validate", MapArgs{Length: 1, Flags: unix.MAP_SHARED_VALIDATE, Object: f}, nil},
		{"validate, MAP_SYNC", MapArgs{Length: 1, Flags: unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC, Object: f}, unix.EOPNOTSUPP},
		{"huge pages", MapArgs{Length: 1, Flags: anon | unix.MAP_HUGETLB}, unix.ENOMEM},
		{"more than there is", MapArgs{Length: 257 * pageSize, Prot: rw, Flags: anon}, unix.ENOMEM},
		{"more, not reserved", MapArgs{Length: 257 * pageSize, Prot: rw, Flags: anon | unix.MAP_NORESERVE}, nil},
		{"more, no access", MapArgs{Length: 1 << 40, Flags: anon}, nil},
		{"shared stack", MapArgs{Length: 1, Flags: sharedA | unix.MAP_GROWSDOWN}, unix.EINVAL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := w.as.Map(test.args); err != test.want {
				t.Errorf("%v, want %v", err, test.want)
			}
			checkAreas(t, w.as)
		})
	}
}

func TestPlacement(t *testing.T) {
	w := newWorld(t, 256)
	base := w.as.Layout().MmapBase
	a := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: anon})
	if a != base-4*pageSize {
		t.Errorf("first mapping at %#x, the base is %#x", a, base)
	}
	b := w.mmap(w.as, MapArgs{Length: pageSize, Prot: unix.PROT_READ, Flags: anon})
	if b != a-pageSize {
		t.Errorf("second mapping at %#x, not below %#x", b, a)
	}
	c := w.mmap(w.as, MapArgs{Length: pageSize, Prot: unix.PROT_READ, Flags: anon})
	if n := len(w.as.Areas()); n != 2 || c != b-pageSize {
		t.Errorf("the third mapping did not join the second: %d areas", n)
	}
	w.check("Unmap", w.as.Unmap(a+pageSize, 2*pageSize), nil)
	if got := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: anon}); got != a+pageSize {
		t.Errorf("the hole at %#x was not used, but %#x", a+pageSize, got)
	}
	if got := w.mmap(w.as, MapArgs{Addr: 0x12345678, Length: 1, Prot: rw, Flags: anon}); got != 0x12346000 {
		t.Errorf("the hint was not used, but %#x", got)
	}
	if got := w.mmap(w.as, MapArgs{Addr: a, Length: 1, Prot: rw, Flags: anon}); got == a {
		t.Error("a hint replaced a mapping")
	}
	if got := w.mmap(w.as, MapArgs{Length: pageSize, Flags: anon | unix.MAP_32BIT}); got != 1<<30 {
		t.Errorf("MAP_32BIT at %#x", got)
	}
	if got := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: anon | unix.MAP_32BIT}); got != 1<<30+pageSize {
		t.Errorf("MAP_32BIT at %#x", got)
	}
	large := w.mmap(w.as, MapArgs{Length: 4 << 20, Flags: anon})
	if large%machine.HugeSize != 0 {
		t.Errorf("a large area at %#x", large)
	}
	checkAreas(t, w.as)
}

// Gaps that were passed over are found again.
func TestGapHint(t *testing.T) {
	w := newWorld(t, 64)
	length := func(n int) MapArgs { return MapArgs{Length: uint64(n) * pageSize, Flags: anon} }
	first := w.mmap(w.as, length(20))
	at := func(i int) uint64 { return first + uint64(i)*pageSize }
	w.check("Unmap", w.as.Unmap(at(4), pageSize), nil)
	w.check("Unmap", w.as.Unmap(at(10), 3*pageSize), nil)
	if got := w.mmap(w.as, length(4)); got != at(-4) {
		t.Errorf("4 pages at %#x", got)
	}
	if got := w.mmap(w.as, length(2)); got != at(11) {
		t.Errorf("2 pages at %#x, want %#x", got, at(11))
	}
	if got := w.mmap(w.as, length(1)); got != at(10) {
		t.Errorf("1 page at %#x, want %#x", got, at(10))
	}
	if got := w.mmap(w.as, length(1)); got != at(4) {
		t.Errorf("1 page at %#x, want %#x", got, at(4))
	}
	if n := len(w.as.Areas()); n != 1 {
		t.Errorf("%d areas", n)
	}
}

func TestAreaLimit(t *testing.T) {
	w := newWorld(t, 64)
	for i := range uint64(MaxAreas()) {
		w.mmap(w.as, MapArgs{Addr: 0x10000000 + i*4*pageSize, Length: 3 * pageSize, Flags: anon | unix.MAP_FIXED})
	}
	_, err := w.as.Map(MapArgs{Length: pageSize, Flags: anon})
	w.check("Map", err, unix.ENOMEM)
	w.check("Unmap within an area", w.as.Unmap(0x10000000+pageSize, pageSize), unix.ENOMEM)
	w.check("Protect within an area", w.as.Protect(0x10000000+pageSize, pageSize, rw), unix.ENOMEM)
	w.check("Unmap of a whole area", w.as.Unmap(0x10000000, 3*pageSize), nil)
	w.mmap(w.as, MapArgs{Length: pageSize, Flags: anon})
}

func TestLimits(t *testing.T) {
	w := newWorld(t, 256)
	w.as.SetLimits(Limits{AS: 8 * pageSize, Data: 4 * pageSize, Stack: pageSize, Memlock: 2 * pageSize})
	_, err := w.as.Map(MapArgs{Length: 5 * pageSize, Prot: rw, Flags: anon})
	w.check("beyond RLIMIT_DATA", err, unix.ENOMEM)
	data := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: anon})
	ro := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: unix.PROT_READ, Flags: anon})
	w.check("Protect beyond RLIMIT_DATA", w.as.Protect(ro, pageSize, rw), unix.ENOMEM)
	w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: sharedA})
	_, err = w.as.Map(MapArgs{Length: pageSize, Flags: anon})
	w.check("beyond RLIMIT_AS", err, unix.ENOMEM)
	w.mmap(w.as, MapArgs{Addr: data, Length: 4 * pageSize, Flags: anon | unix.MAP_FIXED})
	w.check("Lock beyond RLIMIT_MEMLOCK", w.as.Lock(data, 3*pageSize, 0, nil), unix.ENOMEM)
	checkAreas(t, w.as)
}

func TestOvercommit(t *testing.T) {
	w := newWorld(t, 100)
	w.check("SetOvercommit", w.pool.SetOvercommit(mem.OvercommitNever, 50), nil)
	a := w.mmap(w.as, MapArgs{Length: 40 * pageSize, Prot: rw, Flags: anon})
	_, err := w.as.Map(MapArgs{Length: 11 * pageSize, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	w.check("beyond the limit", err, unix.ENOMEM)
	ro := w.mmap(w.as, MapArgs{Length: 20 * pageSize, Prot: unix.PROT_READ, Flags: anon})
	w.check("Protect beyond the limit", w.as.Protect(ro, 20*pageSize, rw), unix.ENOMEM)
	w.check("Protect", w.as.Protect(ro, 10*pageSize, rw), nil)
	_, err = w.as.Fork()
	w.check("Fork beyond the limit", err, unix.ENOMEM)
	w.check("Unmap", w.as.Unmap(a, 40*pageSize), nil)
	if n := w.pool.Committed(); n != 10 {
		t.Errorf("%d pages promised, want 10", n)
	}
	w.check("SetOvercommit", w.pool.SetOvercommit(mem.OvercommitAlways, 50), nil)
	w.mmap(w.as, MapArgs{Length: 1 << 40, Prot: rw, Flags: anon})
	w.check("SetOvercommit", w.pool.SetOvercommit(3, 50), unix.EINVAL)
}

func TestUnmapErrors(t *testing.T) {
	w := newWorld(t, 64)
	for _, r := range [][2]uint64{{1, pageSize}, {pageSize, 0}, {userTop, pageSize}, {userTop - pageSize, 2 * pageSize}, {0, math.MaxUint64}} {
		w.check("Unmap", w.as.Unmap(r[0], r[1]), unix.EINVAL)
	}
	w.check("Unmap of nothing", w.as.Unmap(0, userTop), nil)
}

func TestProtect(t *testing.T) {
	w := newWorld(t, 128)
	a := w.mmap(w.as, MapArgs{Length: 3 * pageSize, Prot: rw, Flags: anon})
	w.put(w.as, a+pageSize, "kept")
	for _, prot := range []int{unix.PROT_READ, 0, unix.PROT_EXEC, rw} {
		w.check("Protect", w.as.Protect(a+pageSize, 1, prot), nil)
		_, err := w.as.CopyOut(a+pageSize+100, []byte("x"))
		if ok := prot&unix.PROT_WRITE != 0; ok != (err == nil) {
			t.Errorf("write with %d: %v", prot, err)
		}
		_, err = w.as.CopyIn(make([]byte, 1), a+pageSize)
		if ok := prot != 0; ok != (err == nil) {
			t.Errorf("read with %d: %v", prot, err)
		}
		if ok := prot&unix.PROT_EXEC != 0; ok != (w.as.Fault(a+pageSize, machine.Exec) == nil) {
			t.Errorf("execution with %d", prot)
		}
		checkAreas(t, w.as)
	}
	w.want(w.as, a+pageSize, "kept")
	if n := len(w.as.Areas()); n != 1 {
		t.Errorf("%d areas", n)
	}
	if _, acc, ok := w.as.space.Lookup(a + pageSize); !ok || acc != machine.Read|machine.Write {
		t.Error("the right to write did not come back at once")
	}
	w.check("no length", w.as.Protect(a, 0, rw), nil)
	w.check("not aligned", w.as.Protect(a+1, 1, rw), unix.EINVAL)
	w.check("unknown bit", w.as.Protect(a, 1, 0x100), unix.EINVAL)
	w.check("too much", w.as.Protect(a, math.MaxUint64, rw), unix.ENOMEM)
	w.check("unmapped", w.as.Protect(a+2*pageSize, 2*pageSize, unix.PROT_READ), unix.ENOMEM)
	if _, err := w.as.CopyOut(a+2*pageSize, []byte("x")); err != unix.EFAULT {
		t.Error("the part before the gap was not protected")
	}
	f := newFile(w, 1)
	b := w.mmap(w.as, MapArgs{Length: 1, Prot: unix.PROT_READ, MaxProt: unix.PROT_READ, Flags: unix.MAP_SHARED, Object: f})
	w.check("more than opened for", w.as.Protect(b, 1, rw), unix.EACCES)
	w.check("growsdown", w.as.Protect(b, 1, rw|unix.PROT_GROWSDOWN), unix.EINVAL)
}

func TestBrk(t *testing.T) {
	w := newWorld(t, 128)
	const heap = 0x555555000123
	w.as.SetBrk(heap)
	if got := w.as.Brk(0, nil); got != heap {
		t.Errorf("brk(0) = %#x", got)
	}
	if got := w.as.Brk(heap+2*pageSize, nil); got != heap+2*pageSize {
		t.Errorf("brk grew to %#x", got)
	}
	w.put(w.as, heap+pageSize, "heap")
	if got := w.as.Areas(); len(got) != 1 || got[0].Name != "[heap]" || got[0].Start != pageUp(heap) {
		t.Errorf("%+v", got)
	}
	if got := w.as.Brk(heap+10, nil); got != heap+10 {
		t.Errorf("brk shrank to %#x", got)
	}
	if _, err := w.as.CopyIn(make([]byte, 1), heap+pageSize); err != unix.EFAULT {
		t.Error("the heap is still there")
	}
	w.mmap(w.as, MapArgs{Addr: pageUp(heap) + 4*pageSize, Length: 1, Prot: rw, Flags: anon | unix.MAP_FIXED})
	for _, addr := range []uint64{heap - 1, heap + 5*pageSize, userTop + 1, math.MaxUint64} {
		if got := w.as.Brk(addr, nil); got != heap+10 {
			t.Errorf("brk(%#x) = %#x", addr, got)
		}
	}
	w.as.SetLimits(Limits{AS: math.MaxUint64, Data: 2 * pageSize})
	if got := w.as.Brk(heap+3*pageSize, nil); got != heap+10 {
		t.Errorf("brk beyond RLIMIT_DATA = %#x", got)
	}
}

func TestStack(t *testing.T) {
	w := newWorld(t, 512)
	w.as.SetLimits(Limits{AS: math.MaxUint64, Data: math.MaxUint64, Stack: 64 * pageSize})
	top := w.as.Layout().StackTop
	w.check("MapStack", w.as.MapStack(2*pageSize+1, false), nil)
	w.put(w.as, top-8, "argument")
	w.put(w.as, top-64*pageSize, "deep")
	if err := w.as.Fault(top-64*pageSize-1, machine.Write); err != errUnmapped {
		t.Errorf("beyond RLIMIT_STACK: %v", err)
	}
	if got := w.as.Areas(); len(got) != 1 || got[0].Name != "[stack]" || got[0].End-got[0].Start != 64*pageSize {
		t.Errorf("%+v", got)
	}
	if s := w.as.Stats(); s.Stack != 64 || s.Data != 0 {
		t.Errorf("%+v", s)
	}
	// A stack keeps its distance from what lies below.
	const low = 0x30000000
	w.mmap(w.as, MapArgs{Addr: low, Length: pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED})
	w.mmap(w.as, MapArgs{Addr: low + stackGap + 4*pageSize, Length: pageSize, Prot: rw, Flags: anon | unix.MAP_FIXED | unix.MAP_GROWSDOWN})
	w.put(w.as, low+stackGap+pageSize, "x")
	if err := w.as.Fault(low+stackGap, machine.Write); err != errUnmapped {
		t.Errorf("into the guard gap: %v", err)
	}
	if got := w.mmap(w.as, MapArgs{Addr: low + 2*pageSize, Length: pageSize, Flags: anon}); got == low+2*pageSize {
		t.Error("a hint went into the guard gap")
	}
	checkAreas(t, w.as)
}

func TestLayout(t *testing.T) {
	fixed := NewLayout(nil, 8<<20)
	if fixed.StackTop != userTop || fixed.PIEBase != 0x555555554000 {
		t.Errorf("%+v", fixed)
	}
	n := uint64(0)
	for range 1000 {
		n += 0x9e3779b97f4a7c15
		random := func() uint64 { return n }
		for _, limit := range []uint64{0, 8 << 20, 1 << 40, math.MaxUint64} {
			l := NewLayout(random, limit)
			if (l.StackTop|l.MmapBase|l.PIEBase)&pageMask != 0 || l.StackTop > userTop || l.MmapBase > l.StackTop-minStackRoom || l.MmapBase < 1<<40 || l.PIEBase > l.MmapBase && limit < 1<<40 {
				t.Fatalf("%#x, %+v", n, l)
			}
		}
		if brk := RandomBrk(0x1234, random); brk < 0x2000 || brk > 0x2000+brkRandom || brk&pageMask != 0 {
			t.Fatalf("%#x", brk)
		}
	}
	if RandomBrk(0x1234, nil) != 0x2000 {
		t.Error("randomness without randomness")
	}
}
