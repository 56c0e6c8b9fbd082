package net

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"

	"gosv/kernel/cred"
	"gosv/kernel/netdev"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/wait"
)

// wire is one end of a cable: a netdev.Device without offload.
type wire struct {
	mac      byte
	large    bool // takes large packets, which the other end gets as they are
	peer     *wire
	receiver chan []byte
	done     chan struct{}
	lose     atomic.Pointer[func(frame []byte) bool] // whether a frame that is sent is lost
	udp      func(frame []byte, o netdev.Offload)    // takes large packets of UDP, when not nil
	drained  atomic.Bool                             // somebody waited for what was sent
	full     atomic.Bool                             // has no room for frames
	in       netdev.Receiver
}

func cable(t *testing.T) (a, b *wire) {
	done := make(chan struct{})
	a, b = &wire{mac: 1, receiver: make(chan []byte, 1000), done: done}, &wire{mac: 2, receiver: make(chan []byte, 1000), done: done}
	a.peer, b.peer = b, a
	t.Cleanup(func() { close(done) })
	return a, b
}

func (w *wire) MAC() [6]byte        { return [6]byte{2, 0, 0, 0, 0, w.mac} }
func (w *wire) MTU() int            { return 1500 }
func (w *wire) Flush()              {}
func (w *wire) Drain(time.Duration) { w.drained.Store(true) }
func (w *wire) Up() bool            { return true }
func (w *wire) Stats() netdev.Stats { return netdev.Stats{} }
func (w *wire) Features() netdev.Features {
	return netdev.Features{Checksum: w.large, TCPv4: w.large, TCPv6: w.large, UDP: w.udp != nil}
}

func (w *wire) Start(r netdev.Receiver) error {
	w.in = r
	go func() {
		for {
			select {
			case f := <-w.receiver:
				r([][]byte{f[:14], f[14:]}, netdev.Offload{Valid: w.large})
			case <-w.done:
				return
			}
		}
	}()
	return nil
}

func (w *wire) Send(parts [][]byte, o netdev.Offload) error {
	if w.full.Load() {
		return unix.ENOBUFS
	}
	f := bytes.Join(parts, nil)
	if o.Segment == netdev.UDP {
		w.udp(f, o)
		return nil
	}
	if lose := w.lose.Load(); lose != nil && (*lose)(f) {
		return nil
	}
	select {
	case w.peer.receiver <- f:
		return nil
	default:
		return unix.ENOBUFS
	}
}

// A record is what a network says, which may be after the test's end.
type record struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (r *record) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.WriteString(s + "\n")
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// twoHosts are two networks on one cable, 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2.
func twoHosts(t *testing.T, prepare ...func(wa, wb *wire)) (a, b *Network, wa, wb *wire) {
	wa, wb = cable(t)
	for _, f := range prepare {
		f(wa, wb)
	}
	var said record
	t.Cleanup(func() { t.Log(&said) })
	make := func(w *wire, addresses ...string) *Network {
		cfg := Config{Memory: 128 << 20, Log: said.add, Open: func() (netdev.Device, error) { return w, nil }}
		if err := cfg.Parse(addresses, nil); err != nil {
			t.Fatal(err)
		}
		return New(cfg)
	}
	a, b = make(wa, "10.0.0.1/24", "fd00::1/64"), make(wb, "10.0.0.2/24", "fd00::2/64")
	a.Stack()
	b.Stack()
	return a, b, wa, wb
}

// serving returns a socket of twoHosts' second host that listens, and its address. prepare are options of it, set before.
func serving(t *testing.T, n *Network, prepare ...func(l *fd)) (l *fd, at []byte) {
	t.Helper()
	l = open(t, n, unix.AF_INET, unix.SOCK_STREAM, 0)
	for _, f := range prepare {
		f(l)
	}
	at = formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), Port: 80})
	l.must(l.Ops().Bind(&l.caller, at))
	l.must(l.Ops().Listen(&l.caller, 5))
	return l, at
}

// meet connects a new socket of n with l, which listens at an address, and returns it and the accepted one.
func (l *fd) meet(n *Network, at []byte) (c, s *fd) {
	l.t.Helper()
	c = open(l.t, n, unix.AF_INET, unix.SOCK_STREAM, 0)
	l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
	return c, l.accept()
}

// A fd is a socket as a program has it, blocking.
type fd struct {
	t *testing.T
	*socket.Socket
	caller socket.Caller
	closed bool
}

