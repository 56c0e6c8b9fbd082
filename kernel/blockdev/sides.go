package blockdev

import "sync"

// A side is one of two kinds of users of a disk that keep each other out, but not among themselves.
type side int

const (
	cached side = iota // those who write to the page cache
	direct             // those who change the disk below it
)

// sides lets any number of one side in at a time. Who waits comes in before those of the other side who come later.
type sides struct {
	mu      sync.Mutex
	in      [2]int           // guarded by mu
	waiting [2]int           // guarded by mu
	gate    [2]chan struct{} // what those wait for; guarded by mu
}

// enter waits until the other side is out.
func (l *sides) enter(s side) {
	l.mu.Lock()
	other := 1 - s
	if l.in[other] == 0 && l.waiting[other] == 0 {
		l.in[s]++
		l.mu.Unlock()
		return
	}
	if l.waiting[s]++; l.waiting[s] == 1 {
		l.gate[s] = make(chan struct{})
	}
	gate := l.gate[s]
	l.mu.Unlock()
	<-gate
}

func (l *sides) leave(s side) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in[s]--; l.in[s] > 0 {
		return
	}
	for _, next := range [2]side{1 - s, s} {
		if n := l.waiting[next]; n > 0 {
			l.in[next], l.waiting[next] = n, 0
			close(l.gate[next])
			return
		}
	}
}
