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

// load is a run of pages on its way from the backing.
type load struct {
	done  chan struct{}
	first uint64
	n     int
	err   error // about the page first; valid when done is closed
}

// loadOf returns the load that brings the page at index, or nil. c.mu is held.
func (c *Cache) loadOf(index uint64) *load {
	for _, l := range c.loading {
		if index-l.first < uint64(l.n) {
			return l
		}
	}
	return nil
}

// load brings the page at index from the backing, or waits for whoever does; want is how many pages from index on will
// be needed. A nil error says only that trying again is worth while; a page that is behind the file's end by now, for another reader
// loaded the last or the file was cut, is not asked for: backings may rely on that.
func (c *Cache) load(index uint64, want int) error {
	c.mu.Lock()
	if index >= pagesOf(c.size) || c.pages.get(index) != machine.NoFrame {
		c.mu.Unlock()
		return nil
	}
	if l := c.loadOf(index); l != nil {
		c.mu.Unlock()
		<-l.done
		if l.first == index {
			return l.err
		}
		return nil
	}
	l := &load{done: make(chan struct{}), first: index, n: c.plan(index, want)}
	c.loading = append(c.loading, l)
	epoch := c.epoch
	c.mu.Unlock()

	frames, err := c.fetch(index, l.n)

	c.mu.Lock()
	c.loaded(l)
	if err == nil && epoch == c.epoch {
		err = c.insertRun(index, frames)
	}
	c.mu.Unlock()
	for _, f := range frames {
		c.release(f)
	}
	l.err = err
	close(l.done)
	return err
}

// LoadAt brings the page at index from the backing for a page fault, and as many behind it as a file that is read in order begins with:
// programs go on near by, and faultAround maps what is there. A nil error says only that trying again is worth while.
func (c *Cache) LoadAt(index uint64) error {
	want := firstAhead
	if _, free := c.pool.Usage(); free < leastFree {
		want = 1
	}
	return c.load(index, want)
}

// loaded takes l out of those under way. c.mu is held.
func (c *Cache) loaded(l *load) {
	last := len(c.loading) - 1
	for i, x := range c.loading {
		if x == l {
			c.loading[i] = c.loading[last]
		}
	}
	c.loading[last] = nil
	c.loading = c.loading[:last]
}

// insertRun puts frames at the pages from index on, as far as they are in the file and not there, taking over the references of those
// that it makes NoFrame. c.mu is held.
func (c *Cache) insertRun(index uint64, frames []machine.Frame) error {
	if end := pagesOf(c.size); index >= end {
		return nil
	} else if uint64(len(frames)) > end-index {
		frames = frames[:end-index]
	}
	for len(frames) > 0 {
		slots := c.pages.slots(index, len(frames))
		for i := range slots {
			if slots[i] != machine.NoFrame {
				continue
			}
			if c.charge != nil {
				if err := c.charge(1); err != nil {
					return err
				}
			}
			c.clearTail(index+uint64(i), frames[i])
			slots[i], frames[i] = frames[i], machine.NoFrame
			c.count++
		}
		index, frames = index+uint64(len(slots)), frames[len(slots):]
	}
	return nil
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
	if at, _, ok := c.pages.next(index + 1); ok {
		n = int(min(uint64(n), at-index))
	}
	for _, l := range c.loading {
		if l.first > index {
			n = int(min(uint64(n), l.first-index))
		}
	}
	a.next = index + uint64(n)
	a.mark = 0
	if a.window > 0 && n > 1 {
		a.mark = index + uint64(n)/2
	}
	return n
}

// reached reports whether loadAhead is to be called, for the n pages from index on are used. c.mu is held.
func (c *Cache) reached(index uint64, n int) bool {
	a := &c.ahead
	if a.mark == 0 || a.mark-index >= uint64(n) || a.ended {
		return false
	}
	a.mark = 0
	if a.next >= pagesOf(c.size) || c.pages.get(a.next) != machine.NoFrame {
		return false
	}
	a.loads.Add(1)
	return true
}

// loadAhead starts the next load.
func (c *Cache) loadAhead() {
	go func() {
		defer c.ahead.loads.Done()
		c.mu.Lock()
		next := c.ahead.next
		c.mu.Unlock()
		_ = c.load(next, 1) // who needs the page will see the error
	}()
}

// take gets up to n pages that are in memory already.
func (c *Cache) take(index uint64, n int) (frames []machine.Frame) {
	for i := range uint64(n) {
		f := c.inPlace.Frame(index + i)
		if f == machine.NoFrame {
			break
		}
		c.pool.setKind(f, c.kind)
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
	if c.ranged == nil {
		f, err := c.pool.Alloc() // zeroed: ReadPage may leave out what lies beyond the end
		if err != nil {
			return nil, err
		}
		c.pool.setKind(f, c.kind)
		return []machine.Frame{f}, c.backing.ReadPage(index, c.pool.Bytes(f))
	}
	frames := make([]machine.Frame, n)
	n, err := c.pool.allocRaw(frames, c.kind)
	if err != nil {
		return nil, err
	}
	frames = frames[:n]
	err = c.ranged.ReadPages(index, frames)
	if err != nil && len(frames) > 1 {
		for _, f := range frames[1:] {
			c.pool.Unref(f)
		}
		frames = frames[:1]
		err = c.ranged.ReadPages(index, frames)
	}
	return frames, err
}
