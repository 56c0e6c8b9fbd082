package syscall

import (
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/iouring"
	"gosv/kernel/share"
	"gosv/kernel/task"
)

// testRing is a ring as a program sees it.
type testRing struct {
	u                *user
	fd               uint64
	mem, sqes        uint64
	sq, cq           [7]uint64 // offsets of head, tail, mask, entries, flags, dropped, array; and of the completions'
	entries, pending uint32
}

// openRing makes a ring; at is memory for its parameters.
func openRing(u *user, entries, flags uint64) *testRing {
	r := &testRing{u: u}
	p := u.alloc(iouring.SizeofParams)
	b := make([]byte, iouring.SizeofParams)
	le.PutUint32(b[8:], uint32(flags))
	u.write(p, b)
	r.fd = u.must(unix.SYS_IO_URING_SETUP, entries, p)
	b = u.read(p, iouring.SizeofParams)
	r.entries = le.Uint32(b)
	for i := range r.sq {
		r.sq[i], r.cq[i] = uint64(le.Uint32(b[40+4*i:])), uint64(le.Uint32(b[80+4*i:]))
	}
	r.mem = u.must(unix.SYS_MMAP, 0, r.sq[6]+4*uint64(r.entries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, r.fd, iouring.OffSQRing)
	r.sqes = u.must(unix.SYS_MMAP, 0, 64*uint64(r.entries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, r.fd, iouring.OffSQEs)
	return r
}

// load reads a field of the ring as the program's processor does.
func (r *testRing) load(off uint64) uint32 {
	r.u.touch(r.mem+off, false)
	v, _ := r.u.space.Load32(r.mem + off)
	return v
}

func (r *testRing) store(off uint64, v uint32) {
	r.u.touch(r.mem+off, true)
	r.u.space.Store32(r.mem+off, v)
}

// add queues a submission.
func (r *testRing) add(s iouring.SQE) {
	tail := r.load(r.sq[1])
	i := tail & (r.entries - 1)
	b := make([]byte, 64)
	b[0], b[1] = s.Opcode, s.Flags
	le.PutUint16(b[2:], s.Ioprio)
	le.PutUint32(b[4:], uint32(s.FD))
	le.PutUint64(b[8:], s.Off)
	le.PutUint64(b[16:], s.Addr)
	le.PutUint32(b[24:], s.Len)
	le.PutUint32(b[28:], s.OpFlags)
	le.PutUint64(b[32:], s.UserData)
	le.PutUint16(b[40:], s.Buf)
	le.PutUint32(b[44:], s.FileIndex)
	r.u.write(r.sqes+64*uint64(i), b)
	r.store(r.sq[6]+4*uint64(i), i)
	r.store(r.sq[1], tail+1)
	r.pending++
}

// enter submits what was added and waits for least completions.
func (r *testRing) enter(least uint64) uint64 {
	n := uint64(r.pending)
	r.pending = 0
	return r.u.call(unix.SYS_IO_URING_ENTER, r.fd, n, least, enterGetevents, 0, 8)
}

// take returns the next completion: its user data and result.
func (r *testRing) take() (data uint64, res int32) {
	head := r.load(r.cq[0])
	for r.load(r.cq[1]) == head {
		r.enter(1)
	}
	b := r.u.read(r.mem+r.cq[5]+16*uint64(head&(2*r.entries-1)), 16)
	r.store(r.cq[0], head+1)
	return le.Uint64(b), int32(le.Uint32(b[8:]))
}

// Operations wait for a pipe, time out and are cancelled while their threads go on.
func TestUring(t *testing.T) {
	w := newWorld(t, Options{})
	w.run(func(u *user) {
		r := openRing(u, 8, 0)
		from, to := u.pipe()
		buf, text := u.alloc(64), u.str("hello")
		want := func(data uint64, res int32) {
			t.Helper()
			if d, v := r.take(); d != data || v != res {
				t.Errorf("completion %d: %d, want %d: %d", d, v, data, res)
			}
		}
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 64, UserData: 1})
		if n := r.enter(0); n != 1 || r.load(r.cq[1]) != 0 {
			t.Errorf("submitted %d", n)
		}
		r.add(iouring.SQE{Opcode: opWrite, FD: to, Addr: text, Len: 5, UserData: 2})
		r.enter(2)
		seen := map[uint64]int32{}
		for range 2 {
			d, v := r.take()
			seen[d] = v
		}
		if seen[1] != 5 || seen[2] != 5 || string(u.read(buf, 5)) != "hello" {
			t.Errorf("%v", seen)
		}
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 64, UserData: 3, Flags: iouring.Link})
		r.add(iouring.SQE{Opcode: iouring.OpLinkTimeout, Addr: u.words(0, 1000000), Len: 1, UserData: 4})
		r.enter(2)
		seen = map[uint64]int32{}
		for range 2 {
			d, v := r.take()
			seen[d] = v
		}
		if seen[3] != -int32(unix.ECANCELED) || seen[4] != -int32(unix.ETIME) {
			t.Errorf("%v", seen)
		}
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 64, UserData: 5, Flags: iouring.Async})
		r.enter(0)
		u.must(unix.SYS_WRITE, uint64(to), text, 3)
		want(5, 3)
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 64, UserData: 6}) // still waits at the end
		r.enter(0)
		u.exit(0)
	})
}

