package floor

import "sync/atomic"

// Application processors: found through QEMU's fw_cfg or ACPI's MADT, started by
// INIT and SIPI all at once, and not waited for: each joins in when it is ready.

// The start-up code at physical 0x8000 (SIPI vector 8): real mode to protected
// mode, then the PVH entry with EBX = -1.
const (
	apCode16 = "\xfa\x31\xc0\x8e\xd8" + // cli; xor ax, ax; mov ds, ax
		"\x66\x0f\x01\x16\x40\x80" + // lgdt [0x8040]
		"\x0f\x20\xc0\x66\x83\xc8\x01\x0f\x22\xc0" + // cr0.PE = 1
		"\x66\xea\x20\x80\x00\x00\x18\x00" // jmp 0x18:0x8020
	apCode32 = "\x66\xb8\x10\x00\x8e\xd8\x8e\xc0\x8e\xd0" + // ds = es = ss = 0x10
		"\xbb\xff\xff\xff\xff" + // mov ebx, -1
		"\xb8\x00\x00\x10\x00\xff\xe0" // jmp 0x100000
	apPage        = 0x8000
	trampoline    = 0x100000
	trampolineGDT = trampoline + 0xe00
	trampolineGap = trampoline + 0xfe8
	trampolineEnd = trampoline + 0x6000
)

var apicIDs [maxCPU]uint8

// findCPUs fills apicIDs and ncpu.
func findCPUs() {
	ncpu = 1
	if n := fwCfgCPUs(); n > 1 {
		for i := uint64(1); i < n && i < maxCPU; i++ {
			apicIDs[i] = uint8(i)
		}
		ncpu = min(n, maxCPU)
	}
	if rsdpAddr != 0 {
		madtCPUs(rsdpAddr)
	}
}

func fwCfgCPUs() uint64 {
	Out16(0x510, 0)
	if In8(0x511) != 'Q' || In8(0x511) != 'E' || In8(0x511) != 'M' || In8(0x511) != 'U' {
		return 0
	}
	Out16(0x510, 5) // FW_CFG_NB_CPUS
	n := uint64(In8(0x511))
	return n | uint64(In8(0x511))<<8
}

// madtCPUs reads the processors out of ACPI's MADT (ACPI 6.4 §5.2.12).
func madtCPUs(rsdp uint64) {
	if !physical(rsdp, 36) {
		return
	}
	root, width := uint64(ld32(DirectMap+rsdp+16)), uint64(4)
	if ld8(DirectMap+rsdp+15) >= 2 && ld64(DirectMap+rsdp+24) != 0 {
		root, width = ld64(DirectMap+rsdp+24), 8
	}
	if !physical(root, 36) {
		return
	}
	size := uint64(ld32(DirectMap + root + 4))
	if size > 1<<16 || !physical(root, size) {
		return
	}
	for o := uint64(36); o+width <= size; o += width {
		t := uint64(ld32(DirectMap + root + o))
		if width == 8 {
			t = ld64(DirectMap + root + o)
		}
		if physical(t, 44) && ld32(DirectMap+t) == 0x43495041 { // "APIC"
			readMADT(t)
			return
		}
	}
}

func readMADT(t uint64) {
	size := uint64(ld32(DirectMap + t + 4))
	if size > 1<<16 || !physical(t, size) {
		return
	}
	self := uint8(apicRead(apicID) >> 24)
	apicIDs[0] = self
	n := uint64(1)
	for o := uint64(44); o+2 <= size; {
		p := DirectMap + t + o
		l := uint64(ld8(p + 1))
		if l < 2 || o+l > size {
			break
		}
		if ld8(p) == 0 && l >= 8 && ld32(p+4)&1 != 0 && ld8(p+3) != self && n < maxCPU {
			apicIDs[n] = ld8(p + 3)
			n++
		}
		o += l
	}
	ncpu = n
}

// physical reports whether [pa, pa+n) is in the direct map.
func physical(pa, n uint64) bool {
	if pa+n < pa || pa+n > 512<<30 {
		return false
	}
	for p := pa &^ 4095; p < pa+n; p += 4096 {
		if !readable(DirectMap + p) {
			return false
		}
	}
	return true
}

// startAPs prepares a block for each CPU and sends them off.
func startAPs(c *cpu) {
	if ncpu < 2 {
		return
	}
	for i := 0; i < len(apCode16); i++ {
		st8(DirectMap+apPage+uint64(i), apCode16[i])
	}
	for i := 0; i < len(apCode32); i++ {
		st8(DirectMap+apPage+0x20+uint64(i), apCode32[i])
	}
	st16(DirectMap+apPage+0x40, 31)
	st32(DirectMap+apPage+0x42, trampolineGDT)
	for i := uint64(1); i < ncpu; i++ {
		newCPU(c, i)
	}
	for i := uint64(1); i < ncpu; i++ {
		sendStart(uint32(apicIDs[i]), 0x4500) // INIT
	}
	for t := now() + 200000; now() < t; {
		pause()
	}
	for i := uint64(1); i < ncpu; i++ {
		sendStart(uint32(apicIDs[i]), 0x4600|apPage>>12)
	}
}

func sendStart(apic, command uint32) {
	apicWrite(apicICRHigh, apic<<24)
	apicWrite(apicICRLow, command)
}

func newCPU(c *cpu, i uint64) {
	// The block takes two frames; the application processor's stack, g and TLS
	// word must be in memory that the boot page tables map.
	lock(c, &frameLock)
	f := takeBlock(1)
	unlock(&frameLock)
	if f == 0 {
		puts("\ngosv: no memory for another CPU\n")
		stop(statusMemory)
	}
	p := DirectMap + f<<12
	zero(p, 8192)
	o := cpuAt(p)
	o.self, o.index, o.apic = p, i, uint64(apicIDs[i])
	o.bit = 1 << i
	o.rested = resting
	o.floorSP = newStack(c, 4)
	g := addr(ptr(&o.fakeG))
	st64(g, o.floorSP-4<<12)
	st64(g+8, o.floorSP)
	st64(g+16, o.floorSP-4<<12)
	st64(g+24, o.floorSP-4<<12)
	st64(g+504, g)
	o.g, o.floorFS = g, g+512
	cpuTable[i] = p
	cpuByAPIC[apicIDs[i]] = p
}

// bootAP is the first Go code on an application processor.
func bootAP(c *cpu) *context {
	c.inFloor = 1
	wrcr3(kernelRoot)
	x := start(c)
	atomic.StoreUint32(&c.online, 1) // from now on it is asked
	wrcr3(kernelRoot)
	setIdle(c)
	return x
}
