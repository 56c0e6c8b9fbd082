package vhostuser

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// monitor is the other side: a machine with 1 MiB of memory at 0x10000, which the monitor has at 0x7000000000.
type monitor struct {
	t      testing.TB
	conn   *net.UnixConn
	mem    []byte
	memFD  *os.File
	kick   [2]*os.File
	call   [2]*os.File
	served chan error
	avail  [2]uint16
}

const (
	guestBase = 0x10000
	userBase  = 0x7000000000
	memSize   = 1 << 20
	ringSize  = 64

	// Places in the memory: two rings, then free.
	descAt, availAt, usedAt, ringBytes = 0, 0x1000, 0x2000, 0x4000
	freeAt                             = 2 * ringBytes
)

func start(t testing.TB, handle Handler) *monitor {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{t: t, served: make(chan error, 1)}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = c.(*net.UnixConn)
	}
	m.conn = ends[0]
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	m.memFD = os.NewFile(uintptr(fd), "guest")
	if err := m.memFD.Truncate(memSize); err != nil {
		t.Fatal(err)
	}
	if m.mem, err = unix.Mmap(fd, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		for _, f := range []**os.File{&m.kick[i], &m.call[i]} {
			fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			if err != nil {
				t.Fatal(err)
			}
			*f = os.NewFile(uintptr(fd), "event")
		}
	}
	go func() { m.served <- Serve(ends[1], 2, handle) }()
	t.Cleanup(func() {
		m.conn.Close()
		unix.Munmap(m.mem)
		m.memFD.Close()
		for i := range 2 {
			m.kick[i].Close()
			m.call[i].Close()
		}
	})
	return m
}

// send sends a request, and returns the reply to one that has one.
func (m *monitor) send(request uint32, payload []byte, files ...*os.File) []byte {
	m.t.Helper()
	b := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, request), version), uint32(len(payload)))
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := m.conn.WriteMsgUnix(append(b, payload...), oob, nil); err != nil {
		m.t.Fatal(err)
	}
	switch request {
	case getFeatures, getProtocolFeatures, getQueueNum, getVringBase:
		head := make([]byte, headerSize)
		if _, err := io.ReadFull(m.conn, head); err != nil {
			m.t.Fatal(err)
		}
		reply := make([]byte, le.Uint32(head[8:]))
		if _, err := io.ReadFull(m.conn, reply); err != nil {
			m.t.Fatal(err)
		}
		return reply
	}
	return nil
}

func u32s(v ...uint32) (b []byte) {
	for _, v := range v {
		b = le.AppendUint32(b, v)
	}
	return b
}

func u64s(v ...uint64) (b []byte) {
	for _, v := range v {
		b = le.AppendUint64(b, v)
	}
	return b
}

// setUp does what QEMU does.
func (m *monitor) setUp() {
	m.t.Helper()
	f := le.Uint64(m.send(getFeatures, nil))
	if f&featureVersion1 == 0 {
		m.t.Fatalf("features %#x", f)
	}
	m.send(setFeatures, u64s(f))
	m.send(setProtocolFeatures, u64s(le.Uint64(m.send(getProtocolFeatures, nil))&^protocolReplyAck))
	m.send(setOwner, nil)
	m.send(setMemTable, append(u32s(1, 0), u64s(guestBase, memSize, userBase, 0)...), m.memFD)
	for i := range uint32(2) {
		at := userBase + uint64(i)*ringBytes
		m.send(setVringNum, u32s(i, ringSize))
		m.send(setVringBase, u32s(i, 0))
		m.send(setVringAddr, append(u32s(i, 0), u64s(at+descAt, at+usedAt, at+availAt, 0)...))
		m.send(setVringCall, u64s(uint64(i)), m.call[i])
		m.send(setVringKick, u64s(uint64(i)), m.kick[i])
		m.send(setVringEnable, u32s(i, 1))
	}
	m.send(getQueueNum, nil) // all before it is done
}

