package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/futex"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

const futexAny = futex.MatchAny

// key finds out what identifies the futex at a user address; private says that only this address space uses it.
// EINVAL when it is not aligned, EFAULT.
func (t *Task) key(k *futex.Key, addr uint64, private bool) (err error) {
	if addr&3 != 0 {
		return unix.EINVAL
	}
	if private && addr < machine.UserTop {
		k.Space, k.Offset = t.mem.AddressSpace, addr
		return nil
	}
	*k, err = t.mem.FutexKey(addr, private)
	return err
}

// word is key for operations that access the word.
func (t *Task) word(w *futex.Word, addr uint64, private bool) error {
	w.Space, w.Addr = t.space, addr
	return t.key(&w.Key, addr, private)
}

// present makes the page of a word that the futex table could not access present; EFAULT.
func (t *Task) present(addr uint64, write bool) error {
	v, err := t.mem.Load32(addr)
	if err == nil && write {
		_, err = t.mem.CompareAndSwap32(addr, v, v)
	}
	return err
}

// FutexWait is FUTEX_WAIT_BITSET (futex(2)): it sleeps while the word at addr
// is val, until it is woken, or the deadline, a monotonic time (0: none), or with wall a wall time. EAGAIN, EINVAL, EFAULT,
// ETIMEDOUT, ERESTARTSYS.
func (t *Task) FutexWait(addr uint64, val, bitset uint32, private bool, deadline int64, wall bool) error {
	if bitset == 0 {
		return unix.EINVAL
	}
	var w futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return err
	}
	for {
		switch err := t.k.Futex.Enqueue(&t.waiter, &w, val, bitset); err {
		case nil:
			return t.futexSleep(deadline, wall)
		case futex.ErrFault:
			if err := t.present(addr, false); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// futexSleep sleeps until t.waiter is woken.
func (t *Task) futexSleep(deadline int64, wall bool) error {
	for !t.waiter.Woken() {
		if deadline == 0 && !t.Interrupted() {
			t.sleep()
			continue
		}
		if err := t.blockUntil(deadline, wall); err != nil {
			if t.k.Futex.Cancel(&t.waiter) {
				return err
			}
			return nil
		}
	}
	return nil
}

// blockUntil is Block with a deadline in monotonic or wall time; 0 is none.
func (t *Task) blockUntil(deadline int64, wall bool) error {
	if !wall || deadline == 0 {
		return t.Block(deadline)
	}
	switch {
	case t.Interrupted():
		return t.Block(0)
	case t.k.Clock.Wall() >= deadline:
		return unix.ETIMEDOUT
	}
	t.timer.SetWall(deadline)
	t.sleep()
	t.timer.Stop()
	return nil
}

// FutexWake is FUTEX_WAKE_BITSET: it returns how many were woken. EINVAL, EFAULT.
func (t *Task) FutexWake(addr uint64, n int, bitset uint32, private bool) (int, error) {
	if bitset == 0 {
		return 0, unix.EINVAL
	}
	var k futex.Key
	if err := t.key(&k, addr, private); err != nil {
		return 0, err
	}
	return t.k.Futex.Wake(&k, max(n, 1), bitset)
}

// FutexRequeue is FUTEX_REQUEUE or, with cmp, FUTEX_CMP_REQUEUE. It returns
// the number woken and moved; futex(2) says otherwise of the former, but Linux does so. EINVAL, EFAULT, EAGAIN.
func (t *Task) FutexRequeue(addr, addr2 uint64, wake, move int, cmp *uint32, private bool) (int, error) {
	if wake < 0 || move < 0 {
		return 0, unix.EINVAL
	}
	var w futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return 0, err
	}
	var w2 futex.Word
	if err := t.word(&w2, addr2, private); err != nil {
		return 0, err
	}
	for {
		woken, moved, err := t.k.Futex.Requeue(&w, &w2, wake, move, cmp)
		if err != futex.ErrFault {
			return woken + moved, err
		}
		if err := t.present(addr, false); err != nil {
			return 0, err
		}
	}
}

// FutexWakeOp is FUTEX_WAKE_OP. EINVAL, EFAULT, ENOSYS.
func (t *Task) FutexWakeOp(addr, addr2 uint64, n, n2 int, op uint32, private bool) (int, error) {
	var w futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return 0, err
	}
	var w2 futex.Word
	if err := t.word(&w2, addr2, private); err != nil {
		return 0, err
	}
	for {
		woken, err := t.k.Futex.WakeOp(&w, &w2, max(n, 1), max(n2, 1), futex.Op(op))
		if err != futex.ErrFault {
			return woken, err
		}
		if err := t.present(addr2, true); err != nil {
			return 0, err
		}
	}
}

// FutexLockPI is FUTEX_LOCK_PI and FUTEX_LOCK_PI2 or, with try, FUTEX_TRYLOCK_PI. EDEADLK, ESRCH, EAGAIN, EINVAL,
// EFAULT, ETIMEDOUT, ERESTARTNOINTR.
func (t *Task) FutexLockPI(addr uint64, private bool, deadline int64, wall, try bool) error {
	var w futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return err
	}
	for {
		locked, err := t.k.Futex.LockPI(&t.waiter, &w, uint32(t.OwnTID()), try, t.piThread)
		if err == futex.ErrFault {
			if err = t.present(addr, true); err == nil {
				continue
			}
		}
		if err != nil || locked {
			return err
		}
		switch err = t.futexSleep(deadline, wall); {
		case err == abi.ERESTARTSYS:
			return abi.ERESTARTNOINTR
		case err != nil || !t.waiter.Retry():
			return err
		}
	}
}

