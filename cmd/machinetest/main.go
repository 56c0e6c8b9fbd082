// Command machinetest is a kernel that does nothing but test the machine under
// it: it boots in a virtual machine in the place of cmd/kernel, checks what
// package machine promises, prints a line a check and "PASS" or "FAIL", and
// powers off with status 0 or 1.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gosv/machine"
	"gosv/machine/bare"
)

const (
	codeAt = 0x400000
	dataAt = 0x600000
)

var m *bare.Machine

type program struct {
	space machine.Space
	ctx   *machine.Context
	data  machine.Frame
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newProgram makes an address space with code and one page of data.
func newProgram(code ...byte) *program {
	p := &program{space: must(m.NewSpace()), ctx: must(m.NewContext())}
	f := must(m.Alloc())
	copy(m.Bytes(f, 1), code)
	p.data = must(m.Alloc())
	if err := p.space.Map(codeAt, f, machine.Read|machine.Exec); err != nil {
		panic(err)
	}
	if err := p.space.Map(dataAt, p.data, machine.Read|machine.Write); err != nil {
		panic(err)
	}
	p.ctx.RIP, p.ctx.RSP = codeAt, dataAt+4096
	m.SetSpace(p.ctx, p.space)
	return p
}

func (p *program) free() {
	p.space.Unmap(0, machine.UserTop, func(_ uint64, f machine.Frame, n int) { m.Free(f, n) })
	p.space.Destroy()
	m.FreeContext(p.ctx)
}

// run enters until something other than an interrupt happens.
func (p *program) run() machine.Trap {
	for {
		if t := m.Enter(p.ctx); t != machine.Interrupted {
			return t
		}
	}
}

var tests = []struct {
	name string
	f    func() error
}{
	{"runtime", testRuntime},
	{"page tables", m.Audit},
	{"syscall", testSyscall},
	{"exceptions", testExceptions},
	{"hostile registers", testHostile},
	{"user copy", testCopy},
	{"unmap and protect", testProtect},
	{"share", testShare},
	{"large pages", testHuge},
	{"kick", testKick},
	{"preemption", testPreempt},
	{"alarm", testAlarm},
	{"kernel panics", testPanics},
	{"shootdown", testShootdown},
	{"empty page tables", testTrim},
	{"many spaces", testSpaces},
	{"stale translations", testStale},
	{"frames", testFrames},
	{"float", testFloat},
	{"soak", testSoak},
	{"tables afterwards", m.Audit},
}

func main() {
	m = bare.New()
	failed := false
	for _, t := range tests {
		if w := m.CommandLine(); strings.Contains(w, "only=") && !strings.Contains(w, "only="+strings.Fields(t.name)[0]) {
			continue
		}
		t0 := time.Now()
		err := t.f()
		if err != nil {
			failed = true
			fmt.Printf("%-20s FAIL: %v\n", t.name, err)
			continue
		}
		fmt.Printf("%-20s ok %v\n", t.name, time.Since(t0).Round(time.Microsecond))
	}
	if failed {
		fmt.Println("FAIL")
		m.Off(1)
	}
	fmt.Println("PASS", m.CPUs(), "CPUs")
	m.Off(0)
}

func testRuntime() error {
	var wg sync.WaitGroup
	var sum atomic.Int64
	for i := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s := map[int]string{}
			for j := range 200 {
				s[j] = strings.Repeat("x", i+j)
			}
			sum.Add(int64(len(s)))
		}()
	}
	wg.Wait()
	runtime.GC()
	if sum.Load() != 10000 {
		return fmt.Errorf("sum %d", sum.Load())
	}
	t0 := time.Now()
	time.Sleep(3 * time.Millisecond)
	if d := time.Since(t0); d < 3*time.Millisecond {
		return fmt.Errorf("slept %v", d)
	}
	return nil
}

var getppid = []byte{0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7} // l: mov eax, 110; syscall; jmp l

func testSyscall() error {
	p := newProgram(getppid...)
	defer p.free()
	for i := range 1000 {
		if t := p.run(); t != machine.Syscall || p.ctx.RAX != 110 || p.ctx.RIP != codeAt+7 || p.ctx.OrigRAX != 110 {
			return fmt.Errorf("round %d: trap %v rax %#x rip %#x", i, t, p.ctx.RAX, p.ctx.RIP)
		}
		p.ctx.RAX = 1
	}
	t0 := m.Monotonic()
	for range 10000 {
		p.run()
	}
	fmt.Printf("    enter and back: %d ns\n", (m.Monotonic()-t0)/10000)
	return nil
}

