package epoll_test

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/epoll"
	"gosv/kernel/pipe"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/kernel/wait"
)

type bench struct {
	*vfstest.Tree
	t *testing.T
}

func (b bench) pipe() (r, w *vfs.File) {
	r, w, err := pipe.New(b.NS, b.Ctx.Cred, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return r, w
}

func (b bench) epoll() *vfs.File { return epoll.New(b.NS, b.Ctx.Cred) }

func (b bench) ctl(ep *vfs.File, op, fd int, f *vfs.File, events uint32, want error) {
	b.t.Helper()
	if err := epoll.Ctl(ep, op, fd, f, abi.EpollEvent{Events: events, Data: uint64(fd)}); err != want {
		b.t.Errorf("ctl: %v, want %v", err, want)
	}
}

// expect checks what Collect finds: the data of the events, in order.
func (b bench) expect(ep *vfs.File, want ...uint64) {
	b.t.Helper()
	var got []uint64
	n, err := epoll.Collect(ep, 10, func(e abi.EpollEvent) bool {
		got = append(got, e.Data)
		return true
	})
	if len(want) == 0 && err != unix.EAGAIN || n != len(want) {
		b.t.Errorf("%d events %v (%v), want %v", n, got, err, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			b.t.Errorf("events %v, want %v", got, want)
		}
	}
	if ready := ep.Readiness(unix.POLLIN) != 0; ready && len(want) == 0 {
		b.t.Error("readable without an event")
	}
}

func write(f *vfs.File, s string) {
	b := uio.Buffer(s)
	f.Write(&b)
}

func read(f *vfs.File, n int) {
	b := uio.Buffer(make([]byte, n))
	f.Read(&b)
}

func start(t *testing.T) bench { return bench{vfstest.New(t), t} }

func TestTriggers(t *testing.T) {
	b := start(t)
	r, w := b.pipe()
	ep := b.epoll()
	b.ctl(ep, unix.EPOLL_CTL_ADD, 1, r, unix.EPOLLIN, nil)
	b.expect(ep)
	write(w, "ab")
	b.expect(ep, 1)
	b.expect(ep, 1) // level
	read(r, 2)
	b.expect(ep)

	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, unix.EPOLLIN|unix.EPOLLET, nil)
	write(w, "ab")
	b.expect(ep, 1)
	b.expect(ep) // edge
	write(w, "c")
	b.expect(ep, 1)
	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, unix.EPOLLIN|unix.EPOLLET, nil)
	b.expect(ep, 1) // armed again while ready

	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, unix.EPOLLIN|unix.EPOLLONESHOT, nil)
	b.expect(ep, 1)
	write(w, "d")
	b.expect(ep) // one shot
	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, unix.EPOLLIN|unix.EPOLLONESHOT, nil)
	b.expect(ep, 1)

	b.ctl(ep, unix.EPOLL_CTL_DEL, 1, r, 0, nil)
	b.expect(ep)
	b.ctl(ep, unix.EPOLL_CTL_DEL, 1, r, 0, unix.ENOENT)
	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, 0, unix.ENOENT)
	// Without events, errors are told still.
	b.ctl(ep, unix.EPOLL_CTL_ADD, 2, w, 0, nil)
	b.expect(ep)
	r.DecRef()
	b.expect(ep, 2)
	w.DecRef()
	b.expect(ep) // gone with its file
	ep.DecRef()
}

