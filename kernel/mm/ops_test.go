package mm

import (
	"bytes"
	"math"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

func TestRemap(t *testing.T) {
	w := newWorld(t, 256)
	a := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: anon})
	w.put(w.as, a+3*pageSize, "last")
	got, err := w.as.Remap(a, 4*pageSize, 2*pageSize, 0, 0, nil)
	if got != a || err != nil {
		t.Fatal(got, err)
	}
	got, err = w.as.Remap(a, 2*pageSize, 4*pageSize, 0, 0, nil)
	if got != a || err != nil {
		t.Fatal(got, err)
	}
	w.want(w.as, a+3*pageSize, "\x00\x00\x00\x00")
	w.put(w.as, a, "first")
	_, err = w.as.Remap(a, 4*pageSize, 5*pageSize, 0, 0, nil) // the mmap base is at its end, the stack's room behind
	w.check("in place", err, nil)
	block := w.mmap(w.as, MapArgs{Addr: a + 5*pageSize, Length: pageSize, Flags: anon | unix.MAP_FIXED})
	_, err = w.as.Remap(a, 5*pageSize, 6*pageSize, 0, 0, nil)
	w.check("no room", err, unix.ENOMEM)
	b, err := w.as.Remap(a, 5*pageSize, 6*pageSize, unix.MREMAP_MAYMOVE, 0, nil)
	if b == a || err != nil {
		t.Fatal(b, err)
	}
	w.want(w.as, b, "first")
	if _, err := w.as.CopyIn(make([]byte, 1), a); err != unix.EFAULT {
		t.Error("the old range is still mapped")
	}
	// A second mapping of shared memory.
	s := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: sharedA})
	w.put(w.as, s+pageSize, "shared")
	s2, err := w.as.Remap(s, 0, 2*pageSize, unix.MREMAP_MAYMOVE, 0, nil)
	w.check("copy of shared memory", err, nil)
	w.want(w.as, s2+pageSize, "shared")
	w.put(w.as, s2, "both")
	w.want(w.as, s, "both")
	_, err = w.as.Remap(b, 0, pageSize, unix.MREMAP_MAYMOVE, 0, nil)
	w.check("copy of private memory", err, unix.EINVAL)
	for _, test := range []struct {
		addr, old, length uint64
		flags             int
		to                uint64
		want              error
	}{
		{b + 1, pageSize, pageSize, 0, 0, unix.EINVAL},
		{b, pageSize, 0, 0, 0, unix.EINVAL},
		{b, pageSize, pageSize, 8, 0, unix.EINVAL},
		{b, pageSize, pageSize, unix.MREMAP_FIXED, 0x10000, unix.EINVAL},
		{b, pageSize, pageSize, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, 1, unix.EINVAL},
		{b, pageSize, pageSize, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, b, unix.EINVAL},
		{b, pageSize, pageSize, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, userTop, unix.EINVAL},
		{b, pageSize, pageSize, unix.MREMAP_FIXED | unix.MREMAP_MAYMOVE, 0, unix.EPERM},
		{b, pageSize, 2 * pageSize, unix.MREMAP_DONTUNMAP | unix.MREMAP_MAYMOVE, 0, unix.EINVAL},
		{b, 7 * pageSize, 8 * pageSize, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{0x10000, pageSize, 2 * pageSize, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{userTop, pageSize, 2 * pageSize, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{math.MaxUint64 &^ pageMask, pageSize, 2 * pageSize, unix.MREMAP_MAYMOVE, 0, unix.EFAULT},
		{b, 6 * pageSize, 1 << 62, unix.MREMAP_MAYMOVE, 0, unix.ENOMEM},
	} {
		if _, err := w.as.Remap(test.addr, test.old, test.length, test.flags, test.to, nil); err != test.want {
			t.Errorf("%+v: %v", test, err)
		}
	}
	w.check("Unmap", w.as.Unmap(block, pageSize), nil)
	checkAreas(t, w.as)
}

func TestLock(t *testing.T) {
	w := newWorld(t, 256)
	w.as.SetLimits(Limits{AS: math.MaxUint64, Data: math.MaxUint64, Memlock: 4 * pageSize})
	a := w.mmap(w.as, MapArgs{Length: 8 * pageSize, Prot: rw, Flags: anon})
	w.check("Lock", w.as.Lock(a+10, 2*pageSize, 0, nil), nil)
	if s := w.as.Stats(); s.Locked != 3 || s.RSSAnon != 3 {
		t.Errorf("%+v", s)
	}
	w.check("again", w.as.Lock(a, 4*pageSize, 0, nil), nil)
	w.check("too much", w.as.Lock(a, 5*pageSize, 0, nil), unix.ENOMEM)
	w.check("unknown flag", w.as.Lock(a, 1, 2, nil), unix.EINVAL)
	w.check("wrapping", w.as.Lock(a, math.MaxUint64, 0, nil), unix.EINVAL)
	w.check("DONTNEED", w.as.Advise(a, pageSize, unix.MADV_DONTNEED, nil), unix.EINVAL)
	w.check("FREE", w.as.Advise(a, pageSize, unix.MADV_FREE, nil), unix.EINVAL)
	w.check("invalidate", w.as.Sync(a, pageSize, unix.MS_INVALIDATE), unix.EBUSY)
	_, err := w.as.Map(MapArgs{Length: pageSize, Prot: rw, Flags: anon | unix.MAP_LOCKED})
	w.check("MAP_LOCKED", err, unix.EAGAIN)
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	if s := child.Stats(); s.Locked != 0 {
		t.Error("a child inherited locks")
	}
	child.Release()
	w.check("Unlock", w.as.Unlock(a, 4*pageSize), nil)
	w.check("on fault", w.as.Lock(a+4*pageSize, pageSize, unix.MLOCK_ONFAULT, nil), nil)
	if s := w.as.Stats(); s.Locked != 1 || s.RSSAnon != 4 {
		t.Errorf("%+v", s)
	}
	w.check("LockAll", w.as.LockAll(unix.MCL_CURRENT, nil), unix.ENOMEM)
	w.check("LockAll", w.as.LockAll(unix.MCL_ONFAULT, nil), unix.EINVAL)
	w.as.SetLimits(Limits{AS: math.MaxUint64, Data: math.MaxUint64, IPCLock: true})
	w.check("LockAll", w.as.LockAll(unix.MCL_CURRENT|unix.MCL_FUTURE, nil), nil)
	w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: anon})
	if s := w.as.Stats(); s.Locked != 10 || s.RSSAnon != 10 {
		t.Errorf("%+v", s)
	}
	w.check("UnlockAll", w.as.LockAll(0, nil), nil)
	if s := w.as.Stats(); s.Locked != 0 || s.Areas != 1 {
		t.Errorf("%+v", s)
	}
	w.as.SetLimits(Limits{AS: math.MaxUint64, Data: math.MaxUint64})
	w.check("not allowed", w.as.Lock(a, 1, 0, nil), unix.EPERM)
	w.check("not allowed", w.as.LockAll(unix.MCL_FUTURE, nil), unix.EPERM)
	w.check("unmapped", w.as.Unlock(0x10000, 1), unix.ENOMEM)
	checkAreas(t, w.as)
}

