package task

import (
	"testing"

	"gosv/machine"
	"gosv/machine/fake"
)

// TestShared: threads that are kept from the processor while they are in the kernel, which they do not notice, use no time together
// that there was not.
func TestShared(t *testing.T) {
	m := fake.ForTest(t, fake.Config{Enter: func(*machine.Context, machine.Space) machine.Trap { return machine.Syscall }})
	k := &Kernel{}
	k.Machine = m
	var tasks [4]Task
	for i := range tasks {
		c, err := m.NewContext()
		if err != nil {
			t.Fatal(err)
		}
		tasks[i] = Task{k: k, cpu: m, Ctx: c}
	}
	const rounds, slice = 100, 10
	for round := range rounds {
		for i := range tasks {
			u := &tasks[i]
			if round == 0 {
				u.begin()
			}
			m.Advance(slice - 1)
			u.claim()    // as after every so many calls
			m.Advance(1) // then it is kept from the processor
		}
	}
	sum := int64(0)
	for i := range tasks {
		used := tasks[i].cpuTime()
		sum += used
		if used < rounds*slice-slice || used > rounds*slice+slice {
			t.Errorf("thread %d used %d of %d", i, used, rounds*slice)
		}
	}
	if had := m.Monotonic(); sum > had {
		t.Errorf("%d were used of %d", sum, had)
	}
	tasks[0].waits()
	m.Advance(50)
	tasks[0].begin()
	before := tasks[0].cpuTime()
	m.Advance(7)
	if tasks[0].claim(); tasks[0].cpuTime() != before+7 {
		t.Errorf("%d after a wait, not 7", tasks[0].cpuTime()-before)
	}
}

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
