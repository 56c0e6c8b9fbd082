// Package epoll makes epoll instances (epoll(7)).
//
// An instance is a set of interests in open files. Each interest has an entry on its
// file's wait queue; when that is told, the interest goes onto the ready list, and
// Collect looks at the files on that list only. An interest ends with its open file,
// on which it holds no reference (vfs.Watcher).
//
// Lock order: nesting (package variable) → instance.mu of the outer instance → of
// the inner ones → locks of files and their wait queues → instance.list.mu →
// the next outer instance's wait queue. Nested instances form no loop, which Ctl sees to,
// so neither do the locks.
package epoll

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

const (
	always  = unix.EPOLLERR | unix.EPOLLHUP
	private = unix.EPOLLET | unix.EPOLLONESHOT | unix.EPOLLWAKEUP | unix.EPOLLEXCLUSIVE
	// exclusiveOK are the events that may stand with EPOLLEXCLUSIVE.
	exclusiveOK = unix.EPOLLIN | unix.EPOLLOUT | always | unix.EPOLLWAKEUP | unix.EPOLLET | unix.EPOLLEXCLUSIVE
	maxNests    = 4
)

// nesting serialises the making of nested instances.
var nesting sync.Mutex

// key is what an interest is known by: the open file and the descriptor it was added under.
type key struct {
	file *vfs.File
	fd   int
}

// interest is one entry of an instance.
type interest struct {
	key
	of    *instance
	entry wait.Entry
	// All below but queued is guarded by of.mu.
	events wait.Mask
	data   uint64
	fired  bool // one-shot, until changed
	gone   bool
	queued atomic.Bool // on the ready list, or taken off it to be looked at; set under of.list.mu
}

// instance is an open epoll file.
type instance struct {
	vfs.FileDefaults
	queue wait.Queue // of those who wait for the instance

	// level is how many instances lay around this one at most; guarded by nesting.
	level int

	mu        sync.Mutex
	interests map[key]*interest // guarded by mu
	old       []*interest       // room for the next ready list; guarded by mu

	list struct {
		mu    sync.Mutex
		ready []*interest // guarded by mu
	}
}

// New is epoll_create1(2) without the descriptor.
func New(_ *vfs.Namespace, c *cred.Cred) *vfs.File {
	return vfs.NewAnon("eventpoll", &instance{interests: make(map[key]*interest)}, c, unix.O_RDWR)
}

func of(f *vfs.File) (*instance, error) {
	if e, ok := f.Ops().(*instance); ok {
		return e, nil
	}
	return nil, unix.EINVAL
}

// Ready implements wait.Waiter.
func (i *interest) Ready(*wait.Entry, wait.Mask) {
	if i.of.enqueue(i) {
		i.of.queue.Notify(unix.EPOLLIN | unix.EPOLLRDNORM)
	}
}

// enqueue puts i onto the ready list; false when it is there. Then whoever takes it off looks at its file later than now, see dequeued.
func (e *instance) enqueue(i *interest) bool { return !i.queued.Load() && e.append(i) }

func (e *instance) append(i *interest) bool {
	e.list.mu.Lock()
	added := !i.queued.Load()
	if added {
		e.list.ready = append(e.list.ready, i)
		i.queued.Store(true)
	}
	e.list.mu.Unlock()
	return added
}

// dequeued says that i was taken off the list, so that it may be put there again. The caller looks at the file after that.
func (e *instance) dequeued(i *interest) { i.queued.Store(false) }

// InterestCost is what an interest takes of share.Interests, in bytes: with its places in its instance, its file and that file's wait queue.
const InterestCost = 384

