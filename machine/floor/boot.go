package floor

// Boot: from the PVH start info (Xen docs/misc/pvh) to the Go runtime's first
// thread.

const (
	imageStart = 2 << 20       // physical
	lowMemory  = trampolineEnd // what lies in front of the image from there on is memory like any other
	maxRange   = 128           // UEFI firmware has some dozens
)

var (
	commandLine [4096]byte
	initrdAddr  uint64
	initrdSize  uint64
	rsdpAddr    uint64

	earlyStart uint64 // frames for the first page tables come from here
	earlyNext  uint64
	earlyEnd   uint64

	// Physical memory within the image that holds nothing, and is free. What is behind it lies gapShift lower than in front of it.
	gapFrom, gapTo, gapShift uint64

	reserved  [8][2]uint64 // physical ranges that are not free, ascending
	nreserved int

	memoryMap [maxRange][3]uint64 // from, to, E820 type: a copy, since the original is in free memory
	nmemory   int
)

func boot(c *cpu, info uint64) *context {
	if info == 0xffffffff {
		return bootAP(c)
	}
	c.inFloor = 1
	startInfo = DirectMap + info
	cpuTable[0] = c.self
	c.bit = 1
	c.online = 1
	setSerial()
	readStartInfo()
	addReserved(0, 0x10000)
	addReserved(0xa0000, trampolineEnd)
	gapFrom, gapTo, gapShift = ld64(DirectMap+trampolineGap), ld64(DirectMap+trampolineGap+8), ld64(DirectMap+trampolineGap+16)
	if gapTo == 0 {
		gapFrom, gapTo = imageStart, imageStart
	}
	_, _, imageEnd, _, _ := symbols()
	kernelEnd := (imageEnd - ImageBase - gapShift + 4095) &^ 4095
	addReserved(imageStart, gapFrom)
	addReserved(gapTo, kernelEnd)
	if initrdSize != 0 {
		addReserved(initrdAddr&^4095, (initrdAddr+initrdSize+4095)&^4095)
	}
	earlyMemory(kernelEnd)
	mapMemory(c)
	mapImage(c)
	wrcr3(kernelRoot)
	freeMemory()
	apicBase = mapWindow(c, 0xfee00000, 4096)
	setGates()
	Out8(0x21, 0xff) // the old interrupt controllers stay silent
	Out8(0xa1, 0xff)
	landings(&landing)
	findCPUs()
	apicIDs[0] = uint8(apicRead(apicID) >> 24)
	floorStack(c)
	start(c)
	calibrate(c)
	timeTSC -= ticksAtEntry()
	zeroTSC = timeTSC
	c.rested = ticksAtEntry() // there was no CPU yet
	apicWrite(apicTimer, vectorTimer)
	startAPs(c)
	return firstThread(c)
}

func readStartInfo() {
	si := startInfo
	if p := ld64(si + 24); p != 0 {
		for i := uint64(0); i < uint64(len(commandLine))-1; i++ {
			b := ld8(DirectMap + p + i)
			if b == 0 {
				break
			}
			commandLine[i] = b
		}
	}
	if ld32(si+12) != 0 { // modules
		m := DirectMap + ld64(si+16)
		initrdAddr, initrdSize = ld64(m), ld64(m+8)
	}
	rsdpAddr = ld64(si + 32)
	n := min(int(ld32(si+48)), maxRange)
	for i := 0; i < n; i++ {
		e := DirectMap + ld64(si+40) + uint64(i)*24
		from := ld64(e)
		memoryMap[i] = [3]uint64{from, from + ld64(e+8), uint64(ld32(e + 16))}
	}
	nmemory = n
}

func addReserved(from, to uint64) {
	i := nreserved
	for i > 0 && reserved[i-1][0] > from {
		reserved[i] = reserved[i-1]
		i--
	}
	reserved[i][0], reserved[i][1] = from, to
	nreserved++
}

// isMemory tells RAM, ACPI tables and ACPI NVS from the rest (E820 types).
func isMemory(kind uint64) bool { return kind == 1 || kind == 3 || kind == 4 }

