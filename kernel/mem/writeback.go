package mem

import (
	"sync/atomic"
	"time"
)

// Bounds of dirty pages, as parts of the memory: above backgroundPart they are written at once instead of
// within flushPeriod, above limitPart who writes to a file waits until its own are written.
const (
	backgroundPart = 16
	limitPart      = 6
	flushPeriod    = 5 * time.Second
	throttleBatch  = 1024
)

// writeBack writes dirty pages of files when nobody asks for it, on a goroutine that lives as long as there are any.
type writeBack struct {
	dirty   atomic.Int64 // pages, of all caches
	limit   atomic.Int64 // limitPart of the memory in pages; 0: not known yet
	running atomic.Bool
	soon    atomic.Pointer[chan struct{}]
}

// Dirty returns the number of dirty pages of all files.
func (p *Pool) Dirty() int64 { return p.back.dirty.Load() }

// dirtied counts dirty pages; it is called with a Cache.mu held.
func (p *Pool) dirtied(n int64) {
	now := p.back.dirty.Add(n)
	if n < 0 {
		return
	}
	if !p.back.running.Load() && p.back.running.CompareAndSwap(false, true) {
		soon := make(chan struct{}, 1)
		p.back.soon.Store(&soon)
		go p.flusher(soon)
	}
	if now > p.dirtyLimit()*limitPart/backgroundPart {
		p.flushSoon()
	}
}

func (p *Pool) flushSoon() {
	if soon := p.back.soon.Load(); soon != nil {
		select {
		case *soon <- struct{}{}:
		default:
		}
	}
}

// dirtyLimit is the most dirty pages that writers may leave.
func (p *Pool) dirtyLimit() int64 {
	n := p.back.limit.Load()
	if n == 0 {
		total, _ := p.Usage()
		n = max(int64(total)/limitPart, 64)
		p.back.limit.Store(n)
	}
	return n
}

// throttle makes who writes to c write c's dirty pages while there are too many in all.
func (p *Pool) throttle(c *Cache) {
	if p.back.dirty.Load() > p.dirtyLimit() {
		c.writeBack(throttleBatch)
	}
}

// writeBack writes some dirty pages and keeps the error for the next Sync.
func (c *Cache) writeBack(most int) {
	if err := c.write(0, 1<<63, most); err != nil {
		c.mu.Lock()
		c.failed = err
		c.mu.Unlock()
	}
}

// flusher writes all dirty pages every flushPeriod, or when there are many, until there are none.
func (p *Pool) flusher(soon chan struct{}) {
	timer := time.NewTimer(flushPeriod)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-soon:
		}
		p.flush()
		timer.Reset(flushPeriod)
		if p.back.dirty.Load() <= 0 {
			p.back.running.Store(false)
			if p.back.dirty.Load() <= 0 || !p.back.running.CompareAndSwap(false, true) {
				return
			}
		}
	}
}

// flush writes the pages that are dirty now.
func (p *Pool) flush() {
	p.mu.Lock()
	var list []*Cache
	for _, c := range p.caches {
		if c.mu.TryLock() {
			if c.dirty > 0 {
				list = append(list, c)
			}
			c.mu.Unlock() // +checklocksforce: TryLock
		}
	}
	p.mu.Unlock()
	for _, c := range list {
		c.writeBack(int(min(c.Dirty(), 1<<30)))
	}
}