func TestAdvise(t *testing.T) {
	w := newWorld(t, 256)
	a := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: anon})
	w.put(w.as, a, "gone")
	w.check("FREE", w.as.Advise(a, 4*pageSize, unix.MADV_FREE, nil), nil)
	w.want(w.as, a, "\x00")
	s := w.mmap(w.as, MapArgs{Length: 4 * pageSize, Prot: rw, Flags: sharedA})
	w.put(w.as, s+pageSize, "gone")
	w.put(w.as, s+2*pageSize, "kept")
	w.check("FREE of shared memory", w.as.Advise(s, pageSize, unix.MADV_FREE, nil), unix.EINVAL)
	w.check("DONTNEED", w.as.Advise(s, 4*pageSize, unix.MADV_DONTNEED, nil), nil)
	w.want(w.as, s+pageSize, "gone")
	w.check("REMOVE", w.as.Advise(s+pageSize, pageSize, unix.MADV_REMOVE, nil), nil)
	w.want(w.as, s+pageSize, "\x00\x00\x00\x00")
	w.want(w.as, s+2*pageSize, "kept")
	w.check("REMOVE of private memory", w.as.Advise(a, pageSize, unix.MADV_REMOVE, nil), unix.EINVAL)
	w.check("WILLNEED", w.as.Advise(a, 4*pageSize, unix.MADV_WILLNEED, nil), nil)
	w.check("POPULATE_WRITE", w.as.Advise(a, 4*pageSize, unix.MADV_POPULATE_WRITE, nil), nil)
	if r := w.as.Resident(a, a+4*pageSize); r.Pages != 4 || r.Anonymous != 4 || r.PrivateDirty != 4 || r.Share[mem.Anonymous] != 4*pageSize<<ShareShift {
		t.Errorf("resident: %+v", r)
	}
	w.check("POPULATE_READ", w.as.Advise(s, 4*pageSize, unix.MADV_POPULATE_READ, nil), nil)
	if r := w.as.Resident(s, s+4*pageSize); r.Pages != 4 || r.Anonymous != 0 || r.PrivateDirty != 4 || r.Share[mem.Shmem] != 4*pageSize<<ShareShift {
		t.Errorf("resident: %+v", r)
	}
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	w.check("POPULATE_READ", child.Advise(s, 4*pageSize, unix.MADV_POPULATE_READ, nil), nil)
	for _, at := range []uint64{a, s} {
		r := w.as.Resident(at, at+4*pageSize)
		if r.Pages != 4 || r.SharedDirty != 4 || r.Share[mem.Anonymous]+r.Share[mem.Shmem] != 2*pageSize<<ShareShift {
			t.Errorf("resident in two: %+v", r)
		}
		r.Add(&r)
		if r.SharedDirty != 8 {
			t.Errorf("twice: %+v", r)
		}
	}
	child.Release()
	w.check("Protect", w.as.Protect(a, pageSize, unix.PROT_READ), nil)
	w.check("POPULATE_WRITE", w.as.Advise(a, pageSize, unix.MADV_POPULATE_WRITE, nil), unix.EINVAL)
	w.check("POPULATE_READ", w.as.Advise(0x10000, pageSize, unix.MADV_POPULATE_READ, nil), unix.ENOMEM)
	for _, advice := range []int{unix.MADV_NORMAL, unix.MADV_RANDOM, unix.MADV_COLD, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_DONTDUMP, unix.MADV_DODUMP} {
		w.check("Advise", w.as.Advise(a+pageSize, 2*pageSize, advice, nil), nil)
	}
	w.check("unknown", w.as.Advise(a, pageSize, 1234, nil), unix.EINVAL)
	w.check("mergeable", w.as.Advise(a, pageSize, unix.MADV_MERGEABLE, nil), unix.EINVAL)
	w.check("not aligned", w.as.Advise(a+1, pageSize, unix.MADV_NORMAL, nil), unix.EINVAL)
	w.check("wrapping", w.as.Advise(a, math.MaxUint64, unix.MADV_NORMAL, nil), unix.EINVAL)
	w.check("too long", w.as.Advise(a, userTop, unix.MADV_NORMAL, nil), unix.ENOMEM)
	w.check("nothing", w.as.Advise(a, 0, unix.MADV_NORMAL, nil), nil)
	w.check("unmapped", w.as.Advise(0x10000, pageSize, unix.MADV_NORMAL, nil), unix.ENOMEM)
	checkAreas(t, w.as)
}

