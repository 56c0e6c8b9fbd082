package mm

// Layout says where things go in an address space.
type Layout struct {
	StackTop uint64 // end of the main thread's stack
	MmapBase uint64 // mmap(2) takes the highest free addresses below
	BrkStart uint64 // where the heap starts; set by SetBrk
	PIEBase  uint64 // for programs without addresses of their own
}

// What Linux does on x86-64 (arch/x86/mm/mmap.c, fs/binfmt_elf.c).
const (
	stackRandomPages = 1 << 22
	mmapRandomPages  = 1 << 28
	brkRandom        = 32 << 20
	minStackRoom     = 128 << 20
	pieBase          = userTop / 3 * 2 &^ pageMask
)

// NewLayout returns Linux's layout for x86-64. random returns uniformly distributed bits, or
// is nil for the layout without randomness (ADDR_NO_RANDOMIZE); stackLimit is RLIMIT_STACK in bytes.
func NewLayout(random func() uint64, stackLimit uint64) Layout {
	if random == nil {
		random = func() uint64 { return 0 }
	}
	l := Layout{StackTop: userTop - random()%stackRandomPages*pageSize}
	room := pageUp(min(max(stackLimit, minStackRoom), userTop/6*5))
	room += stackRandomPages*pageSize + stackGap
	l.MmapBase = userTop - room - random()%mmapRandomPages*pageSize
	l.PIEBase = pieBase + random()%mmapRandomPages*pageSize
	return l
}

// RandomBrk returns where the heap may start when the program's data end at end.
// random is as for NewLayout.
func RandomBrk(end uint64, random func() uint64) uint64 {
	if random == nil {
		return pageUp(end)
	}
	return pageUp(end) + random()%(brkRandom/pageSize)*pageSize
}

// SetLayout sets where stack and mappings go. Call it before anything is mapped.
func (as *AddressSpace) SetLayout(l Layout) {
	as.mu.Lock()
	defer as.unlock()
	as.layout, as.gaps, as.brk = l, gapHint{}, l.BrkStart
}

// Layout returns it.
func (as *AddressSpace) Layout() Layout {
	as.mu.RLock()
	v := as.layout
	as.mu.RUnlock()
	return v
}
