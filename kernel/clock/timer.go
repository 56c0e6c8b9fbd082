package clock

// A Timer calls a function once at a chosen moment. It may be set again, also by its function.
// Its user may embed it; Init comes before all else.
type Timer struct {
	c     *Clock
	f     func()
	when  int64 // guarded by c.mu
	index int   // place in its heap + 1, 0 when not set; guarded by c.mu
	wall  bool  // on the heap of wall time; guarded by c.mu
}

// Init prepares t to call f, on the interrupt goroutine: f must not block.
func (t *Timer) Init(c *Clock, f func()) { t.c, t.f = c, f }

// NewTimer returns a timer that was initialised.
func (c *Clock) NewTimer(f func()) *Timer {
	t := new(Timer)
	t.Init(c, f)
	return t
}

// Set has the function called at or after the monotonic time when, in place
// of the moment set before. A moment that is past calls it soon.
func (t *Timer) Set(when int64) { t.set(when, false) }

// SetWall is Set with a moment of wall time: it moves when the wall clock is set.
func (t *Timer) SetWall(when int64) { t.set(when, true) }

func (t *Timer) set(when int64, wall bool) {
	c := t.c
	c.mu.Lock()
	t.unlink()
	t.when, t.wall = max(when, 1), wall
	h := &c.mono
	if wall {
		h = &c.wall
	}
	h.push(t)
	if t.index == 1 {
		c.rearm()
	}
	c.mu.Unlock()
}

// Stop cancels what was set and reports whether there was something: if not,
// the function has been called, may be running, or was never asked for.
func (t *Timer) Stop() bool {
	c := t.c
	if c == nil {
		return false
	}
	c.mu.Lock()
	was := t.unlink()
	c.mu.Unlock()
	return was
}

// When returns the moment that t is set to, 0 when it is not set; wall says in which time.
func (t *Timer) When() (when int64, wall bool) {
	c := t.c
	if c == nil {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.index == 0 {
		return 0, false
	}
	return t.when, t.wall
}

// unlink takes t off its heap. c.mu is held.
func (t *Timer) unlink() bool {
	if t.index == 0 {
		return false
	}
	if t.wall {
		t.c.wall.remove(t.index - 1)
	} else {
		t.c.mono.remove(t.index - 1)
	}
	return true
}

// heap is a binary heap of timers, the earliest first, which know their places.
type heap []*Timer

func (h *heap) push(t *Timer) {
	*h = append(*h, t)
	h.up(len(*h) - 1)
}

func (h *heap) remove(i int) *Timer {
	s := *h
	t, last := s[i], len(s)-1
	s[i] = s[last]
	s[last] = nil
	*h = s[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
	t.index = 0
	return t
}

func (h heap) up(i int) {
	t := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].when <= t.when {
			break
		}
		h[i] = h[parent]
		h[i].index = i + 1
		i = parent
	}
	h[i] = t
	t.index = i + 1
}

func (h heap) down(i int) {
	t := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].when < h[child].when {
			child++
		}
		if t.when <= h[child].when {
			break
		}
		h[i] = h[child]
		h[i].index = i + 1
		i = child
	}
	h[i] = t
	t.index = i + 1
}