func testExceptions() error {
	for _, c := range []struct {
		code   []byte
		trap   machine.Trap
		vector uint64
	}{
		{[]byte{0x0f, 0x0b}, machine.Exception, 6},                                                        // ud2
		{[]byte{0x31, 0xc9, 0xf7, 0xf1}, machine.Exception, 0},                                            // div by 0
		{[]byte{0xcc}, machine.Exception, 3},                                                              // int3
		{[]byte{0xf4}, machine.Exception, 13},                                                             // hlt
		{[]byte{0xfa}, machine.Exception, 13},                                                             // cli
		{[]byte{0xcd, 0x80}, machine.Exception, 13},                                                       // int 0x80
		{[]byte{0xe4, 0x60}, machine.Exception, 13},                                                       // in al, 0x60
		{[]byte{0x0f, 0x20, 0xc0}, machine.Exception, 13},                                                 // mov rax, cr0
		{[]byte{0x48, 0x31, 0xc0, 0x8b, 0x00}, machine.PageFault, 14},                                     // read of 0
		{[]byte{0x48, 0xb8, 0, 0, 0x20, 0x80, 0xff, 0xff, 0xff, 0xff, 0x8b, 0x00}, machine.PageFault, 14}, // read of the kernel
		{[]byte{0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8b, 0x00}, machine.Exception, 13},                // non-canonical
	} {
		p := newProgram(c.code...)
		if t := p.run(); t != c.trap || p.ctx.Vector != c.vector {
			return fmt.Errorf("% x: trap %v vector %d", c.code, t, p.ctx.Vector)
		}
		p.free()
	}
	return nil
}

func testHostile() error {
	p := newProgram(getppid...)
	defer p.free()
	reset := func() { p.ctx.RIP, p.ctx.RSP = codeAt, dataAt+4096 }
	for _, rip := range []uint64{1 << 47, 1 << 63, 0xffff7fffffffffff} {
		p.ctx.RIP = rip
		p.ctx.RCX = rip
		if t := p.run(); t != machine.Exception || p.ctx.Vector != 13 {
			return fmt.Errorf("rip %#x: trap %v vector %d", rip, t, p.ctx.Vector)
		}
	}
	for _, rip := range []uint64{^uint64(0), 0xffffffff80200000, 0xffff800000000000} {
		p.ctx.RIP = rip
		p.ctx.RCX = rip
		if t := p.run(); t != machine.PageFault || p.ctx.Error&machine.FaultUser == 0 {
			return fmt.Errorf("rip %#x: trap %v vector %d error %#x", rip, t, p.ctx.Vector, p.ctx.Error)
		}
	}
	p.ctx.RIP = machine.UserTop
	if t := p.run(); t != machine.PageFault {
		return fmt.Errorf("rip UserTop: trap %v", t)
	}
	for _, flags := range []uint64{0, ^uint64(0) &^ 0x100, 0x3000, 1 << 17, 1 << 14, 1 << 63} {
		reset()
		p.ctx.RFLAGS = flags
		if t := p.run(); t != machine.Syscall || p.ctx.RFLAGS&0x23000 != 0 || p.ctx.RFLAGS&0x200 == 0 {
			return fmt.Errorf("flags %#x: trap %v flags %#x", flags, t, p.ctx.RFLAGS)
		}
	}
	for _, rsp := range []uint64{0, 1 << 47, ^uint64(0), 0xffffffff80200000} {
		reset()
		p.ctx.RSP, p.ctx.RFLAGS = rsp, 0x202
		if t := p.run(); t != machine.Syscall || p.ctx.RSP != rsp {
			return fmt.Errorf("rsp %#x: trap %v, rsp %#x", rsp, t, p.ctx.RSP)
		}
	}
	reset()
	p.ctx.CS, p.ctx.SS = 0x10, 0x18
	p.ctx.FSBase, p.ctx.GSBase = 1<<47-1, 0
	if t := p.run(); t != machine.Syscall || p.ctx.CS != 0x33 {
		return fmt.Errorf("selectors: trap %v cs %#x", t, p.ctx.CS)
	}
	return nil
}

