package signal

import (
	"gosv/kernel/abi"

	"golang.org/x/sys/unix"
)

// Info is siginfo_t.
type Info = abi.SigInfo

// Values of si_code that more than one signal uses.
const (
	User   = 0    // kill(2)
	Kernel = 0x80 // the kernel, for no special reason
	Queue  = -1   // sigqueue(3)
	Timer  = -2   // a POSIX timer
	SigIO  = -5   // SIGIO, by programs only: no sender
	TKill  = -6   // tkill(2), tgkill(2)
)

// An Entry is one signal that waits, with all that is known about it.
type Entry struct {
	Info Info
	// Forced: the signal came from outside the virtual machine, and its default action applies
	// even to the first process.
	Forced bool
	// Refresh, if not nil, is called when the entry is taken off its queue: a
	// POSIX timer fills in its overrun count then, and may say that the entry
	// is void.
	Refresh func(*Info) (deliver bool)
	// Preallocated entries belong to a timer and are not recycled here.
	Preallocated bool

	queued bool
	next   *Entry
}

// Queued reports whether e is on a Pending.
func (e *Entry) Queued() bool { return e.queued }

// Pending is the signals that wait for one task or for one process.
type Pending struct {
	set   Set
	first *Entry // in order of arrival
	last  *Entry
	free  *Entry // one spare entry: the usual signal is taken before the next comes
}

// Set returns the signals that wait.
func (p *Pending) Set() Set { return p.set }

// Add queues a copy of info.
func (p *Pending) Add(info *Info, forced bool) {
	e := p.free
	if e == nil {
		e = new(Entry)
	}
	p.free = nil
	e.Info, e.Forced = *info, forced
	p.AddEntry(e)
}

// AddEntry queues e, which must not be queued anywhere.
func (p *Pending) AddEntry(e *Entry) {
	e.queued, e.next = true, nil
	if p.last != nil {
		p.last.next = e
	} else {
		p.first = e
	}
	p.last = e
	p.set |= bit(e.Info.Signo())
}

// AddBare makes sig pending without information, when there is no room for any.
func (p *Pending) AddBare(sig unix.Signal) { p.set |= bit(sig) }

// Take removes one signal that is not in blocked and returns it with its
// information: synchronous ones first, then the lowest number, equal
// numbers in order of arrival. ok is false when there is none.
// dequeued is the number of queued entries that are gone, for RLIMIT_SIGPENDING.
func (p *Pending) Take(blocked Set, into *Entry) (ok bool, dequeued int) {
	for {
		ready := p.set &^ blocked
		if ready == 0 {
			return false, dequeued
		}
		if s := ready & Synchronous; s != 0 {
			ready = s
		}
		deliver, n := p.take(ready.First(), into)
		dequeued += n
		if deliver {
			return true, dequeued
		}
	}
}

func (p *Pending) take(sig unix.Signal, into *Entry) (deliver bool, dequeued int) {
	var prev, found *Entry
	for e := p.first; e != nil; prev, e = e, e.next {
		if e.Info.Signo() == sig {
			found = e
			break
		}
	}
	if found == nil {
		p.set &^= bit(sig)
		into.Info, into.Forced = Info{}, false
		into.Info.SetHead(sig, 0, User)
		return true, 0
	}
	p.unlink(prev, found)
	if !p.holds(sig, found.next) {
		p.set &^= bit(sig)
	}
	into.Info, into.Forced = found.Info, found.Forced
	dequeued = 1
	if found.Preallocated {
		dequeued = 0
	}
	if found.Refresh != nil && !found.Refresh(&into.Info) {
		return false, dequeued
	}
	p.recycle(found)
	return true, dequeued
}

func (p *Pending) holds(sig unix.Signal, e *Entry) bool {
	for ; e != nil; e = e.next {
		if e.Info.Signo() == sig {
			return true
		}
	}
	return false
}

func (p *Pending) unlink(prev, e *Entry) {
	if prev == nil {
		p.first = e.next
	} else {
		prev.next = e.next
	}
	if p.last == e {
		p.last = prev
	}
	e.queued = false
}

func (p *Pending) recycle(e *Entry) {
	if !e.Preallocated {
		e.next = nil
		p.free = e
	}
}

// Flush drops every pending signal of the set and returns how many queued entries are gone.
func (p *Pending) Flush(s Set) (dequeued int) {
	if p.set&s == 0 {
		return 0
	}
	p.set &^= s
	var prev *Entry
	for e := p.first; e != nil; {
		next := e.next
		if s.Has(e.Info.Signo()) {
			p.unlink(prev, e)
			if !e.Preallocated {
				dequeued++
			}
			p.recycle(e)
		} else {
			prev = e
		}
		e = next
	}
	return dequeued
}

// Each calls f with what is known of each signal that waits, in order of arrival, until f returns false.
func (p *Pending) Each(f func(*Info) bool) {
	for e := p.first; e != nil; e = e.next {
		if !f(&e.Info) {
			return
		}
	}
}

// Remove drops one entry, if it is on p (a timer that is deleted).
func (p *Pending) Remove(e *Entry) {
	var prev *Entry
	for x := p.first; x != nil; prev, x = x, x.next {
		if x == e {
			p.unlink(prev, e)
			if sig := e.Info.Signo(); !p.holds(sig, p.first) {
				p.set &^= bit(sig)
			}
			e.next = nil
			return
		}
	}
}
