package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/futex"
)

// robustLimit is ROBUST_LIST_LIMIT: a list may be a circle.
const robustLimit = 2048

// releaseRobust marks the robust mutexes that t still holds as those of a dead owner and wakes a waiter of each
// (get_robust_list(2), Documentation/locking/robust-futexes.rst). Errors end it silently: the list is the program's.
func (t *Task) releaseRobust() {
	if t.robust == 0 {
		return
	}
	var b [abi.SizeofRobustListHead]byte
	if _, err := t.mem.CopyIn(b[:], t.robust); err != nil {
		return
	}
	h := abi.GetRobustListHead(b[:])
	pending, pendingPI := h.ListOpPending&^1, h.ListOpPending&1 != 0
	entry, pi := h.List&^1, h.List&1 != 0
	for range robustLimit {
		if entry == t.robust {
			break
		}
		next, err := t.mem.Load64(entry)
		if entry != pending && !t.ownerDied(entry+uint64(h.FutexOffset), pi, false) || err != nil {
			return
		}
		entry, pi = next&^1, next&1 != 0
	}
	if pending != 0 {
		t.ownerDied(pending+uint64(h.FutexOffset), pendingPI, true)
	}
	t.robust = 0
}

// ownerDied handles one mutex; false when its word cannot be accessed.
func (t *Task) ownerDied(addr uint64, pi, pending bool) bool {
	if addr&3 != 0 {
		return false
	}
	for {
		v, err := t.mem.Load32(addr)
		if err != nil {
			return false
		}
		// An operation that was cut short between unlocking and waking: wake somebody in t's place.
		if pending && !pi && v == 0 {
			t.FutexWake(addr, 1, futexAny, false)
			t.FutexWake(addr, 1, futexAny, true)
			return true
		}
		if v&futex.TIDMask != uint32(t.OwnTID()) {
			return true
		}
		if pi {
			return t.ownerDiedPI(addr)
		}
		found, err := t.mem.CompareAndSwap32(addr, v, v&futex.Waiters|futex.OwnerDied)
		if err != nil {
			return false
		}
		if found != v {
			continue
		}
		if v&futex.Waiters != 0 {
			t.FutexWake(addr, 1, futexAny, false)
			t.FutexWake(addr, 1, futexAny, true)
		}
		return true
	}
}

// ownerDiedPI hands a PI mutex over. Whether its users think of it as private is not known here.
func (t *Task) ownerDiedPI(addr uint64) bool {
	for _, private := range [...]bool{true, false} {
		var w futex.Word
		if err := t.word(&w, addr, private); err != nil {
			return false
		}
		if done, err := t.k.Futex.OwnerGone(&w, &t.pi, uint32(t.OwnTID()), !private); done || err != nil {
			return err == nil
		}
	}
	return true
}
