package net

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Data for a program that is gone ends the connection on the goroutine that receives, which goes on to serve others.
func TestQuickReset(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module has no short way: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	a, b, _, _ := twoHosts(t)
	l, at := serving(t, b)
	for range 20 {
		c, s := l.meet(a, at)
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