func TestIncore(t *testing.T) {
	w := newWorld(t, 64)
	a := w.mmap(w.as, MapArgs{Length: 3 * pageSize, Prot: rw, Flags: anon})
	w.put(w.as, a+pageSize, "x")
	vec := []byte{9, 9, 9}
	w.check("Incore", w.as.Incore(a, 3*pageSize, vec), nil)
	if !bytes.Equal(vec, []byte{0, 1, 0}) {
		t.Errorf("%v", vec)
	}
	f := newFile(w, 2)
	b := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: unix.MAP_PRIVATE, Object: f})
	mustPage(t, f.cache, 1)
	w.check("Incore", w.as.Incore(b, 2*pageSize, vec), nil)
	if !bytes.Equal(vec[:2], []byte{0, 1}) {
		t.Errorf("%v", vec)
	}
	w.check("unmapped", w.as.Incore(a, 4*pageSize, nil), unix.ENOMEM)
	w.check("not aligned", w.as.Incore(a+1, 1, nil), unix.EINVAL)
	w.check("too long", w.as.Incore(a, math.MaxUint64, nil), unix.ENOMEM)
}

func TestMsyncErrors(t *testing.T) {
	w := newWorld(t, 64)
	a := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: anon})
	w.check("both", w.as.Sync(a, 1, unix.MS_ASYNC|unix.MS_SYNC), unix.EINVAL)
	w.check("unknown", w.as.Sync(a, 1, 64), unix.EINVAL)
	w.check("not aligned", w.as.Sync(a+1, 1, unix.MS_SYNC), unix.EINVAL)
	w.check("unmapped", w.as.Sync(a, 2*pageSize, unix.MS_SYNC), unix.ENOMEM)
	w.check("Sync", w.as.Sync(a, 1, unix.MS_SYNC), nil)
}

