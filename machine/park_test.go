package machine

import (
	"sync"
	"testing"
	"time"
)

func TestParker(t *testing.T) {
	var a, b Parker
	a.Wake()
	a.Wake()
	a.Park() // the two were one
	done := make(chan bool)
	go func() {
		a.Park()
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("woken by nobody")
	case <-time.After(20 * time.Millisecond):
	}
	a.Wake()
	<-done
	b.Wake()
	b.Drop()
	n := 0
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		for range 100000 {
			a.Park()
			n++
			b.Wake()
		}
	}()
	go func() {
		defer wg.Done()
		for range 100000 {
			a.Wake()
			b.Park()
		}
	}()
	wg.Wait()
	if n != 100000 {
		t.Fatal(n)
	}
}

func BenchmarkParker(b *testing.B) {
	var p, q Parker
	go func() {
		for range b.N {
			p.Park()
			q.Wake()
		}
	}()
	for range b.N {
		p.Wake()
		q.Park()
	}
}
