package floor

// Set-up that every CPU does for itself: segments, TSS, control registers,
// SYSCALL, local APIC (Intel SDM vol. 3 §2.5, §6.14, §11.4; vol. 2 SYSCALL).

var (
	idt  [512]uint64
	idtr [10]byte
)

func setGate(i uint64, handler, ist, dpl uint64) {
	idt[i*2] = handler&0xffff | selCode<<16 | ist<<32 | (0x8e|dpl<<5)<<40 | handler>>16&0xffff<<48
	idt[i*2+1] = handler >> 32
}

func setGates() {
	for i := uint64(0); i < 80; i++ {
		ist, dpl := uint64(1), uint64(0)
		switch i {
		case 2, 8, 18: // NMI, double fault, machine check
			ist = 2
		case 3, 4: // INT3, INTO
			dpl = 3
		}
		setGate(i, trapStub(i), ist, dpl)
	}
	d := addr(ptr(&idtr))
	st16(d, 4095)
	st64(d+2, addr(ptr(&idt)))
}

// setSegments gives c Linux's selectors: kernel 0x10 and 0x18, user 0x2b and
// 0x33, and the limit of 0x7b holds the CPU's number (for LSL in getcpu).
func setSegments(c *cpu, fatalStack uint64) {
	const code, data = 0x00af9b000000ffff, 0x00cf93000000ffff
	g := &c.gdt
	g[1], g[2], g[3] = code, code, data
	g[4] = 0x00cffb000000ffff
	g[5] = 0x00cff3000000ffff
	g[6] = 0x00affb000000ffff
	t := addr(ptr(&c.tss))
	g[8] = 0x67 | t&0xffffff<<16 | 0x89<<40 | t>>24&0xff<<56
	g[9] = t >> 32
	g[15] = 0x0040f50000000000 | c.index&0xffff
	st64(t+0x2c, fatalStack)
	st16(t+0x66, 104)
	d := addr(ptr(&c.gdtr))
	st16(d, 127)
	st64(d+2, addr(ptr(&c.gdt)))
	loadTables(d, addr(ptr(&idtr)))
}

func setControls(c *cpu) {
	_, b, x, _ := cpuid(7, 0)
	bits := uint64(0)
	if b>>7&1 != 0 {
		bits |= 1 << 20 // SMEP
	}
	if b>>20&1 != 0 {
		bits |= 1 << 21 // SMAP
		hasSMAP = true
	}
	if x>>2&1 != 0 {
		bits |= 1 << 11 // UMIP
	}
	if b&1 != 0 {
		bits |= 1 << 16 // FSGSBASE
	}
	if _, _, x, _ := cpuid(1, 0); x>>17&1 != 0 {
		bits |= 1 << 17 // PCIDE: CR3 holds the kernel's root and PCID 0
		hasPCID = true
	}
	setcr4(bits)
	hasBase = b&1 != 0
	hasAVX = floatMask&4 != 0
	modern = hasBase && floatMode == 2
	entry, fast := doors()
	if modern {
		entry = fast
	}
	wrmsr(0xc0000081, 0x10<<32|0x23<<48) // STAR
	wrmsr(0xc0000082, entry)             // LSTAR
	wrmsr(0xc0000084, 0x47700)           // SFMASK: TF IF DF IOPL NT AC
	wrmsr(0xc0000102, 0)
	if _, _, _, d := cpuid(0x80000001, 0); d>>27&1 != 0 {
		wrmsr(0xc0000103, c.index) // TSC_AUX, for RDTSCP and RDPID
	}
}

func setAPIC(c *cpu) {
	apicWrite(apicSpurious, 0x100|vectorSpurious)
	apicWrite(apicTPR, 0)
	apicWrite(apicDivide, 0xb)
	apicWrite(apicTimer, vectorTimer)
	c.apic = uint64(apicRead(apicID) >> 24)
}

func newIdle(c *cpu) {
	t := newThread(c)
	_, idle, _, _, _ := symbols()
	t.state = threadIdle
	t.cpu = uint32(c.index)
	t.ctx.RIP = idle
	t.ctx.CS, t.ctx.SS, t.ctx.RFLAGS = selCode, selData, 2
	t.ctx.RSP = newStack(c, 1)
	t.fs = c.floorFS
	c.idle = t.addr()
}

// start makes c ready to run threads; it is done on c itself. Returns the
// context to begin with.
func start(c *cpu) *context {
	c.bit, c.number = 1<<c.index, c.index+1
	fatal := newStack(c, 1)
	st64(fatal-8, c.self)
	setSegments(c, fatal-16)
	setControls(c)
	setAPIC(c)
	newIdle(c)
	c.root = kernelRoot
	c.current = c.idle
	c.thrTop = addr(ptr(&c.thread().ctx)) + contextTop
	c.thrFS = c.thread().fs
	return &c.thread().ctx
}

func sendIPI(o *cpu) {
	for i := 0; apicRead(apicICRLow)>>12&1 != 0 && i < 1000; i++ {
		pause()
	}
	apicWrite(apicICRHigh, uint32(o.apic)<<24)
	apicWrite(apicICRLow, vectorIPI)
}
