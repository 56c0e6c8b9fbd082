package floor

import (
	"sync/atomic"

	"gosv/machine"
)

// Time: the TSC, scaled to nanoseconds since a second before the kernel's first instruction, and the local APIC timer
// in one-shot mode. Under KVM, QEMU and Firecracker the timer counts at 1 GHz.

var (
	timeSeq    uint32 // odd while the three below change
	timeTSC    uint64
	zeroTSC    uint64 // the TSC when the clock was 0
	timeMult   uint64 = 1 << 32
	timeBase   uint64
	wallOffset uint64

	apicBase uint64 // local APIC registers, mapped

	alarm    uint64 // deadline of the kernel's alarm, 0: none
	alarmCPU uint64
)

// APIC registers (Intel SDM vol. 3 §11.4.1).
const (
	apicID       = 0x20
	apicTPR      = 0x80
	apicEOI      = 0xb0
	apicSpurious = 0xf0
	apicICRLow   = 0x300
	apicICRHigh  = 0x310
	apicTimer    = 0x320
	apicInitial  = 0x380
	apicCurrent  = 0x390
	apicDivide   = 0x3e0

	vectorTimer    = machine.VectorTimer
	vectorIPI      = machine.VectorCall
	vectorDevice   = 34
	vectorSpurious = 79
)

func apicWrite(r uint64, v uint32) { st32(apicBase+r, v) }
func apicRead(r uint64) uint32     { return ld32(apicBase + r) }

// scale returns a*b >> 32.
func scale(a, b uint64) uint64 {
	ah, al := a>>32, a&0xffffffff
	return ah*b + al*(b>>32) + al*(b&0xffffffff)>>32
}

func now() uint64 { return scale(rdtsc()-timeTSC, timeMult) + timeBase }

// apicAndTSC reads both clocks as close together as it can.
func apicAndTSC() (ticks uint32, tsc uint64) {
	best := ^uint64(0)
	for i := 0; i < 3; i++ {
		t0 := rdtsc()
		a := apicRead(apicCurrent)
		t1 := rdtsc()
		if t1-t0 < best {
			best = t1 - t0
			ticks, tsc = a, t0+(t1-t0)/2
		}
	}
	return ticks, tsc
}

// AtEntry is what now says at the kernel's first instruction, in ns. Programs take a time of 0 s for one that was not taken (ping does), and on
// Linux none runs within the first second.
const AtEntry = 1000000000

// ticksAtEntry is AtEntry in ticks of the TSC.
func ticksAtEntry() uint64 { return (AtEntry << 32) / timeMult }

// calibrate finds the TSC's frequency: from KVM's clock page, from the
// hypervisor's CPUID leaf (kHz in EAX of 0x40000010), else against the timer,
// for 200 µs.
func calibrate(c *cpu) {
	timeTSC = tscEntry
	if m := kvmMult(c); m != 0 {
		timeMult = m
		return
	}
	if khz := hypervisorKHz(); khz != 0 {
		timeMult = (1000000 << 32) / khz
		return
	}
	apicWrite(apicDivide, 0xb)
	apicWrite(apicTimer, 0x10000|vectorTimer)
	apicWrite(apicInitial, 0xffffffff)
	a0, t0 := apicAndTSC()
	for a0-apicRead(apicCurrent) < 200000 {
	}
	a1, t1 := apicAndTSC()
	timeMult = uint64(a0-a1) << 32 / (t1 - t0)
	apicWrite(apicInitial, 0)
}

// kvmMult returns ns per TSC tick, times 2^32, from KVM's pvclock (Linux,
// Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW), or 0.
func kvmMult(c *cpu) uint64 {
	const systemTime = 0x4b564d01
	if _, b, x, d := cpuid(0x40000000, 0); b != 0x4b4d564b || x != 0x564b4d56 || d != 0x4d {
		return 0
	}
	if features, _, _, _ := cpuid(0x40000001, 0); features>>3&1 == 0 {
		return 0
	}
	page := kernelFrame(c)
	wrmsr(systemTime, page|1)
	mult, shift := uint64(ld32(DirectMap+page+24)), int8(ld8(DirectMap+page+28))
	wrmsr(systemTime, 0)
	freeFrames(c, page>>12, 1)
	if shift < 0 {
		return mult >> uint8(-shift&31)
	}
	return mult << uint8(shift&31)
}