// ringsShare returns what is taken of share.Rings, and sees to it that all is given back when the test ends.
func ringsShare(t *testing.T) int64 {
	before := share.Rings.Used()
	t.Cleanup(func() {
		for end := time.Now().Add(20 * time.Second); share.Rings.Used() != before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%d bytes were not given back", share.Rings.Used()-before)
				return
			}
		}
	})
	return before
}

// pipe makes a pipe.
func (u *user) pipe() (from, to int32) {
	p := u.alloc(8)
	u.must(unix.SYS_PIPE, p)
	b := u.read(p, 8)
	return int32(le.Uint32(b)), int32(le.Uint32(b[4:]))
}

// TestUringShare: requests, those that wait in a chain for others too, and provided buffers have a bound.
func TestUringShare(t *testing.T) {
	before := ringsShare(t)
	defer share.Rings.SetMost(math.MaxInt64)
	w := newWorld(t, Options{})
	w.run(func(u *user) {
		r := openRing(u, 64, 0)
		from, to := u.pipe()
		buf := u.alloc(64)
		share.Rings.SetMost(before + 20*1024)
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 1, UserData: 1, Flags: iouring.Link})
		for range 39 {
			r.add(iouring.SQE{UserData: 2, Flags: iouring.Link})
		}
		if n := r.enter(0); n != 20 {
			t.Errorf("%d of a chain of 40 were taken, want 20", n)
		}
		u.fails(unix.EAGAIN, unix.SYS_IO_URING_ENTER, r.fd, 20, 0, 0, 0, 0)
		u.must(unix.SYS_WRITE, uint64(to), buf, 1)
		for i := range 20 {
			if d, v := r.take(); i == 0 && (d != 1 || v != 1) || i > 0 && (d != 2 || v != 0) {
				t.Errorf("completion %d: %d", d, v)
			}
		}
		u.must(unix.SYS_IO_URING_ENTER, r.fd, 20, 20, enterGetevents, 0, 8)
		for range 20 {
			r.take()
		}
		for i := range 3 {
			want := int32(0)
			if i == 2 {
				want = -int32(unix.ENOMEM)
			}
			r.add(iouring.SQE{Opcode: 31, FD: 128, Addr: buf, Len: 1, Buf: uint16(i), UserData: 3})
			if _, v := r.take(); v != want {
				t.Errorf("group %d: %d, want %d", i, v, want)
			}
		}
		r.add(iouring.SQE{Opcode: 32, FD: 128, Buf: 0, UserData: 3})
		r.take()
		r.add(iouring.SQE{Opcode: 31, FD: 128, Addr: buf, Len: 1, Buf: 2, UserData: 3})
		if _, v := r.take(); v != 0 {
			t.Errorf("after one was removed: %d", v)
		}
		u.exit(0)
	})
}