func TestHugePages(t *testing.T) {
	w := newWorld(t, 24*512)
	const length = 8 << 20
	a := w.mmap(w.as, MapArgs{Length: length, Prot: rw, Flags: anon})
	w.put(w.as, a+3<<20, "huge")
	if s := w.as.Stats(); s.RSSAnon != 512 {
		t.Fatalf("%d pages resident, want a large one", s.RSSAnon)
	}
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	w.put(child, a+3<<20, "copy")
	w.want(w.as, a+3<<20, "huge")
	w.put(w.as, a+2<<20+pageSize, "mine")
	w.want(child, a+2<<20+pageSize, "\x00")
	checkAreas(t, child)
	checkAreas(t, w.as)
	child.Release()
	w.put(w.as, a+2<<20, "a page of a broken block")
	other := w.mmap(w.as, MapArgs{Length: length, Prot: rw, Flags: anon})
	w.put(w.as, other, "whole")
	child, err = w.as.Fork()
	w.check("Fork", err, nil)
	w.put(w.as, other+1<<20, "copy")
	if _, acc, _ := w.as.space.Lookup(other); acc&machine.Write != 0 {
		t.Error("the child's pages may be written")
	}
	child.Release()
	w.check("Unmap", w.as.Unmap(other, length), nil)
	w.put(w.as, w.mmap(w.as, MapArgs{Length: length, Prot: rw, Flags: anon}), "whole")
	child, err = w.as.Fork()
	w.check("Fork", err, nil)
	child.Release()
	w.put(w.as, other+pageSize, "sole user again")
	if _, acc, _ := w.as.space.Lookup(other + 1<<20); acc&machine.Write == 0 {
		t.Error("the large page fell apart")
	}
	w.want(w.as, other, "whole")
	w.check("Unmap", w.as.Unmap(other, length), nil)
	w.check("Unmap", w.as.Unmap(a+2<<20+4*pageSize, pageSize), nil)
	w.check("Protect", w.as.Protect(a+2<<20+8*pageSize, pageSize, unix.PROT_READ), nil)
	if s := w.as.Stats(); s.RSSAnon != 511 {
		t.Errorf("%d pages resident, want 511", s.RSSAnon)
	}
	w.want(w.as, a+3<<20, "huge")
	b, err := w.as.Remap(a+3<<20, pageSize, pageSize, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, 0x10000000, nil)
	w.check("Remap", err, nil)
	w.want(w.as, b, "huge")
	checkAreas(t, w.as)
	// Small areas, stacks, and those that do not want any.
	for _, args := range []MapArgs{
		{Length: length - pageSize, Prot: rw, Flags: anon},
		{Length: length, Prot: rw, Flags: anon | unix.MAP_STACK},
	} {
		before := w.as.Stats().RSSAnon
		w.put(w.as, pageUp(w.mmap(w.as, args)), "x")
		if got := w.as.Stats().RSSAnon - before; got != 1 {
			t.Errorf("%+v: %d pages", args, got)
		}
	}
	advised := w.mmap(w.as, MapArgs{Length: 2 << 20, Prot: rw, Flags: anon | unix.MAP_STACK})
	w.check("Advise", w.as.Advise(advised, 2<<20, unix.MADV_HUGEPAGE, nil), nil)
	before := w.as.Stats().RSSAnon
	w.put(w.as, advised, "x")
	if got := w.as.Stats().RSSAnon - before; got != 512 {
		t.Errorf("advised: %d pages", got)
	}
	// Memory is not plentiful any more.
	for {
		if _, free := w.pool.Usage(); free < hugeFreeMin {
			break
		}
		c := w.mmap(w.as, MapArgs{Length: length, Prot: rw, Flags: anon})
		w.check("populate", w.as.Advise(c, length, unix.MADV_POPULATE_WRITE, nil), nil)
	}
	before = w.as.Stats().RSSAnon
	w.put(w.as, w.mmap(w.as, MapArgs{Length: 2 * length, Prot: rw, Flags: anon | unix.MAP_NORESERVE})+3<<20, "x")
	if got := w.as.Stats().RSSAnon - before; got != 1 {
		t.Errorf("short of memory: %d pages", got)
	}
	checkAreas(t, w.as)
}

