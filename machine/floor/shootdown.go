package floor

import "sync/atomic"

// Process-context identifiers (Intel SDM vol. 3 §4.10): each CPU keeps what it knows of the last few spaces. PCID 0 is the kernel's own
// table's; a space has one of the others, and shares it with others. What a CPU's translations at a PCID are of is its tag there;
// when a space is loaded and has another tag, they are forgotten. Whatever takes a translation away gives
// the space a new tag, and clears the kernel's, which are in every space, from all.
const pcids = 9

const kernelTag = 1

var lastTag uint64 = kernelTag

// TLB shootdown. Whoever takes a translation away asks each CPU that may hold it:
// it raises the CPU's number of requests, calls it, and waits until the
// CPU has answered that many. A CPU that spins on a lock, or waits here itself,
// answers meanwhile, so that two CPUs cannot wait for each other. A halted CPU is
// neither called nor waited for: it answers before it does anything else.

// answer forgets all translations if somebody has asked for it since last time,
// and lets go of a space that is being destroyed.
func answer(c *cpu) {
	if c.space != 0 && atomic.LoadUint64(&spaceAt(c.space).dead) != 0 {
		setSpace(0)
	}
	if r := atomic.LoadUint64(&c.flushAsked); c.flushDone != r {
		forgetAll(c)
		atomic.StoreUint64(&c.flushDone, r)
	}
}

// awake ends the state that halts set; requests that came meanwhile are answered.
func awake(c *cpu) {
	if c.halted != 0 {
		atomic.StoreUint64(&c.halted, 0)
	}
	answer(c)
}

// flush makes the CPUs in mask other than this one forget all translations.
func flush(c *cpu, mask uint64) {
	mask &^= c.bit
	for i := uint64(0); i < ncpu; i++ {
		o := asked(i, mask)
		if o == nil {
			continue
		}
		atomic.AddUint64(&o.flushAsked, 1)
		if atomic.LoadUint64(&o.halted) == 0 {
			sendIPI(o)
		}
	}
	for i := uint64(0); i < ncpu; i++ {
		o := asked(i, mask)
		if o == nil {
			continue
		}
		// Requests of others may have raised the number meanwhile: waiting for
		// those too does no harm.
		for g := atomic.LoadUint64(&o.flushAsked); atomic.LoadUint64(&o.flushDone) < g && atomic.LoadUint64(&o.halted) == 0; {
			answer(c)
			pause()
		}
	}
}

// forgetAll makes c, this CPU, forget all translations: those of the PCID it uses now, and of each of the others
// before it uses that again.
func forgetAll(c *cpu) {
	for i := range c.tags {
		c.tags[i] = 0
	}
	wrcr3(c.root)
}

// retag says that what any CPU knows of s is out of date, and returns the new tag: those that have s loaded are told by flushSpace,
// and the others see it when they load s. It comes before the look at who has s loaded, as that CPU's entry in the mask
// comes before its look at the tag.
func retag(s *space) uint64 {
	t := uint64(0)
	if hasPCID {
		t = atomic.AddUint64(&lastTag, 1)
		atomic.StoreUint64(&s.tag, t)
	}
	return t
}

// asked returns CPU i if it is in mask and running.
func asked(i, mask uint64) *cpu {
	p := cpuTable[i]
	if mask>>i&1 == 0 || p == 0 || atomic.LoadUint32(&cpuAt(p).online) == 0 {
		return nil
	}
	return cpuAt(p)
}

// flushKernel makes every CPU forget the kernel's translations.
func flushKernel(c *cpu) {
	flush(c, ^uint64(0))
	forgetAll(c)
}

// flushSpace makes every CPU that has s loaded forget [va, va+n).
func flushSpace(c *cpu, s *space, va, n uint64) {
	mask := atomic.LoadUint64(&s.cpus)
	if mask&^c.bit != 0 {
		flush(c, mask&^c.bit)
	}
	if mask&c.bit == 0 {
		return
	}
	if n > 32*4096 {
		wrcr3(c.root)
		return
	}
	for o := uint64(0); o < n; o += 4096 {
		invlpg(va + o)
	}
}

// forget makes sure that no CPU and no thread has s loaded. A CPU that sees the
// mark lets go of it in answer; from then on no thread can take it up again, so
// the threads need to be looked through once, at the end.
func forget(c *cpu, s *space) {
	atomic.StoreUint64(&s.dead, 1)
	for first := true; ; first = false {
		answer(c)
		mask := atomic.LoadUint64(&s.cpus)
		if mask == 0 {
			break
		}
		for i := uint64(0); first && i < ncpu; i++ {
			if mask>>i&1 != 0 {
				sendIPI(cpuAt(cpuTable[i]))
			}
		}
		pause()
	}
	for id := uint32(1); id <= nthread; id++ {
		if threads[id] != 0 {
			atomic.CompareAndSwapUint64(&byID(id).space, addr(ptr(s)), 0)
		}
	}
}