func testCopy() error {
	p := newProgram(getppid...)
	defer p.free()
	s := p.space
	for _, n := range []int{0, 1, 7, 8, 15, 16, 63, 64, 255, 256, 300, 1000, 4096} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(i*7 + n)
		}
		if k := s.CopyOut(dataAt+4096-uint64(n), want); k != n {
			return fmt.Errorf("copied out %d of %d", k, n)
		}
		got := make([]byte, n)
		if k := s.CopyIn(got, dataAt+4096-uint64(n)); k != n || !bytes.Equal(got, want) {
			return fmt.Errorf("copied in %d of %d", k, n)
		}
		if k := s.CopyOut(dataAt+4096-uint64(n), make([]byte, n+100)); k != n {
			return fmt.Errorf("copied %d of %d across the end", k, n)
		}
		if k := s.CopyIn(make([]byte, n+200), dataAt+4096-uint64(n)); k != n {
			return fmt.Errorf("read %d of %d across the end", k, n)
		}
		if k := s.ZeroOut(dataAt+4096-uint64(n), uint64(n)+100); k != uint64(n) {
			return fmt.Errorf("zeroed %d of %d across the end", k, n)
		}
	}
	for _, va := range []uint64{0, machine.UserTop - 1, machine.UserTop, 1 << 63, ^uint64(0), 0xffffffff80200000} {
		if k := s.CopyOut(va, []byte("abc")); k != 0 {
			return fmt.Errorf("wrote %d bytes at %#x", k, va)
		}
		if _, ok := s.Load32(va &^ 3); ok {
			return fmt.Errorf("read at %#x", va)
		}
	}
	if s.CopyOut(codeAt, []byte{1}) != 0 {
		return fmt.Errorf("wrote to a read-only page")
	}
	if !s.Store32(dataAt, 5) || !s.Store64(dataAt+8, 6) {
		return fmt.Errorf("store")
	}
	if v, ok := s.CompareAndSwap32(dataAt, 5, 9); !ok || v != 5 {
		return fmt.Errorf("cas %d %v", v, ok)
	}
	if v, ok := s.CompareAndSwap32(dataAt, 5, 7); !ok || v != 9 {
		return fmt.Errorf("second cas %d %v", v, ok)
	}
	if v, ok := s.Load64(dataAt + 8); !ok || v != 6 {
		return fmt.Errorf("load %d %v", v, ok)
	}
	if _, ok := s.Load32(dataAt + 1); ok {
		return fmt.Errorf("misaligned load")
	}
	return nil
}

func testProtect() error {
	p := newProgram(0x48, 0x8b, 0x04, 0x25, 0, 0, 0x60, 0, // l: mov rax, [0x600000]
		0x0f, 0x05, // syscall
		0x48, 0x89, 0x04, 0x25, 0, 0, 0x60, 0, // mov [0x600000], rax
		0x0f, 0x05, 0xeb, 0xea) // syscall; jmp l
	defer p.free()
	expect := func(what string, want ...machine.Trap) error {
		for _, w := range want {
			if t := p.run(); t != w {
				return fmt.Errorf("%s: trap %v, want %v", what, t, w)
			}
		}
		p.ctx.RIP = codeAt
		return nil
	}
	if err := expect("all", machine.Syscall, machine.Syscall); err != nil {
		return err
	}
	p.space.Protect(dataAt, 4096, machine.Read)
	if err := expect("read only", machine.Syscall, machine.PageFault); err != nil {
		return err
	}
	p.space.Protect(dataAt, 4096, 0)
	if err := expect("none", machine.PageFault); err != nil {
		return err
	}
	if f, acc, ok := p.space.Lookup(dataAt); !ok || acc != 0 || f != p.data {
		return fmt.Errorf("lookup %v %v %v", f, acc, ok)
	}
	p.space.Protect(dataAt, 4096, machine.Read|machine.Write)
	if err := expect("all again", machine.Syscall, machine.Syscall); err != nil {
		return err
	}
	n := 0
	p.space.Unmap(dataAt, 4096, func(_ uint64, f machine.Frame, k int) { n += k })
	if err := expect("unmapped", machine.PageFault); err != nil || n != 1 {
		return fmt.Errorf("%v, %d frames", err, n)
	}
	return p.space.Map(dataAt, p.data, machine.Read|machine.Write)
}

