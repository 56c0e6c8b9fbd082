package nvme

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/machine"
	"gosv/machine/fake"
)

// controller plays the other side. It works within the write to a doorbell, and interrupts on another goroutine.
type controller struct {
	m    *fake.Machine
	irq  chan struct{}
	lie  func(c *controller, id uint16) // answers a request, in place of what is right; mu is held
	mute int                            // commands of the first queue until it says nothing more, or 0

	mu    sync.Mutex
	regs  [0x40]byte
	disk  []byte
	pairs [2]pair
}

type pair struct {
	sq, cq     uint64
	head, tail uint32
	phase      uint32
}

func (c *controller) Len() uint64            { return barLength }
func (c *controller) Load8(uint64) uint8     { panic("8 bits") }
func (c *controller) Load16(uint64) uint16   { panic("16 bits") }
func (c *controller) Store8(uint64, uint8)   { panic("8 bits") }
func (c *controller) Store16(uint64, uint16) { panic("16 bits") }

func (c *controller) Load32(off uint64) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return binary.LittleEndian.Uint32(c.regs[off:])
}

func (c *controller) Store32(off uint64, v uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	le := binary.LittleEndian
	if off >= regBells {
		if n := (off - regBells) / 4; n%2 == 0 {
			c.work(int(n/2), v)
		}
		return
	}
	le.PutUint32(c.regs[off:], v)
	if off == regCC {
		le.PutUint32(c.regs[regCSTS:], v&1)
		c.pairs = [2]pair{{sq: le.Uint64(c.regs[regASQ:]), cq: le.Uint64(c.regs[regACQ:]), phase: 1}}
	}
}

func (c *controller) bytes(pa uint64, n int) []byte {
	first := pa / machine.PageSize
	frames := (int(pa%machine.PageSize) + n + machine.PageSize - 1) / machine.PageSize
	return c.m.Bytes(machine.Frame(first), frames)[pa%machine.PageSize:][:n]
}

func (c *controller) work(q int, tail uint32) {
	p := &c.pairs[q]
	for ; p.head != tail; p.head = (p.head + 1) % depth {
		e := machine.MemoryOf(c.bytes(p.sq+uint64(p.head)*sqEntry, sqEntry))
		cmd := make([]byte, sqEntry)
		for i := range uint64(sqEntry / 4) {
			binary.LittleEndian.PutUint32(cmd[4*i:], e.Load32(4*i))
		}
		if q == 0 && c.mute > 0 {
			if c.mute--; c.mute == 0 {
				c.mute = 1
				continue
			}
		}
		status := c.serve(q, cmd)
		id := binary.LittleEndian.Uint16(cmd[2:])
		if c.lie != nil && q == 1 {
			c.lie(c, id)
		} else {
			c.complete(q, id, status)
		}
	}
	select {
	case c.irq <- struct{}{}:
	default:
	}
}

// complete puts an answer into the completion queue; c.mu is held.
func (c *controller) complete(q int, id uint16, status uint32) {
	p := &c.pairs[q]
	d := machine.MemoryOf(c.bytes(p.cq+uint64(p.tail)*cqEntry, cqEntry))
	d.Store32(12, uint32(id)|p.phase<<16|status<<17)
	if p.tail++; p.tail == depth {
		p.tail, p.phase = 0, p.phase^1
	}
}