func TestCopies(t *testing.T) {
	w := newWorld(t, 64)
	a := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: anon})
	end := a + 2*pageSize
	w.put(w.as, a, string(bytes.Repeat([]byte("x"), 2*pageSize)))
	w.check("Zero", w.as.Zero(a+pageSize-2, 4), nil)
	w.want(w.as, a+pageSize-3, "x\x00\x00\x00\x00x")
	w.check("Zero", w.as.Zero(end-2, 4), unix.EFAULT)
	w.check("Zero", w.as.Zero(math.MaxUint64-1, 4), unix.EFAULT)
	w.put(w.as, end-6, "string")
	if _, _, err := w.as.ReadString(end-6, 100); err != unix.EFAULT {
		t.Errorf("without an end: %v", err)
	}
	if s, ok, err := w.as.ReadString(end-6, 3); s != "" || ok || err != nil {
		t.Errorf("too long: %q, %v, %v", s, ok, err)
	}
	w.put(w.as, end-1, "\x00")
	if s, ok, err := w.as.ReadString(end-6, 100); s != "strin" || !ok || err != nil {
		t.Errorf("%q, %v, %v", s, ok, err)
	}
	if s, ok, err := w.as.ReadString(end-6, 6); s != "strin" || !ok || err != nil {
		t.Errorf("exact: %q, %v, %v", s, ok, err)
	}
	if s, ok, err := w.as.ReadString(a, 4096); len(s) != pageSize-2 || !ok || err != nil {
		t.Errorf("%d bytes, %v, %v", len(s), ok, err)
	}
	if _, ok, err := w.as.ReadString(a, 4000); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}

	w.check("Store32", w.as.Store32(a+4, 7), nil)
	if v, err := w.as.CompareAndSwap32(a+4, 7, 8); v != 7 || err != nil {
		t.Error(v, err)
	}
	if v, err := w.as.CompareAndSwap32(a+4, 7, 9); v != 8 || err != nil {
		t.Error(v, err)
	}
	if v, err := w.as.Load32(a + 4); v != 8 || err != nil {
		t.Error(v, err)
	}
	w.check("Store64", w.as.Store64(a+pageSize-3, 0x1122334455667788), nil)
	if v, err := w.as.Load64(a + pageSize - 3); v != 0x1122334455667788 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	w.check("Store64", w.as.Store64(a+8, 99), nil)
	if v, err := w.as.Load64(a + 8); v != 99 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	w.check("misaligned", w.as.Store32(a+1, 0), unix.EFAULT)
	_, err := w.as.Load32(a + 2)
	w.check("misaligned", err, unix.EFAULT)
	_, err = w.as.CompareAndSwap32(a+2, 0, 0)
	w.check("misaligned", err, unix.EFAULT)
	for _, va := range []uint64{end, 0, userTop, userTop - 4, 1 << 63, math.MaxUint64 - 7} {
		_, e1 := w.as.Load32(va)
		_, e2 := w.as.Load64(va)
		_, e3 := w.as.CompareAndSwap32(va, 0, 0)
		_, e4 := w.as.CopyIn(make([]byte, 1), va)
		_, e5 := w.as.CopyOut(va, make([]byte, 1))
		for i, err := range []error{e1, e2, e3, e4, e5, w.as.Store32(va, 0), w.as.Store64(va, 0), w.as.Zero(va, 1)} {
			if err != unix.EFAULT {
				t.Errorf("%d at %#x: %v", i, va, err)
			}
		}
	}
}