// close closes the socket, once: the test's end does it, too.
func (f *fd) close() {
	if !f.closed {
		f.closed = true
		f.Ops().Close()
	}
}

func open(t *testing.T, n *Network, family, typ, protocol int) *fd {
	t.Helper()
	f := &fd{t: t, caller: socket.Caller{Cred: cred.Root(), PID: 1}}
	make := n.INET()
	switch family {
	case unix.AF_INET6:
		make = n.INET6()
	case unix.AF_PACKET:
		make = n.Packet()
	}
	s, err := make.New(&f.caller, typ, protocol)
	if err != nil {
		t.Fatal(err)
	}
	f.Socket = s
	t.Cleanup(f.close)
	return f
}

type bell chan struct{}

func (b bell) Ready(*wait.Entry, wait.Mask) {
	select {
	case b <- struct{}{}:
	default:
	}
}

// until calls f until it does not say EAGAIN.
func (f *fd) until(events wait.Mask, op func() error) error {
	f.t.Helper()
	ring := make(bell, 1)
	e := wait.Entry{Waiter: ring, Events: events | unix.POLLERR | unix.POLLHUP}
	f.Queue.Add(&e)
	defer f.Queue.Remove(&e)
	late := time.After(time.Minute)
	for {
		err := op()
		if err != unix.EAGAIN && err != unix.EINPROGRESS && err != unix.EALREADY {
			return err
		}
		if err != unix.EAGAIN { // as the system call does
			for f.Ops().Poll()&unix.POLLOUT == 0 {
				select {
				case <-ring:
				case <-late:
					f.t.Fatal("connect hangs")
				}
			}
			b, _ := f.Option(&f.caller, unix.SOL_SOCKET, unix.SO_ERROR)
			if v, _ := socket.ParseInt(b); v != 0 {
				return unix.Errno(v)
			}
			return nil
		}
		select {
		case <-ring:
		case <-late:
			f.t.Fatal("hangs")
		}
	}
}

func (f *fd) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fd) send(b []byte, flags int, addr []byte) int {
	f.t.Helper()
	sent := 0
	f.must(f.until(writable, func() error {
		src := uio.Buffer(b[sent:])
		n, err := f.Ops().Send(&socket.Message{Caller: f.caller, Flags: flags, Addr: addr}, &src)
		sent += int(n)
		if err == nil && sent < len(b) {
			return unix.EAGAIN
		}
		return err
	}))
	return sent
}

func (f *fd) recv(n int) []byte {
	f.t.Helper()
	b := make([]byte, n)
	got := 0
	f.must(f.until(readable, func() error {
		dst := uio.Buffer(b)
		v, err := f.Ops().Receive(&socket.Message{Caller: f.caller}, &dst)
		got = int(v)
		return err
	}))
	return b[:got]
}

func (f *fd) accept() *fd {
	f.t.Helper()
	n := &fd{t: f.t, caller: f.caller}
	f.must(f.until(readable, func() (err error) {
		n.Socket, err = f.Ops().Accept(&f.caller)
		return err
	}))
	f.t.Cleanup(n.close)
	return n
}

func inet4(a, b, c, d byte, port uint16) []byte {
	return formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{a, b, c, d}), Port: port})
}

// echoRequest is an ICMP echo request with a right checksum.
func echoRequest(id, seq byte) []byte {
	b := []byte{8, 0, 0, 0, 0, id, 0, seq, 'p', 'i', 'n', 'g'}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	b[2], b[3] = byte(^sum>>8), byte(^sum)
	return b
}

