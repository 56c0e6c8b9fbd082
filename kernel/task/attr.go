package task

// attributes are what prctl(2) and personality(2) keep for a thread. They belong to the
// task's own goroutine, but for the parent-death signal, which Kernel.mu guards.
type attributes struct {
	deathSignal int32
	slack       int64 // ns
	noTHP       bool
	personality uint32
	policy      int32 // set_mempolicy(2): mode and nodes
	nodes       uint64
	ioPriority  int32 // guarded by proc.mu
}

const defaultSlack = 50_000

// clone returns what a new thread inherits.
func (a *attributes) clone() attributes {
	return attributes{slack: a.slack, noTHP: a.noTHP, personality: a.personality, policy: a.policy, nodes: a.nodes, ioPriority: a.ioPriority}
}

// PDeathSignal is PR_GET_PDEATHSIG.
func (t *Task) PDeathSignal() int32 {
	t.k.mu.RLock()
	v := t.attr.deathSignal
	t.k.mu.RUnlock()
	return v
}

// SetPDeathSignal is PR_SET_PDEATHSIG: the signal, 0 for none, that t's
// process gets when the thread that made it ends.
func (t *Task) SetPDeathSignal(sig int32) {
	t.k.mu.Lock()
	t.attr.deathSignal = sig
	t.k.mu.Unlock()
}

// TimerSlack is PR_GET_TIMERSLACK in ns. Timers here are exact; the value is kept for the program.
func (t *Task) TimerSlack() int64 { return t.attr.slack }

// SetTimerSlack is PR_SET_TIMERSLACK; 0 is the default.
func (t *Task) SetTimerSlack(ns int64) {
	if ns <= 0 {
		ns = defaultSlack
	}
	t.attr.slack = ns
}

// THPDisabled and SetTHPDisabled are PR_GET_THP_DISABLE and PR_SET_THP_DISABLE.
func (t *Task) THPDisabled() bool { return t.attr.noTHP }

// SetTHPDisabled keeps the flag.
func (t *Task) SetTHPDisabled(off bool) { t.attr.noTHP = off }

// Personality returns the execution domain (personality(2)): the loader asks for ADDR_NO_RANDOMIZE.
func (t *Task) Personality() uint32 { return t.attr.personality }

// SetPersonality sets it.
func (t *Task) SetPersonality(p uint32) { t.attr.personality = p }

// Mempolicy and SetMempolicy are get_mempolicy(2) and set_mempolicy(2): the mode and the mask of nodes.
func (t *Task) Mempolicy() (mode int32, nodes uint64) { return t.attr.policy, t.attr.nodes }

// SetMempolicy keeps them.
func (t *Task) SetMempolicy(mode int32, nodes uint64) { t.attr.policy, t.attr.nodes = mode, nodes }
