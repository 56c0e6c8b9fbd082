package net

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Data for a program that is gone ends the connection on the goroutine that receives, which goes on to serve others.
func TestQuickReset(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module has no short way: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	a, b, _, _ := twoHosts(t)
	l := open(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
	at := formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), Port: 80})
	l.must(l.Ops().Bind(&l.caller, at))
	l.must(l.Ops().Listen(&l.caller, 5))
	for range 20 {
		c := open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
		l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
		s := l.accept()
		c.send([]byte("question"), 0, nil)
		if got := string(s.recv(100)); got != "question" {
			t.Fatalf("%q", got)
		}
		s.Ops().Close()
		if got := c.recv(100); len(got) != 0 {
			t.Fatalf("%q after the end", got)
		}
		c.send([]byte("another"), 0, nil)
		_ = c.until(unix.POLLERR|unix.POLLHUP, func() error { // until the reset is there
			if c.Ops().Poll()&(unix.POLLERR|unix.POLLHUP) == 0 {
				return unix.EAGAIN
			}
			return nil
		})
	}
}
