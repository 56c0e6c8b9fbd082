package floor

// The kernel's page tables: the image (W^X), the direct map (never executable,
// read-only where it shows the image's text and constants), the runtime's heap
// (on demand) and the window for registers and stacks. Entries above the PML4
// are shared by every space, so all of the PML4's kernel half is filled at boot.

const (
	ptePresent = 1 << 0
	pteWrite   = 1 << 1
	pteUser    = 1 << 2
	pteWT      = 1 << 3
	pteCD      = 1 << 4
	pteHuge    = 1 << 7
	pteNX      = 1 << 63
	frameMask  = 0x000ffffffffff000
)

var (
	vmLock     uint32
	heapNext   uint64 = heapBase
	largeNext  uint64 = heapLarge
	windowNext uint64 = windowBase
	heapPages  uint64
)

// entry returns the address of va's entry at the given level (1: page, 2: 2 MiB),
// making tables on the way when create is set; 0 when there is none. A large
// page met on the way is returned as it is.
func entry(c *cpu, va uint64, level uint, create bool) uint64 {
	p := DirectMap + kernelRoot
	for l := uint(4); l > level; l-- {
		e := p + (va>>(3+9*l)&511)*8
		v := ld64(e)
		if v&pteHuge != 0 && l < 4 {
			return e
		}
		if v&ptePresent == 0 {
			if !create {
				return 0
			}
			v = kernelFrame(c) | ptePresent | pteWrite
			st64(e, v)
		}
		p = DirectMap + v&frameMask
	}
	return p + (va>>(3+9*level)&511)*8
}

func mapPage(c *cpu, va, pa, flags uint64) {
	st64(entry(c, va, 1, true), pa|flags|ptePresent)
}

// faultAround is how many pages one fault in the heap brings in, as long as more than aroundLeast frames are free: much of what the
// runtime keeps about its heap is touched here and there.
const (
	faultAround = 4
	aroundLeast = 8 << 20 >> 12
)

// heapFault maps memory at va in the runtime's heap; false when va is not in it.
func heapFault(c *cpu, va uint64) bool {
	if va < heapBase || va >= heapNext && va < heapLarge || va >= largeNext {
		return false
	}
	lock(c, &vmLock)
	touch(c, va)
	unlock(&vmLock)
	return true
}

func touch(c *cpu, va uint64) {
	e2 := entry(c, va, 2, true)
	v := ld64(e2)
	if v == 0 && va >= heapLarge && va&^(2<<20-1)+2<<20 <= largeNext {
		if b := kernelBlock(c); b != 0 {
			st64(e2, b|ptePresent|pteWrite|pteHuge|pteNX)
			heapPages += 512
			return
		}
	}
	if v&pteHuge != 0 {
		return
	}
	first := va &^ (faultAround<<12 - 1)
	for p := first; p < first+faultAround<<12; p += 4096 {
		e := entry(c, p, 1, true)
		if ld64(e) == 0 && (p == va&^4095 || frameFree > frameReserve+aroundLeast) {
			st64(e, kernelFrame(c)|ptePresent|pteWrite|pteNX)
			heapPages++
		}
	}
}

// touchRange makes sure that the heap pages of [va, va+n) are there: the floor itself
// may not fault.
func touchRange(c *cpu, va, n uint64) {
	for p := va &^ 4095; p < va+n; p += 4096 {
		if p < heapBase || p >= heapEnd {
			continue
		}
		if e := entry(c, p, 1, false); e == 0 || ld64(e) == 0 {
			heapFault(c, p)
		}
	}
}