func TestIOVec(t *testing.T) {
	w := newWorld(t, 64)
	a := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: anon})
	end := a + 2*pageSize
	v := NewIOVec(w.as, []Range{{a, 3}, {a + 100, 0}, {a + 200, 2}, {end - 1, 10}})
	if v.Left() != 15 {
		t.Errorf("%d bytes", v.Left())
	}
	if n, err := v.Put([]byte("abcd")); n != 4 || err != nil {
		t.Error(n, err)
	}
	if n, err := v.Put([]byte("efghi")); n != 2 || err != unix.EFAULT {
		t.Error(n, err)
	}
	w.want(w.as, a, "abc\x00")
	w.want(w.as, a+200, "de\x00")
	w.want(w.as, end-1, "f")
	v.SetRanges(w.as, []Range{{a, 3}, {a + 200, 2}})
	var b [10]byte
	if n, err := v.Take(b[:]); n != 5 || err != nil || string(b[:5]) != "abcde" || v.Left() != 0 {
		t.Errorf("%d, %v, %q", n, err, b)
	}
	v.Set(w.as, a, 3)
	v.Limit(2)
	if n, err := v.Take(b[:]); n != 2 || err != nil || v.Left() != 0 {
		t.Error(n, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		v.Set(w.as, a, 3)
		_, _ = v.Take(b[:])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFutexKey(t *testing.T) {
	w := newWorld(t, 64)
	p := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: anon})
	s := w.mmap(w.as, MapArgs{Length: 2 * pageSize, Prot: rw, Flags: sharedA})
	s2, err := w.as.Remap(s, 0, 2*pageSize, unix.MREMAP_MAYMOVE, 0, nil)
	w.check("Remap", err, nil)
	child, err := w.as.Fork()
	w.check("Fork", err, nil)
	defer child.Release()
	key := func(as *AddressSpace, addr uint64, private bool) FutexKey {
		k, err := as.FutexKey(addr, private)
		w.check("FutexKey", err, nil)
		return k
	}
	if key(w.as, s+pageSize+4, false) != key(child, s2+pageSize+4, false) {
		t.Error("two views of shared memory differ")
	}
	if key(w.as, s+4, false) == key(w.as, s+8, false) {
		t.Error("two words are the same")
	}
	if key(w.as, p, false) != key(w.as, p, true) {
		t.Error("private memory is never shared")
	}
	if key(w.as, p, false) == key(child, p, false) {
		t.Error("private memory is shared with a child")
	}
	_, err = w.as.FutexKey(0x10000, false)
	w.check("unmapped", err, unix.EFAULT)
}

// fails is a Backing that cannot read or write.
type fails struct{}

func (fails) ReadPage(uint64, []byte) error  { return unix.EIO }
func (fails) WritePage(uint64, []byte) error { return unix.EIO }

func TestBackingErrors(t *testing.T) {
	w := newWorld(t, 64)
	f := &file{cache: mem.NewCache(w.pool, fails{})}
	w.caches = append(w.caches, f.cache)
	w.check("Truncate", f.cache.Truncate(2*pageSize), nil)
	a := w.mmap(w.as, MapArgs{Length: pageSize, Prot: rw, Flags: unix.MAP_SHARED, Object: f})
	if err := w.as.Fault(a, machine.Read); err != errBus {
		t.Errorf("%v", err)
	}
	w.check("Unmap", w.as.Unmap(a, pageSize), nil)
	if f.refs != 0 {
		t.Errorf("%d references", f.refs)
	}
}