// TestUringBuffersGivenBack: a provided buffer into which nothing came is the next one again.
func TestUringBuffersGivenBack(t *testing.T) {
	ringsShare(t)
	w := newWorld(t, Options{})
	w.run(func(u *user) {
		r := openRing(u, 8, 0)
		from, to := u.pipe()
		buf := u.alloc(64)
		r.add(iouring.SQE{Opcode: 31, FD: 4, Addr: buf, Len: 16, Off: 10, UserData: 1})
		r.take()
		for i := range uint64(3) { // waits first, and then takes the buffer again
			r.add(iouring.SQE{Opcode: opRead, FD: from, Len: 16, UserData: 2, Flags: iouring.BufferSelect})
			r.enter(0)
			u.must(unix.SYS_WRITE, uint64(to), u.str("x"), 1)
			if _, v := r.take(); v != 1 || u.read(buf+16*i, 1)[0] != 'x' {
				t.Errorf("read %d: %d", i, v)
			}
		}
		u.exit(0)
	})
}

// TestUringManySlow: requests wait where there are more than workers.
func TestUringManySlow(t *testing.T) {
	ringsShare(t)
	const n = task.MaxWorkers + 200
	w := newWorld(t, Options{})
	w.put("/file", 0o666, nil)
	w.run(func(u *user) {
		r := openRing(u, 2048, 0)
		from, to := u.pipe()
		file := int32(u.must(unix.SYS_OPEN, u.str("/file"), unix.O_RDWR, 0))
		splices := func() { // each has a worker that waits for the pipe
			for range n {
				r.add(iouring.SQE{Opcode: 30, FD: file, FileIndex: uint32(from), Addr: 1<<64 - 1, Off: 1<<64 - 1, Len: 1, UserData: 1})
			}
			if got := r.enter(0); got != n {
				t.Errorf("%d were taken", got)
			}
		}
		splices()
		time.Sleep(200 * time.Millisecond) // for what should not happen: that some fail
		u.must(unix.SYS_WRITE, uint64(to), u.alloc(n), n)
		for range n {
			if _, v := r.take(); v != 1 {
				t.Errorf("a splice gave %d", v)
				break
			}
		}
		splices() // still wait at the end
		u.exit(0)
	})
}

// TestUringWorkers: with one worker, what waits for it can be cancelled, and goes on when there may be more.
func TestUringWorkers(t *testing.T) {
	ringsShare(t)
	w := newWorld(t, Options{})
	w.put("/file", 0o666, nil)
	w.run(func(u *user) {
		r := openRing(u, 8, 0)
		from, to := u.pipe()
		file := int32(u.must(unix.SYS_OPEN, u.str("/file"), unix.O_RDWR, 0))
		workers := func(bounded, unbounded uint64) (before uint32) {
			arg := u.words(bounded | unbounded<<32)
			u.must(unix.SYS_IO_URING_REGISTER, r.fd, 19, arg, 2)
			return u.half(arg + 4)
		}
		splices := func(n uint64) {
			for i := range n {
				r.add(iouring.SQE{Opcode: 30, FD: file, FileIndex: uint32(from), Addr: 1<<64 - 1, Off: 1<<64 - 1, Len: 1, UserData: i})
			}
			r.enter(0)
		}
		workers(0, 1)
		if n := workers(0, 0); n != 1 {
			t.Errorf("%d workers", n)
		}
		splices(3)
		for i := range uint64(3) {
			r.add(iouring.SQE{Opcode: 14, FD: -1, Addr: i, UserData: 9})
			for range 2 {
				d, v := r.take()
				if e := unix.Errno(-v); d == 9 && v != 0 && e != unix.EALREADY || d != 9 && (d != i || e != unix.ECANCELED && e != unix.EINTR) {
					t.Errorf("cancelling %d: %d gave %d", i, d, v)
				}
			}
		}
		splices(3)
		workers(0, 8)
		u.must(unix.SYS_WRITE, uint64(to), u.alloc(8), 3)
		for range 3 {
			if d, v := r.take(); v != 1 {
				t.Errorf("splice %d gave %d", d, v)
			}
		}
		workers(0, 1)
		splices(3) // still wait at the end
		u.exit(0)
	})
}

