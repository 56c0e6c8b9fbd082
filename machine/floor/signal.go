package floor

import "sync/atomic"

// Signals for the runtime: SIGURG to preempt, SIGSEGV and the like for faults.
// The frame is Linux's rt_sigframe as far as the runtime looks.

const (
	sigILL, sigTRAP, sigBUS, sigFPE, sigSEGV = 4, 5, 7, 8, 11
)

func setAction(c *cpu, sig, act, old uint64) uint64 {
	if sig == 0 || sig > 64 {
		return errno(einval)
	}
	s := &actions[sig]
	o := *s
	if act != 0 {
		touchRange(c, act, 32)
		s.handler, s.flags, s.restorer, s.mask = ld64(act), ld64(act+8), ld64(act+16), ld64(act+24)
	}
	if old != 0 {
		touchRange(c, old, 32)
		st64(old, o.handler)
		st64(old+8, o.flags)
		st64(old+16, o.restorer)
		st64(old+24, o.mask)
	}
	return 0
}

func setMask(c *cpu, t *thread, how, set, old uint64) {
	o := t.mask
	if set != 0 {
		touchRange(c, set, 8)
		switch v := ld64(set); how {
		case 0:
			t.mask |= v
		case 1:
			t.mask &^= v
		case 2:
			t.mask = v
		}
	}
	if old != 0 {
		touchRange(c, old, 8)
		st64(old, o)
	}
}

func altStack(c *cpu, t *thread, set, old uint64) {
	if old != 0 {
		touchRange(c, old, 24)
		st64(old, t.altSP)
		st64(old+8, t.altFlag)
		st64(old+16, t.altSize)
	}
	if set != 0 {
		touchRange(c, set, 24)
		t.altSP, t.altFlag, t.altSize = ld64(set), ld64(set+8)&0xffffffff, ld64(set+16)
	}
}

// sendSignal is tgkill(2). A blocked thread gets the signal when it runs again.
func sendSignal(c *cpu, id, sig uint64) uint64 {
	if id == 0 || id >= maxThread || threads[id] == 0 || sig == 0 || sig > 64 {
		return errno(esrch)
	}
	t := byID(uint32(id))
	if atomic.LoadUint32(&t.state) == threadFree {
		return errno(esrch)
	}
	for {
		v := atomic.LoadUint64(&t.pending)
		if atomic.CompareAndSwapUint64(&t.pending, v, v|1<<(sig-1)) {
			break
		}
	}
	if atomic.LoadUint32(&t.state) == threadRunning && uint64(t.cpu) != c.index {
		sendIPI(cpuAt(cpuTable[t.cpu]))
	}
	return 0
}

// deliver makes t run the handler of a pending signal; a thread in ring 3 comes
// back from Enter first.
func deliver(c *cpu, t *thread) {
	p := t.pending &^ t.mask
	for sig := uint64(1); sig <= 64; sig++ {
		if p>>(sig-1)&1 == 0 {
			continue
		}
		for {
			v := atomic.LoadUint64(&t.pending)
			if atomic.CompareAndSwapUint64(&t.pending, v, v&^(1<<(sig-1))) {
				break
			}
		}
		if t.user != 0 {
			leave(t)
		}
		if actions[sig].handler > 1 {
			pushFrame(c, t, sig, -6, 0) // SI_TKILL
		}
		return
	}
}

// leave makes the Enter that t is in return Interrupted.
func leave(t *thread) {
	x := contextAt(t.user)
	atomic.StoreUint64(&x.cpu, 0)
	t.user = 0
	k := &t.ctx
	t.resume = addr(ptr(k))
	k.RIP, k.RSP, k.RBP = ld64(x.kSP), x.kSP+8, x.kBP
	k.CS, k.SS, k.RFLAGS = selCode, selData, 0x202
	k.flag = 0
	st64(x.kSP+16, uint64(machineInterrupted))
}

