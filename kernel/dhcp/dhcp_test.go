package dhcp

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

var (
	mac       = [6]byte{0x52, 0x54, 0, 1, 2, 3}
	serverMAC = [6]byte{0x52, 0x54, 0, 9, 9, 9}
	serverIP  = IPv4{10, 0, 2, 2}
	mine      = IPv4{10, 0, 2, 15}
)

// option lays out options of version 4.
func option(code byte, data ...byte) []byte { return append([]byte{code, byte(len(data))}, data...) }

// server is one of version 4; what it says to a message of a type is what the test wants.
type server struct {
	world
	t      *testing.T
	c      *Client4
	asked  []byte // types of the messages
	times  []time.Duration
	begin  time.Time
	silent bool
	refuse bool
	more   []byte
	lease  uint32
}

// take is Config.Send.
func (s *server) take(frame []byte) {
	s.Lock()
	defer s.Unlock()
	b := frame[ethernetSize+ipv4Size+udpSize:]
	if len(b) < leastSize || sum(0, frame[ethernetSize:ethernetSize+ipv4Size]) != 0xffff ||
		sum(pseudoSum(frame[26:34], len(b)+udpSize), frame[34:]) != 0xffff || [6]byte(b[28:34]) != mac {
		s.t.Errorf("%x", frame)
		return
	}
	m := message4{options: map[byte][]byte{}}
	if !m.take(b[fixedSize+4:]) {
		s.t.Errorf("%x", b)
	}
	typ := m.options[optType][0]
	s.asked, s.times = append(s.asked, typ), append(s.times, time.Since(s.begin))
	if s.silent || typ == release {
		return
	}
	kind := byte(ack)
	if typ == discover {
		kind = offer
	} else if s.refuse {
		kind = nak
	}
	s.c.Receive(Datagram{From: serverMAC, Payload: s.answer(b, kind)})
}

func (s *server) answer(b []byte, kind byte) []byte {
	r := make([]byte, fixedSize)
	r[0], r[1], r[2] = bootReply, hardwareEther, 6
	copy(r[4:8], b[4:8])
	copy(r[16:], mine[:])
	copy(r[28:], b[28:34])
	r = be.AppendUint32(r, magic)
	for _, o := range [][]byte{option(optType, kind), option(optServer, serverIP[:]...), option(optMask, 255, 255, 255, 0),
		option(optLease, be.AppendUint32(nil, s.lease)...), s.more} {
		r = append(r, o...)
	}
	return append(r, optEnd)
}

func newServer(t *testing.T, lease uint32, leases *[]*Lease4) *server {
	s := &server{world: newWorld(), t: t, lease: lease, begin: time.Now()}
	s.c = New4(Config{MAC: mac, Hostname: "vm", Send: s.take}, func(l *Lease4) {
		s.Lock()
		defer s.Unlock()
		*leases = append(*leases, l)
	})
	s.Lock()
	return s
}

// A world is held by the test while time stands still, and by a client while it tells something.
type world struct{ held chan struct{} }

func newWorld() world    { return world{make(chan struct{}, 1)} }
func (w *world) Lock()   { w.held <- struct{}{} }
func (w *world) Unlock() { <-w.held }

