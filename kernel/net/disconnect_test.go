package net

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A connection that goes over the wire ends by connect(2) with AF_UNSPEC, whatever state it is in, and the socket connects and listens again.
func TestDisconnect(t *testing.T) {
	needKernelStack(t)
	none := []byte{unix.AF_UNSPEC, 0}
	for _, test := range []struct {
		name  string
		shut  bool // by this end
		fin   bool // by the other
		state tcp.EndpointState
		told  error // what the other end gets when it reads: nil is the end
		own   bool  // whether this one tells that it was cut
	}{
		{"established", false, false, tcp.StateEstablished, unix.ECONNRESET, true},
		{"half closed", true, false, tcp.StateFinWait2, nil, true},
		{"closed by the other", false, true, tcp.StateCloseWait, unix.ECONNRESET, true},
		{"closed by both", true, true, tcp.StateTimeWait, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b, _, _ := twoHosts(t)
			l, at := serving(t, b)
			c := open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
			l.must(c.Ops().Bind(&c.caller, inet4(0, 0, 0, 0, 4000)))
			for range 3 {
				l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
				if err := c.Ops().Connect(&c.caller, at); err != unix.EISCONN {
					t.Fatalf("connected twice: %v", err)
				}
				s := l.accept()
				c.send([]byte("to"), 0, nil)
				s.send([]byte("from"), 0, nil)
				if got := string(s.recv(9)); got != "to" {
					t.Fatalf("%q came", got)
				}
				if test.shut {
					l.must(c.Ops().Shutdown(unix.SHUT_WR))
				}
				if test.fin {
					l.must(s.Ops().Shutdown(unix.SHUT_WR))
				}
				c.enter(test.state)
				l.must(c.Ops().Connect(&c.caller, none))
				err := s.until(readable, func() error { return s.receive(make([]byte, 9)) })
				if err != test.told {
					t.Fatalf("the other end: %v", err)
				}
				if err := c.receive(make([]byte, 9)); (err == unix.ECONNRESET) != test.own {
					t.Fatalf("%v", err)
				}
				if err := c.receive(make([]byte, 9)); err != unix.ENOTCONN {
					t.Fatalf("%v then", err)
				}
				if got := c.Ops().Poll(); got != writable|unix.EPOLLHUP {
					t.Fatalf("events %#x", got)
				}
			}
			// It listens on the port that it was bound to.
			l.must(c.Ops().Listen(&c.caller, 5))
			d := open(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
			l.must(d.until(unix.POLLOUT, func() error { return d.Ops().Connect(&d.caller, inet4(10, 0, 0, 1, 4000)) }))
			s := c.accept()
			d.send([]byte("back"), 0, nil)
			if got := string(s.recv(9)); got != "back" {
				t.Fatalf("%q came", got)
			}
		})
	}
}

// enter waits until a connection is in a state.
func (f *fd) enter(s tcp.EndpointState) {
	f.t.Helper()
	ep := f.Ops().(*sock).ep
	for late := time.Now().Add(time.Minute); tcp.EndpointState(ep.State()) != s; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			f.t.Fatalf("state %v", tcp.EndpointState(ep.State()))
		}
	}
}

// A connection that the other end reset is no reason to connect again, as on Linux; after AF_UNSPEC it is connected again.
func TestDisconnectAfterReset(t *testing.T) {
	needKernelStack(t)
	a, b, _, _ := twoHosts(t)
	l, at := serving(t, b)
	c, s := l.meet(a, at)
	l.must(s.SetOption(&s.caller, unix.SOL_SOCKET, unix.SO_LINGER, []byte{1, 0, 0, 0, 0, 0, 0, 0}))
	s.close()
	if err := c.until(readable, func() error { return c.receive(make([]byte, 9)) }); err != unix.ECONNRESET {
		t.Fatalf("%v", err)
	}
	if err := c.Ops().Connect(&c.caller, at); err != unix.EISCONN {
		t.Fatalf("%v", err)
	}
	l.must(c.Ops().Connect(&c.caller, []byte{unix.AF_UNSPEC, 0}))
	l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
	s = l.accept()
	c.send([]byte("again"), 0, nil)
	if got := string(s.recv(9)); got != "again" {
		t.Fatalf("%q came", got)
	}
}
