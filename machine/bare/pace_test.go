package bare

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	if newPace(128<<20) != nil {
		t.Error("the runtime's own rule is as good for 128 MiB")
	}
	for _, c := range []struct {
		memory, live uint64
		percent      int
	}{
		{512 << 20, 0, 400},
		{512 << 20, 2 << 20, 400}, // of 4 MiB, which is the least
		{512 << 20, 8 << 20, 200},
		{512 << 20, 16 << 20, 100},
		{512 << 20, 1 << 30, 100},
		{64 << 30, 0, 800},
		{64 << 30, 64 << 20, 100},
	} {
		if got := newPace(c.memory).percentFor(c.live); got != c.percent {
			t.Errorf("memory %d, alive %d: %d percent, want %d", c.memory, c.live, got, c.percent)
		}
	}
}

// TestPaceFollows: each cycle of the collector sets the percentage anew.
func TestPaceFollows(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	runtime.SetFinalizer(newPace(1<<40), (*pace).cycle)
	alive := make([]byte, 128<<20)
	settles(t, 100)
	runtime.KeepAlive(alive)
	alive = nil
	settles(t, 800)
}

// settles waits until the percentage that holds is want.
func settles(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		got := debug.SetGCPercent(-1)
		debug.SetGCPercent(got)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d percent, want %d", got, want)
		}
	}
}