// pass lets time go by, and then waits until everybody waits.
func (w *world) pass(d time.Duration) {
	w.Unlock()
	time.Sleep(d)
	synctest.Wait()
	w.Lock()
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []*Lease4
		s := newServer(t, 600, &got)
		s.more = bytes.Join([][]byte{
			option(optRouter, 10, 0, 2, 1, 10, 0, 2, 9), option(optDNS, 10, 0, 2, 3, 10, 0, 2, 4), option(optMTU, 0x05, 0x78),
			option(optHostname, []byte("box\x00")...), option(optDomain, []byte("example.org")...),
			option(optSearch, []byte("\x01a\x07example\x03org\x00\x01b\xc0\x02")...),
		}, nil)
		go s.c.Run()
		s.pass(time.Second)
		if len(got) != 1 || !bytes.Equal(s.asked, []byte{discover, request}) {
			t.Fatalf("%v, asked %v", got, s.asked)
		}
		l := got[0]
		if l.Address != mine || l.Bits != 24 || l.Server != serverIP || len(l.Routes) != 1 || l.Routes[0] != (Route4{Gateway: IPv4{10, 0, 2, 1}}) ||
			len(l.DNS) != 2 || l.MTU != 1400 || l.Hostname != "box" || l.Domain != "example.org" || len(l.Search) != 2 || l.Search[1] != "b.example.org" ||
			l.Time != 600*time.Second || l.T1.Round(time.Second) != 300*time.Second || l.T2 != 525*time.Second {
			t.Errorf("%+v", l)
		}
		// It is renewed after half of its time, twice, and then lost when nobody answers.
		s.pass(700 * time.Second)
		if len(got) != 3 {
			t.Fatalf("%d leases, asked %v at %v", len(got), s.asked, s.times)
		}
		s.silent = true
		s.pass(601 * time.Second)
		if len(got) != 4 || got[3] != nil {
			t.Fatalf("%v, asked %v at %v", got, s.asked, s.times)
		}
		s.silent = false
		s.pass(2 * mostWait)
		if len(got) != 5 || got[4].Address != mine {
			t.Fatalf("%v, asked %v at %v", got, s.asked, s.times)
		}
		s.c.Stop()
		s.pass(0)
		if s.asked[len(s.asked)-1] != release {
			t.Errorf("asked %v", s.asked)
		}
		s.Unlock()
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []*Lease4
		s := newServer(t, 600, &got)
		s.refuse = true
		go s.c.Run()
		s.pass(30 * time.Second)
		if n := len(s.asked); len(got) != 0 || n < 20 || n > 80 {
			t.Errorf("asked %d times, %v", n, got)
		}
		s.c.Stop()
		s.Unlock()
	})
}

// Routes without classes take the place of routers; those that make no sense go.
func TestRoutes(t *testing.T) {
	m := &message4{yours: mine, options: map[byte][]byte{optServer: serverIP[:], optRouter: {10, 0, 2, 1},
		optRoutes: {0, 10, 0, 2, 7, 25, 192, 168, 1, 255, 0, 0, 0, 0, 16, 172, 16, 10, 0, 2, 8, 33, 1}}}
	l, ok := m.lease()
	want := []Route4{{Gateway: IPv4{10, 0, 2, 7}}, {IPv4{192, 168, 1, 128}, 25, IPv4{}}, {IPv4{172, 16}, 16, IPv4{10, 0, 2, 8}}}
	if !ok || len(l.Routes) != len(want) || l.Bits != 8 {
		t.Fatalf("%+v", l)
	}
	for i := range want {
		if l.Routes[i] != want[i] {
			t.Errorf("%+v, not %+v", l.Routes[i], want[i])
		}
	}
	for _, bad := range []map[byte][]byte{{optServer: serverIP[:], optMask: {255, 0, 255, 0}}, {}, {optServer: serverIP[:], optMask: {0, 0, 0, 0}}} {
		if l, ok := (&message4{yours: mine, options: bad}).lease(); ok {
			t.Errorf("%v gives %+v", bad, l)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"a.b": "a.b", "a.b.\x00": "a.b", "a b": "", "x\nnameserver 1.2.3.4": "", "-x": "", "": "", ".": ""} {
		if got := hostName([]byte(in)); got != want {
			t.Errorf("%q gives %q", in, got)
		}
	}
	for _, bad := range []string{"\xc0\x00", "\x01a\xc0\x00", "\x05ab", "\xc0", "\x01a"} {
		if got := searchList([]byte(bad)); len(got) != 0 {
			t.Errorf("%q gives %q", bad, got)
		}
	}
}

// server6 is one of version 6.
type server6 struct {
	world
	t      *testing.T
	c      *Client6
	asked  []byte
	silent bool
}

var address6 = IPv6{0: 0xfd, 15: 9}

func (s *server6) take(frame []byte) {
	s.Lock()
	defer s.Unlock()
	b := frame[ethernetSize+ipv6Size+udpSize:]
	if sum(pseudoSum(frame[22:54], len(b)+udpSize), frame[54:]) != 0xffff {
		s.t.Errorf("%x", frame)
	}
	s.asked = append(s.asked, b[0])
	if s.silent || b[0] == release6 {
		return
	}
	var client []byte
	options(b[header6Size:], func(code uint16, data []byte) bool {
		if code == opt6Client {
			client = data
		}
		return true
	})
	kind := byte(reply)
	if b[0] == solicit {
		kind = advertise
	}
	r := append([]byte{kind}, b[1:4]...)
	r = option6(option6(r, opt6Client, client), opt6Server, []byte("server"))
	r = option6(r, opt6DNS, make([]byte, 32))
	if b[0] != information {
		ia := be.AppendUint32(nil, s.c.iaid)
		ia = be.AppendUint32(be.AppendUint32(ia, 0), 0)
		ia = option6(ia, opt6Address, be.AppendUint32(be.AppendUint32(append([]byte(nil), address6[:]...), 300), 600))
		r = option6(r, opt6IANA, ia)
	}
	s.c.Receive(Datagram{V6: true, Payload: r})
}

func TestLease6(t *testing.T) {
	for _, stateful := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var got []*Lease6
			s := &server6{world: newWorld(), t: t}
			s.c = New6(Config{MAC: mac, Send: s.take}, stateful, func(l *Lease6) {
				s.Lock()
				defer s.Unlock()
				got = append(got, l)
			})
			s.Lock()
			go s.c.Run()
			s.pass(5 * time.Second)
			if len(got) != 1 || len(got[0].DNS) != 2 || stateful != (got[0].Address == address6) {
				t.Fatalf("%v, asked %v", got, s.asked)
			}
			if !stateful {
				s.pass(25 * time.Hour)
				if len(got) != 2 {
					t.Errorf("%v, asked %v", got, s.asked)
				}
				s.c.Stop()
				s.Unlock()
				return
			}
			s.pass(400 * time.Second)
			if len(got) != 2 {
				t.Fatalf("%v, asked %v", got, s.asked)
			}
			s.silent = true
			s.pass(700 * time.Second)
			if len(got) != 3 || got[2] != nil {
				t.Fatalf("%v, asked %v", got, s.asked)
			}
			s.silent = false
			s.pass(300 * time.Second)
			s.c.Stop()
			s.pass(0)
			if n := len(s.asked); len(got) != 4 || s.asked[n-1] != release6 {
				t.Errorf("%v, asked %v", got, s.asked)
			}
			s.Unlock()
		})
	}
}

