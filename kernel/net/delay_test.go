package net

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// counting counts the frames that a wire sends.
func counting(w *wire) *atomic.Int32 {
	var n atomic.Int32
	count := func([]byte) bool { n.Add(1); return false }
	w.lose.Store(&count)
	return &n
}

// An answer carries the acknowledgement of its question; a question that is not answered is acknowledged nevertheless.
func TestDelayedAcknowledgement(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module acknowledges at once: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	a, b, wa, wb := twoHosts(t)
	l := open(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
	at := formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), Port: 80})
	l.must(l.Ops().Bind(&l.caller, at))
	l.must(l.Ops().Listen(&l.caller, 5))
	c := open(t, a, unix.AF_INET, unix.SOCK_STREAM, 0)
	l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
	s := l.accept()
	asked, answered := counting(wa), counting(wb)
	const rounds = 200
	for range rounds {
		c.send([]byte("question"), 0, nil)
		if got := string(s.recv(100)); got != "question" {
			t.Fatalf("%q", got)
		}
		s.send([]byte("answer"), 0, nil)
		if got := string(c.recv(100)); got != "answer" {
			t.Fatalf("%q", got)
		}
	}
	// Most of the time: a loaded machine lets some wait too long.
	if q, r := asked.Load(), answered.Load(); q > rounds*3/2 || r > rounds*3/2 {
		t.Errorf("%d and %d frames for %d rounds", q, r, rounds)
	}
	before := answered.Load()
	begin := time.Now()
	c.send([]byte("question"), 0, nil)
	for answered.Load() == before && time.Since(begin) < 10*time.Second {
		time.Sleep(time.Millisecond)
	}
	if d := time.Since(begin); answered.Load() == before || d < 30*time.Millisecond {
		t.Errorf("the acknowledgement took %v; %d frames", d, answered.Load()-before)
	}
}
