package bare

import "testing"

// A handler that replaces itself while it runs is not called for what comes afterwards: an alarm was lost by that.
func TestHandlerReplaced(t *testing.T) {
	var in interrupts
	old, replaced := 0, 0
	in.setHandler(0, func() {
		if old++; old > 1 {
			return
		}
		in.setHandler(0, func() { replaced++ })
		in.handlers[0].run() // an interrupt meanwhile, seen elsewhere
	})
	in.handlers[0].run()
	if old != 1 || replaced != 1 {
		t.Errorf("the old handler ran %d times, the new one %d times", old, replaced)
	}
}
