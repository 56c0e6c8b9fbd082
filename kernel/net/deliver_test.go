package net

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What was written before a connection was closed arrives before the machine ends, also when frames get lost.
func TestDeliver(t *testing.T) {
	a, b, wa, wb := twoHosts(t)
	bad(wa, 7, 0.1, 0, 0)
	l := open(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
	at := inet4(10, 0, 0, 2, 80)
	l.must(l.Ops().Bind(&l.caller, at))
	l.must(l.Ops().Listen(&l.caller, 5))
	c := open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
	s := l.accept()
	const n = 40000
	c.send(make([]byte, n), 0, nil)
	c.close()
	a.Release()
	if !wa.drained.Load() {
		t.Error("nobody waited for the device")
	}
	bad(wa, 7, 1, 0, 0)
	bad(wb, 7, 1, 0, 0)
	got := 0
	for {
		b := s.recv(30000)
		if len(b) == 0 {
			break
		}
		got += len(b)
	}
	if got != n {
		t.Errorf("%d of %d bytes came before the end", got, n)
	}
}
