package mem

import (
	"math"

	"gosv/machine"
)

// The methods here are for backings that others change too, and that hear of writes before the cache does: those
// of network file systems.

// Invalidate gives up all pages that are not dirty, and unmaps them everywhere: somebody changed what the backing has. The copies that
// private mappings made stay.
func (c *Cache) Invalidate() {
	c.mu.Lock()
	c.epoch++
	empty := c.count == 0
	c.mu.Unlock()
	if empty {
		return
	}
	c.EachMapper(func(m Mapper) { m.Unmap(c, 0, math.MaxUint64, false) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for index := uint64(0); ; index++ {
		at, f, ok := c.pages.next(index)
		if !ok {
			return
		}
		index = at
		// A page that was mapped again meanwhile is one that the backing has just now.
		if leaf := c.pages.leaf(at); leaf.dirty&(1<<(at%fan)) == 0 && c.pool.Refs(f) == 1 {
			c.drop(at, f)
		}
	}
}

// HoldSync waits for pages that are being written to the backing and keeps others from being written until ReleaseSync: while the caller
// changes the backing by itself and then tells the cache, no older page can overtake the change.
//
// +checklocksignore
func (c *Cache) HoldSync() { c.syncing.Lock() }

// ReleaseSync ends what HoldSync began.
//
// +checklocksignore
func (c *Cache) ReleaseSync() { c.syncing.Unlock() }

// Resize is Truncate for a backing that has the new size already: nothing is read or made dirty. The caller sees to it that there is one
// at a time.
func (c *Cache) Resize(size int64) {
	c.mu.Lock()
	shrink := size < c.size
	if size != c.size {
		c.size = size
		c.epoch++
	}
	c.mu.Unlock()
	if !shrink {
		return
	}
	first := pagesOf(size)
	c.EachMapper(func(m Mapper) { m.Unmap(c, first, math.MaxUint64, true) })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropRange(first, math.MaxUint64)
	if size%machine.PageSize == 0 {
		return
	}
	if f := c.pages.get(first - 1); f != machine.NoFrame {
		c.clearTail(first-1, f)
	}
}

// Clear records that the backing has a hole, or zeros, in the n bytes from off on: pages in memory are changed.
func (c *Cache) Clear(off, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++ // what is being read may be older
	for index := uint64(off) / machine.PageSize; ; index++ {
		at, f, ok := c.pages.next(index)
		start := int64(at) * machine.PageSize
		if !ok || start >= off+n {
			return
		}
		index = at
		clear(c.pool.Bytes(f)[max(off-start, 0):min(off+n-start, machine.PageSize)])
	}
}

// Store records what was written to the backing: n bytes from off on, which stand in frames, the first at its place in the
// page that off is in. Pages in memory are changed; with keep, frames that hold whole pages, or all up to the
// end of the file, become pages where there is none. The file grows if it must.
func (c *Cache) Store(off int64, n int, frames []machine.Frame, keep bool) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++ // what is being read may be older
	end := off + int64(n)
	c.size = max(c.size, end)
	for i, f := range frames {
		index := uint64(off)/machine.PageSize + uint64(i)
		start := int64(index) * machine.PageSize
		from, to := max(off, start), min(end, start+machine.PageSize)
		if from >= to {
			break
		}
		page := c.pages.get(index)
		switch {
		case page == f:
		case page != machine.NoFrame:
			copy(c.pool.Bytes(page)[from-start:to-start], c.pool.Bytes(f)[from-start:])
		case keep && from == start && (to == start+machine.PageSize || to == c.size):
			c.clearTail(index, f)
			c.pool.Ref(f)
			if c.insert(index, f) != nil {
				c.pool.Unref(f)
			}
		}
	}
}
