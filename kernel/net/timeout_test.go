package net

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gosv/kernel/socket"
)

// needKernelStack skips a test of what only the kernel's netstack does.
func needKernelStack(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("`make test-host` runs this with the netstack of the kernel (scripts/netstack)")
	}
}

func (f *fd) set(level, name, v int) {
	f.t.Helper()
	f.must(f.SetOption(&f.caller, level, name, socket.Int(v)))
}

// cut makes all that a wire sends get lost.
func (w *wire) cutOff() {
	lost := func([]byte) bool { return true }
	w.lose.Store(&lost)
}

// A connection whose other end is silent ends when its options say so: not before, and long before it would without them.
func TestTimeouts(t *testing.T) {
	needKernelStack(t)
	for _, test := range []struct {
		name    string
		connect bool // what is tried is to connect, of all others to go on
		options func(c *fd)
		send    string
		least   time.Duration
	}{
		{"TCP_USER_TIMEOUT", false, func(c *fd) { c.set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 900) }, "lost", 900 * time.Millisecond},
		{"keep-alive", false, func(c *fd) {
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1)
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1)
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 2)
			c.set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		}, "", 3 * time.Second},
		{"keep-alive with TCP_USER_TIMEOUT", false, func(c *fd) { // which counts in place of TCP_KEEPCNT
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 1)
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1)
			c.set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 1)
			c.set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 2500)
			c.set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		}, "", 2500 * time.Millisecond},
		{"TCP_SYNCNT", true, func(c *fd) { c.set(unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1) }, "", 3 * time.Second},
		{"TCP_USER_TIMEOUT of connect", true, func(c *fd) { c.set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1500) }, "", 1500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b, _, wb := twoHosts(t)
			l, at := serving(t, b)
			c, _ := l.meet(a, at) // and so the two know each other's link addresses
			if test.connect {
				c = open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
			}
			began := time.Now() // keep-alive begins with its option
			test.options(c)
			wb.cutOff()
			var err error
			if test.connect {
				err = c.until(writable, func() error { return c.Ops().Connect(&c.caller, at) })
			} else {
				if test.send != "" {
					c.send([]byte(test.send), 0, nil)
				}
				err = c.until(readable, func() error { return c.receive(make([]byte, 1)) })
			}
			if took := time.Since(began); err != unix.ETIMEDOUT || took < test.least {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

// TCP_LINGER2 says how long a socket that was closed waits for the other end's end.
func TestLinger2(t *testing.T) {
	needKernelStack(t)
	t.Parallel()
	a, b, _, _ := twoHosts(t)
	l, at := serving(t, b)
	c, s := l.meet(a, at)
	c.set(unix.IPPROTO_TCP, unix.TCP_LINGER2, 3) // long enough to be seen
	c.close()
	c.enter(tcp.StateFinWait2)
	c.enter(tcp.StateClose)
	s.send([]byte("late"), 0, nil)
	l.must(s.until(anything, func() error {
		if s.Ops().Poll()&unix.EPOLLERR == 0 {
			return unix.EAGAIN
		}
		return nil
	}))
	if err := s.TakeError(); err != unix.EPIPE {
		t.Errorf("%v from who has forgotten the connection", err)
	}
}