// heapDrop takes the memory of [va, va+n) away; the next touch finds zeroes.
func heapDrop(c *cpu, va, n uint64) {
	if va < heapBase || va+n > heapEnd || va+n < va {
		return
	}
	lock(c, &vmLock)
	limbo, block := uint64(0), uint64(0)
	for p := va &^ 4095; p < va+n; {
		e := entry(c, p, 1, false)
		switch v := uint64(0); {
		case e == 0:
			p = p&^(2<<20-1) + 2<<20
			continue
		default:
			v = ld64(e)
			if v&pteHuge != 0 {
				base := p &^ (2<<20 - 1)
				if base >= va && base+2<<20 <= va+n {
					st64(e, 0)
					st64(DirectMap+v&frameMask&^(2<<20-1), block)
					block = v & frameMask &^ (2<<20 - 1)
					heapPages -= 512
				} else {
					end := min(base+2<<20, va+n)
					zero(DirectMap+v&frameMask&^(2<<20-1)+p-base, end-p)
				}
				p = base + 2<<20
				continue
			}
			if v != 0 {
				st64(e, 0)
				st64(DirectMap+v&frameMask, limbo)
				limbo = v & frameMask
				heapPages--
			}
		}
		p += 4096
	}
	unlock(&vmLock)
	if limbo|block == 0 {
		return
	}
	flushKernel(c)
	lock(c, &frameLock)
	for limbo != 0 {
		f := limbo
		limbo = ld64(DirectMap + f)
		giveBlock(f>>12, 0)
	}
	for block != 0 {
		f := block
		block = ld64(DirectMap + f)
		giveBlock(f>>12, 9)
	}
	unlock(&frameLock)
}

// reserve is mmap(2) for the runtime: memory comes on the first touch. Hints
// are refused unless they continue the last reservation, so that the runtime
// takes a heap in the kernel's half.
func reserve(c *cpu, hint, n uint64, fixed bool) uint64 {
	n = (n + 4095) &^ 4095
	if fixed {
		if hint < heapBase || hint+n > heapEnd || hint+n < hint {
			return errno(enomem)
		}
		return hint
	}
	lock(c, &vmLock)
	r := uint64(0)
	if n >= 64<<20 {
		if hint == 0 || hint == largeNext {
			largeNext = (largeNext + 4<<20 - 1) &^ (4<<20 - 1)
			r = largeNext
			largeNext += n
		}
	} else if hint == 0 || hint == heapNext {
		r = heapNext
		heapNext += n
	}
	unlock(&vmLock)
	if r == 0 || largeNext > heapEnd || heapNext > heapLarge {
		return errno(enomem)
	}
	return r
}

// mapWindow maps n bytes of device registers at pa, uncached, and returns the
// address. Registers stay mapped for good.
func mapWindow(c *cpu, pa, n uint64) uint64 {
	first := pa &^ 4095
	size := (pa + n - first + 4095) &^ 4095
	lock(c, &vmLock)
	va := windowNext
	windowNext += size
	for o := uint64(0); o < size; o += 4096 {
		mapPage(c, va+o, first+o, pteWrite|pteNX|pteCD|pteWT)
	}
	unlock(&vmLock)
	return va + pa - first
}

// mapMemoryOf maps [pa, pa+n) where the direct map has it, in large pages as far as it can.
func mapMemoryOf(c *cpu, pa, n uint64) {
	lock(c, &vmLock)
	for end := pa + n; pa < end; {
		size, level, flags := uint64(4096), uint(1), uint64(ptePresent|pteWrite|pteNX)
		if pa&(2<<20-1) == 0 && end-pa >= 2<<20 {
			size, level, flags = 2<<20, 2, flags|pteHuge
		}
		if e := entry(c, DirectMap+pa, level, true); ld64(e)&ptePresent == 0 {
			st64(e, pa|flags)
		}
		pa += size
	}
	unlock(&vmLock)
}

// newStack returns the top of a fresh stack of n pages with an unmapped page below.
func newStack(c *cpu, n uint64) uint64 {
	lock(c, &vmLock)
	va := windowNext + 4096
	windowNext += (n + 1) << 12
	for o := uint64(0); o < n<<12; o += 4096 {
		mapPage(c, va+o, kernelFrame(c), pteWrite|pteNX)
	}
	unlock(&vmLock)
	return va + n<<12
}