// Files that are in memory are mapped 16 pages at a time.
func TestFaultAround(t *testing.T) {
	w := newWorld(t, 256)
	f := newFile(w, 64)
	for i := range uint64(64) {
		if i != 20 {
			mustPage(t, f.cache, i)
		}
	}
	a := w.mmap(w.as, MapArgs{Addr: 0x10003000, Length: 60 * pageSize, Prot: unix.PROT_READ, Flags: unix.MAP_PRIVATE | unix.MAP_FIXED, Object: f, Offset: 4 * pageSize})
	w.check("Fault", w.as.Fault(a+14*pageSize, machine.Read), nil)
	// The block of 64 KiB is 0x10010000..0x10020000, pages 17..33 of the file.
	if r := w.as.Resident(0x10010000, 0x10020000); r.Pages != 15 || r.PrivateClean != 15 {
		t.Errorf("of the block: %+v", r)
	}
	if r := w.as.Resident(a, a+60*pageSize); r.Pages != 15 {
		t.Errorf("in all: %+v", r)
	}
	for i := range uint64(60) {
		w.check("Fault", w.as.Fault(a+i*pageSize, machine.Read), nil)
	}
	checkAreas(t, w.as)
}

// TestConcurrent lets several threads use one address space, and children of it, at once.
func TestConcurrent(t *testing.T) {
	w := newWorld(t, 6000)
	store := &lockedStore{}
	f := &file{cache: mem.NewCache(w.pool, store)}
	w.caches = append(w.caches, f.cache)
	w.check("Truncate", f.cache.Truncate(8*pageSize), nil)
	held := &countedFile{file: f}
	common := w.mmap(w.as, MapArgs{Length: 16 * pageSize, Prot: rw, Flags: anon})
	mapped := w.mmap(w.as, MapArgs{Length: 8 * pageSize, Prot: rw, Flags: unix.MAP_SHARED, Object: held})
	var wg sync.WaitGroup
	for id := range byte(6) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 150 {
				own := common + uint64(id) // one byte of each page is this thread's
				for i := range uint64(16) {
					if _, err := w.as.CopyOut(own+i*pageSize, []byte{id, byte(n)}[:1]); err != nil {
						t.Error(err)
					}
				}
				a, err := w.as.Map(MapArgs{Length: 4 * pageSize, Prot: rw, Flags: anon})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.as.CopyOut(a, bytes.Repeat([]byte{id}, 3*pageSize)); err != nil {
					t.Error(err)
				}
				if _, err := w.as.CompareAndSwap32(mapped+uint64(n%8)*pageSize, 0, 1); err != nil && id != 5 {
					t.Error(err)
				}
				switch id {
				case 0:
					child, err := w.as.Fork()
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := child.CopyOut(own, []byte{99}); err != nil {
						t.Error(err)
					}
					child.Release()
				case 1:
					if err := w.as.Protect(a, pageSize, unix.PROT_READ); err != nil {
						t.Error(err)
					}
				case 2:
					if err := f.cache.Sync(0, 7); err != nil {
						t.Error(err)
					}
				case 3:
					if b, err := w.as.Remap(a, 4*pageSize, 5*pageSize, unix.MREMAP_MAYMOVE, 0, nil); err != nil {
						t.Error(err)
					} else if err := w.as.Unmap(b+4*pageSize, pageSize); err != nil {
						t.Error(err)
					} else {
						a = b
					}
				case 4:
					w.as.Areas()
					w.as.Stats()
				}
				var b [1]byte
				if _, err := w.as.CopyIn(b[:], a+2*pageSize); err != nil || b[0] != id {
					t.Error(b, err)
				}
				if err := w.as.Unmap(a, 4*pageSize); err != nil {
					t.Error(err)
				}
				for i := range uint64(16) {
					if _, err := w.as.CopyIn(b[:], own+i*pageSize); err != nil || b[0] != id {
						t.Error(b, err)
					}
				}
			}
		}()
	}
	wg.Wait()
	checkAreas(t, w.as)
	w.check("Unmap", w.as.Unmap(0, userTop), nil)
	if n := held.refs.Load(); n != 0 {
		t.Errorf("%d references to the file", n)
	}
}