func TestOrderAndLimit(t *testing.T) {
	b := start(t)
	ep := b.epoll()
	var files []*vfs.File
	for fd := range 4 {
		r, w := b.pipe()
		files = append(files, r, w)
		b.ctl(ep, unix.EPOLL_CTL_ADD, fd, r, unix.EPOLLIN, nil)
	}
	for _, fd := range []int{2, 0, 3, 1} {
		write(files[2*fd+1], "x")
	}
	got := make(map[uint64]int)
	for range 4 { // taking one each time, all get their turn
		if n, err := epoll.Collect(ep, 1, func(e abi.EpollEvent) bool { got[e.Data]++; return true }); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(got) != 4 {
		t.Errorf("events %v", got)
	}
	if n, err := epoll.Collect(ep, 4, func(abi.EpollEvent) bool { return false }); n != 0 || err != unix.EFAULT {
		t.Error(n, err)
	}
	b.expect(ep, 0, 3, 1, 2)
	if _, err := epoll.Collect(ep, 0, nil); err != unix.EINVAL {
		t.Error(err)
	}
	for _, f := range files {
		f.DecRef()
	}
	ep.DecRef()
}

func TestErrors(t *testing.T) {
	b := start(t)
	b.Write(t, "/file", "")
	reg, err := vfs.Open(b.Ctx, vfs.Path{}, "/file", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w := b.pipe()
	ep := b.epoll()
	b.ctl(ep, unix.EPOLL_CTL_ADD, 1, reg, unix.EPOLLIN, unix.EPERM)
	b.ctl(ep, unix.EPOLL_CTL_ADD, 1, ep, unix.EPOLLIN, unix.EINVAL)
	b.ctl(r, unix.EPOLL_CTL_ADD, 1, w, unix.EPOLLIN, unix.EINVAL)
	b.ctl(ep, 77, 1, r, unix.EPOLLIN, unix.EINVAL)
	b.ctl(ep, unix.EPOLL_CTL_ADD, 1, r, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, nil)
	b.ctl(ep, unix.EPOLL_CTL_ADD, 1, r, unix.EPOLLIN, unix.EEXIST)
	b.ctl(ep, unix.EPOLL_CTL_ADD, 2, r, unix.EPOLLIN, nil)
	b.ctl(ep, unix.EPOLL_CTL_MOD, 1, r, unix.EPOLLIN, unix.EINVAL)
	b.ctl(ep, unix.EPOLL_CTL_ADD, 3, r, unix.EPOLLIN|unix.EPOLLEXCLUSIVE|unix.EPOLLONESHOT, unix.EINVAL)
	for _, f := range []*vfs.File{reg, r, w, ep} {
		f.DecRef()
	}
}

func TestNesting(t *testing.T) {
	b := start(t)
	r, w := b.pipe()
	var eps []*vfs.File
	for range 7 {
		eps = append(eps, b.epoll())
	}
	b.ctl(eps[0], unix.EPOLL_CTL_ADD, 9, r, unix.EPOLLIN, nil)
	b.ctl(eps[1], unix.EPOLL_CTL_ADD, 10, eps[0], unix.EPOLLIN, nil)
	b.ctl(eps[0], unix.EPOLL_CTL_ADD, 10, eps[1], unix.EPOLLIN, unix.ELOOP)
	b.expect(eps[1])
	write(w, "x")
	b.expect(eps[1], 10)
	b.expect(eps[0], 9)
	read(r, 1)
	b.expect(eps[1])
	b.ctl(eps[2], unix.EPOLL_CTL_ADD, 1, eps[1], unix.EPOLLIN, nil)
	b.ctl(eps[0], unix.EPOLL_CTL_ADD, 2, eps[2], unix.EPOLLIN, unix.ELOOP)
	b.ctl(eps[3], unix.EPOLL_CTL_ADD, 1, eps[2], unix.EPOLLIN, nil)
	b.ctl(eps[4], unix.EPOLL_CTL_ADD, 1, eps[3], unix.EPOLLIN, nil)
	b.ctl(eps[5], unix.EPOLL_CTL_ADD, 1, eps[4], unix.EPOLLIN, unix.ELOOP)
	b.ctl(eps[0], unix.EPOLL_CTL_ADD, 1, eps[6], unix.EPOLLIN, unix.ELOOP) // too deep from above
	write(w, "y")
	b.expect(eps[4], 1)
	for _, f := range append(eps, r, w) {
		f.DecRef()
	}
}

type waker chan struct{}

func (w waker) Ready(*wait.Entry, wait.Mask) {
	select {
	case w <- struct{}{}:
	default:
	}
}

// TestNoWakeupIsLost has writers, waiters and changes at the same time: every byte that is
// written must be read, edge-triggered.
func TestNoWakeupIsLost(t *testing.T) {
	b := start(t)
	ep := b.epoll()
	const pipes, bytes = 4, 2000
	var rs, ws [pipes]*vfs.File
	for i := range pipes {
		r, w, err := pipe.New(b.NS, b.Ctx.Cred, unix.O_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		rs[i], ws[i] = r, w
		b.ctl(ep, unix.EPOLL_CTL_ADD, i, r, unix.EPOLLIN|unix.EPOLLET, nil)
	}
	var left atomic.Int32
	left.Store(pipes * bytes)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			wake := make(waker, 1)
			e := wait.Entry{Waiter: wake, Events: unix.EPOLLIN, Exclusive: true}
			ep.Register(&e)
			defer ep.Unregister(&e)
			for {
				_, err := epoll.Collect(ep, 2, func(ev abi.EpollEvent) bool {
					for {
						buf := uio.Buffer(make([]byte, 3))
						n, err := rs[ev.Data].Read(&buf)
						if err != nil {
							return true
						}
						if left.Add(int32(-n)) == 0 {
							close(done)
						}
					}
				})
				if err == unix.EAGAIN {
					select {
					case <-wake:
					case <-done:
						return
					}
				}
			}
		})
	}
	for i := range pipes {
		wg.Go(func() {
			for range bytes {
				write(ws[i], "x")
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			epoll.Ctl(ep, unix.EPOLL_CTL_MOD, 0, rs[0], abi.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Data: 0})
			ep.Readiness(unix.POLLIN)
		}
	})
	wg.Wait()
	for i := range pipes {
		rs[i].DecRef()
		ws[i].DecRef()
	}
	ep.DecRef()
}