// desc writes a descriptor of ring i, or of an indirect table at an offset.
func (m *monitor) desc(table uint64, n int, addr uint64, length uint32, flags, next uint16) {
	at := m.mem[table+16*uint64(n):]
	le.PutUint64(at, addr)
	le.PutUint32(at[8:], length)
	le.PutUint16(at[12:], flags)
	le.PutUint16(at[14:], next)
}

// offer makes a chain available and kicks.
func (m *monitor) offer(ring int, id uint16) {
	m.t.Helper()
	avail := m.mem[ring*ringBytes+availAt:]
	le.PutUint16(avail[4+2*(m.avail[ring]%ringSize):], id)
	m.avail[ring]++
	store16(avail[2:], m.avail[ring])
	fence()
	if _, err := m.kick[ring].Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		m.t.Error(err)
	}
}

// used waits until n chains came back.
func (m *monitor) used(ring int, n uint16) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if load16(m.mem[ring*ringBytes+usedAt+2:]) == n {
			return true
		}
	}
	return false
}

// reverse answers with what it was given, the other way round.
func reverse(_ int, readable, writable [][]byte) uint32 {
	all := bytes.Join(readable, nil)
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	n := 0
	for _, b := range writable {
		n += copy(b, all[n:])
	}
	return uint32(n)
}

func TestServe(t *testing.T) {
	m := start(t, reverse)
	m.setUp()
	guest := func(off uint64) uint64 { return guestBase + off }
	copy(m.mem[freeAt:], "hello ")
	copy(m.mem[freeAt+100:], "world")
	for ring := range 2 {
		table := uint64(ring * ringBytes)
		m.desc(table, 3, guest(freeAt), 6, descNext, 9)
		m.desc(table, 9, guest(freeAt+100), 5, descNext, 1)
		m.desc(table, 1, guest(freeAt+200), 4, descNext|descWrite, 2)
		m.desc(table, 2, guest(freeAt+300), 100, descWrite, 0)
		m.offer(ring, 3)
		if !m.used(ring, 1) {
			t.Fatal("no answer")
		}
		used := m.mem[ring*ringBytes+usedAt:]
		if id, n := le.Uint32(used[4:]), le.Uint32(used[8:]); id != 3 || n != 11 {
			t.Errorf("chain %d, %d bytes", id, n)
		}
		if got := string(m.mem[freeAt+200:freeAt+204]) + string(m.mem[freeAt+300:freeAt+307]); got != "dlrow olleh" {
			t.Errorf("%q", got)
		}
		b := make([]byte, 8)
		if _, err := m.call[ring].Read(b); err != nil {
			t.Errorf("the guest was not told: %v", err)
		}
		// Indirect.
		m.desc(freeAt+0x1000, 0, guest(freeAt), 6, descNext, 1)
		m.desc(freeAt+0x1000, 1, guest(freeAt+400), 6, descWrite, 0)
		m.desc(table, 7, guest(freeAt+0x1000), 32, descIndirect, 0)
		m.offer(ring, 7)
		if !m.used(ring, 2) || string(m.mem[freeAt+400:freeAt+406]) != " olleh" {
			t.Errorf("indirect: %q", m.mem[freeAt+400:freeAt+406])
		}
		if base := m.send(getVringBase, u32s(uint32(ring), 0)); le.Uint32(base[4:]) != 2 {
			t.Errorf("base %x", base)
		}
	}
	m.conn.Close()
	if err := <-m.served; err != nil {
		t.Error(err)
	}
}