func testShare() error {
	p := newProgram(getppid...)
	defer p.free()
	p.space.Store32(dataAt, 42)
	child := must(m.NewSpace())
	frames := 0
	if err := p.space.Share(child, 0, machine.UserTop, func(_ machine.Frame, n int) { frames += n }); err != nil {
		return err
	}
	if v, ok := child.Load32(dataAt); !ok || v != 42 || frames != 2 {
		return fmt.Errorf("child reads %d %v, %d frames", v, ok, frames)
	}
	if child.Store32(dataAt, 1) || p.space.Store32(dataAt, 1) {
		return fmt.Errorf("a shared page is writable")
	}
	child.Unmap(0, machine.UserTop, nil)
	child.Destroy()
	return nil
}

func testHuge() error {
	f, err := m.AllocRun(512)
	if err != nil {
		return nil // too little memory for it
	}
	if f&511 != 0 {
		return fmt.Errorf("frame %#x not aligned", f)
	}
	s := must(m.NewSpace())
	const va = 0x40000000
	if err := s.MapHuge(va, f, machine.Read|machine.Write); err != nil {
		return err
	}
	for o := uint64(0); o < machine.HugeSize; o += 4096 {
		s.Store64(va+o, o)
	}
	n := 0
	s.Unmap(va+4096, 4096, func(_ uint64, g machine.Frame, k int) {
		if g == f+1 {
			n += k
		}
	})
	s.Protect(va+8192, 4096, machine.Read)
	if _, ok := s.Load64(va + 4096); ok || n != 1 || s.Store64(va+8192, 1) {
		return fmt.Errorf("split went wrong: %d", n)
	}
	for o := uint64(8192); o < machine.HugeSize; o += 4096 {
		if v, ok := s.Load64(va + o); !ok || v != o {
			return fmt.Errorf("at %#x: %#x %v", o, v, ok)
		}
	}
	s.Unmap(0, machine.UserTop, func(_ uint64, _ machine.Frame, k int) { n += k })
	if n != 512 {
		return fmt.Errorf("%d frames came back", n)
	}
	s.Destroy()
	m.Free(f, 512)
	return nil
}

var spin = []byte{0x48, 0xff, 0xc0, 0xeb, 0xfb} // l: inc rax; jmp l

func testKick() error {
	p := newProgram(spin...)
	defer p.free()
	m.Kick(p.ctx)
	if t := m.Enter(p.ctx); t != machine.Interrupted {
		return fmt.Errorf("kick before enter: %v", t)
	}
	var wg sync.WaitGroup
	defer wg.Wait() // before free: a freed context must not be kicked
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(time.Millisecond)
			m.Kick(p.ctx)
		}()
		t0 := time.Now()
		for m.Enter(p.ctx) == machine.Interrupted && time.Since(t0) < time.Millisecond {
		}
		if d := time.Since(t0); d > 3*time.Second {
			return fmt.Errorf("kick took %v", d)
		}
	}
	return nil
}

func testPreempt() error {
	// More spinning programs than CPUs: all must get on, and timers must fire.
	n := 2*m.CPUs() + 1
	stop := make(chan bool)
	var counts [64]uint64
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := newProgram(spin...)
			for {
				m.Enter(p.ctx)
				counts[i] = p.ctx.RAX
				select {
				case <-stop:
					p.free()
					return
				default:
				}
			}
		}()
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	for i := range n {
		if counts[i] == 0 {
			return fmt.Errorf("program %d of %d never ran", i, n)
		}
	}
	return nil
}

func testAlarm() error {
	fired := make(chan int64, 1)
	m.OnAlarm(func() { fired <- m.Monotonic() })
	worst := int64(0)
	for range 20 {
		at := m.Monotonic() + 100000
		m.SetAlarm(at)
		select {
		case t := <-fired:
			if t < at {
				return fmt.Errorf("alarm %d ns early", at-t)
			}
			worst = max(worst, t-at)
		case <-time.After(2 * time.Second):
			return fmt.Errorf("alarm lost")
		}
	}
	fmt.Printf("    alarm at most %d us late\n", worst/1000)
	// And while a program spins in ring 3.
	p := newProgram(spin...)
	defer p.free()
	var done atomic.Bool
	m.OnAlarm(func() { done.Store(true) })
	for i := range 50 {
		done.Store(false)
		m.SetAlarm(m.Monotonic() + 500000)
		for t0 := time.Now(); !done.Load(); {
			m.Enter(p.ctx)
			if d := time.Since(t0); d > 10*time.Second {
				return fmt.Errorf("alarm %d lost in ring 3, or late: after %v its handler has run: %v", i, d, done.Load())
			}
		}
	}
	return nil
}