// freeParts calls give for each part of [from, to) that is not reserved.
func freeParts(from, to uint64, give func(from, to uint64)) {
	for i := 0; i < nreserved && from < to; i++ {
		r := &reserved[i]
		if r[1] <= from {
			continue
		}
		if r[0] >= to {
			break
		}
		if r[0] > from {
			give(from, r[0])
		}
		from = r[1]
	}
	if from < to {
		give(from, to)
	}
}

// earlyMemory picks the first free range behind the image, or the one in front of it, below the 1 GiB that the boot
// tables map, for page tables and the frame table.
func earlyMemory(kernelEnd uint64) {
	low := false // there is memory in front of the image
	for i := 0; i < nmemory; i++ {
		from, to, kind := memoryMap[i][0], memoryMap[i][1], memoryMap[i][2]
		if kind == 1 {
			frameLimit = max(frameLimit, to>>12)
		}
		if kind == 1 && from <= kernelEnd && to > kernelEnd {
			earlyNext, earlyEnd = kernelEnd, to
			low = from <= lowMemory
		}
	}
	frameUsable = frameLimit
	if initrdSize != 0 {
		frameLimit = max(frameLimit, min((initrdAddr+initrdSize+4095)>>12, frameUsable+512))
	}
	if initrdSize != 0 && initrdAddr >= kernelEnd && initrdAddr < earlyEnd {
		// The page tables, 18 for the image and the first GiB and one for each GiB more, and the frame table.
		need := (32+frameLimit>>18)<<12 + 2*frameLimit
		before, behind := initrdAddr&^4095, (initrdAddr+initrdSize+4095)&^4095
		switch {
		case before-kernelEnd >= need:
			earlyEnd = before
		case low && (behind > earlyEnd || earlyEnd-behind < need):
			earlyNext, earlyEnd = lowMemory, imageStart
		default:
			earlyNext = behind
		}
	}
	earlyStart, earlyEnd = earlyNext, min(earlyEnd, 1<<30)
}

func earlyFrame() uint64 {
	f := earlyNext
	earlyNext += 4096
	if earlyNext > earlyEnd {
		puts("\ngosv: not enough memory to boot\n")
		stop(statusMemory)
	}
	zero(DirectMap+f, 4096)
	return f
}

// mapMemory builds the kernel's PML4 and the direct map, in 2 MiB pages.
func mapMemory(c *cpu) {
	kernelRoot = earlyFrame()
	root := DirectMap + kernelRoot
	for _, va := range [5]uint64{DirectMap, heapBase, heapLarge, windowBase, ImageBase} {
		st64(root+(va>>39&511)*8, earlyFrame()|ptePresent|pteWrite)
	}
	for i := 0; i < nmemory; i++ {
		from, to, kind := memoryMap[i][0], memoryMap[i][1], memoryMap[i][2]
		if !isMemory(kind) || to > 512<<30 {
			continue
		}
		for p := from &^ (2<<20 - 1); p < to; p += 2 << 20 {
			st64(entry(c, DirectMap+p, 2, true), p|ptePresent|pteWrite|pteHuge|pteNX)
		}
	}
}

// mapImage maps the image's text to be run, its constants to be read and its data to be
// written, and takes the right to write the first two away from the direct map.
func mapImage(c *cpu) {
	_, _, end, textEnd, data := symbols()
	data &^= 4095
	var image, direct uint64 // the page tables of these 2 MiB, and of their frames in the direct map
	for va, block := uint64(ImageBase+imageStart), uint64(0); va < end; va += 4096 {
		pa, flags := va-ImageBase, uint64(pteNX|pteWrite)
		if pa >= gapTo+gapShift {
			pa -= gapShift
		} else if pa >= gapFrom {
			continue
		}
		if va>>21 != block {
			block, image, direct = va>>21, entry(c, va, 1, true)&^4095, 0
		}
		at := va >> 12 & 511 * 8
		if va < data {
			flags = pteNX
			if direct == 0 {
				direct = directTable(c, pa)
			}
			st64(direct+at, pa|ptePresent|pteNX)
		}
		if va < textEnd {
			flags = 0
		}
		st64(image+at, pa|flags|ptePresent)
	}
}

