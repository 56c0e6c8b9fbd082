package pipe

import (
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Is reports whether f is an end of a pipe or a FIFO.
func Is(f *vfs.File) bool {
	_, ok := f.Ops().(*end)
	return ok
}

// pair is held by who takes the locks of two pipes, until it has both.
var pair sync.Mutex

// Splice moves up to n bytes from one pipe to another, page by page, and copies none. It
// returns 0 when all writers of in are gone; EAGAIN when in is empty or out is full, EPIPE when nobody reads out,
// EINVAL when both are the same pipe, EBADF when one is none.
func Splice(in, out *vfs.File, n int) (int, error) { return between(in, out, n, (*pipe).moveTo) }

// Tee is Splice that leaves the bytes in the first pipe too (tee(2)).
func Tee(in, out *vfs.File, n int) (int, error) { return between(in, out, n, (*pipe).shareWith) }

func between(in, out *vfs.File, n int, do func(from, to *pipe, n int) int) (done int, err error) {
	from, err := of(in)
	if err != nil {
		return 0, err
	}
	to, err := of(out)
	switch {
	case err != nil:
		return 0, err
	case from == to:
		return 0, unix.EINVAL
	}
	pair.Lock()
	from.mu.Lock()
	to.mu.Lock()
	pair.Unlock()
	before := from.used
	switch {
	case from.used == 0 && from.writers > 0:
		err = unix.EAGAIN
	case to.readers == 0:
		err = unix.EPIPE
	case from.used == 0:
	case to.used == len(to.slots):
		err = unix.EAGAIN
	default:
		done = do(from, to, n)
	}
	freed := from.used < before
	to.mu.Unlock()
	from.mu.Unlock()
	if done > 0 {
		to.queue.Notify(readable)
	}
	if freed {
		from.queue.Notify(writable)
	}
	return done, err
}

// moveTo moves up to n bytes. Both locks are held.
func (p *pipe) moveTo(to *pipe, n int) (done int) {
	for done < n && p.used > 0 && to.used < len(to.slots) {
		s := p.slots[p.head]
		if m := n - done; m < int(s.n) {
			p.pool.Ref(s.frame)
			s.n = uint16(m)
			p.consume(m)
		} else {
			p.pop()
		}
		to.push(s)
		done += int(s.n)
	}
	return done
}

// shareWith lets to have up to n bytes too. Both locks are held.
func (p *pipe) shareWith(to *pipe, n int) (done int) {
	for i := 0; done < n && i < p.used && to.used < len(to.slots); i++ {
		s := *p.slot(i)
		s.n = uint16(min(int(s.n), n-done))
		p.pool.Ref(s.frame)
		to.push(s)
		done += int(s.n)
	}
	return done
}

// Fill puts up to n bytes into a pipe that read yields, a page each time, until the pipe is full or
// read gives less than was asked for. It returns 0 when read does. EAGAIN when the pipe is full, EPIPE
// when nobody reads it, ENOMEM, and read's errors. read runs with the pipe's lock held: it must not block, nor use a pipe.
func Fill(out *vfs.File, n int, read func(uio.Sink) (int64, error)) (done int, err error) {
	p, err := of(out)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	switch {
	case p.readers == 0:
		err = unix.EPIPE
	case p.used == len(p.slots):
		err = unix.EAGAIN
	}
	for short := false; err == nil && !short && done < n && p.used < len(p.slots); {
		short, err = p.fillSlot(&done, min(n-done, machine.PageSize), read)
	}
	p.mu.Unlock()
	if done > 0 {
		p.queue.Notify(readable)
		err = nil
	}
	return done, err
}

// fillSlot fills one slot and reports whether there was less than n bytes. p.mu is held.
//
// +checklocks:p.mu
func (p *pipe) fillSlot(done *int, n int, read func(uio.Sink) (int64, error)) (short bool, err error) {
	frame, err := p.page()
	if err != nil {
		return false, err
	}
	b := uio.Buffer(p.pool.Bytes(frame)[:n])
	m, err := read(&b)
	if m == 0 {
		p.free(frame)
		return true, err
	}
	p.push(slot{frame, 0, uint16(m)})
	*done += int(m)
	return int(m) < n, err
}

// Drain gives up to n bytes of a pipe to write, a page each time, and takes those out that were written. It returns
// 0 when the pipe is empty and all writers are gone. EAGAIN when it is empty, and write's errors. write runs with the pipe's lock
// held: it must not block, nor use a pipe.
func Drain(in *vfs.File, n int, write func(uio.Source) (int64, error)) (done int, err error) {
	p, err := of(in)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	if p.used == 0 && p.writers > 0 {
		err = unix.EAGAIN
	}
	before := p.used
	for short := false; err == nil && !short && done < n && p.used > 0; {
		s := &p.slots[p.head]
		want := min(int(s.n), n-done)
		b := uio.Buffer(p.pool.Bytes(s.frame)[s.off:][:want])
		var m int64
		m, err = write(&b)
		p.consume(int(m))
		done += int(m)
		short = int(m) < want
	}
	freed := p.used < before
	p.mu.Unlock()
	if freed {
		p.queue.Notify(writable)
	}
	if done > 0 {
		err = nil
	}
	return done, err
}