func hypervisorKHz() uint64 {
	if _, _, c, _ := cpuid(1, 0); c>>31&1 == 0 {
		return 0
	}
	top, _, _, _ := cpuid(0x40000000, 0)
	if top < 0x40000010 || top > 0x400000ff {
		return 0
	}
	khz, _, _, _ := cpuid(0x40000010, 0)
	return uint64(khz)
}

// arm sets this CPU's timer for the deadline at, unless it goes off earlier anyway.
func arm(c *cpu, at, nw uint64) {
	if at == 0 || c.armed != 0 && c.armed <= at && c.armed > nw {
		return
	}
	d := uint64(1000)
	if at > nw+1000 {
		d = at - nw
	}
	if d > 4000000000 {
		d = 4000000000
	}
	c.armed = nw + d
	apicWrite(apicInitial, uint32(d))
}

// setAlarm arms the kernel's alarm on this CPU.
func setAlarm(c *cpu, at uint64) {
	atomic.StoreUint64(&alarmCPU, c.index)
	atomic.StoreUint64(&alarm, at)
	if at != 0 {
		arm(c, at, now())
	}
}

// expire wakes the threads whose time has come and raises the alarm. It reports
// whether a thread was woken.
func expire(c *cpu, nw uint64) bool {
	woken := false
	for {
		lock(c, &c.lock)
		var t *thread
		waits := uint32(0)
		if c.timers > 0 && byID(c.heap[0]).expires <= nw {
			t = byID(c.heap[0])
			waits = atomic.LoadUint32(&t.waits)
			heapRemove(c, 0)
		}
		unlock(&c.lock)
		if t == nil {
			break
		}
		if timedOut(c, t, waits) {
			woken = true
		}
	}
	if at := atomic.LoadUint64(&alarm); at != 0 && at <= nw && alarmCPU == c.index {
		if atomic.CompareAndSwapUint64(&alarm, at, 0) {
			raise(c, alarmBit)
		}
	}
	return woken
}

// The heap of deadlines, smallest first; guarded by c.lock.

func heapSet(c *cpu, i uint32, id uint32) {
	c.heap[i] = id
	t := byID(id)
	t.heapAt, t.heapCPU = i+1, uint32(c.index)
}

func heapUp(c *cpu, i uint32) {
	id := c.heap[i]
	for i > 0 {
		p := (i - 1) / 2
		if byID(c.heap[p]).expires <= byID(id).expires {
			break
		}
		heapSet(c, i, c.heap[p])
		i = p
	}
	heapSet(c, i, id)
}

func heapDown(c *cpu, i uint32) {
	id := c.heap[i]
	for {
		k := 2*i + 1
		if k >= c.timers {
			break
		}
		if k+1 < c.timers && byID(c.heap[k+1]).expires < byID(c.heap[k]).expires {
			k++
		}
		if byID(c.heap[k]).expires >= byID(id).expires {
			break
		}
		heapSet(c, i, c.heap[k])
		i = k
	}
	heapSet(c, i, id)
}

func heapAdd(c *cpu, t *thread, at uint64) {
	t.expires = at
	i := c.timers
	c.timers++
	heapSet(c, i, t.id)
	heapUp(c, i)
}

func heapRemove(c *cpu, i uint32) {
	byID(c.heap[i]).heapAt = 0
	c.timers--
	if i == c.timers {
		return
	}
	last := c.heap[c.timers]
	heapSet(c, i, last)
	heapUp(c, i)
	heapDown(c, byID(last).heapAt-1)
}

// cancel takes t out of whatever timer heap it is in.
func cancel(c *cpu, t *thread) {
	if t.heapAt == 0 {
		return
	}
	o := cpuAt(cpuTable[t.heapCPU])
	lock(c, &o.lock)
	if t.heapAt != 0 {
		heapRemove(o, t.heapAt-1)
	}
	unlock(&o.lock)
}
