package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/signal"

	"golang.org/x/sys/unix"
)

// Mask returns the blocked signals.
func (t *Task) Mask() signal.Set { return t.blocked }

// SetMask replaces the blocked signals, the end of rt_sigprocmask(2). SIGKILL and SIGSTOP stay out.
func (t *Task) SetMask(m signal.Set) {
	t.proc.mu.Lock()
	t.setMask(m)
	t.proc.mu.Unlock()
}

// setMask is SetMask with proc.mu held. Signals that wait for the process and that t blocks from now on are
// shown to the other threads.
//
// +checklocks:t.proc.mu
func (t *Task) setMask(m signal.Set) {
	m &^= signal.Unblockable
	added := m &^ t.blocked
	t.blocked = m
	if lost := t.proc.pending.Set() & added; lost != 0 {
		t.retarget(lost)
	}
	t.proc.recalc(t)
}

// retarget wakes other threads for signals of the process that t will not take. proc.mu is held.
//
// +checklocks:t.proc.mu
func (t *Task) retarget(lost signal.Set) {
	for _, o := range t.proc.threads {
		if o != t && !o.exiting && lost&^o.blocked != 0 {
			o.ask(workSignal)
			if lost &= o.blocked; lost == 0 {
				return
			}
		}
	}
}

// Procmask is rt_sigprocmask(2) with how SIG_BLOCK (0), SIG_UNBLOCK (1) or SIG_SETMASK (2); EINVAL.
func (t *Task) Procmask(how int32, set signal.Set) error {
	switch how {
	case 0:
		set |= t.blocked
	case 1:
		set = t.blocked &^ set
	case 2:
	default:
		return unix.EINVAL
	}
	t.SetMask(set)
	return nil
}

// PushMask sets the mask for the duration of one system call (ppoll(2), sigsuspend(2), …). The
// call ends it by PopMask.
func (t *Task) PushMask(m signal.Set) {
	t.saved, t.hasSaved = t.blocked, true
	t.SetMask(m)
}

// PopMask puts the mask before PushMask back, unless the call was interrupted by a
// signal: then the mask stays in force until that is delivered, and goes into its frame.
func (t *Task) PopMask(interrupted bool) {
	if t.hasSaved && !interrupted {
		t.hasSaved = false
		t.SetMask(t.saved)
	}
}

// Sigsuspend is rt_sigsuspend(2); it returns ERESTARTNOHAND, always.
func (t *Task) Sigsuspend(m signal.Set) error {
	t.PushMask(m)
	return t.Pause()
}

// Pause is pause(2).
func (t *Task) Pause() error {
	for t.Block(0) == nil {
	}
	return abi.ERESTARTNOHAND
}

// Sigaction returns the action of sig and replaces it when set is not nil
// (rt_sigaction(2)): EINVAL.
func (t *Task) Sigaction(sig unix.Signal, set *abi.SigAction) (old abi.SigAction, err error) {
	p := t.proc
	if !signal.Valid(sig) || set != nil && signal.Unblockable.Has(sig) {
		return old, unix.EINVAL
	}
	if set == nil {
		return p.Handlers().Get(sig), nil
	}
	old = p.Handlers().Set(sig, *set)
	p.mu.Lock()
	if p.ignores(sig, true) && signal.Default(sig) != signal.Continue || set.Handler == signal.IGN {
		p.flush(signal.Of(sig)) // sigaction(2): what is ignored does not stay pending
	}
	p.mu.Unlock()
	return old, nil
}

// Sigpending is rt_sigpending(2).
func (t *Task) Sigpending() signal.Set {
	t.proc.mu.Lock()
	v := (t.pending.Set() | t.proc.pending.Set()) & t.blocked
	t.proc.mu.Unlock()
	return v
}

// Sigaltstack returns the alternate stack and replaces it when set is not nil (sigaltstack(2)): EPERM, EINVAL, ENOMEM.
func (t *Task) Sigaltstack(set *abi.StackT) (old abi.StackT, err error) {
	sp := t.Ctx.RSP
	old = signal.Describe(&t.alt, sp)
	if set != nil {
		t.alt, err = signal.Check(&t.alt, *set, sp, signal.MinSize)
	}
	return old, err
}

// MinSigStack is AT_MINSIGSTKSZ: how many bytes of stack a signal frame may take.
func (k *Kernel) MinSigStack() uint64 {
	n := uint64(k.Machine.FloatSize()) + 4 + 64 + signal.FrameSize + 16 + 8
	return max((n+63)&^63, signal.MinSize)
}

// Sigtimedwait is rt_sigtimedwait(2): it takes a signal of set, waiting for one until the deadline, a monotonic
// time, or for ever when that is 0; poll says not to wait at all. EAGAIN, EINTR.
func (t *Task) Sigtimedwait(set signal.Set, deadline int64, poll bool) (*signal.Info, error) {
	p := t.proc
	set &^= signal.Unblockable
	defer func() {
		p.mu.Lock()
		t.waitSet = 0
		p.mu.Unlock()
	}()
	for {
		p.mu.Lock()
		ok := t.take(^set)
		if !ok {
			t.waitSet = set
		}
		p.recalc(t)
		p.mu.Unlock()
		switch {
		case ok:
			info := t.taken.Info
			return &info, nil
		case poll:
			return nil, unix.EAGAIN
		}
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			poll = true // a last look
		default:
			return nil, unix.EINTR
		}
	}
}

// TakeSignal takes a pending signal of set for signalfd(2); nil when there is none.
func (t *Task) TakeSignal(set signal.Set) *signal.Info {
	info, _ := t.Sigtimedwait(set, 0, true)
	return info
}

// HasSignal reports whether TakeSignal would find one.
func (t *Task) HasSignal(set signal.Set) bool {
	t.proc.mu.Lock()
	v := (t.pending.Set()|t.proc.pending.Set())&set != 0
	t.proc.mu.Unlock()
	return v
}
