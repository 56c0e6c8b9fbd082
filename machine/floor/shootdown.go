package floor

import "sync/atomic"

// TLB shootdown. Whoever takes a translation away raises a generation, calls the
// CPUs that may hold it, and waits until each has seen the generation. A CPU
// that spins on a lock, or waits here itself, answers meanwhile, so that two CPUs cannot
// wait for each other.

// answer forgets all translations if somebody has asked for it since last time,
// and lets go of a space that is being destroyed.
func answer(c *cpu) {
	g := atomic.LoadUint64(&kernelFlush)
	if c.space != 0 && atomic.LoadUint64(&spaceAt(c.space).dead) != 0 {
		setSpace(0)
	}
	if c.flushAck != g {
		wrcr3(c.root)
		atomic.StoreUint64(&c.flushAck, g)
	}
}

// flush makes the CPUs in mask, and this one, forget all translations.
func flush(c *cpu, mask uint64) {
	g := atomic.AddUint64(&kernelFlush, 1)
	for i := uint64(0); i < ncpu; i++ {
		if p := cpuTable[i]; p != 0 && i != c.index && mask>>i&1 != 0 && cpuAt(p).online != 0 {
			sendIPI(cpuAt(p))
		}
	}
	answer(c)
	for i := uint64(0); i < ncpu; i++ {
		p := cpuTable[i]
		if p == 0 || i == c.index || mask>>i&1 == 0 || cpuAt(p).online == 0 {
			continue
		}
		for atomic.LoadUint64(&cpuAt(p).flushAck) < g {
			answer(c)
			pause()
		}
	}
}

func flushKernel(c *cpu) { flush(c, ^uint64(0)) }

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
