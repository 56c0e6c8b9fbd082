package vsock

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// wire joins two networks: what one sends the other receives, in order.
type wire struct {
	cid   uint64
	peer  *wire
	in    chan [2][]byte
	reset func()
}

func newWires(t testing.TB, a, b uint64) (x, y *wire) {
	x, y = &wire{cid: a, in: make(chan [2][]byte, 100)}, &wire{cid: b, in: make(chan [2][]byte, 100)}
	x.peer, y.peer = y, x
	return x, y
}

func (w *wire) CID() uint64 { return w.cid }
func (w *wire) Start(receive func(header, payload []byte), reset func()) error {
	w.reset = reset
	go func() {
		for p := range w.in {
			receive(p[0], p[1])
		}
	}()
	return nil
}
func (w *wire) Send(header, payload []byte) error {
	w.peer.in <- [2][]byte{bytes.Clone(header), bytes.Clone(payload)}
	return nil
}

var caller = &socket.Caller{Cred: cred.Root(), Nonblock: true}

type sleeper struct{ woken chan struct{} }

func (s *sleeper) Ready(*wait.Entry, wait.Mask) {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// until waits until s has one of the events.
func until(t testing.TB, s *socket.Socket, mask wait.Mask) {
	t.Helper()
	w := &sleeper{make(chan struct{}, 1)}
	e := &wait.Entry{Waiter: w, Events: anything}
	s.Queue.Add(e)
	defer s.Queue.Remove(e)
	end := time.After(time.Minute)
	for s.Ops().Poll()&mask == 0 {
		select {
		case <-w.woken:
		case <-end:
			t.Fatalf("poll shows %#x, never %#x", s.Ops().Poll(), mask)
		}
	}
}

func newSocket(t testing.TB, n *Network) *socket.Socket {
	t.Helper()
	s, err := n.Family().New(caller, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listen(t testing.TB, n *Network, port uint32) *socket.Socket {
	t.Helper()
	s := newSocket(t, n)
	if err := s.Ops().Bind(caller, formatAddr(unix.VMADDR_CID_ANY, port)); err != nil {
		t.Fatal(err)
	}
	if err := s.Ops().Listen(caller, 4); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect connects a new socket of n to what listens at cid and port, and returns both ends.
func connect(t testing.TB, n *Network, l *socket.Socket, cid uint64, port uint32) (c, s *socket.Socket) {
	t.Helper()
	c = newSocket(t, n)
	if err := c.Ops().Connect(caller, formatAddr(cid, port)); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	until(t, l, readable)
	until(t, c, writable)
	if err := c.TakeError(); err != nil {
		t.Fatal(err)
	}
	s, err := l.Ops().Accept(caller)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func send(s *socket.Socket, b []byte) (int, error) {
	src := uio.Buffer(b)
	n, err := s.Ops().Send(&socket.Message{Caller: *caller}, &src)
	return int(n), err
}

func receive(s *socket.Socket, n int) ([]byte, error) {
	b := make([]byte, n)
	dst := uio.Buffer(b)
	_, err := s.Ops().Receive(&socket.Message{Caller: *caller}, &dst)
	return b[:n-len(dst)], err
}

// stream moves n bytes from a to b and checks them.
func stream(t *testing.T, a, b *socket.Socket, n int) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; i < n; {
			p := make([]byte, min(10000, n-i))
			for j := range p {
				p[j] = byte((i + j) * 7)
			}
			m, err := send(a, p)
			if err == unix.EAGAIN {
				until(t, a, writable)
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			i += m
		}
	}()
	for i := 0; i < n; {
		p, err := receive(b, 30000)
		if err == unix.EAGAIN {
			until(t, b, readable)
			continue
		}
		if err != nil || len(p) == 0 {
			t.Fatal(i, err)
		}
		for j, c := range p {
			if c != byte((i+j)*7) {
				t.Fatalf("byte %d is wrong", i+j)
			}
		}
		i += len(p)
	}
	wg.Wait()
}

func nets(t testing.TB) (guest, host *Network, w *wire) {
	x, y := newWires(t, 3, unix.VMADDR_CID_HOST)
	guest, host = New(func() Device { return x }), New(func() Device { return y })
	guest.start()
	host.start()
	return guest, host, x
}

func TestBothWays(t *testing.T) {
	guest, host, _ := nets(t)
	for name, f := range map[string]func() (c, s *socket.Socket){
		"out":   func() (c, s *socket.Socket) { return connect(t, guest, listen(t, host, 2000), 2, 2000) },
		"in":    func() (c, s *socket.Socket) { return connect(t, host, listen(t, guest, 3000), 3, 3000) },
		"self":  func() (c, s *socket.Socket) { return connect(t, guest, listen(t, guest, 4000), 3, 4000) },
		"local": func() (c, s *socket.Socket) { return connect(t, guest, listen(t, guest, 5000), 1, 5000) },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := f()
			stream(t, c, s, 2_000_000)
			stream(t, s, c, 1_000_000)
			if err := c.Ops().Shutdown(unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			until(t, s, unix.EPOLLRDHUP)
			if b, err := receive(s, 10); err != nil || len(b) != 0 {
				t.Fatal(b, err)
			}
			stream(t, s, c, 1000)
			s.Ops().Close()
			until(t, c, unix.EPOLLHUP|unix.EPOLLRDHUP)
			if _, err := send(c, []byte("x")); err != unix.EPIPE {
				t.Fatal(err)
			}
			c.Ops().Close()
		})
	}
	if n := guest.heap.Load() + host.heap.Load(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

func TestRefused(t *testing.T) {
	guest, _, _ := nets(t)
	for _, cid := range []uint64{2, 3, 1} {
		c := newSocket(t, guest)
		if err := c.Ops().Connect(caller, formatAddr(cid, 77)); err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		until(t, c, unix.EPOLLERR)
		if err := c.TakeError(); err != unix.ECONNRESET {
			t.Fatal(err)
		}
		c.Ops().Close()
	}
	alone := New(func() Device { return nil })
	if err := newSocket(t, alone).Ops().Connect(caller, formatAddr(2, 77)); err != unix.ENODEV {
		t.Fatal(err)
	}
	user := &socket.Caller{Cred: &cred.Cred{UID: 1}}
	if err := newSocket(t, alone).Ops().Bind(user, formatAddr(1, 77)); err != unix.EACCES {
		t.Fatal(err)
	}
	if err := newSocket(t, alone).Ops().Bind(user, formatAddr(9, 7777)); err != unix.EADDRNOTAVAIL {
		t.Fatal(err)
	}
}

// A host that takes no notice of credits loses the connection, and nothing grows.
func TestGreedyPeer(t *testing.T) {
	guest, host, _ := nets(t)
	c, s := connect(t, host, listen(t, guest, 3000), 3, 3000)
	k := c.Ops().(*sock)
	for range 3 * mostBuffer / maxPayload {
		k.mu.Lock()
		k.send(opRW, 0, make([]byte, maxPayload))
		k.mu.Unlock()
	}
	until(t, s, unix.EPOLLERR)
	if n := s.Ops().(*sock).bytes; n > mostBuffer {
		t.Errorf("%d bytes are held", n)
	}
	c.Ops().Close()
	s.Ops().Close()
}

func TestReset(t *testing.T) {
	guest, host, w := nets(t)
	_, s := connect(t, host, listen(t, guest, 3000), 3, 3000)
	w.reset()
	until(t, s, unix.EPOLLERR)
	if _, err := receive(s, 10); err != unix.ECONNRESET {
		t.Fatal(err)
	}
}

// Whatever packets the host sends, the machine survives and holds no more than it may.
func FuzzPackets(f *testing.F) {
	h := Header{SrcCID: 2, DstCID: 3, SrcPort: 9, DstPort: 3000, Type: typeStream, Op: opRequest, BufAlloc: 1000}
	f.Add(h.Bytes())
	h.Op, h.Len = opRW, 4
	f.Add(append(append((&Header{SrcCID: 2, DstCID: 3, SrcPort: 9, DstPort: 3000, Type: typeStream, Op: opRequest}).Bytes(), h.Bytes()...), 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, y := newWires(t, 3, 2)
		guest := New(func() Device { return x })
		guest.start()
		go func() {
			for range y.in { // the host reads
			}
		}()
		l := listen(t, guest, 3000)
		for len(b) >= HeaderSize {
			h := GetHeader(b)
			n := min(int(h.Len%5000), len(b)-HeaderSize)
			guest.receive(b[:HeaderSize], b[HeaderSize:HeaderSize+n])
			b = b[HeaderSize+n:]
		}
		for {
			s, err := l.Ops().Accept(caller)
			if err != nil {
				break
			}
			receive(s, 100)
			send(s, []byte("hello"))
			s.Ops().Close()
		}
		l.Ops().Close()
		if n := len(guest.conns); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}