// TestUringClosed: of a chain nothing starts any more when its ring is closed.
func TestUringClosed(t *testing.T) {
	ringsShare(t)
	w := newWorld(t, Options{})
	w.run(func(u *user) {
		r := openRing(u, 8, 0)
		from, _ := u.pipe()
		from2, to2 := u.pipe()
		buf := u.alloc(64)
		r.add(iouring.SQE{Opcode: opRead, FD: from, Addr: buf, Len: 1, UserData: 1, Flags: iouring.HardLink})
		r.add(iouring.SQE{Opcode: opRead, FD: from2, Addr: buf, Len: 1, UserData: 2})
		r.enter(0)
		u.must(unix.SYS_MUNMAP, r.mem, r.sq[6]+4*uint64(r.entries))
		u.must(unix.SYS_MUNMAP, r.sqes, 64*uint64(r.entries))
		u.must(unix.SYS_CLOSE, r.fd)
		time.Sleep(20 * time.Millisecond) // for what should not happen
		u.must(unix.SYS_WRITE, uint64(to2), buf, 1)
		time.Sleep(20 * time.Millisecond)
		left := u.words(0)
		u.must(unix.SYS_IOCTL, uint64(from2), unix.TIOCINQ, left)
		if n := u.half(left); n != 1 {
			t.Error("the second request read from its pipe")
		}
		u.exit(0)
	})
}

// FuzzUring submits what a program could have written into its ring: submissions, indices, positions. The kernel must survive,
// and the process must end.
func FuzzUring(f *testing.F) {
	f.Add([]byte{22, 0, 0, 0, 1, 3, 0, 1, 0, 0, 0, 23, 0, 1, 0, 1, 3, 0, 2, 0, 0, 0})
	f.Add([]byte{6, 4, 0, 0, 0, 0, 1, 1, 0, 0, 0, 11, 2, 9, 0, 2, 1, 0, 2, 0, 0, 1, 14, 0, 0, 0, 1, 0, 0, 3, 0, 0, 2})
	f.Add([]byte{31, 0, 2, 0, 1, 3, 0, 1, 1, 0, 0, 22, 32, 0, 0, 0, 3, 0, 2, 1, 0, 0, 18, 8, 9, 0, 4, 0, 0, 3, 0, 1, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		ringsShare(t)
		w := newWorld(t, Options{})
		w.patience = 300 * time.Millisecond
		w.put("/file", 0o666, []byte("contents"))
		w.run(func(u *user) {
			r := openRing(u, 8, 0)
			p := u.alloc(8)
			u.must(unix.SYS_PIPE2, p, 0)
			b := u.read(p, 8)
			file := u.must(unix.SYS_OPEN, u.str("/file"), unix.O_RDWR, 0)
			fds := []int32{int32(le.Uint32(b)), int32(le.Uint32(b[4:])), int32(file), int32(r.fd), -1, 99, 0, 1}
			pool := []uint64{0, u.alloc(256), u.words(0, 1000), 64, u.str("/file"), u.words(dataBase, 8, dataBase+64, 8), 1, 2, 3, 5, 8, 4096, 1 << 20, ^uint64(0), 1 << 31, 1<<63 - 1}
			for n := 0; len(script) >= 11 && n < 32; script, n = script[11:], n+1 {
				s := script
				at := func(i int) uint64 { return pool[int(s[i])%len(pool)] }
				r.add(iouring.SQE{Opcode: s[0] % 50, Flags: s[1], FD: fds[int(s[2])%len(fds)], Off: at(3), Addr: at(4), Len: uint32(at(5)), OpFlags: uint32(at(6)),
					UserData: uint64(s[7] % 4), Buf: uint16(s[8] % 4), FileIndex: uint32(at(9)), Ioprio: uint16(s[8] >> 6)})
				switch s[10] % 8 {
				case 1:
					r.enter(0)
				case 2: // positions and indices that are wrong
					r.store(r.cq[0], uint32(at(9)))
				case 3:
					r.store(r.sq[1], uint32(at(9)))
				case 4:
					r.store(r.sq[6]+4*uint64(s[8]%8), uint32(at(9)))
				case 5:
					u.call(unix.SYS_IO_URING_REGISTER, r.fd, uint64(s[0]%27), at(3), at(5))
				}
			}
			r.u.call(unix.SYS_IO_URING_ENTER, r.fd, 64, 0, 0, 0, 0)
			u.exit(0)
		})
	})
}

