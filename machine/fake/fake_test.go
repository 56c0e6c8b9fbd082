package fake

import (
	"encoding/binary"
	"fmt"
	"gosv/machine"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	rw   = machine.Read | machine.Write
	page = machine.PageSize
)

func panics(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func alloc(t *testing.T, m *Machine) machine.Frame {
	t.Helper()
	f, err := m.Alloc()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newSpace(t *testing.T, m *Machine) machine.Space {
	t.Helper()
	s, err := m.NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// observer is a TB that remembers whether the test failed.
type observer struct {
	cleanup []func()
	failed  string
}

func (o *observer) Helper()                           {}
func (o *observer) Cleanup(f func())                  { o.cleanup = append(o.cleanup, f) }
func (o *observer) Errorf(format string, args ...any) { o.failed = fmt.Sprintf(format, args...) }
func (o *observer) Failed() bool                      { return o.failed != "" }

func TestLeakIsNoticed(t *testing.T) {
	for _, leak := range []bool{false, true} {
		o := &observer{}
		m := ForTest(o, Config{Initrd: make([]byte, 5000)})
		if f := alloc(t, m); !leak {
			m.Free(f, 1)
		}
		o.cleanup[0]()
		if o.Failed() != leak {
			t.Errorf("leak %v: %q", leak, o.failed)
		}
	}
}

func TestFrames(t *testing.T) {
	m := ForTest(t, Config{Frames: 1600})
	f := alloc(t, m)
	m.Bytes(f, 1)[0] = 1
	m.Free(f, 1)
	if m.Bytes(f, 1)[0] != poison {
		t.Error("free memory keeps its contents")
	}
	panics(t, "freeing twice", func() { m.Free(f, 1) })
	panics(t, "frame 0", func() { m.Bytes(0, 1) })
	h, err := m.AllocRun(512)
	if err != nil || h%512 != 0 {
		t.Fatal(h, err)
	}
	for _, b := range m.Bytes(h, 512) {
		if b != 0 {
			t.Fatal("not zeroed")
		}
	}
	h2, err := m.AllocRun(512)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := m.AllocRun(512); err == nil {
		t.Errorf("a third run at %d", g)
	}
	var all []machine.Frame
	for {
		f, err := m.Alloc()
		if err == machine.ErrNoMemory {
			break
		}
		all = append(all, f)
	}
	if total, free := m.Usage(); total != 1600 || free != 0 || len(all) != 1600-1024 {
		t.Error(total, free, len(all))
	}
	for _, f := range all {
		m.Free(f, 1)
	}
	m.Free(h2, 512)
	m.Free(h, 512)
	m.FailAfter(1)
	m.Free(alloc(t, m), 1)
	for range 3 {
		if _, err := m.Alloc(); err != machine.ErrNoMemory {
			t.Error(err)
		}
	}
	m.FailAfter(-1)
	m.Free(alloc(t, m), 1)
}

func TestSpace(t *testing.T) {
	m := ForTest(t, Config{})
	s := newSpace(t, m)
	f, g := alloc(t, m), alloc(t, m)
	const va = 0x400000
	if err := s.Map(va, f, rw); err != nil {
		t.Fatal(err)
	}
	if err := s.Map(va+page, g, machine.Read); err != nil {
		t.Fatal(err)
	}
	if n := s.CopyOut(va+page-3, []byte("abcdef")); n != 3 {
		t.Errorf("%d bytes written over the border", n)
	}
	var b [6]byte
	if n := s.CopyIn(b[:], va+page-3); n != 6 || string(b[:]) != "abc\x00\x00\x00" {
		t.Errorf("%d, %q", n, b)
	}
	panics(t, "freeing a mapped frame", func() { m.Free(f, 1) })
	panics(t, "another frame", func() { _ = s.Map(va, g, rw) })
	panics(t, "fewer rights", func() { _ = s.Map(va, f, machine.Read) })
	panics(t, "unaligned", func() { _ = s.Map(va+1, f, rw) })
	panics(t, "too high", func() { s.Unmap(machine.UserTop-page, 2*page, nil) })
	panics(t, "a free frame", func() { _ = s.Map(va+2*page, 77, rw) })
	panics(t, "Destroy", s.Destroy)
	if err := s.Map(va+page, g, rw); err != nil {
		t.Fatal("gaining rights", err)
	}
	s.Protect(va, page, 0)
	if _, ok := s.Load32(va); ok {
		t.Error("a page without access was read")
	}
	if got, acc, ok := s.Lookup(va + 5); got != f || acc != 0 || !ok {
		t.Error(got, acc, ok)
	}
	if at, ok := s.(*space).Next(va+page, va+8*page); at != va+page || !ok {
		t.Error(at, ok)
	}
	if _, ok := s.(*space).Next(va+2*page, va+8*page); ok {
		t.Error("Next found nothing's page")
	}
	if n := s.ZeroOut(va+2*page-8, 16); n != 8 {
		t.Error(n)
	}
	w := uint64(va + page + 8)
	if !s.Store64(w, 5) || !s.Store32(w, 6) || s.Store32(w+1, 6) || s.Store64(w+4, 6) {
		t.Error("stores")
	}
	if v, ok := s.CompareAndSwap32(w, 6, 7); v != 6 || !ok {
		t.Error(v, ok)
	}
	if v, ok := s.CompareAndSwap32(w, 6, 8); v != 7 || !ok {
		t.Error(v, ok)
	}
	if v, ok := s.Load64(w); v != 7 || !ok {
		t.Error(v, ok)
	}
	child := newSpace(t, m)
	shared := 0
	if err := s.Share(child, va, 4*page, func(_ machine.Frame, n int) { shared += n }); err != nil || shared != 2 {
		t.Error(err, shared)
	}
	if s.CopyOut(w, b[:]) != 0 || child.CopyOut(w, b[:]) != 0 || child.CopyIn(b[:], w) != 6 || m.Mapped(g) != 2 {
		t.Error("shared pages may be written")
	}
	panics(t, "Share over pages", func() { _ = s.Share(child, va, page, func(machine.Frame, int) {}) })
	child.Unmap(0, 1<<40, nil)
	child.Destroy()
	panics(t, "use after Destroy", func() { child.Lookup(va) })
	freed := 0
	s.Unmap(va, 100*page, func(at uint64, got machine.Frame, n int) {
		if at != va || got != f {
			t.Error(at, got)
		}
		freed += n
		m.Free(got, n)
	})
	if freed != 2 {
		t.Errorf("%d pages unmapped, in one run", freed)
	}
	s.Destroy()
}

func TestHuge(t *testing.T) {
	m := ForTest(t, Config{})
	s := newSpace(t, m)
	f, err := m.AllocRun(512)
	if err != nil {
		t.Fatal(err)
	}
	const va = 8 << 21
	panics(t, "unaligned", func() { _ = s.MapHuge(va+page, f, rw) })
	if err := s.MapHuge(va, f, rw); err != nil {
		t.Fatal(err)
	}
	panics(t, "Map inside", func() { _ = s.Map(va+page, f+1, rw) })
	panics(t, "MapHuge over it", func() { _ = s.MapHuge(va, f, rw) })
	if got, _, ok := s.Lookup(va + 5*page); got != f+5 || !ok {
		t.Error(got, ok)
	}
	s.Protect(va+page, page, machine.Read)
	if err := s.Map(va+page, f+1, rw); err != nil {
		t.Error("after the split:", err)
	}
	runs := 0
	s.Unmap(va, machine.HugeSize, func(_ uint64, f machine.Frame, n int) {
		runs++
		m.Free(f, n)
	})
	if runs != 1 {
		t.Errorf("%d runs", runs)
	}
	s.Destroy()
}

func TestExhaustion(t *testing.T) {
	m := ForTest(t, Config{})
	s := newSpace(t, m)
	f := alloc(t, m)
	m.FailAfter(0)
	if _, err := m.NewSpace(); err != machine.ErrNoMemory {
		t.Error(err)
	}
	if _, err := m.NewContext(); err != machine.ErrNoMemory {
		t.Error(err)
	}
	if err := s.Map(page, f, rw); err != machine.ErrNoMemory {
		t.Error(err)
	}
	m.FailAfter(-1)
	if err := s.Map(page, f, rw); err != nil {
		t.Error(err)
	}
	m.FailAfter(0)
	if err := s.Map(2*page, f, rw); err != nil {
		t.Error("the page table is there:", err)
	}
	m.FailAfter(-1)
	s.Unmap(0, 10*page, nil)
	m.Free(f, 1)
	s.Destroy()
}

func TestCPU(t *testing.T) {
	steps := 0
	entered := make(chan struct{})
	var m *Machine
	m = ForTest(t, Config{Enter: func(c *machine.Context, s machine.Space) machine.Trap {
		steps++
		switch c.RIP {
		case 0:
			c.RIP, c.RAX = 1, 39
			return machine.Syscall
		case 1:
			close(entered)
			<-m.Kicked(c)
			return machine.Interrupted
		}
		panic("not reached")
	}})
	c, err := m.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	m.Kick(c)
	m.Kick(c)
	if trap := m.Enter(c); trap != machine.Interrupted || steps != 0 {
		t.Error(trap, steps)
	}
	if trap := m.Enter(c); trap != machine.Syscall || c.OrigRAX != 39 {
		t.Error(trap, c.OrigRAX)
	}
	go func() {
		<-entered
		m.Kick(c)
	}()
	if trap := m.Enter(c); trap != machine.Interrupted || steps != 2 {
		t.Error(trap, steps)
	}
	m.FreeContext(c)
	if m.Contexts() != 0 {
		t.Error("a context is left")
	}
	panics(t, "a freed context", func() { m.Kick(c) })
}

// TestClaim: all together get no more than what passed, though who is kept from the processor does not know.
func TestClaim(t *testing.T) {
	m := ForTest(t, Config{Enter: func(c *machine.Context, _ machine.Space) machine.Trap { return machine.Syscall }})
	a, _ := m.NewContext()
	b, _ := m.NewContext()
	check := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, not %d", what, got, want)
		}
	}
	m.Begin(a)
	m.Advance(10)
	m.Begin(b) // a has to wait
	m.Advance(20)
	check("b", m.Claim(b), 20)
	m.Advance(5) // a goes on
	check("a", m.Claim(a), 15)
	check("b again", m.Claim(b), 0)
	m.Advance(1)
	check("outside", m.Unclaimed(a), 0)
	m.Begin(b) // what passed is not its own
	m.Advance(2)
	check("b after a wait", m.Claim(b), 2)
}

func TestFloat(t *testing.T) {
	m := ForTest(t, Config{})
	c, _ := m.NewContext()
	d, _ := m.NewContext()
	image := make([]byte, m.FloatSize())
	m.SaveFloat(c, image)
	if binary.LittleEndian.Uint32(image[24:]) != 0x1f80 {
		t.Error("MXCSR of a fresh context")
	}
	image[32], image[600] = 0xaa, 0xbb
	if !m.LoadFloat(c, image) {
		t.Fatal("a good image was refused")
	}
	m.CopyFloat(d, c)
	got := make([]byte, m.FloatSize())
	m.SaveFloat(d, got)
	if got[32] != 0xaa || got[600] != 0xbb {
		t.Error("state was lost")
	}
	for _, bad := range []func(b []byte) []byte{
		func(b []byte) []byte { return b[:511] },
		func(b []byte) []byte { b[26] = 1; return b },       // MXCSR
		func(b []byte) []byte { b[fxSize+1] = 1; return b }, // an unknown component
		func(b []byte) []byte { b[fxSize+9] = 1; return b }, // XCOMP_BV
		func(b []byte) []byte { b[fxSize+40] = 1; return b },
	} {
		if m.LoadFloat(d, bad(append([]byte(nil), image...))) {
			t.Error("a bad image was taken")
		}
	}
	m.SaveFloat(d, got)
	if got[32] != 0xaa {
		t.Error("a bad image changed the state")
	}
	if !m.LoadFloat(d, image[:512]) {
		t.Error("FXSAVE's part was refused")
	}
	m.ResetFloat(d)
	m.SaveFloat(d, got)
	if got[32] != 0 {
		t.Error("not reset")
	}
}

func TestClock(t *testing.T) {
	m := ForTest(t, Config{})
	var rang []int64
	m.OnAlarm(func() {
		rang = append(rang, m.Monotonic())
		if len(rang) < 3 {
			m.SetAlarm(m.Monotonic() + 10)
		}
	})
	if m.Wall() != Epoch {
		t.Error(m.Wall())
	}
	m.SetAlarm(5)
	m.Advance(4)
	if len(rang) != 0 || m.Alarm() != 5 {
		t.Error(rang)
	}
	m.Advance(96)
	if fmt.Sprint(rang) != "[5 15 25]" || m.Monotonic() != 100 || m.Alarm() != 0 {
		t.Error(rang, m.Monotonic())
	}
	m.SetWall(1000)
	m.Advance(1)
	if m.Wall() != 1001 {
		t.Error(m.Wall())
	}
	m.SetAlarm(200)
	m.SetAlarm(0)
	m.Advance(1000)
	if len(rang) != 3 {
		t.Error("an alarm that was taken back rang")
	}
	past := make(chan int64)
	m.OnAlarm(func() { past <- m.Monotonic() })
	m.SetAlarm(1)
	<-past
}

func TestRealClock(t *testing.T) {
	m := ForTest(t, Config{RealClock: true})
	rang := make(chan struct{})
	m.OnAlarm(func() { close(rang) })
	start := m.Monotonic()
	m.SetAlarm(start + int64(time.Millisecond))
	<-rang
	if d := m.Monotonic() - start; d < int64(time.Millisecond) {
		t.Error("too early:", d)
	}
	panics(t, "Advance", func() { m.Advance(1) })
}

type register struct{ v uint32 }

func (r *register) In(uint16, int) uint32         { return r.v }
func (r *register) Out(_ uint16, _ int, v uint32) { r.v = v }

func TestDevices(t *testing.T) {
	m := ForTest(t, Config{CommandLine: "quiet", CPUs: 2, RSDP: 0xe0000})
	m.AddPort(0x70, 0x71, &register{})
	m.Out(0x71, 1, 0x1234)
	if v := m.In(0x70, 1); v != 0x34 {
		t.Errorf("%#x", v)
	}
	if v := m.In(0x80, 2); v != 0xffff {
		t.Errorf("%#x", v)
	}
	m.AddRegisters(0xfeb00000, make([]byte, 512))
	if r, err := m.Registers(0xfeb00100, 256); err != nil || r.Len() != 256 {
		t.Error(err)
	}
	if _, err := m.Registers(0xfeb00100, 257); err == nil {
		t.Error("registers beyond the device")
	}
	m.AddPhysical(0xe0000, []byte("RSD PTR "))
	if b, err := m.Physical(m.RSDP(), 8); err != nil || string(b) != "RSD PTR " {
		t.Error(b, err)
	}
	if _, err := m.Physical(^uint64(0), 2); err == nil {
		t.Error("memory that is not there")
	}
	count := 0
	v, err := m.Vector("test", func() { count++ })
	if err != nil {
		t.Fatal(err)
	}
	if m.Route(9, v, true, true) != nil || m.Route(9, v+1, true, true) == nil {
		t.Error("routes")
	}
	if !m.RaiseGSI(9) || !m.Raise(v) || m.RaiseGSI(10) || m.Raise(v+1) || count != 2 {
		t.Error("interrupts", count)
	}
	if _, data := m.Message(v); data != uint32(v) {
		t.Error(data)
	}
	for {
		if _, err := m.Vector("test", func() {}); err != nil {
			break
		}
	}
	if m.CommandLine() != "quiet" || m.CPUs() != 2 {
		t.Error("firmware")
	}
	m.Emergency([]byte("a"))
	m.Emergency([]byte("b"))
	if m.Said() != "ab" {
		t.Errorf("%q", m.Said())
	}
}

func TestInitrd(t *testing.T) {
	data := make([]byte, 2*page+1)
	data[2*page] = 'x'
	m := ForTest(t, Config{Initrd: data})
	f, n := m.Initrd()
	if n != uint64(len(data)) || m.Bytes(f, 3)[2*page] != 'x' || m.InUse() != 3 {
		t.Error(f, n)
	}
	m.Free(f, 3)
}

func TestPower(t *testing.T) {
	m := ForTest(t, Config{})
	var wg sync.WaitGroup
	asked := false
	m.OnOff(func() { asked = true })
	if _, off := m.Status(); off {
		t.Error("off before it was on")
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		m.Off(3)
		t.Error("Off returned")
	}()
	wg.Wait()
	<-m.Done()
	if status, off := m.Status(); status != 3 || !off || !asked {
		t.Error(status, off, asked)
	}
}

func TestFill(t *testing.T) {
	m := ForTest(t, Config{})
	s := newSpace(t, m)
	const va = 0x400000
	f, g, h := alloc(t, m), alloc(t, m), alloc(t, m)
	if err := s.Map(va+page, h, machine.Read); err != nil {
		t.Fatal(err)
	}
	frames := []machine.Frame{f, g, machine.NoFrame, g}
	s.Fill(va, frames, machine.Read|machine.Exec)
	if want := []machine.Frame{machine.NoFrame, g, machine.NoFrame, machine.NoFrame}; !slices.Equal(frames, want) {
		t.Errorf("left: %v, want %v", frames, want)
	}
	for at, want := range map[uint64]machine.Frame{va: f, va + page: h, va + 3*page: g} {
		if got, acc, ok := s.Lookup(at); got != want || !ok || (acc&machine.Exec != 0) != (want != h) {
			t.Errorf("%#x: %d, %v, %v", at, got, acc, ok)
		}
	}
	if _, _, ok := s.Lookup(va + 2*page); ok {
		t.Error("nothing was mapped")
	}
	panics(t, "across page tables", func() { s.Fill(va+machine.HugeSize-page, []machine.Frame{f, f}, rw) })
	frames = []machine.Frame{f}
	m.FailAfter(0)
	s.Fill(va+machine.HugeSize, frames, rw)
	m.FailAfter(-1)
	if frames[0] != f {
		t.Error("mapped without a page table")
	}
	s.Unmap(va, 4*page, nil)
	for _, f := range []machine.Frame{f, g, h} {
		m.Free(f, 1)
	}
	s.Destroy()
}
