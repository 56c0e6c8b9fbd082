package task

import (
	"math/rand/v2"
	"testing"

	"gosv/kernel/clock"
	"gosv/kernel/futex"
	"gosv/machine"
	"gosv/machine/fake"
)

// kicked is a processor whose programs notice a Kick some time later.
type kicked struct{ machine.CPU }

func (kicked) Kick(*machine.Context) {}

func (kicked) Inside(*machine.Context) bool { return false }

// turnsWorld drives turns by hand: the test is the goroutines of the tasks and the clock.
type turnsWorld struct {
	t     *testing.T
	m     *fake.Machine
	s     *turns
	tasks []*Task
	ran   map[*Task]int64 // ns in ring 3
	sleep map[*Task]bool
}

func newTurnsWorld(t *testing.T, cpus int) *turnsWorld {
	m := fake.ForTest(t, fake.Config{Frames: 64, CPUs: cpus})
	k := &Kernel{Config: Config{Machine: m, Clock: clock.New(m)}, Futex: futex.New()}
	k.turns.init(k)
	k.turns.active.Store(true)
	return &turnsWorld{t: t, m: m, s: &k.turns, ran: map[*Task]int64{}, sleep: map[*Task]bool{}}
}

func (w *turnsWorld) add(policy, priority, nice int32, mask uint64) *Task {
	t := &Task{k: w.s.k, cpu: kicked{}, Ctx: new(machine.Context)}
	t.sched = sched{policy: policy, priority: priority, nice: nice, affinity: CPUSet{mask}}
	w.s.enter(t)
	w.tasks = append(w.tasks, t)
	return t
}

// step lets a millisecond pass: who has a slot runs, and who was asked comes by with the given probability.
func (w *turnsWorld) step(comes func() bool) {
	for _, t := range w.tasks {
		if !w.sleep[t] && t.flags.Load()&workTurn != 0 && comes() {
			w.s.arrive(t)
		}
	}
	w.check()
	for _, t := range w.tasks {
		if t.turn.held.Load() && !w.sleep[t] {
			w.ran[t] += 1e6
			t.turn.seen.Store(true)
		}
	}
	w.m.Advance(1e6)
}

// check checks what must always hold.
func (w *turnsWorld) check() {
	w.t.Helper()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	held := map[*Task]bool{}
	for i := range w.s.slots {
		if t := w.s.slots[i].task; t != nil {
			if held[t] || t.turn.slot != i || !t.turn.held.Load() || t.turn.queued.Load() || t.turn.gone {
				w.t.Fatalf("slot %d has a task that does not have it", i)
			}
			held[t] = true
		}
	}
	for _, t := range w.tasks {
		if t.turn.held.Load() != held[t] {
			w.t.Fatal("a task has a slot that is not its own")
		}
		if !held[t] && t.flags.Load()&workTurn == 0 {
			w.t.Fatal("a task may run without a slot")
		}
	}
	for _, t := range w.s.queue {
		if held[t] || !t.turn.queued.Load() {
			w.t.Fatal("who waits has a slot")
		}
		if i := w.s.freeFor(t); i >= 0 {
			w.t.Fatalf("somebody waits, and slot %d is free", i)
		}
		for i := range w.s.slots {
			o := w.s.slots[i].task
			if o != nil && w.s.allows(i, t) && t.turn.rt.Load() && t.before(o) && t.turn.priority > o.turn.priority && !w.asking() {
				w.t.Fatalf("priority %d waits for %d, who was not asked", t.turn.priority, o.turn.priority)
			}
		}
	}
}

// asking reports whether some holder was asked for its slot.
//
// +checklocks:w.s.mu
func (w *turnsWorld) asking() bool {
	for i := range w.s.slots {
		if w.s.slots[i].asked {
			return true
		}
	}
	return false
}

func always() bool { return true }

func TestTurnsWeights(t *testing.T) {
	w := newTurnsWorld(t, 1)
	a, b, c := w.add(SchedNormal, 0, 0, 1), w.add(SchedNormal, 0, 10, 1), w.add(SchedIdle, 0, 0, 1)
	for range 20000 {
		w.step(always)
	}
	total := w.ran[a] + w.ran[b] + w.ran[c]
	if total < 19e9 {
		t.Errorf("the processor was idle: %d ns of 20 s used", total)
	}
	if r := float64(w.ran[a]) / float64(w.ran[b]); r < 8.5 || r > 10.2 {
		t.Errorf("nice 0 to 10: %f", r)
	}
	if r := float64(w.ran[a]) / float64(w.ran[c]); r < 200 || r > 500 {
		t.Errorf("nice 0 to SCHED_IDLE: %f", r)
	}
}

