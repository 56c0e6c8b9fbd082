package mm

import (
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// The model: what Linux would show at each page of a small window of addresses,
// in terms of one byte of each page.

const (
	windowPages = 48
	windowBase  = 0x10000000 - 20*pageSize // across a border of page tables
	probe       = 7                        // the byte of each page that is looked at
	filePages   = 24
)

// modelFile is a file, or shared memory.
type modelFile struct {
	object  Mappable
	cache   *mem.Cache
	store   *store // the backing, if any
	size    int    // in pages
	content [filePages * 2]byte
}

type modelPage struct {
	mapped, shared bool
	dontFork, wipe bool
	prot           int
	file           *modelFile // nil: anonymous
	index          int        // in file
	private        bool       // val is the content
	val            byte
}

type modelSpace struct {
	as    *AddressSpace
	pages [windowPages]modelPage
}

// store is a Backing in memory.
type store struct {
	pages  map[uint64][]byte
	reads  int
	writes int
}

func (s *store) ReadPage(index uint64, page []byte) error {
	s.reads++
	copy(page, s.pages[index])
	return nil
}

func (s *store) WritePage(index uint64, page []byte) error {
	s.writes++
	s.pages[index] = append([]byte(nil), page...)
	return nil
}

type model struct {
	*world
	spaces []*modelSpace
	files  []*modelFile
	weak   bool // memory may run out at any time
}

func newModel(t testing.TB, frames int) *model {
	m := &model{world: newWorld(t, frames)}
	m.spaces = []*modelSpace{{as: m.as}}
	for i := range 3 {
		f := &modelFile{size: filePages / 2}
		switch i {
		case 0:
			f.cache = mem.NewShmem(m.pool)
		case 1:
			f.cache = mem.NewCache(m.pool, nil)
		case 2:
			f.store = &store{pages: map[uint64][]byte{}}
			f.cache = mem.NewCache(m.pool, f.store)
		}
		f.object = &file{cache: f.cache, name: "/f"}
		m.files = append(m.files, f)
		m.caches = append(m.caches, f.cache)
		m.check("Truncate", f.cache.Truncate(int64(f.size)*pageSize), nil)
	}
	return m
}

func at(page int) uint64 { return windowBase + uint64(page)*pageSize }

// contents returns what a read of the page sees; ok is false when it faults.
func (p *modelPage) contents() (v byte, ok bool) {
	switch {
	case !p.mapped || p.prot == 0:
		return 0, false
	case p.private:
		return p.val, true
	case p.file == nil:
		return 0, true
	case p.index >= p.file.size:
		return 0, false
	}
	return p.file.content[p.index], true
}

func (p *modelPage) set(v byte) (ok bool) {
	if _, ok := p.contents(); !ok || p.prot&unix.PROT_WRITE == 0 {
		return false
	}
	if p.shared {
		p.file.content[p.index] = v
	} else {
		p.private, p.val = true, v
	}
	return true
}

func (m *model) read(s *modelSpace, i int) {
	m.t.Helper()
	var b [1]byte
	_, err := s.as.CopyIn(b[:], at(i)+probe)
	v, ok := s.pages[i].contents()
	if m.weak && ok && err != nil {
		return
	}
	if ok != (err == nil) || ok && b[0] != v {
		m.t.Fatalf("page %d reads %d, %v; want %d, %v (%+v)", i, b[0], err, v, ok, s.pages[i])
	}
}

func (m *model) write(s *modelSpace, i int, v byte) {
	m.t.Helper()
	_, err := s.as.CopyOut(at(i)+probe, []byte{v})
	if m.weak && err != nil {
		return
	}
	if ok := s.pages[i].set(v); ok != (err == nil) {
		m.t.Fatalf("write of page %d: %v; want %v (%+v)", i, err, ok, s.pages[i])
	}
}

// expect checks that an operation failed only for want of memory, if it may, and reports whether it
// was done.
func (m *model) expect(what string, err, want error) bool {
	m.t.Helper()
	if m.weak && err == unix.ENOMEM && want == nil {
		return false
	}
	m.check(what, err, want)
	return err == nil
}

func (m *model) mapFixed(s *modelSpace, i, n, kind, prot int) {
	args := MapArgs{Addr: at(i), Length: uint64(n) * pageSize, Prot: prot, Flags: unix.MAP_FIXED}
	first := modelPage{mapped: true, prot: prot, shared: kind&1 != 0}
	if first.shared {
		args.Flags |= unix.MAP_SHARED
	} else {
		args.Flags |= unix.MAP_PRIVATE
	}
	if f := kind / 2; f < len(m.files) {
		first.file, first.index = m.files[f], i%filePages
		args.Object, args.Offset = first.file.object, uint64(first.index)*pageSize
	} else {
		args.Flags |= unix.MAP_ANONYMOUS
		if first.shared {
			first.file = &modelFile{size: n}
		}
	}
	_, err := s.as.Map(args)
	if !m.expect("Map", err, nil) {
		m.resync(s, i, n)
		return
	}
	for k := range n {
		p := first
		p.index += k
		s.pages[i+k] = p
	}
}

// resync takes from the address space which pages are not mapped any more.
func (m *model) resync(s *modelSpace, i, n int) {
	s.as.mu.Lock()
	defer s.as.mu.Unlock()
	for k := i; k < i+n; k++ {
		if s.as.vacant(at(k), at(k+1)) {
			s.pages[k] = modelPage{}
		}
	}
}

func (m *model) unmap(s *modelSpace, i, n int) {
	m.check("Unmap", s.as.Unmap(at(i), uint64(n)*pageSize), nil)
	clear(s.pages[i : i+n])
}

func (m *model) protect(s *modelSpace, i, n, prot int) {
	var want error
	for k := i; k < i+n; k++ {
		if !s.pages[k].mapped {
			want = unix.ENOMEM
			break
		}
		s.pages[k].prot = prot
	}
	m.check("Protect", s.as.Protect(at(i), uint64(n)*pageSize, prot), want)
}

func (m *model) advise(s *modelSpace, i, n, advice int) {
	var want error
	for k := i; k < i+n; k++ {
		p := &s.pages[k]
		if !p.mapped {
			want = unix.ENOMEM
		}
	}
	for k := i; k < i+n; k++ {
		p := &s.pages[k]
		switch {
		case !p.mapped:
		case advice == unix.MADV_DONTNEED:
			p.private = false
		case advice == unix.MADV_DONTFORK:
			p.dontFork = true
		case advice == unix.MADV_DOFORK:
			p.dontFork = false
		case advice == unix.MADV_WIPEONFORK && p.file != nil:
			m.check("Advise", s.as.Advise(at(i), uint64(n)*pageSize, advice, nil), unix.EINVAL)
			return
		case advice == unix.MADV_WIPEONFORK:
			p.wipe = true
		case advice == unix.MADV_KEEPONFORK:
			p.wipe = false
		}
	}
	m.check("Advise", s.as.Advise(at(i), uint64(n)*pageSize, advice, nil), want)
}

func (m *model) fork(s *modelSpace) {
	if len(m.spaces) >= 4 {
		return
	}
	as, err := s.as.Fork()
	if !m.expect("Fork", err, nil) {
		return
	}
	child := &modelSpace{as: as, pages: s.pages}
	for i := range child.pages {
		p := &child.pages[i]
		if p.dontFork {
			*p = modelPage{}
		}
		if p.wipe {
			p.private = false
		}
	}
	m.spaces = append(m.spaces, child)
}

func (m *model) release(k int) {
	if len(m.spaces) < 2 || k == 0 {
		return
	}
	m.spaces[k].as.Release()
	checkEmpty(m.t, m.spaces[k].as)
	m.spaces = append(m.spaces[:k], m.spaces[k+1:]...)
}

func (m *model) truncate(f *modelFile, size int) {
	m.check("Truncate", f.cache.Truncate(int64(size)*pageSize), nil)
	for i := size; i < len(f.content); i++ {
		f.content[i] = 0
		if f.store != nil {
			delete(f.store.pages, uint64(i)) // as a file system does
		}
	}
	f.size = size
	for _, s := range m.spaces {
		for i := range s.pages {
			if p := &s.pages[i]; p.file == f && p.index >= size {
				p.private = false
			}
		}
	}
}

func (m *model) fileWrite(f *modelFile, index int, v byte) {
	src := uioBuffer([]byte{v})
	n, err := f.cache.WriteAt(&src, int64(index)*pageSize+probe)
	if n != 1 {
		m.expect("WriteAt", err, nil)
		return
	}
	f.content[index] = v
	if index >= f.size {
		// The page is not full, but counts for what is mapped.
		f.size = index + 1
	}
}

func (m *model) fileRead(f *modelFile, index int) {
	var b [1]byte
	dst := uioBuffer(b[:])
	n, err := f.cache.ReadAt(&dst, int64(index)*pageSize+probe)
	if index >= f.size {
		if n != 0 || err != nil {
			m.t.Fatalf("ReadAt beyond the end: %d, %v", n, err)
		}
		return
	}
	if m.weak && err != nil {
		return
	}
	if n != 1 || err != nil || b[0] != f.content[index] {
		m.t.Fatalf("ReadAt page %d: %d, %v, byte %d; want %d", index, n, err, b[0], f.content[index])
	}
}

func (m *model) punch(f *modelFile, index, n int) {
	if f.store != nil {
		for i := index; i < index+n; i++ {
			delete(f.store.pages, uint64(i))
		}
	}
	m.check("PunchHole", f.cache.PunchHole(int64(index)*pageSize, int64(n)*pageSize), nil)
	clear(f.content[index : index+n])
}

func (m *model) fsync(f *modelFile) {
	m.check("Sync", f.cache.Sync(0, math.MaxUint64), nil)
	if f.store == nil {
		return
	}
	for i := range f.size {
		if b := f.store.pages[uint64(i)]; b != nil && b[probe] != f.content[i] || b == nil && f.content[i] != 0 {
			m.t.Fatalf("after Sync page %d is not what was written: %d", i, f.content[i])
		}
	}
}

func (m *model) msync(s *modelSpace, i, n int) {
	var want error
	for k := i; k < i+n; k++ {
		if !s.pages[k].mapped {
			want = unix.ENOMEM
		}
	}
	m.check("msync", s.as.Sync(at(i), uint64(n)*pageSize, unix.MS_SYNC), want)
	for k := i; k < i+n; k++ {
		p := &s.pages[k]
		if p.mapped && p.shared && p.file.store != nil && p.index < p.file.size {
			if b := p.file.store.pages[uint64(p.index)]; b == nil && p.file.content[p.index] != 0 || b != nil && b[probe] != p.file.content[p.index] {
				m.t.Fatalf("msync of page %d stored the wrong thing", k)
			}
		}
	}
}

func (m *model) remap(s *modelSpace, from, n, to, grow, flag int) {
	if from < to+n+grow && to < from+n || to+n+grow > windowPages {
		return
	}
	flags := unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED
	keep := flag&1 != 0
	if keep {
		flags |= unix.MREMAP_DONTUNMAP
		grow = 0
	}
	got, err := s.as.Remap(at(from), uint64(n)*pageSize, uint64(n+grow)*pageSize, flags, at(to), nil)
	first := s.pages[from]
	switch {
	case err == unix.EFAULT:
		if n == 1 && first.mapped {
			m.t.Fatal("Remap of one page: EFAULT")
		}
		return
	case keep && first.mapped && first.shared:
		m.check("Remap", err, unix.EINVAL)
		return
	case err == unix.ENOMEM && m.weak:
		m.resync(s, to, n+grow)
		return
	}
	m.check("Remap", err, nil)
	if got != at(to) {
		m.t.Fatalf("Remap to %#x returned %#x", at(to), got)
	}
	for k := range n + grow {
		p := first
		p.private, p.index = false, first.index+k
		if k < n {
			p = s.pages[from+k]
			if p.file != first.file || p.shared != first.shared || p.prot != first.prot || p.file != nil && p.index != first.index+k {
				m.t.Fatalf("Remap took pages that do not belong together: %+v, %+v", first, p)
			}
		}
		s.pages[to+k] = p
		if k < n {
			if keep {
				s.pages[from+k].private = false
			} else {
				s.pages[from+k] = modelPage{}
			}
		}
	}
}

// step performs one operation that five bytes choose.
func (m *model) step(op, a, b, c, d byte) {
	s := m.spaces[int(a)%len(m.spaces)]
	f := m.files[int(a)%len(m.files)]
	i := int(b) % windowPages
	n := 1 + int(c)%min(8, windowPages-i)
	prots := []int{rw, rw, rw, unix.PROT_READ, 0, rw | unix.PROT_EXEC, unix.PROT_WRITE, unix.PROT_EXEC}
	prot := prots[d%8]
	if m.weak {
		m.m.FailAfter(int(d) % 5)
		defer m.m.FailAfter(-1)
	}
	switch op % 18 {
	case 0, 1:
		m.mapFixed(s, i, n, int(d>>3)%8, prot)
	case 2:
		m.unmap(s, i, n)
	case 3:
		m.protect(s, i, n, prot)
	case 4, 5, 6:
		for k := range n {
			m.write(s, i+k, d+byte(k)+1)
		}
	case 7:
		for k := range n {
			m.read(s, i+k)
		}
	case 8:
		m.fork(s)
	case 9:
		m.release(int(a) % len(m.spaces))
	case 10:
		m.truncate(f, int(b)%filePages)
	case 11:
		m.fileWrite(f, int(b)%filePages, d)
	case 12:
		m.fileRead(f, int(b)%filePages)
	case 13:
		m.punch(f, int(b)%filePages, n)
	case 14:
		advices := []int{unix.MADV_DONTNEED, unix.MADV_DONTNEED, unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK}
		m.advise(s, i, n, advices[int(d)%len(advices)])
	case 15:
		m.remap(s, i, n, int(d)%windowPages, int(c>>4)%4, int(c>>6))
	case 16:
		if !m.weak {
			m.fsync(f)
		}
	case 17:
		if !m.weak {
			m.msync(s, i, n)
		}
	}
}

// verify compares everything.
func (m *model) verify() {
	m.t.Helper()
	m.weak = false
	for _, s := range m.spaces {
		mapped := uint64(0)
		for i := range s.pages {
			m.read(s, i)
			if s.pages[i].mapped {
				mapped++
			}
		}
		if got := s.as.Stats().Size; got != mapped {
			m.t.Fatalf("%d pages mapped, want %d", got, mapped)
		}
		checkAreas(m.t, s.as)
	}
	for _, f := range m.files {
		for i := range filePages {
			m.fileRead(f, i)
		}
		m.fsync(f)
	}
}

// checkAreas checks what must always hold of an address space at rest.
func checkAreas(t testing.TB, as *AddressSpace) {
	t.Helper()
	as.mu.RLock()
	defer as.mu.RUnlock()
	var size, data, locked uint64
	var rss mem.Tally
	last := uint64(0)
	for i, a := range as.areas {
		if a.start < last || a.start >= a.end || (a.start|a.end)&pageMask != 0 || a.as != as {
			t.Fatalf("area %d is %#x..%#x after %#x", i, a.start, a.end, last)
		}
		if i > 0 && mergeable(as.areas[i-1], a) {
			t.Fatalf("areas %d and %d should be one", i-1, i)
		}
		last = a.end
		size += a.pages()
		if a.isData() {
			data += a.pages()
		}
		if a.flags&flagLocked != 0 {
			locked += a.pages()
		}
		for va, ok := as.nextMapped(a.start, a.end); ok; va, ok = as.nextMapped(va+pageSize, a.end) {
			f, acc, _ := as.space.Lookup(va)
			if acc&^a.access != 0 {
				t.Fatalf("page %#x allows %b, its area %b", va, acc, a.access)
			}
			if acc&machine.Write != 0 && !a.shared() && !as.pool.Exclusive(f) && !(a.hugeTLB() && as.pool.Refs(f) == 1) {
				t.Fatalf("page %#x may be written but is not private", va)
			}
			rss[as.pool.Kind(f)]++
		}
	}
	if size != as.size || data != as.data || locked != as.locked {
		t.Fatalf("counters: size %d data %d locked %d; want %d, %d, %d", as.size, as.data, as.locked, size, data, locked)
	}
	for k := range rss {
		if got := as.rss[k].Load(); got != rss[k] {
			t.Fatalf("%d resident pages of kind %d, want %d", got, k, rss[k])
		}
	}
}

func (m *model) finish() {
	m.verify()
	for len(m.spaces) > 1 {
		m.release(len(m.spaces) - 1)
	}
	m.unmap(m.spaces[0], 0, windowPages)
	if n := m.pool.Committed(); n != 0 {
		m.t.Fatalf("%d pages are still promised", n)
	}
}

func (m *model) run(ops []byte) {
	for n := 0; len(ops) >= 5; n++ {
		m.step(ops[0], ops[1], ops[2], ops[3], ops[4])
		ops = ops[5:]
		if n%64 == 63 {
			for _, s := range m.spaces {
				checkAreas(m.t, s.as)
			}
		}
	}
	m.finish()
}

func TestModel(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		ops := make([]byte, 5*(1+r.IntN(600)))
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		ok := t.Run("", func(t *testing.T) {
			m := newModel(t, 2000)
			m.weak = seed%3 == 2
			m.run(ops)
		})
		if !ok {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		ops := make([]byte, 5*200)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		f.Add(ops, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, ops []byte, weak bool) {
		if len(ops) > 5*2000 {
			t.Skip()
		}
		m := newModel(t, 1000)
		m.weak = weak
		m.run(ops)
	})
}