// serve carries out a command and returns its status.
func (c *controller) serve(q int, cmd []byte) uint32 {
	le := binary.LittleEndian
	prp1, prp2, dw10, dw12 := le.Uint64(cmd[24:]), le.Uint64(cmd[32:]), le.Uint32(cmd[40:]), le.Uint32(cmd[48:])
	if q == 0 {
		switch cmd[0] {
		case adminIdentify:
			b := c.bytes(prp1, 4096)
			clear(b)
			if dw10 == 1 {
				copy(b[4:], "serial              ")
				b[77], b[520], b[525] = 5, 0xc, 1
			} else {
				le.PutUint64(b, uint64(len(c.disk)/512))
				b[130] = 9
			}
		case adminCreateCQ:
			c.pairs[1].cq, c.pairs[1].phase = prp1, 1
		case adminCreateSQ:
			c.pairs[1].sq = prp1
		default:
			return 1
		}
		return 0
	}
	at, n := int(le.Uint64(cmd[40:]))*512, int(dw12&0xffff+1)*512
	switch cmd[0] {
	case opRead, opWrite:
		for first := true; n > 0; first = false {
			page := prp1
			if !first {
				page = prp2
				if n > 4096 || prp2 == 0 || c.listed(prp1, dw12) {
					page = le.Uint64(c.bytes(prp2, 8))
					prp2 += 8
				}
			}
			m := min(n, 4096-int(page%4096))
			if b := c.bytes(page, m); cmd[0] == opRead {
				copy(b, c.disk[at:])
			} else {
				copy(c.disk[at:], b)
			}
			at, n = at+m, n-m
		}
	case opFlush:
	case opZeroes:
		clear(c.disk[at : at+n])
	case opDSM:
		r := c.bytes(prp1, 16)
		from := int(le.Uint64(r[8:])) * 512
		clear(c.disk[from : from+int(le.Uint32(r[4:]))*512])
	default:
		return 1
	}
	return 0
}

// listed reports whether a transfer has more than two pages, and so a list.
func (c *controller) listed(prp1 uint64, dw12 uint32) bool {
	return int(prp1%4096)+int(dw12&0xffff+1)*512 > 2*4096
}

// newController returns a controller of a machine, with mute as it says; connect brings its interrupt to a handler until end.
func newController(m *fake.Machine, mute int) (c *controller, connect func(handler func()) error, end func()) {
	c = &controller{m: m, disk: make([]byte, 4<<20), irq: make(chan struct{}, 1), mute: mute}
	binary.LittleEndian.PutUint32(c.regs[regCAP:], 255)
	stop := make(chan struct{})
	var running sync.WaitGroup
	connect = func(handler func()) error {
		running.Go(func() {
			for {
				select {
				case <-c.irq:
					handler()
				case <-stop:
					return
				}
			}
		})
		return nil
	}
	return c, connect, func() { close(stop); running.Wait() }
}

func start(t *testing.T) (*controller, *Device, *block.Disk) {
	t.Helper()
	m := fake.New(fake.Config{RealClock: true})
	c, connect, end := newController(m, 0)
	d, err := New(c, m, connect)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(); m.Close() })
	var clock atomic.Int64
	return c, d, block.NewDisk("nvme0n1", d, m, func() int64 { return clock.Add(1) })
}