func TestTurnsRealTime(t *testing.T) {
	w := newTurnsWorld(t, 1)
	other := w.add(SchedNormal, 0, 0, 1)
	low, a, b := w.add(SchedFIFO, 5, 0, 1), w.add(SchedRR, 10, 0, 1), w.add(SchedRR, 10, 0, 1)
	for range 10000 {
		w.step(always)
	}
	if w.ran[low] != 0 {
		t.Errorf("lower priority ran %d ns", w.ran[low])
	}
	if w.ran[other] < 200e6 || w.ran[other] > 800e6 {
		t.Errorf("the other threads had %d ns of 10 s", w.ran[other])
	}
	if d := w.ran[a] - w.ran[b]; d < -300e6 || d > 300e6 {
		t.Errorf("SCHED_RR: %d and %d", w.ran[a], w.ran[b])
	}
}

// TestTurnsLent: with a priority that is lent a thread runs as if it were its own, and no longer.
func TestTurnsLent(t *testing.T) {
	w := newTurnsWorld(t, 1)
	mid, owner := w.add(SchedFIFO, 5, 0, 1), w.add(SchedNormal, 0, 0, 1)
	runs := func(n int) { // so few that nobody is limited
		w.ran = map[*Task]int64{}
		for range n {
			w.step(always)
		}
	}
	for range 3 {
		if runs(200); w.ran[owner] != 0 || w.ran[mid] == 0 {
			t.Errorf("before: the owner ran %d ns", w.ran[owner])
		}
		owner.Lend(6)
		if runs(100); w.ran[owner] < 90e6 || w.ran[mid] > 10e6 {
			t.Errorf("raised: the owner ran %d ns, the other %d", w.ran[owner], w.ran[mid])
		}
		owner.Lend(0)
	}
	if runs(20); w.ran[owner] > 10e6 {
		t.Errorf("after: the owner ran %d ns", w.ran[owner])
	}
}

// TestTurnsRandom lets tasks of all kinds sleep, wake up, come late, change and end.
func TestTurnsRandom(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 5))
		cpus := 1 + r.IntN(4)
		all := uint64(1)<<cpus - 1
		w := newTurnsWorld(t, cpus)
		comes := func() bool { return r.IntN(3) == 0 }
		policy := func() (int32, int32, int32) {
			switch r.IntN(5) {
			case 0:
				return SchedFIFO, 1 + r.Int32N(5), 0
			case 1:
				return SchedRR, 1 + r.Int32N(5), 0
			case 2:
				return SchedIdle, 0, 0
			}
			return SchedNormal, 0, r.Int32N(40) - 20
		}
		mask := func() uint64 {
			if m := r.Uint64() & all; m != 0 && r.IntN(3) == 0 {
				return m
			}
			return all
		}
		for range 2000 {
			switch n := r.IntN(20); {
			case n == 0 && len(w.tasks) < 12:
				p, prio, nice := policy()
				n := w.add(p, prio, nice, mask())
				if r.IntN(2) == 0 {
					w.s.woken(n)
				}
			case len(w.tasks) == 0:
			case n == 1:
				i := r.IntN(len(w.tasks))
				w.s.forget(w.tasks[i])
				w.tasks = append(w.tasks[:i], w.tasks[i+1:]...)
			case n < 6:
				o := w.tasks[r.IntN(len(w.tasks))]
				w.sleep[o] = true
				if r.IntN(2) == 0 { // else it sleeps without saying so
					w.s.release(o)
				}
			case n < 12:
				o := w.tasks[r.IntN(len(w.tasks))]
				w.sleep[o] = false
				if o.turn.rt.Load() {
					w.s.woken(o)
				}
			case n == 12:
				o := w.tasks[r.IntN(len(w.tasks))]
				o.sched.policy, o.sched.priority, o.sched.nice = policy()
				o.sched.affinity[0] = mask()
				w.s.changed(o)
			case n == 13:
				o := w.tasks[r.IntN(len(w.tasks))]
				w.s.yield(o)
			case n == 14:
				w.tasks[r.IntN(len(w.tasks))].Lend(max(0, r.Int32N(8)-2))
			}
			w.step(comes)
		}
		// Everybody gets on when nobody is in the way.
		for _, o := range w.tasks {
			w.sleep[o] = false
			o.sched.policy, o.sched.priority, o.sched.nice = SchedNormal, 0, 0
			w.s.changed(o)
			o.Lend(0)
			w.ran[o] = 0
		}
		for range 40000 { // a debt of 2 s to each of twelve
			w.step(comes)
		}
		for _, o := range w.tasks {
			if w.ran[o] == 0 {
				t.Fatalf("seed %d: a task never ran", seed)
			}
		}
	}
}