// FutexWaitRequeuePI is FUTEX_WAIT_REQUEUE_PI: it sleeps while the word at addr is val, until FUTEX_CMP_REQUEUE_PI has moved it to the PI
// word at addr2 and t has got that. The errors are those of FutexWait, ERESTARTNOINTR in place of ERESTARTSYS, and EAGAIN when a signal
// came after the move: the program takes the lock by itself.
func (t *Task) FutexWaitRequeuePI(addr, addr2 uint64, val uint32, private bool, deadline int64, wall bool) error {
	if addr == addr2 {
		return unix.EINVAL
	}
	var w, w2 futex.Word
	if err := t.word(&w2, addr2, private); err != nil {
		return err
	}
	if err := t.word(&w, addr, private); err != nil {
		return err
	}
	for {
		err := t.k.Futex.EnqueueToPI(&t.waiter, &w, val, uint32(t.OwnTID()), &w2)
		if err == futex.ErrFault {
			if err = t.present(addr, false); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err = t.futexSleep(deadline, wall); err == abi.ERESTARTSYS {
			if err = abi.ERESTARTNOINTR; t.waiter.Moved() {
				err = unix.EAGAIN
			}
		}
		if err == nil && t.waiter.Retry() {
			return t.FutexLockPI(addr2, private, deadline, wall, false)
		}
		return err
	}
}

// FutexRequeuePI is FUTEX_CMP_REQUEUE_PI: it returns how many have got the PI word at addr2 or wait for it now. EINVAL, EFAULT, EAGAIN,
// EDEADLK, ESRCH.
func (t *Task) FutexRequeuePI(addr, addr2 uint64, wake, move int, cmp uint32, private bool) (int, error) {
	if addr == addr2 || wake != 1 || move < 0 {
		return 0, unix.EINVAL
	}
	var w, w2 futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return 0, err
	}
	if err := t.word(&w2, addr2, private); err != nil {
		return 0, err
	}
	for {
		n, err := t.k.Futex.RequeuePI(&w, &w2, move, cmp, t.piThread)
		if err != futex.ErrFault {
			return n, err
		}
		if err := t.present(addr, false); err != nil {
			return 0, err
		}
		if err := t.present(addr2, true); err != nil {
			return 0, err
		}
	}
}

func (t *Task) piThread(tid uint32) *futex.Thread {
	if o := t.k.Task(t.proc.pids.Global(int32(tid))); o != nil {
		return &o.pi
	}
	return nil
}

// FutexUnlockPI is FUTEX_UNLOCK_PI: EPERM, EINVAL, EFAULT.
func (t *Task) FutexUnlockPI(addr uint64, private bool) error {
	var w futex.Word
	if err := t.word(&w, addr, private); err != nil {
		return err
	}
	for {
		err := t.k.Futex.UnlockPI(&w, &t.pi, uint32(t.OwnTID()))
		if err != futex.ErrFault {
			return err
		}
		if err := t.present(addr, true); err != nil {
			return err
		}
	}
}

// FutexVector is one element of futex_waitv(2).
type FutexVector struct {
	Addr    uint64
	Val     uint32
	Private bool
}

// FutexWaitv is futex_waitv(2): it returns the index of a word that was woken. The errors are those of FutexWait.
func (t *Task) FutexWaitv(v []FutexVector, deadline int64, wall bool) (int, error) {
	ws := make([]futex.Waiter, len(v))
	for i := range v {
		ws[i].Owner, ws[i].Thread = t, &t.pi
		if err := t.enqueueOne(&ws[i], &v[i]); err != nil {
			if woken := t.cancelAll(ws[:i]); woken >= 0 {
				return woken, nil
			}
			return 0, err
		}
	}
	for {
		for i := range ws {
			if ws[i].Woken() {
				t.cancelAll(ws)
				return i, nil
			}
		}
		if err := t.blockUntil(deadline, wall); err != nil {
			if woken := t.cancelAll(ws); woken >= 0 {
				return woken, nil
			}
			return 0, err
		}
	}
}

func (t *Task) enqueueOne(wt *futex.Waiter, v *FutexVector) error {
	var w futex.Word
	if err := t.word(&w, v.Addr, v.Private); err != nil {
		return err
	}
	for {
		err := t.k.Futex.Enqueue(wt, &w, v.Val, futexAny)
		if err != futex.ErrFault {
			return err
		}
		if err := t.present(v.Addr, false); err != nil {
			return err
		}
	}
}

// cancelAll takes all off their queues and returns the index of the last that had been woken, or -1.
func (t *Task) cancelAll(ws []futex.Waiter) int {
	woken := -1
	for i := range ws {
		if !t.k.Futex.Cancel(&ws[i]) {
			woken = i
		}
	}
	return woken
}
