package signal

import (
	"testing"

	"gosv/kernel/abi"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

func info(sig unix.Signal, pid int32) *Info {
	var i Info
	i.SetHead(sig, 0, Queue)
	i.SetSender(pid, 0)
	return &i
}

func TestPendingOrder(t *testing.T) {
	var p Pending
	for i, s := range []unix.Signal{40, unix.SIGTERM, 35, 40, unix.SIGSEGV, unix.SIGHUP} {
		p.Add(info(s, int32(i)), false)
	}
	p.AddBare(50)
	var e Entry
	for _, want := range []struct {
		sig unix.Signal
		pid int32
	}{{unix.SIGSEGV, 4}, {unix.SIGHUP, 5}, {unix.SIGTERM, 1}, {35, 2}, {40, 0}, {40, 3}, {50, 0}} {
		ok, _ := p.Take(0, &e)
		if !ok || e.Info.Signo() != want.sig || e.Info.PID() != want.pid {
			t.Errorf("got %v of %d, want %v", e.Info.Signo(), e.Info.PID(), want)
		}
	}
	if ok, _ := p.Take(0, &e); ok || p.Set() != 0 {
		t.Error("not empty")
	}
}

func TestPendingBlockedFlushRemove(t *testing.T) {
	var p Pending
	p.Add(info(unix.SIGUSR1, 1), false)
	p.Add(info(40, 2), false)
	p.Add(info(40, 3), false)
	var e Entry
	if ok, _ := p.Take(Of(unix.SIGUSR1, 40), &e); ok {
		t.Error("took a blocked signal")
	}
	if n := p.Flush(Of(40)); n != 2 || p.Set() != Of(unix.SIGUSR1) {
		t.Errorf("flushed %d, left %#x", n, p.Set())
	}
	own := &Entry{Info: *info(41, 4), Preallocated: true}
	p.AddEntry(own)
	p.Remove(own)
	if own.Queued() || p.Set() != Of(unix.SIGUSR1) {
		t.Error("Remove")
	}
	own.Refresh = func(*Info) bool { return false }
	p.AddEntry(own)
	if ok, n := p.Take(Of(unix.SIGUSR1), &e); ok || n != 0 || own.Queued() {
		t.Error("a void entry was delivered")
	}
}

func TestHandlersOfExec(t *testing.T) {
	var h Handlers
	h.Set(unix.SIGUSR1, abi.SigAction{Handler: 0x1000, Flags: OnStack, Mask: ^uint64(0)})
	h.Set(unix.SIGUSR2, abi.SigAction{Handler: IGN})
	if a := h.Get(unix.SIGUSR1); Set(a.Mask)&Unblockable != 0 {
		t.Errorf("mask %#x", a.Mask)
	}
	n := h.Exec()
	if n.Get(unix.SIGUSR1) != (abi.SigAction{}) || n.Handler(unix.SIGUSR2) != IGN {
		t.Error("Exec")
	}
	h.Set(unix.SIGHUP, abi.SigAction{Handler: 0x2000, Flags: ResetHand | 0x12340000})
	if a := h.Begin(unix.SIGHUP); a.Handler != 0x2000 || a.Flags&^uint64(ResetHand) != 0x10000000 || h.Handler(unix.SIGHUP) != DFL {
		t.Errorf("SA_RESETHAND: %+v", a)
	}
}

const floatSize = 832

func build(r *machine.Regs, l Layout, f *Frame) []byte {
	b := make([]byte, l.End-l.SP)
	Build(b, l, f, r)
	return b
}

func TestFrameRoundTrip(t *testing.T) {
	r := machine.Regs{R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15, RDI: 1, RSI: 2, RBP: 3,
		RBX: 4, RDX: 5, RAX: 6, RCX: 7, RSP: 0x7fff0000, RIP: 0x401000, RFLAGS: 0x246}
	l, ok := Place(r.RSP, &abi.StackT{}, true, floatSize)
	if !ok || l.End > r.RSP-128 || l.Float%64 != 0 || (l.SP+8)%16 != 0 || l.Float-l.SP < FrameSize {
		t.Fatalf("layout %+v", l)
	}
	f := &Frame{Info: info(unix.SIGUSR1, 1), Mask: 0x123, Stack: abi.StackT{Flags: Disable}, Trap: 14, Error: 6, FaultAddr: 0x55,
		Restorer: 0x600000, FloatSize: floatSize, FloatMask: 7}
	b := build(&r, l, f)
	var back machine.Regs
	back.RFLAGS = 0x202
	got := Restore(b, &back)
	if back != r || got.Mask != 0x123 || got.Float != l.Float || !got.Selectors || got.Stack.Flags != Disable {
		t.Errorf("%+v\n%+v\n%+v", got, back, r)
	}
	fx := b[l.Float-l.SP:]
	if n := FloatLength(fx, floatSize); n != floatSize || !FloatEnd(fx[n:]) {
		t.Errorf("float state of %d bytes", n)
	}
	fx[fpSW] ^= 1
	if n := FloatLength(fx, floatSize); n != 512 {
		t.Errorf("without the magic number: %d bytes", n)
	}
	h := r
	Enter(&h, l, uint64(unix.SIGUSR1), 0x9000)
	if h.RDI != 10 || h.RSI != l.SP+312 || h.RDX != l.SP+8 || h.RSP != l.SP || h.RIP != 0x9000 {
		t.Errorf("handler's registers %+v", h)
	}
	b[mcOff+144] = 0x10
	if Restore(b, &back).Selectors {
		t.Error("a kernel's code segment was taken")
	}
}

func TestPlace(t *testing.T) {
	alt := &abi.StackT{SP: 0x10000, Size: 0x1000}
	for _, c := range []struct {
		sp       uint64
		switchTo bool
		size     uint64
		ok       bool
		onAlt    bool
	}{
		{0x7fff0000, true, 0x1000, true, true},
		{0x7fff0000, false, 0x1000, true, false},
		{0x10f00, true, 0x1000, true, true},  // already there
		{0x10200, true, 0x1000, false, true}, // and no room left
		{0x10200, false, 0x1000, false, true},
		{0x7fff0000, true, 512, false, true},
		{0, true, 0x1000, true, true},
		{0, false, 0x1000, false, false},
		{1 << 63, false, 0x1000, false, false},
		{machine.UserTop + 128, false, 0x1000, true, false},
		{machine.UserTop + 4096, false, 0x1000, false, false},
	} {
		alt.Size = c.size
		l, ok := Place(c.sp, alt, c.switchTo, floatSize)
		if ok != c.ok || ok && inside(alt, l.SP) != c.onAlt {
			t.Errorf("%+v: %+v, %v", c, l, ok)
		}
	}
}

// FuzzRestore: a frame is what a program says it is.
func FuzzRestore(f *testing.F) {
	f.Add(make([]byte, FrameSize+floatSize+4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < FrameSize+floatSize+4 {
			return
		}
		r := machine.Regs{RFLAGS: 0x202}
		Restore(b, &r)
		if r.RFLAGS&^flagsRestored != 0x202 {
			t.Errorf("flags %#x", r.RFLAGS)
		}
		if n := FloatLength(b[FrameSize:], floatSize); n != floatSize && n != fxsaveLen && (n < fxsaveLen+64 || n > floatSize) {
			t.Errorf("float state of %d bytes", n)
		}
	})
}

func TestAltStackRules(t *testing.T) {
	cur := abi.StackT{SP: 0x1000, Size: 0x4000}
	for _, c := range []struct {
		new abi.StackT
		sp  uint64
		err error
	}{
		{abi.StackT{SP: 0x9000, Size: MinSize}, 0x100000, nil},
		{abi.StackT{SP: 0x9000, Size: MinSize - 1}, 0x100000, unix.ENOMEM},
		{abi.StackT{Flags: Disable}, 0x100000, nil},
		{abi.StackT{Flags: Disable}, 0x2000, unix.EPERM},
		{abi.StackT{Flags: 8, Size: MinSize}, 0x100000, unix.EINVAL},
	} {
		if _, err := Check(&cur, c.new, c.sp, MinSize); err != c.err {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if d := Describe(&cur, 0x2000); d.Flags != OnStackFlag {
		t.Errorf("%+v", d)
	}
	if d := Describe(&abi.StackT{}, 0x2000); d.Flags != Disable {
		t.Errorf("%+v", d)
	}
}
