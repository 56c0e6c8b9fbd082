package mem

import (
	"math"

	"gosv/machine"
)

// syncBatch is the most pages that a RangeBacking is given to write at a time.
const syncBatch = 256

// Sync writes the dirty pages first to last to the backing (fsync(2), msync(2)), and waits for those that are
// being written. Writes through mappings that happen later make pages dirty again. It goes on after an error and returns
// the first, or that of an earlier write that nobody was told of; pages that could not be written stay dirty.
func (c *Cache) Sync(first, last uint64) error {
	if c.backing == nil {
		return nil
	}
	err := c.write(first, last, math.MaxInt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.failed
	}
	c.failed = nil
	return err
}

// write writes the dirty pages first to last, at most so many.
func (c *Cache) write(first, last uint64, most int) error {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	var failed error
	var batch [syncBatch]machine.Frame
	limit := 1
	if c.ranged != nil {
		limit = syncBatch
	}
	for index := first; index <= last && most > 0; {
		at, n := c.takeDirty(index, last, batch[:min(limit, most)])
		if n == 0 {
			break
		}
		// Clean first, then protected, then written: a write in between is
		// part of what is stored, and one after it faults.
		c.EachMapper(func(m Mapper) { m.WriteProtect(c, at, at+uint64(n)-1) })
		if err := c.store(at, batch[:n]); err != nil {
			if failed == nil {
				failed = err
			}
			c.redirty(at, batch[:n])
		}
		for _, f := range batch[:n] {
			c.pool.Unref(f)
		}
		most -= n
		index = at + uint64(n)
		if index == 0 {
			break
		}
	}
	return failed
}

func (c *Cache) store(at uint64, frames []machine.Frame) error {
	if c.ranged != nil {
		return c.ranged.WritePages(at, frames)
	}
	return c.backing.WritePage(at, c.pool.Bytes(frames[0]))
}

// redirty marks pages that could not be written.
func (c *Cache) redirty(at uint64, frames []machine.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range frames {
		if c.pages.get(at+uint64(i)) == f {
			c.touch(at + uint64(i))
		}
	}
}

// takeDirty makes the first dirty page of index..last and its dirty neighbours clean and returns how
// many there are, in batch with a reference each.
func (c *Cache) takeDirty(index, last uint64, batch []machine.Frame) (at uint64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirty == 0 {
		return 0, 0
	}
	at, f, ok := c.pages.nextDirty(index)
	for ok && n < len(batch) && at+uint64(n) <= last {
		c.pages.mark(at+uint64(n), false)
		c.dirty--
		c.pool.dirtied(-1)
		c.clearTail(at+uint64(n), f)
		c.pool.Ref(f)
		batch[n] = f
		n++
		if f = c.pages.get(at + uint64(n)); f == machine.NoFrame {
			break
		}
		leaf := c.pages.leaf(at + uint64(n))
		ok = leaf.dirty&(1<<((at+uint64(n))%fan)) != 0
	}
	return at, n
}

// Drop gives up the clean pages first to last that nobody uses, so that they will be read again.
func (c *Cache) Drop(first, last uint64) {
	if c.backing == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for index := first; ; index++ {
		at, f, ok := c.pages.next(index)
		if !ok || at > last {
			return
		}
		index = at
		if leaf := c.pages.leaf(at); leaf.dirty&(1<<(at%fan)) == 0 && c.pool.Refs(f) == 1 {
			c.drop(at, f)
		}
		if index == last {
			return
		}
	}
}

// reclaimBatch is how many pages are given up when memory runs out.
const reclaimBatch = 64

// reclaimTries is how often Alloc gives pages up for one frame.
const reclaimTries = 16

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
// them, and returns how many. Caches whose lock is taken are passed over, and nobody waits for a lock of another
// kind with the pool's, so it may be called with any lock but that one held.
func (p *Pool) Reclaim(n int) int {
	p.mu.Lock()
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
	defer c.mu.Unlock() // +checklocksforce: TryLock
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
