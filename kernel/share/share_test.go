package share

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// reset forgets the bounds at the test's end.
func reset(t *testing.T) {
	t.Cleanup(func() {
		for _, s := range append(shares, &all, Sockets, Pages) {
			s.most.Store(0)
			if s.used.Load() != 0 {
				t.Errorf("%d bytes are left", s.used.Load())
			}
		}
	})
}

func TestShare(t *testing.T) {
	reset(t)
	s := Datagrams
	if !s.Take(1 << 40) {
		t.Error("a bound before the memory is known")
	}
	s.Give(1 << 40)
	SetMemory(32 << 20)
	if s.Most() != 4<<20 || !s.Take(4<<20) || s.Take(1) || s.Used() != 4<<20 {
		t.Errorf("%d of %d", s.Used(), s.Most())
	}
	// All together have a quarter.
	if !Unix.Take(4<<20) || Locks.Take(1) || Locks.Used() != 0 {
		t.Error("no more than a quarter in sum")
	}
	s.Give(4 << 20)
	if !Locks.Take(1) {
		t.Error("what was given back is not there")
	}
	Locks.Give(1)
	Unix.Give(4 << 20)
	SetPages(32 << 20)
	if got := Pages.Most(); got != 16<<20 {
		t.Errorf("half of a small machine: %d", got)
	}
	SetPages(1 << 30)
	if got := Pages.Most(); got != 768<<20 {
		t.Errorf("three quarters of a large one: %d", got)
	}
}

func TestConcurrent(t *testing.T) {
	reset(t)
	SetMemory(8 << 20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if Locks.Take(40 << 10) {
					if n := Locks.Used(); n > 9*(40<<10)+Locks.Most() {
						t.Errorf("%d bytes of %d", n, Locks.Most())
					}
					Locks.Give(40 << 10)
				}
			}
		})
	}
	wg.Wait()
}

// TestCollected: what the collector finds is given back, and looked for before somebody is refused.
func TestCollected(t *testing.T) {
	reset(t)
	SetMemory(64 << 10)
	type object [100]byte
	kept := new(object)
	for i := range 40 {
		if !Groups.TakeCollected(20 << 10) {
			t.Fatalf("no room for number %d", i)
		}
		o := new(object)
		Collected(Groups, o, 20<<10)
		if i == 0 {
			kept = o
		}
	}
	runtime.KeepAlive(kept)
	kept = nil
	for end := time.Now().Add(time.Minute); Groups.Used() != 0 && time.Now().Before(end); {
		runtime.GC()
		runtime.Gosched()
	}
}
