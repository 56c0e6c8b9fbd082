package wait

// A Bell is the Waiter of a goroutine that is no task: it waits by receiving.
// Rings are not counted; one that comes early is kept.
type Bell chan struct{}

// NewBell returns a Bell that has not been rung.
func NewBell() Bell { return make(Bell, 1) }

// Ready implements Waiter.
func (b Bell) Ready(*Entry, Mask) { b.Ring() }

// Ring wakes the goroutine. It does not block.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