type counter struct{ told int }

func (c *counter) Ready(*wait.Entry, wait.Mask) { c.told++ }

// TestTheGoneWakeNobody: an interest that ends while it is on the ready list leaves it, though its file is ready still.
func TestTheGoneWakeNobody(t *testing.T) {
	b := start(t)
	ep := b.epoll()
	for name, end := range map[string]func(r *vfs.File){
		"deleted": func(r *vfs.File) { b.ctl(ep, unix.EPOLL_CTL_DEL, 1, r, 0, nil) },
		"closed":  func(r *vfs.File) { r.DecRef() },
	} {
		r, w := b.pipe()
		b.ctl(ep, unix.EPOLL_CTL_ADD, 1, r, unix.EPOLLIN, nil)
		write(w, "a")
		b.expect(ep, 1)
		end(r)
		var c counter
		e := wait.Entry{Waiter: &c, Events: unix.POLLIN}
		ep.Register(&e)
		for range 3 {
			b.expect(ep)
		}
		ep.Unregister(&e)
		if c.told != 0 {
			t.Errorf("%s: waiters were told %d times", name, c.told)
		}
		w.DecRef()
		if name == "deleted" {
			r.DecRef()
		}
	}
}

// cpuTime is the processor time that the thread has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// What a file's end costs does not depend on how many others the instance has.
func TestManyFilesEnd(t *testing.T) {
	b := start(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	closing := func(others int) time.Duration {
		ep := b.epoll()
		defer ep.DecRef()
		var files []*vfs.File
		for i := range others + 200 {
			r, w := b.pipe()
			w.DecRef()
			b.ctl(ep, unix.EPOLL_CTL_ADD, i, r, unix.EPOLLIN, nil)
			files = append(files, r)
		}
		begin := cpuTime(t)
		for _, f := range files[:200] {
			f.DecRef()
		}
		took := cpuTime(t) - begin
		for _, f := range files[200:] {
			f.DecRef()
		}
		return took
	}
	few, many := time.Hour, time.Hour
	for tries := 0; tries < 3 || many > 20*few && tries < 10; tries++ { // the least: the garbage collector has its share now and then
		few, many = min(few, closing(0)), min(many, closing(10000))
	}
	if many > 20*few {
		t.Errorf("%v for 200 files among 10,000, %v for 200 alone", many, few)
	}
}

// TestToldWhileLooking: files become ready and unready while the ready list is looked at; nothing that came onto the list meanwhile
// may be wiped from it.
func TestToldWhileLooking(t *testing.T) {
	b := start(t)
	ep := b.epoll()
	var busy sync.WaitGroup
	var done atomic.Bool
	for fd := range 3 {
		r, w := b.pipe()
		defer r.DecRef()
		defer w.DecRef()
		b.ctl(ep, unix.EPOLL_CTL_ADD, fd, r, unix.EPOLLIN, nil)
		busy.Go(func() {
			for !done.Load() {
				write(w, "a")
				read(r, 1)
			}
		})
	}
	for range 50_000 {
		ep.Readiness(unix.POLLIN)
		_, _ = epoll.Collect(ep, 2, func(abi.EpollEvent) bool { return true }) // EAGAIN is as good
	}
	done.Store(true)
	busy.Wait()
}

// All instances together have so many interests, and a place is free again when one of both files is closed.
func TestInterests(t *testing.T) {
	b := start(t)
	before := share.Interests.Used()
	share.Interests.SetMost(before + 3*epoll.InterestCost)
	defer share.Interests.SetMost(math.MaxInt64)
	r, w := b.pipe()
	e1, e2 := b.epoll(), b.epoll()
	b.ctl(e1, unix.EPOLL_CTL_ADD, 3, r, unix.EPOLLIN, nil)
	b.ctl(e2, unix.EPOLL_CTL_ADD, 3, r, unix.EPOLLIN, nil)
	b.ctl(e2, unix.EPOLL_CTL_ADD, 4, w, unix.EPOLLOUT, nil)
	b.ctl(e2, unix.EPOLL_CTL_ADD, 5, w, unix.EPOLLOUT, unix.ENOSPC)
	b.ctl(e2, unix.EPOLL_CTL_DEL, 3, r, 0, nil)
	b.ctl(e2, unix.EPOLL_CTL_ADD, 5, w, unix.EPOLLOUT, nil)
	w.DecRef()
	b.ctl(e1, unix.EPOLL_CTL_ADD, 6, r, unix.EPOLLIN, nil)
	e1.DecRef()
	e2.DecRef()
	r.DecRef()
	if n := share.Interests.Used() - before; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
