package mem

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A promise of far more pages than the machine has fails before a list of them fills the kernel's memory.
func TestPromiseTooMuch(t *testing.T) {
	_, p := newPool(t, 2048)
	c := NewHuge(p)
	defer c.Release()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Promise(0, 1<<38); err != unix.ENOMEM {
		t.Errorf("Promise: %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("it took %d bytes", n)
	}
}
