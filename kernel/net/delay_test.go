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
	// Frames of rounds after which no acknowledgement was late: a loaded machine lets some wait too long.
	const quick, rounds = 15 * time.Millisecond, 200
	seen, frames, late := 0, int32(0), true
	last := time.Now()
	for end := last.Add(time.Minute); seen < rounds && time.Now().Before(end); {
		before := asked.Load() + answered.Load()
		c.send([]byte("question"), 0, nil)
		if got := string(s.recv(100)); got != "question" {
			t.Fatalf("%q", got)
		}
		s.send([]byte("answer"), 0, nil)
		if got := string(c.recv(100)); got != "answer" {
			t.Fatalf("%q", got)
		}
		now, wasLate := time.Now(), late
		if late = now.Sub(last) > quick; !late && !wasLate {
			seen++
			frames += asked.Load() + answered.Load() - before
		}
		last = now
	}
	if seen < rounds/10 || frames > int32(seen*5/2) {
		t.Errorf("%d frames for %d rounds", frames, seen)
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