// TestHostileGuest has chains that are against the rules: their queue stands still, and nothing is read or written elsewhere.
func TestHostileGuest(t *testing.T) {
	for name, chain := range map[string]func(m *monitor){
		"beyond memory":        func(m *monitor) { m.desc(0, 0, guestBase+memSize-4, 8, 0, 0) },
		"before memory":        func(m *monitor) { m.desc(0, 0, guestBase-4, 8, 0, 0) },
		"wraps":                func(m *monitor) { m.desc(0, 0, ^uint64(0)-3, 8, 0, 0) },
		"loop":                 func(m *monitor) { m.desc(0, 0, guestBase, 8, descNext, 0) },
		"next beyond":          func(m *monitor) { m.desc(0, 0, guestBase, 8, descNext, ringSize) },
		"readable after write": func(m *monitor) { m.desc(0, 0, guestBase, 8, descNext|descWrite, 1); m.desc(0, 1, guestBase, 8, 0, 0) },
		"nested": func(m *monitor) {
			m.desc(0, 0, guestBase+freeAt, 16, descIndirect, 0)
			m.desc(freeAt, 0, guestBase+freeAt, 16, descIndirect, 0)
		},
		"odd table":   func(m *monitor) { m.desc(0, 0, guestBase+freeAt, 17, descIndirect, 0) },
		"large table": func(m *monitor) { m.desc(0, 0, guestBase, memSize, descIndirect, 0) },
		"empty table": func(m *monitor) { m.desc(0, 0, guestBase+freeAt, 0, descIndirect, 0) },
	} {
		m := start(t, func(int, [][]byte, [][]byte) uint32 { t.Errorf("%s: was served", name); return 0 })
		m.setUp()
		chain(m)
		m.offer(1, ringSize+5) // a chain that is none
		m.offer(0, 0)
		m.send(getVringBase, u32s(0, 0)) // has stopped
		if load16(m.mem[usedAt+2:]) != 0 {
			t.Errorf("%s: came back", name)
		}
		m.conn.Close()
		if err := <-m.served; err != nil {
			t.Error(err)
		}
	}
}

// TestBadMonitor has messages that end the service.
func TestBadMonitor(t *testing.T) {
	for name, send := range map[string]func(m *monitor){
		"short":         func(m *monitor) { m.send(setVringNum, u32s(1)) },
		"unknown":       func(m *monitor) { m.send(99, nil) },
		"no queue":      func(m *monitor) { m.send(setVringNum, u32s(2, 64)) },
		"size 3":        func(m *monitor) { m.send(setVringNum, u32s(0, 3)) },
		"no file":       func(m *monitor) { m.send(setVringKick, u64s(0)) },
		"no ring":       func(m *monitor) { m.send(setVringNum, u32s(0, 64)); m.send(setVringKick, u64s(0), m.kick[0]) },
		"no memory":     func(m *monitor) { m.send(setMemTable, append(u32s(1, 0), u64s(0, 4096, 0, 0)...)) },
		"many regions":  func(m *monitor) { m.send(setMemTable, u32s(1000, 0), m.memFD) },
		"region wraps":  func(m *monitor) { m.send(setMemTable, append(u32s(1, 0), u64s(^uint64(0)-5, 4096, 0, 0)...), m.memFD) },
		"features":      func(m *monitor) { m.send(setFeatures, u64s(^uint64(0))) },
		"large payload": func(m *monitor) { _, _ = m.conn.Write(u32s(setOwner, version, maxPayload+1)) },
		"old version":   func(m *monitor) { _, _ = m.conn.Write(u32s(setOwner, 0, 0)) },
	} {
		m := start(t, reverse)
		send(m)
		select {
		case err := <-m.served:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: goes on", name)
		}
	}
}

// FuzzRings has a guest write anything into its rings and descriptors.
func FuzzRings(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	m := start(f, reverse)
	m.setUp()
	f.Fuzz(func(t *testing.T, b []byte) {
		table := m.mem[descAt : descAt+16*ringSize]
		n := copy(table, b)
		for i := 0; i+16 <= n; i += 16 { // addresses near memory, so that some are good
			le.PutUint64(table[i:], guestBase+le.Uint64(table[i:])%(memSize+64)-16)
		}
		copy(m.mem[freeAt:], b[n:])
		store16(m.mem[availAt+2:], uint16(len(b)))
		if len(b) > 0 {
			m.mem[availAt+4+2*int(b[0]%ringSize)] = b[0]
		}
		if _, err := m.kick[0].Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		m.t = t
		m.send(getQueueNum, nil)
		m.t = f
	})
}