// directTable returns the page table of the 2 MiB around pa in the direct map, and makes it if they are one large page.
func directTable(c *cpu, pa uint64) uint64 {
	e := entry(c, DirectMap+pa, 2, false)
	v := ld64(e)
	if v&pteHuge != 0 {
		t := kernelFrame(c)
		base := v & frameMask &^ (2<<20 - 1)
		for i := uint64(0); i < 512; i++ {
			st64(DirectMap+t+i*8, base+i<<12|ptePresent|pteWrite|pteNX)
		}
		v = t | ptePresent | pteWrite
		st64(e, v)
	}
	return DirectMap + v&frameMask
}

// freeMemory gives all that is left to the frame allocator.
func freeMemory() {
	places := frameLimit>>linkOrder + 1
	size := (frameLimit + places*linkBytes + 8 + 4095) &^ 4095
	frameInfo = DirectMap + earlyNext
	frameLinks = (frameInfo + frameLimit + 7) &^ 7
	earlyNext += size
	if earlyNext > earlyEnd {
		puts("\ngosv: not enough memory to boot\n")
		stop(statusMemory)
	}
	zero(frameInfo, size)
	addReserved(earlyStart, earlyNext)
	earlyNext = 0
	for i := 0; i < nmemory; i++ {
		from, to, kind := memoryMap[i][0], memoryMap[i][1], memoryMap[i][2]
		if kind == 1 && to <= 512<<30 {
			freeParts((from+4095)&^4095, to&^4095, giveRange)
		}
	}
	frameTotal = frameFree
	frameReserve = min(frameTotal/8, 16384)
	frameShort = 2 * max(frameReserve, 256)
	frameAlert = frameShort
}

func giveRange(from, to uint64) { giveRun(from>>12, (to-from)>>12) }

// floorStack gives the first CPU a floor stack with a guard page, in place of the one
// in the image that it boots on.
func floorStack(c *cpu) {
	c.floorSP = newStack(c, 4)
	g := c.g
	st64(g, c.floorSP-4<<12)
	st64(g+8, c.floorSP)
	st64(g+16, 0) // still on the boot stack
	st64(g+24, 0)
}

// firstThread makes the thread that runs the runtime's entry point, with a
// stack as execve(2) leaves it.
func firstThread(c *cpu) *context {
	t := newThread(c)
	const size = 256 << 10
	stack := reserve(c, 0, size, false)
	sp := stack + size - 2048
	touchRange(c, sp, 2048)
	startGo, _, _, _, _ := symbols()
	t.ctx.RIP = startGo
	t.ctx.CS, t.ctx.SS, t.ctx.RFLAGS = selCode, selData, 0x202
	t.altFlag = 2
	text := sp + 1024
	w := sp
	w = putWord(w, 1)
	w = putText(w, &text, "gosv")
	w = putWord(w, 0)
	w = putText(w, &text, "GODEBUG=madvdontneed=1")
	w = putText(w, &text, "GOTRACEBACK=system")
	w = putWord(w, 0)
	w = putWord(w, 6) // AT_PAGESZ
	w = putWord(w, 4096)
	w = putWord(w, 25) // AT_RANDOM
	w = putWord(w, text)
	st64(text, random())
	st64(text+8, random())
	w = putWord(w, 0)
	putWord(w, 0)
	t.ctx.RSP = sp
	t.state = threadRunning
	g := c.g
	st64(g+16, ld64(g))
	st64(g+24, ld64(g))
	switchTo(c, t)
	return &t.ctx
}

func putWord(p, v uint64) uint64 {
	st64(p, v)
	return p + 8
}

func putText(p uint64, text *uint64, s string) uint64 {
	st64(p, *text)
	for i := 0; i < len(s); i++ {
		st8(*text+uint64(i), s[i])
	}
	st8(*text+uint64(len(s)), 0)
	*text = (*text + uint64(len(s)) + 16) &^ 15
	return p + 8
}