// What is sent is parsed as it was meant, and everything else is survived.
func FuzzFrames(f *testing.F) {
	s := &server{lease: 600}
	b := frame4(serverMAC, mac, serverIP, mine, s.answer((&ask{typ: discover}).bytes(mac), offer))
	be.PutUint16(b[34:], server4Port)
	be.PutUint16(b[36:], client4Port)
	f.Add(b, true)
	f.Add(frame6(mac, (&ask6{typ: solicit, duid: make([]byte, 10)}).bytes()), true)
	f.Add(frame4(mac, broadcastMAC, IPv4{}, broadcast, nil), false)
	f.Fuzz(func(t *testing.T, b []byte, checked bool) {
		d, ok := Parse(b, checked)
		if !ok {
			d.Payload = b
		}
		if m, ok := parse4(d.Payload); ok {
			if l, ok := m.lease(); ok && (!l.Address.usable() || l.Bits < 1 || l.Bits > 32 || l.T1 <= 0 || l.T1 >= l.T2 || l.T2 >= l.Time || len(l.Routes) > maxRoutes) {
				t.Errorf("%+v", l)
			}
		}
		if m, ok := parse6(d.Payload, 1); ok && m.lease.Address != (IPv6{}) && (m.lease.T1 <= 0 || m.lease.T1 >= m.lease.T2 || m.lease.T2 >= m.lease.Time) {
			t.Errorf("%+v", m.lease)
		}
	})
}

func TestFrames(t *testing.T) {
	b := frame4(serverMAC, mac, serverIP, mine, []byte("hello"))
	be.PutUint16(b[34:], server4Port)
	be.PutUint16(b[36:], client4Port)
	if d, ok := Parse(b, false); !ok || string(d.Payload) != "hello" || d.From != serverMAC || d.V6 {
		t.Errorf("%+v %v", d, ok)
	}
	b[len(b)-1] ^= 1
	if _, ok := Parse(b, false); ok {
		t.Error("a wrong sum passed")
	}
	if _, ok := Parse(b, true); !ok {
		t.Error("a sum that the device has checked was checked")
	}
}