type node struct{ next *node }

//go:noinline
func deref(n *node) *node { return n.next }

func testPanics() error {
	zero := 0
	for i := range 300 {
		for name, f := range map[string]func(){
			"nil":    func() { deref(nil) },
			"index":  func() { _ = []int{1}[zero+i+1] },
			"divide": func() { _ = 1 / zero },
		} {
			var got any
			func() {
				defer func() { got = recover() }()
				f()
			}()
			if got == nil {
				return fmt.Errorf("%s: no panic", name)
			}
		}
	}
	return nil
}

// goOn has the program run on another thread, over its page faults, until the function that it returns is called.
func (p *program) goOn() (stop func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for !over.Load() {
			if m.Enter(p.ctx) == machine.PageFault {
				runtime.Gosched()
			}
		}
	}()
	return func() {
		over.Store(true)
		m.Kick(p.ctx)
		wg.Wait()
	}
}

func testShootdown() error {
	// One thread writes a page while another takes the right away: after
	// Protect returns, no write may come through.
	p := newProgram(0x48, 0xff, 0x04, 0x25, 0, 0, 0x60, 0, 0xeb, 0xf6) // l: inc qword [0x600000]; jmp l
	defer p.free()
	defer p.goOn()()
	word := m.Bytes(p.data, 1)
	for range 200 {
		p.space.Protect(dataAt, 4096, machine.Read)
		a := [8]byte(word[:8])
		time.Sleep(50 * time.Microsecond)
		if b := [8]byte(word[:8]); a != b {
			return fmt.Errorf("a write came through: %x %x", a, b)
		}
		p.space.Protect(dataAt, 4096, machine.Read|machine.Write)
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

// testTrim has one thread write to a page that is alone in its page tables, while another unmaps it and frees the tables: whoever has the
// frames of those next may write into them what looks like entries.
func testTrim() error {
	const far = 0x123456789000
	p := newProgram(0x48, 0xb8, 0, 0x90, 0x78, 0x56, 0x34, 0x12, 0, 0, 0x48, 0xff, 0, 0xeb, 0xfb) // mov $far, %rax; l: incq (%rax); jmp l
	defer p.free()
	defer p.goOn()()
	word, poison := m.Bytes(p.data, 1), must(m.Alloc())
	defer m.Free(poison, 1)
	before := p.space.Tables()
	for i := range 100 {
		if err := p.space.Map(far, p.data, machine.Read|machine.Write); err != nil {
			return err
		}
		p.space.Trim()
		if n := p.space.Tables(); n != before+3 {
			return fmt.Errorf("%d page tables, want %d", n, before+3)
		}
		if i%2 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		p.space.Unmap(far, machine.PageSize, nil)
		p.space.Trim()
		if n := p.space.Tables(); n != before {
			return fmt.Errorf("%d page tables are left of %d", n, before)
		}
		var reused [8]machine.Frame
		a := [8]byte(word[:8])
		for j := range reused {
			reused[j] = must(m.Alloc())
			b := m.Bytes(reused[j], 1)
			for o := 0; o < len(b); o += 8 {
				binary.LittleEndian.PutUint64(b[o:], uint64(poison)*machine.PageSize|7)
			}
		}
		time.Sleep(50 * time.Microsecond)
		if b := [8]byte(word[:8]); a != b {
			return fmt.Errorf("a write came through: %x %x", a, b)
		}
		for _, f := range reused {
			m.Free(f, 1)
		}
	}
	if b := m.Bytes(poison, 1); !bytes.Equal(b, make([]byte, len(b))) {
		return errors.New("a table was walked that had been freed")
	}
	if _, _, ok := p.space.Lookup(dataAt); !ok {
		return errors.New("what is mapped is gone")
	}
	return nil
}

func testSpaces() error {
	_, before := m.Usage()
	for range 20 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				p := newProgram(getppid...)
				for range 5 {
					p.run()
				}
				p.free()
			}()
		}
		wg.Wait()
	}
	runtime.GC()
	if _, after := m.Usage(); after+1500 < before {
		return fmt.Errorf("%d frames are gone", before-after)
	}
	return nil
}

