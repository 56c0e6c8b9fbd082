package net

import (
	"os"
	"sync/atomic"
	"testing"
	"time"
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
	l, at := serving(t, b)
	c, s := l.meet(a, at)
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
