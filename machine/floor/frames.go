package floor

// Physical memory: a buddy allocator of 4 KiB frames in blocks of 2^0 to 2^10.
// Free blocks are linked through 16 bytes each; one byte per frame
// says whether a free block begins there, and of what order. The links of small blocks are their own first bytes. Those of blocks that the host
// may be told of lie elsewhere: a write into a block that the host has taken back would have it fill in a large page again.

const (
	maxOrder  = 10
	freeBlock = 0x80
	// linkOrder is the least order of blocks whose links lie in frameLinks: 32 frames, machine.BlockFrames.
	linkOrder = 5
	linkBytes = 16
)

var (
	frameLock  uint32
	freeLists  [maxOrder + 1]uint64 // physical address of the first free block
	frameInfo  uint64               // direct-map address of the bytes
	frameLinks uint64               // direct-map address of the links, one place for each 2^linkOrder frames
	frameLimit uint64
	// frameUsable is the end of the memory that the firmware gave away. The initial RAM disk may reach beyond: QEMU puts its end into
	// the first page of what SeaBIOS keeps for itself.
	frameUsable uint64
	frameTotal  uint64
	frameFree   uint64
	// frameReserve frames are kept from programs.
	frameReserve uint64
	// frameShort is twice the reserve, and more on the smallest machines: fewer free frames are a shortage.
	frameShort uint64
	// frameAlert is how many free frames were left when the kernel was told of
	// the shortage last; it is told again for each further eighth of the reserve.
	frameAlert uint64
)

// links is the address of a free block's links.
func links(f uint64, order uint) uint64 {
	if order < linkOrder {
		return DirectMap + f<<12
	}
	return frameLinks + f>>linkOrder*linkBytes
}

func blockPush(f uint64, order uint) {
	p := links(f, order)
	head := freeLists[order]
	st64(p, head)
	st64(p+8, 0)
	if head != 0 {
		st64(links(head>>12, order)+8, f<<12)
	}
	freeLists[order] = f << 12
	st8(frameInfo+f, freeBlock|uint8(order))
}

func blockRemove(f uint64, order uint) {
	p := links(f, order)
	next, prev := ld64(p), ld64(p+8)
	if prev != 0 {
		st64(links(prev>>12, order), next)
	} else {
		freeLists[order] = next
	}
	if next != 0 {
		st64(links(next>>12, order)+8, prev)
	}
	st8(frameInfo+f, 0)
}

// takeBlock returns a block of 2^order frames, not zeroed; 0 when there is none.
func takeBlock(order uint) uint64 {
	o := order
	for o <= maxOrder && freeLists[o] == 0 {
		o++
	}
	if o > maxOrder {
		return 0
	}
	f := freeLists[o] >> 12
	blockRemove(f, o)
	for o > order {
		o--
		blockPush(f+1<<o, o)
	}
	frameFree -= 1 << order
	return f
}

func giveBlock(f uint64, order uint) {
	frameFree += 1 << order
	for order < maxOrder {
		buddy := f ^ 1<<order
		if buddy >= frameLimit || ld8(frameInfo+buddy) != freeBlock|uint8(order) {
			break
		}
		blockRemove(buddy, order)
		f &^= 1 << order
		order++
	}
	blockPush(f, order)
}

// giveRun frees n frames from f on.
func giveRun(f, n uint64) {
	for n > 0 {
		order := uint(0)
		for order < maxOrder && f&(1<<order) == 0 && 2<<order <= n {
			order++
		}
		giveBlock(f, order)
		f += 1 << order
		n -= 1 << order
	}
}

// kernelFrame returns one zeroed frame's physical address, out of the reserve
// if need be; the end of the reserve is the end of the machine.
func kernelFrame(c *cpu) uint64 {
	if earlyNext != 0 {
		return earlyFrame()
	}
	lock(c, &frameLock)
	f := takeBlock(0)
	unlock(&frameLock)
	checkShortage(c)
	if f == 0 {
		puts("\ngosv: kernel memory exhausted\n")
		stop(statusMemory)
	}
	ClearPages(DirectMap+f<<12, 1)
	return f << 12
}

// kernelBlock returns a zeroed 2 MiB block, or 0 when memory is not plentiful.
func kernelBlock(c *cpu) uint64 {
	if frameFree < frameTotal/2 || frameTotal < 256<<8 {
		return 0
	}
	lock(c, &frameLock)
	f := takeBlock(9)
	unlock(&frameLock)
	if f != 0 {
		ClearPages(DirectMap+f<<12, 512)
	}
	return f << 12
}

func freeFrames(c *cpu, f, n uint64) {
	lock(c, &frameLock)
	giveRun(f, n)
	unlock(&frameLock)
}

// refill fills list with up to n frames for programs and returns how many. It takes whole blocks, and the smallest that there
// are, which keeps the large ones together.
func refill(c *cpu, list, n uint64) uint64 {
	lock(c, &frameLock)
	got := uint64(0)
	for got < n && frameFree > frameReserve {
		f, count := takeSome(min(n-got, frameFree-frameReserve))
		if count == 0 {
			break
		}
		for i := uint64(0); i < count; i++ {
			st64(list+got*8, f+i)
			got++
		}
	}
	unlock(&frameLock)
	checkShortage(c)
	return got
}

// takeSome takes the smallest free block, or as much of it as is not more than n frames. n is not 0.
func takeSome(n uint64) (f, count uint64) {
	order := uint(0)
	for freeLists[order] == 0 {
		if order++; order > maxOrder {
			return 0, 0
		}
	}
	for 1<<order > n {
		order--
	}
	return takeBlock(order), 1 << order
}

// checkShortage tells the kernel when less than frameShort is free.
func checkShortage(c *cpu) {
	free := frameFree
	if free >= frameShort {
		frameAlert = frameShort
		return
	}
	if free+frameReserve/8 <= frameAlert {
		frameAlert = free
		raise(c, shortageBit)
	} else if free > frameAlert {
		frameAlert = free
	}
}

// leastFree is the order of the smallest block that takeFree takes.
const leastFree = 5

// takeFree takes the free block of 2^leastFree frames or more that begins at f, and returns how many it has; 0 when there is none, or when
// memory would run short.
func takeFree(c *cpu, f uint64) (n uint64) {
	if f >= frameLimit {
		return 0
	}
	lock(c, &frameLock)
	order := uint(ld8(frameInfo+f)) ^ freeBlock
	if order >= leastFree && order <= maxOrder && frameFree >= frameShort+1<<order {
		blockRemove(f, order)
		n = 1 << order
		frameFree -= n
	}
	unlock(&frameLock)
	return n
}

func drain(c *cpu, list, n uint64) {
	lock(c, &frameLock)
	for i := uint64(0); i < n; i++ {
		giveBlock(ld64(list+i*8), 0)
	}
	unlock(&frameLock)
}

// takeRun returns 2^order contiguous frames for the kernel's users, or 0.
func takeRun(c *cpu, order uint64) uint64 {
	if order > maxOrder {
		return 0
	}
	lock(c, &frameLock)
	f := uint64(0)
	if frameFree >= frameReserve+1<<order {
		f = takeBlock(uint(order))
	}
	unlock(&frameLock)
	return f
}
