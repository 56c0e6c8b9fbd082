package mem

import (
	"sync"

	"gosv/machine"
)

// Read-ahead, in pages: a file that is read in order is read in pieces that double from firstAhead to maxAhead, the
// next of them while the one before is used.
const (
	firstAhead = 16
	maxAhead   = 256
	// leastFree is how many frames must be free for reading ahead.
	leastFree = 2048
)

// readAhead is where the file has been read to. Cache.mu guards it.
type readAhead struct {
	next   uint64 // the page behind the last that was loaded
	window int    // how many were loaded
	mark   uint64 // the page whose use starts the next load; 0: none
	// loads counts those under way that nobody waits for; no more are started when ended.
	loads sync.WaitGroup
	ended bool
}

// load brings the page at index from the backing, or waits for whoever does; want is how many pages from index on will
// be needed. A nil error says only that trying again is worth while.
func (c *Cache) load(index uint64, want int) error {
	c.mu.Lock()
	if c.pages.get(index) != machine.NoFrame {
		c.mu.Unlock()
		return nil
	}
	if l := c.loading[index]; l != nil {
		c.mu.Unlock()
		<-l.done
		if l.first == index {
			return l.err
		}
		return nil
	}
	n := c.plan(index, want)
	l := &load{done: make(chan struct{}), first: index}
	if c.loading == nil {
		c.loading = map[uint64]*load{}
	}
	for i := range n {
		c.loading[index+uint64(i)] = l
	}
	epoch := c.epoch
	c.mu.Unlock()

	frames, err := c.fetch(index, n)

	c.mu.Lock()
	for i := range n {
		delete(c.loading, index+uint64(i))
	}
	for i, f := range frames {
		at := index + uint64(i)
		if err == nil && epoch == c.epoch && at < pagesOf(c.size) && c.pages.get(at) == machine.NoFrame {
			c.clearTail(at, f)
			if err = c.insert(at, f); err == nil {
				frames[i] = machine.NoFrame
			}
		}
	}
	c.mu.Unlock()
	for _, f := range frames {
		c.release(f)
	}
	l.err = err
	close(l.done)
	return err
}

// plan decides how many pages from index on to load: as far as they are in the file and not there. c.mu is held.
func (c *Cache) plan(index uint64, want int) int {
	if c.ranged == nil && c.inPlace == nil {
		return 1
	}
	a := &c.ahead
	if index == a.next || index == 0 {
		a.window = min(max(2*a.window, firstAhead), maxAhead)
	} else {
		a.window = 0
	}
	n := min(max(want, a.window, 1), maxAhead)
	if n > 1 {
		if _, free := c.pool.Usage(); free < leastFree {
			n = min(want, firstAhead)
		}
	}
	n = int(min(uint64(max(n, 1)), max(pagesOf(c.size), index+1)-index))
	for i := 1; i < n; i++ {
		at := index + uint64(i)
		if c.loading[at] != nil || c.pages.get(at) != machine.NoFrame {
			n = i
			break
		}
	}
	a.next = index + uint64(n)
	a.mark = 0
	if a.window > 0 && n > 1 {
		a.mark = index + uint64(n)/2
	}
	return n
}

// reached starts the next load when the page at index is the one to start it at. c.mu is held.
func (c *Cache) reached(index uint64) {
	if index != c.ahead.mark || index == 0 || c.ahead.ended {
		return
	}
	c.ahead.mark = 0
	next := c.ahead.next
	if next < pagesOf(c.size) && c.pages.get(next) == machine.NoFrame {
		c.ahead.loads.Go(func() { _ = c.load(next, 1) }) // who needs the page will see the error
	}
}

// take gets up to n pages that are in memory already.
func (c *Cache) take(index uint64, n int) (frames []machine.Frame) {
	for i := range uint64(n) {
		f := c.inPlace.Frame(index + i)
		if f == machine.NoFrame {
			break
		}
		frames = append(frames, f)
	}
	return frames
}

// fetch reads up to n pages. When several cannot be read, it tries the first alone.
func (c *Cache) fetch(index uint64, n int) ([]machine.Frame, error) {
	if c.inPlace != nil {
		if frames := c.take(index, n); len(frames) > 0 {
			return frames, nil
		}
		if c.ranged == nil {
			n = 1
		}
	}
	var few [firstAhead]machine.Frame
	frames := few[:0:firstAhead]
	if n > firstAhead {
		frames = make([]machine.Frame, 0, n)
	}
	for range n {
		f, err := c.pool.Alloc()
		if err != nil {
			if len(frames) == 0 {
				return nil, err
			}
			break
		}
		frames = append(frames, f)
	}
	if c.ranged == nil {
		return frames, c.backing.ReadPage(index, c.pool.Bytes(frames[0]))
	}
	err := c.ranged.ReadPages(index, frames)
	if err != nil && len(frames) > 1 {
		for _, f := range frames[1:] {
			c.pool.Unref(f)
		}
		frames = frames[:1]
		err = c.ranged.ReadPages(index, frames)
	}
	return frames, err
}
