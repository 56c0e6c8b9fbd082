package task

import "testing"

// TestSample: what calls are said to have taken is never more than was used since the last measured call.
func TestSample(t *testing.T) {
	var u usage
	for _, c := range []struct{ before, after, want uint64 }{
		{1000, 1010, 640},          // a short one among short ones
		{2000, 2900, 640 + 1890},   // a long one: all of the time since
		{9000, 9001, 640 + 1954},   // and a short one again
		{9010, 9011, 640 + 1964},   // right behind it
		{9011, 9011, 640 + 1964},   // no time at all
		{19011, 19021, 640 + 2604}, // ten ticks for each
	} {
		u.sample(c.before, c.after)
		if got := u.system.Load(); got != c.want {
			t.Errorf("after the call from %d to %d: %d, not %d", c.before, c.after, got, c.want)
		}
	}
}