func TestPing(t *testing.T) {
	a, _, _, _ := twoHosts(t)
	for _, to := range [][]byte{inet4(127, 0, 0, 1, 0), inet4(10, 0, 0, 2, 0)} {
		f := open(t, a, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		f.send(echoRequest(7, 1), 0, to)
		for {
			b := f.recv(1500)
			if len(b) >= 28 && b[20] == 0 && b[25] == 7 {
				break
			}
		}
	}
}

func TestStream(t *testing.T) {
	a, b, _, _ := twoHosts(t)
	for _, test := range []struct {
		name string
		to   *Network
		at   []byte
	}{{"loopback", a, inet4(127, 0, 0, 1, 80)}, {"own address", a, inet4(10, 0, 0, 1, 81)}, {"wire", b, inet4(10, 0, 0, 2, 80)}} {
		t.Run(test.name, func(t *testing.T) {
			l := open(t, test.to, unix.AF_INET, unix.SOCK_STREAM, 0)
			l.must(l.Ops().Bind(&l.caller, test.at))
			l.must(l.Ops().Listen(&l.caller, 5))
			c := open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
			c.must(c.until(writable, func() error { return c.Ops().Connect(&c.caller, test.at) }))
			if err := c.Ops().Connect(&c.caller, test.at); err != unix.EISCONN {
				t.Errorf("connect twice: %v", err)
			}
			s := l.accept()
			text := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			done := make(chan []byte)
			go func() {
				var all []byte
				for len(all) < len(text) {
					b := s.recv(1 << 16)
					if len(b) == 0 {
						break
					}
					all = append(all, b...)
				}
				done <- all
			}()
			c.send(text, 0, nil)
			if got := <-done; !bytes.Equal(got, text) {
				t.Errorf("%d of %d bytes came", len(got), len(text))
			}
			c.must(c.Ops().Shutdown(unix.SHUT_WR))
			if b := s.recv(10); len(b) != 0 {
				t.Errorf("%q after the end", b)
			}
			s.send([]byte("half"), 0, nil)
			if b := c.recv(10); string(b) != "half" {
				t.Errorf("%q", b)
			}
		})
	}
}

func TestDatagram(t *testing.T) {
	a, b, _, _ := twoHosts(t)
	s := open(t, b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	s.must(s.Ops().Bind(&s.caller, inet4(0, 0, 0, 0, 53)))
	c := open(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	c.send([]byte("question"), 0, inet4(10, 0, 0, 2, 53))
	var from []byte
	buf := make([]byte, 4)
	s.must(s.until(readable, func() error {
		m := socket.Message{Caller: s.caller, WantAddr: true}
		dst := uio.Buffer(buf)
		n, err := s.Ops().Receive(&m, &dst)
		if err == nil && (n != 4 || m.Out&unix.MSG_TRUNC == 0) {
			t.Errorf("%d bytes, flags %#x", n, m.Out)
		}
		from = m.Addr
		return err
	}))
	s.send([]byte("answer"), 0, from)
	if b := c.recv(100); string(b) != "answer" {
		t.Errorf("%q", b)
	}
	c.must(c.Ops().Connect(&c.caller, inet4(10, 0, 0, 2, 54)))
	c.send([]byte("x"), 0, nil)
	c.must(func() error {
		if err := c.until(readable, func() error {
			dst := uio.Buffer(buf)
			_, err := c.Ops().Receive(&socket.Message{Caller: c.caller}, &dst)
			return err
		}); err != unix.ECONNREFUSED {
			t.Errorf("nobody listens: %v", err)
		}
		return nil
	}())
}

// Routes are shown as on Linux, the default one first.
func TestRouteOrder(t *testing.T) {
	n := New(Config{Memory: 64 << 20})
	for _, s := range []string{"10.9.0.0/16", "fd00::/64", "10.0.2.0/24", "0.0.0.0/0", "10.9.0.0/24", "::/0"} {
		p, err := parsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		n.Stack().AddRoute(tcpip.Route{Destination: p.prefix().Subnet(), NIC: Ethernet})
	}
	var got []string
	for _, r := range n.routeTable() {
		if r.NIC == Ethernet {
			got = append(got, r.Destination.String())
		}
	}
	if s := strings.Join(got, " "); s != "0.0.0.0/0 10.0.2.0/24 10.9.0.0/24 10.9.0.0/16 fd00::/64 ::/0" {
		t.Error(s)
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.2.15/24": "10.0.2.15", "::1/128": "::1", "fe80::1:2/64": "fe80::1:2", "1:2:3:4:5:6:7:8/0": "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4/96": "::ffff:102:304", "::/0": "::",
		"10.0.2/24": "", "10.0.2.15/33": "", "10.0.2.15": "", "1:2:3:4:5:6:7/1": "", "::1::2/1": "", "1:2:3:4:5:6:7:8::/1": "", "01.2.3.4/8": "", "12345::/1": "", "": "",
	} {
		p, err := parsePrefix(s)
		if (err != nil) != (want == "") || err == nil && p.Addr.String() != want {
			t.Errorf("%q: %v, %v", s, p.Addr, err)
		}
	}
}

// receive is one recv(2), which does not block.
func (f *fd) receive(b []byte) error {
	dst := uio.Buffer(b)
	_, err := f.Ops().Receive(&socket.Message{Caller: f.caller}, &dst)
	return err
}