// Ctl is epoll_ctl(2) for the file f, whose descriptor is fd: EINVAL, EEXIST, ENOENT, EPERM when f is always ready, ELOOP, ENOSPC.
func Ctl(ep *vfs.File, op int, fd int, f *vfs.File, ev abi.EpollEvent) error {
	e, err := of(ep)
	if err != nil {
		return err
	}
	if t := f.Inode().Type(); t == unix.S_IFREG || t == unix.S_IFDIR {
		return unix.EPERM
	}
	if f == ep {
		return unix.EINVAL
	}
	inner, _ := f.Ops().(*instance)
	if ev.Events&unix.EPOLLEXCLUSIVE != 0 && op != unix.EPOLL_CTL_DEL &&
		(op == unix.EPOLL_CTL_MOD || inner != nil || ev.Events&^exclusiveOK != 0) {
		return unix.EINVAL
	}
	if op == unix.EPOLL_CTL_ADD && inner != nil {
		nesting.Lock()
		defer nesting.Unlock()
		if e.level+1+inner.depth(e, 0) > maxNests {
			return unix.ELOOP
		}
		inner.sink(e.level + 1)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.interests[key{f, fd}]
	switch {
	case op == unix.EPOLL_CTL_ADD && i != nil:
		return unix.EEXIST
	case op == unix.EPOLL_CTL_ADD:
		return e.add(fd, f, ev)
	case op != unix.EPOLL_CTL_DEL && op != unix.EPOLL_CTL_MOD:
		return unix.EINVAL
	case i == nil:
		return unix.ENOENT
	case op == unix.EPOLL_CTL_DEL:
		e.remove(i)
		f.RemoveWatcher(i)
		return nil
	case i.entry.Exclusive:
		return unix.EINVAL
	}
	e.change(i, ev)
	return nil
}

// depth returns how deep instances lie in e, and something large when outer is among them.
// nesting is held.
func (e *instance) depth(outer *instance, level int) int {
	if e == outer || level > maxNests {
		return maxNests + 1
	}
	deepest := 0
	e.mu.Lock()
	defer e.mu.Unlock()
	for k := range e.interests {
		if inner, ok := k.file.Ops().(*instance); ok {
			deepest = max(deepest, 1+inner.depth(outer, level+1))
		}
	}
	return deepest
}

// sink notes that level instances lie around e, if that is more than before. nesting is held.
func (e *instance) sink(level int) {
	if e.level >= level {
		return
	}
	e.level = level
	e.mu.Lock()
	defer e.mu.Unlock()
	for k := range e.interests {
		if inner, ok := k.file.Ops().(*instance); ok {
			inner.sink(level + 1)
		}
	}
}

// set takes over what the program asks for.
func (i *interest) set(ev abi.EpollEvent) {
	i.events = wait.Mask(ev.Events)
	i.data = ev.Data
	i.fired = false
}

// mask is what the interest is told of.
func (i *interest) mask() wait.Mask { return i.events&^private | always }

// add makes an interest; e.mu is held.
//
// +checklocks:e.mu
func (e *instance) add(fd int, f *vfs.File, ev abi.EpollEvent) error {
	if !share.Interests.Take(InterestCost) {
		return unix.ENOSPC
	}
	i := &interest{key: key{f, fd}, of: e}
	i.set(ev)
	i.entry = wait.Entry{Waiter: i, Events: i.mask(), Exclusive: ev.Events&unix.EPOLLEXCLUSIVE != 0}
	e.interests[i.key] = i
	f.AddWatcher(i)
	f.Register(&i.entry)
	e.look(i)
	return nil
}

// change gives an interest other events; e.mu is held.
//
// +checklocks:e.mu
func (e *instance) change(i *interest, ev abi.EpollEvent) {
	i.file.Unregister(&i.entry)
	i.set(ev)
	i.entry.Events = i.mask()
	i.file.Register(&i.entry)
	e.look(i)
}

// look puts an interest onto the ready list if its file is ready now; e.mu is held.
//
// +checklocks:e.mu
func (e *instance) look(i *interest) {
	if i.revents() != 0 && e.enqueue(i) {
		e.queue.Notify(unix.EPOLLIN | unix.EPOLLRDNORM)
	}
}

// remove ends an interest; e.mu is held.
//
// +checklocks:e.mu
func (e *instance) remove(i *interest) {
	i.gone = true
	share.Interests.Give(InterestCost)
	delete(e.interests, i.key)
	i.file.Unregister(&i.entry)
}

// FileClosed implements vfs.Watcher.
func (i *interest) FileClosed(*vfs.File) {
	i.of.mu.Lock()
	defer i.of.mu.Unlock()
	if !i.gone {
		i.of.remove(i)
	}
}

// Release implements vfs.FileOps.
func (e *instance) Release(*vfs.File) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.interests {
		e.remove(i)
		i.file.RemoveWatcher(i)
	}
}

// revents returns the events of an interest that are true now; e.mu is held.
func (i *interest) revents() wait.Mask {
	if i.gone || i.fired {
		return 0
	}
	return i.file.Readiness(i.mask()) & i.mask()
}