// Offsets in struct rt_sigframe's ucontext (Linux arch/x86 uapi sigcontext).
const (
	ucStack    = 16
	ucRegs     = 40
	ucFloat    = ucRegs + 184
	ucMask     = 296
	ucSize     = 304
	frameFloat = 0x400 // space in front of the vector state
)

// pushFrame makes t run the handler of sig when it is resumed.
func pushFrame(c *cpu, t *thread, sig uint64, code int32, fault uint64) {
	x := &t.ctx
	sp := x.RSP
	if t.altFlag&2 == 0 && (sp < t.altSP || sp > t.altSP+t.altSize) {
		sp = t.altSP + t.altSize
	} else {
		sp -= 128
	}
	float := uint64(0)
	if x.flag != 0 {
		sp = (sp - floatMax) &^ 63
		float = sp
	}
	info := sp - 128
	uc := (info - ucSize) &^ 15
	touchRange(c, uc-8, t.altSP+t.altSize-uc+8)
	zero(uc, sp-uc)
	if float != 0 {
		copyWords(float, addr(ptr(&x.float)), floatMax)
	}
	st32(info, uint32(sig))
	st32(info+8, uint32(code))
	st64(info+16, fault)
	st64(uc+ucStack, t.altSP)
	st64(uc+ucStack+16, t.altSize)
	m := uc + ucRegs
	st64(m, x.R8)
	st64(m+8, x.R9)
	st64(m+16, x.R10)
	st64(m+24, x.R11)
	st64(m+32, x.R12)
	st64(m+40, x.R13)
	st64(m+48, x.R14)
	st64(m+56, x.R15)
	st64(m+64, x.RDI)
	st64(m+72, x.RSI)
	st64(m+80, x.RBP)
	st64(m+88, x.RBX)
	st64(m+96, x.RDX)
	st64(m+104, x.RAX)
	st64(m+112, x.RCX)
	st64(m+120, x.RSP)
	st64(m+128, x.RIP)
	st64(m+136, x.RFLAGS)
	st64(m+144, x.CS)
	st64(m+152, x.Error)
	st64(m+160, x.Vector)
	st64(m+168, t.mask)
	st64(m+176, fault)
	st64(uc+ucFloat, float)
	st64(uc+ucMask, t.mask)
	st64(uc-8, actions[sig].restorer)
	t.mask |= actions[sig].mask | 1<<(sig-1)
	x.RSP = uc - 8
	x.RIP = actions[sig].handler
	x.RDI, x.RSI, x.RDX = sig, info, uc
	x.RFLAGS &^= 0x40400 // AC, DF
	x.flag = 0
}

func copyWords(dst, src, n uint64) {
	for i := uint64(0); i < n; i += 8 {
		st64(dst+i, ld64(src+i))
	}
}

// sigreturn restores what pushFrame saved, as the handler left it.
func sigreturn(c *cpu, t *thread, x *context) {
	uc := x.RSP
	m := uc + ucRegs
	x.R8 = ld64(m)
	x.R9 = ld64(m + 8)
	x.R10 = ld64(m + 16)
	x.R11 = ld64(m + 24)
	x.R12 = ld64(m + 32)
	x.R13 = ld64(m + 40)
	x.R14 = ld64(m + 48)
	x.R15 = ld64(m + 56)
	x.RDI = ld64(m + 64)
	x.RSI = ld64(m + 72)
	x.RBP = ld64(m + 80)
	x.RBX = ld64(m + 88)
	x.RDX = ld64(m + 96)
	x.RAX = ld64(m + 104)
	x.RCX = ld64(m + 112)
	x.RSP = ld64(m + 120)
	x.RIP = ld64(m + 128)
	x.RFLAGS = ld64(m+136) | 0x200
	x.flag = 0
	if float := ld64(uc + ucFloat); float != 0 {
		copyWords(addr(ptr(&x.float)), float, floatMax)
		x.flag = 1
	}
	t.mask = ld64(uc + ucMask)
}
