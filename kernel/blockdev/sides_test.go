package blockdev

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSides(t *testing.T) {
	var l sides
	// Any number of one side.
	l.enter(direct)
	l.enter(direct)
	in := make(chan side, 10)
	enter := func(s side) {
		go func() {
			l.enter(s)
			in <- s
		}()
		for waiting := false; !waiting; time.Sleep(time.Millisecond) {
			l.mu.Lock()
			waiting = l.waiting[s] > 0
			l.mu.Unlock()
		}
	}
	enter(cached)
	enter(direct) // comes after one who waits
	l.leave(direct)
	select {
	case s := <-in:
		t.Fatal("came in beside the other side:", s)
	case <-time.After(10 * time.Millisecond):
	}
	l.leave(direct)
	if s := <-in; s != cached {
		t.Error("the one who came first waits")
	}
	l.leave(cached)
	if s := <-in; s != direct {
		t.Error(s)
	}
	l.leave(direct)
	if l.in != [2]int{} || l.waiting != [2]int{} {
		t.Error(l.in, l.waiting)
	}
}

func TestSidesKeepOut(t *testing.T) {
	var l sides
	var inside [2]atomic.Int32
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			s := side(g % 2)
			for range 2000 {
				l.enter(s)
				inside[s].Add(1)
				if inside[1-s].Load() != 0 {
					t.Error("both sides are in")
				}
				inside[s].Add(-1)
				l.leave(s)
			}
		})
	}
	wg.Wait()
}