// FuzzAIO submits struct iocbs that a program could have made, and writes over the ring.
func FuzzAIO(f *testing.F) {
	f.Add([]byte{0, 0, 1, 3, 0, 0, 1, 0, 1, 1, 3, 0, 0, 1})
	f.Add([]byte{5, 0, 1, 0, 0, 1, 2, 3, 2, 0, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, Options{})
		w.patience = 300 * time.Millisecond
		w.put("/file", 0o666, []byte("contents"))
		w.run(func(u *user) {
			p := u.alloc(8)
			u.must(unix.SYS_PIPE2, p, 0)
			b := u.read(p, 8)
			file := u.must(unix.SYS_OPEN, u.str("/file"), unix.O_RDWR, 0)
			fds := []uint32{le.Uint32(b), le.Uint32(b[4:]), uint32(file), 99, ^uint32(0)}
			at := u.words(0)
			u.must(unix.SYS_IO_SETUP, 4, at)
			ctx := u.word(at)
			pool := []uint64{0, u.alloc(256), 1, 8, 64, u.words(dataBase, 8, dataBase+64, 8), 4096, ^uint64(0), 1 << 63, 1<<32 - 1}
			iocb, list, events := u.alloc(64), u.alloc(8), u.alloc(32*8)
			for n := 0; len(script) >= 7 && n < 32; script, n = script[7:], n+1 {
				s := script
				at := func(i int) uint64 { return pool[int(s[i])%len(pool)] }
				c := make([]byte, 64)
				le.PutUint16(c[16:], uint16(s[0]%10))
				le.PutUint32(c[20:], fds[int(s[1])%len(fds)])
				le.PutUint64(c[24:], at(2))
				le.PutUint64(c[32:], at(3))
				le.PutUint64(c[40:], at(4))
				le.PutUint32(c[56:], uint32(s[5]%4))
				le.PutUint32(c[60:], fds[int(s[5])%len(fds)])
				u.write(iocb, c)
				u.write(list, le.AppendUint64(nil, iocb))
				u.call(unix.SYS_IO_SUBMIT, ctx, 1, list)
				switch s[6] % 6 {
				case 1:
					u.call(unix.SYS_IO_GETEVENTS, ctx, 0, 8, events, 0)
				case 2:
					u.touch(ctx, true)
					u.space.Store32(ctx+8, uint32(at(4)))
				case 3:
					u.call(unix.SYS_IO_CANCEL, ctx, iocb, events)
				case 4:
					u.call(unix.SYS_IO_DESTROY, ctx)
				}
			}
			u.exit(0)
		})
	})
}