// Collect calls emit for up to most events that are true now, until it returns false: the part
// of epoll_wait(2) that does not wait. It returns the number of events taken; EINVAL, EAGAIN when there is none,
// EFAULT when emit refused the first.
//
// Whoever waits for more registers with the file for EPOLLIN, exclusively.
func Collect(ep *vfs.File, most int, emit func(abi.EpollEvent) bool) (n int, err error) {
	e, err := of(ep)
	if err != nil {
		return 0, err
	}
	if most <= 0 {
		return 0, unix.EINVAL
	}
	e.mu.Lock()
	list := e.takeReady()
	err = unix.EAGAIN
	done, kept := 0, 0
	for done < len(list) && n < most {
		i := list[done]
		done++
		once := i.events&(unix.EPOLLET|unix.EPOLLONESHOT) != 0
		if once {
			e.dequeued(i) // first, so that what happens after the look is not lost
		}
		ev := i.revents()
		if ev == 0 {
			if !once {
				e.dequeued(i)
				e.look(i) // it may have become ready in between
			}
			continue
		}
		if !emit(abi.EpollEvent{Events: uint32(ev), Data: i.data}) {
			if once {
				e.enqueue(i)
			} else {
				list[kept] = i
				kept++
			}
			err = unix.EFAULT
			break
		}
		n++
		if i.events&unix.EPOLLONESHOT != 0 {
			i.fired = true
		}
		if !once { // it stays on the list as long as it is ready
			list[kept] = i
			kept++
		}
	}
	again := e.putBack(list, kept, done)
	e.mu.Unlock()
	if again {
		e.queue.Notify(unix.EPOLLIN | unix.EPOLLRDNORM)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// One is Collect where one interest alone is ready, and stays so: it need not be taken off the ready list. ok is false
// when there is anything else to do.
func One(ep *vfs.File) (ev abi.EpollEvent, ok bool) {
	e, _ := ep.Ops().(*instance)
	if e == nil {
		return
	}
	e.mu.Lock()
	e.list.mu.Lock()
	var i *interest
	if len(e.list.ready) == 1 {
		i = e.list.ready[0]
	}
	e.list.mu.Unlock()
	if i != nil && !i.gone && i.events&(unix.EPOLLET|unix.EPOLLONESHOT) == 0 {
		m := i.mask()
		ev = abi.EpollEvent{Events: uint32(i.file.Readiness(m) & m), Data: i.data}
	}
	e.mu.Unlock()
	if ev.Events == 0 {
		return ev, false
	}
	e.queue.Notify(unix.EPOLLIN | unix.EPOLLRDNORM) // others may see it too
	return ev, true
}

// takeReady empties the ready list; e.mu is held.
//
// +checklocks:e.mu
func (e *instance) takeReady() []*interest {
	e.list.mu.Lock()
	list := e.list.ready
	e.list.ready = e.old[:0]
	e.list.mu.Unlock()
	return list
}

// putBack puts what was not looked at, from done on, before what came since, and the first kept, which stay, behind it; it reports
// whether anything is on the list. e.mu is held.
//
// +checklocks:e.mu
func (e *instance) putBack(list []*interest, kept, done int) bool {
	e.list.mu.Lock()
	came := e.list.ready
	if done == len(list) && len(came) == 0 {
		clear(list[kept:]) // before anybody appends to it again
		e.list.ready, e.old = list[:kept], came
		e.list.mu.Unlock()
		return kept > 0
	}
	all := make([]*interest, 0, len(list)-done+len(came)+kept)
	e.list.ready = append(append(append(all, list[done:]...), came...), list[:kept]...)
	any := len(e.list.ready) > 0
	e.list.mu.Unlock()
	clear(list)
	clear(came)
	e.old = list[:0]
	return any
}

// Poll implements vfs.FileOps: an instance is readable when an event waits.
func (e *instance) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.takeReady()
	first := 0
	for ; first < len(list); first++ {
		i := list[first]
		if i.revents() != 0 {
			break
		}
		// Not ready after all: it leaves the list, unless told again meanwhile.
		e.dequeued(i)
		e.look(i)
	}
	found := first < len(list)
	e.putBack(list, 0, first)
	if !found {
		return 0
	}
	return mask & (unix.EPOLLIN | unix.EPOLLRDNORM)
}

// Register implements vfs.FileOps.
func (e *instance) Register(_ *vfs.File, w *wait.Entry) { e.queue.Add(w) }

// Unregister implements vfs.FileOps.
func (e *instance) Unregister(_ *vfs.File, w *wait.Entry) { e.queue.Remove(w) }
