//go:build race

package machine

import "sync"

// A Parker lets one goroutine sleep until another wakes it: a channel, which the
// race detector understands.
type Parker struct {
	once sync.Once
	c    chan struct{}
}

func (p *Parker) channel() chan struct{} {
	p.once.Do(func() { p.c = make(chan struct{}, 1) })
	return p.c
}

// Park sleeps until Wake, or takes the Wake that came before.
func (p *Parker) Park() { <-p.channel() }

// Wake ends the sleep of the goroutine in Park, or makes the next Park return at once.
func (p *Parker) Wake() {
	select {
	case p.channel() <- struct{}{}:
	default:
	}
}

// Drop forgets a Wake that nobody waited for.
func (p *Parker) Drop() {
	select {
	case <-p.channel():
	default:
	}
}
