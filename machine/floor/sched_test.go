package floor

import (
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// outside returns n zeroed bytes that are not Go's, as all memory of the floor.
func outside(t *testing.T, n int) uint64 {
	t.Helper()
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(b) })
	return addr(unsafe.Pointer(&b[0]))
}

// TestArmWaitsForTheHeap has a CPU arm its timer while another takes a thread out of its heap of deadlines, and is
// half-way through: the last deadline stands where the first belongs. A timer set for that one would be late for all others.
func TestArmWaitsForTheHeap(t *testing.T) {
	c := cpuAt(outside(t, int(unsafe.Sizeof(cpu{}))))
	old := apicBase
	apicBase = outside(t, 4096)
	defer func() { apicBase = old }()
	begin := now()
	expires := []uint64{begin + 1e12, begin + 2e12, begin + 3e12}
	for i, at := range expires {
		id := uint32(i + 1)
		threads[id] = outside(t, 4096)
		byID(id).id = id
		heapAdd(c, byID(id), at)
	}
	idle := threadAt(outside(t, 4096))
	idle.state = threadIdle

	lock(c, &c.lock)
	byID(c.heap[0]).heapAt = 0
	c.timers--
	heapSet(c, 0, c.heap[c.timers])
	armed := make(chan bool)
	go func() {
		c.arm(idle)
		close(armed)
	}()
	select {
	case <-armed:
	case <-time.After(50 * time.Millisecond):
	}
	heapDown(c, 0)
	unlock(&c.lock)
	<-armed
	if c.armed == 0 || c.armed > expires[1] {
		t.Errorf("armed for %d ms, with a deadline in %d", int64(c.armed-begin)/1e6, int64(expires[1]-begin)/1e6)
	}
}
