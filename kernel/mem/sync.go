package mem

import "gosv/machine"

// Sync writes the dirty pages first to last to the backing (fsync(2), msync(2)). Writes through
// mappings that happen later make pages dirty again. It goes on after an error and returns
// the first; pages that could not be written stay dirty.
func (c *Cache) Sync(first, last uint64) error {
	if c.backing == nil {
		return nil
	}
	var failed error
	for index := first; index <= last; index++ {
		at, f := c.takeDirty(index, last)
		if f == machine.NoFrame {
			break
		}
		index = at
		// Clean first, then protected, then written: a write in between is
		// part of what is stored, and one after it faults.
		c.eachMapper(func(m Mapper) { m.WriteProtect(c, at, at) })
		if err := c.backing.WritePage(at, c.pool.Bytes(f)); err != nil {
			if failed == nil {
				failed = err
			}
			c.mu.Lock()
			if c.pages.get(at) == f {
				c.touch(at)
			}
			c.mu.Unlock()
		}
		c.pool.Unref(f)
	}
	return failed
}

// takeDirty makes the first dirty page of index..last clean and returns it with a
// reference, or NoFrame.
func (c *Cache) takeDirty(index, last uint64) (uint64, machine.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, f, ok := c.pages.nextDirty(index)
	if !ok || at > last {
		return 0, machine.NoFrame
	}
	c.pages.mark(at, false)
	c.dirty--
	c.clearTail(at, f)
	c.pool.Ref(f)
	return at, f
}

// reclaimBatch is how many pages are given up when memory runs out.
const reclaimBatch = 64

func (p *Pool) addCache(c *Cache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.place = len(p.caches)
	p.caches = append(p.caches, c)
}

func (p *Pool) removeCache(c *Cache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.caches) - 1
	if c.place > last || p.caches[c.place] != c {
		return // removed already
	}
	p.caches[c.place] = p.caches[last]
	p.caches[c.place].place = c.place
	p.caches[last] = nil
	p.caches = p.caches[:last]
}

// Reclaim gives up pages of files that their backing has too and nobody uses, about n of
// them, and returns how many. Caches whose lock is taken are passed over, so
// it may be called with any lock held.
func (p *Pool) Reclaim(n int) int {
	if !p.mu.TryLock() {
		return 0
	}
	defer p.mu.Unlock()
	done := 0
	for range p.caches {
		if done >= n {
			break
		}
		p.hand = (p.hand + 1) % len(p.caches)
		done += p.caches[p.hand].reclaim(n - done)
	}
	return done
}

// reclaim gives up to n clean pages up that only the cache holds.
func (c *Cache) reclaim(n int) (done int) {
	if !c.mu.TryLock() {
		return 0
	}
	defer c.mu.Unlock()
	for index := uint64(0); done < n; index++ {
		at, f, ok := c.pages.next(index)
		if !ok {
			break
		}
		index = at
		leaf := c.pages.leaf(at)
		if leaf.dirty&(1<<(at%fan)) == 0 && c.pool.Refs(f) == 1 {
			c.drop(at, f)
			done++
		}
	}
	return done
}