// testStale changes a space while another one is loaded: a processor that keeps what it knew of the first (by
// PCID) must not use it.
func testStale() error {
	look := []byte{0x48, 0x8b, 0x1c, 0x25, 0, 0, 0x60, 0, 0x0f, 0x05} // mov rbx, [dataAt]; syscall
	var programs []*program
	for range 12 { // more than there are PCIDs
		p := newProgram(look...)
		defer p.free()
		m.Bytes(p.data, 1)[0] = byte(len(programs))
		programs = append(programs, p)
	}
	for round := range 300 {
		for i, p := range programs {
			f := must(m.Alloc())
			m.Bytes(f, 1)[0], m.Bytes(f, 1)[1] = byte(i), byte(round)
			p.space.Unmap(dataAt, 4096, func(_ uint64, f machine.Frame, n int) { m.Free(f, n) })
			if err := p.space.Map(dataAt, f, machine.Read|machine.Write); err != nil {
				return err
			}
			for _, j := range []int{i, round % len(programs), i} {
				q := programs[j]
				q.ctx.RIP = codeAt
				t := q.run()
				if want := byte(round); t != machine.Syscall || q.ctx.RBX&0xff != uint64(j) || j == i && byte(q.ctx.RBX>>8) != want {
					return fmt.Errorf("round %d, space %d: trap %v, it sees %#x at %#x", round, j, t, q.ctx.RBX, q.ctx.FaultAddr)
				}
			}
		}
	}
	return nil
}

func testFrames() error {
	var all []machine.Frame
	for {
		f, err := m.Alloc()
		if err != nil {
			break
		}
		all = append(all, f)
	}
	total, free := m.Usage()
	if len(all) == 0 || free > total/4 {
		return fmt.Errorf("took %d of %d, %d left", len(all), total, free)
	}
	for _, f := range all {
		m.Free(f, 1)
	}
	f, err := m.AllocRun(64)
	if err != nil {
		return err
	}
	m.Free(f, 64)
	return nil
}

func testFloat() error {
	p := newProgram(getppid...)
	defer p.free()
	b := make([]byte, m.FloatSize())
	m.SaveFloat(p.ctx, b)
	if !m.LoadFloat(p.ctx, b) {
		return fmt.Errorf("own state refused")
	}
	for _, i := range []int{26, 27, 519, 530} {
		if i >= len(b) {
			continue
		}
		c := bytes.Clone(b)
		c[i] = 0xff
		if m.LoadFloat(p.ctx, c) {
			return fmt.Errorf("bad byte %d accepted", i)
		}
	}
	// XSAVE's standard format (Intel SDM vol. 1 §13.4): xmm0, and where there is AVX-512 k1, the upper half of zmm1 and zmm17.
	places := []int{160}
	if len(b) >= 1664+1024 {
		b[512] |= 0xe7
		places = append(places, 1088+8, 1152+32, 1664+64)
		fmt.Println("    with AVX-512")
	}
	for _, i := range places {
		b[i] = 0x5a
	}
	if !m.LoadFloat(p.ctx, b) {
		return fmt.Errorf("a state is refused")
	}
	p.run()
	other := newProgram(getppid...)
	defer other.free()
	other.run()
	p.run()
	m.SaveFloat(p.ctx, b)
	for _, i := range places {
		if b[i] != 0x5a {
			return fmt.Errorf("byte %d of the vector state is lost", i)
		}
	}
	return nil
}

func testSoak() error {
	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	var ops atomic.Int64
	errs := make(chan error, 16)
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Now().Before(end) {
				p := newProgram(getppid...)
				for j := range 50 {
					p.ctx.RBX = uint64(j)
					if t := p.run(); t != machine.Syscall || p.ctx.RBX != uint64(j) {
						errs <- fmt.Errorf("trap %v rbx %d", t, p.ctx.RBX)
						return
					}
					b := make([]byte, 100*i+j)
					if p.space.CopyIn(b, dataAt) != len(b) {
						errs <- fmt.Errorf("copy")
						return
					}
				}
				p.free()
				ops.Add(1)
				if i == 0 {
					runtime.GC()
				}
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Printf("    %d programs\n", ops.Load())
	return nil
}