func TestReadWrite(t *testing.T) {
	c, d, b := start(t)
	if l := b.Limits(); l.Size != 4<<20 || l.BlockSize != 512 || l.MaxBytes != 128<<10 || !l.Cached || l.MaxDiscard == 0 || l.MaxZeroes == 0 {
		t.Errorf("%+v", l)
	}
	if d.Serial() != "serial" {
		t.Errorf("%q", d.Serial())
	}
	text := make([]byte, 300<<10)
	for i := range text {
		text[i] = byte(i * 7 >> 3)
	}
	for _, n := range []int{512, 4096, 8192, 12288, len(text)} {
		if err := b.WriteAt(text[:n], 1536, true); err != nil {
			t.Fatal(n, err)
		}
		got := make([]byte, n)
		if err := b.ReadAt(got, 1536); err != nil || !bytes.Equal(got, text[:n]) {
			t.Fatal(n, "differs", err)
		}
	}
	if err := b.Zero(1536, 4096); err != nil {
		t.Error(err)
	}
	if err := b.Discard(8192, 4096); err != nil {
		t.Error(err)
	}
	if err := b.Flush(); err != nil {
		t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.Equal(c.disk[1536:][:4096], make([]byte, 4096)) || !bytes.Equal(c.disk[8192:][:4096], make([]byte, 4096)) || c.disk[20001] == 0 {
		t.Error("zeros")
	}
}

func TestManyAtOnce(t *testing.T) {
	_, _, b := start(t)
	var wg sync.WaitGroup
	for g := range 60 {
		wg.Go(func() {
			p, got := bytes.Repeat([]byte{byte(g)}, 12288), make([]byte, 12288)
			for range 5 {
				if err := b.WriteAt(p, int64(g)*12288, false); err != nil {
					t.Error(err)
				}
				if err := b.ReadAt(got, int64(g)*12288); err != nil || !bytes.Equal(got, p) {
					t.Error("differs", err)
				}
			}
		})
	}
	wg.Wait()
}

// TestLies has the controller say what cannot be: all requests fail, those that come later too, and nobody waits for ever.
func TestLies(t *testing.T) {
	for name, lie := range map[string]func(c *controller, id uint16){
		"a number that nobody gave": func(c *controller, id uint16) { c.complete(1, id+100, 0) },
		"another slot":              func(c *controller, id uint16) { c.complete(1, id^1, 0) },
		"the turn before":           func(c *controller, id uint16) { c.complete(1, id-depth, 0) },
		"twice":                     func(c *controller, id uint16) { c.complete(1, id, 0); c.complete(1, id, 0) },
		"many": func(c *controller, id uint16) {
			for i := range uint16(depth - 1) {
				c.complete(1, id+i, 0)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, b := start(t)
			c.mu.Lock()
			c.lie = lie
			c.mu.Unlock()
			for i := range 3 {
				// Of several answers the first is right.
				if err := b.ReadAt(make([]byte, 512), 0); err != unix.EIO && (name != "twice" && name != "many" || i > 0) {
					t.Error(err)
				}
			}
		})
	}
}

// TestOrder has the controller answer in another order than it was asked, which it may, and with errors.
func TestOrder(t *testing.T) {
	c, _, b := start(t)
	var held []uint16
	c.mu.Lock()
	c.lie = func(c *controller, id uint16) {
		if held = append(held, id); len(held) == 8 {
			for i := range held {
				c.complete(1, held[7-i], 0)
			}
			held = nil
		}
	}
	c.mu.Unlock()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			if err := b.WriteAt(bytes.Repeat([]byte{byte(g + 1)}, 512), int64(g)*4096, false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c.mu.Lock()
	for g := range 8 {
		if c.disk[g*4096] != byte(g+1) {
			t.Errorf("request %d is lost", g)
		}
	}
	c.mu.Unlock()
	for status, want := range map[uint32]error{0: nil, 1: unix.EOPNOTSUPP, 0x4001: unix.EOPNOTSUPP, 2: unix.EIO, 0x281: unix.EIO, 0x7fff: unix.EIO} {
		c.mu.Lock()
		c.lie = func(c *controller, id uint16) { c.complete(1, id, status) }
		c.mu.Unlock()
		if err := b.Flush(); err != want {
			t.Errorf("status %#x: %v, want %v", status, err, want)
		}
	}
}

// TestSilent: a controller that says nothing while it is opened is given up, at whatever step.
func TestSilent(t *testing.T) {
	for step := range 4 {
		m := fake.New(fake.Config{RealClock: true})
		c, connect, end := newController(m, step+1)
		_, err := open(c, m, connect, 50*time.Millisecond)
		if err != unix.EIO {
			t.Errorf("silent from command %d on: %v", step, err)
		}
		end()
		if n := m.InUse(); n != 0 {
			t.Errorf("silent from command %d on: %d frames are lost", step, n)
		}
		m.Close()
	}
}

// TestPages checks that memory which no list of pages can describe is refused.
func TestPages(t *testing.T) {
	_, d, _ := start(t)
	f, err := d.m.AllocRun(2)
	if err != nil {
		t.Fatal(err)
	}
	defer d.m.Free(f, 2)
	all, at := d.m.Bytes(f, 2), uint64(f)*machine.PageSize
	r := block.Request{Op: block.Read, Len: 1024, Data: []block.Segment{{Bytes: all[:512], Addr: at}, {Bytes: all[4096:][:512], Addr: at + 4096}}}
	if err := d.Do(&r); err != unix.EINVAL {
		t.Error(err)
	}
}
