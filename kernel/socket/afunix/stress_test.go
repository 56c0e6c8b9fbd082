package afunix

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// TestTogether does everything to the same sockets from many goroutines: for the race detector, and for deadlocks.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	const slots, workers = 8, 6
	var mu sync.Mutex
	var files [slots]*vfs.File // guarded by mu
	take := func(i int) *vfs.File {
		mu.Lock()
		defer mu.Unlock()
		if f := files[i]; f != nil {
			f.IncRef()
			return f
		}
		return nil
	}
	put := func(i int, s *socket.Socket) {
		f := s.Open(0, w.ctx.Cred, 0)
		mu.Lock()
		old := files[i]
		files[i] = f
		mu.Unlock()
		if old != nil {
			old.DecRef()
		}
	}
	end := time.Now().Add(2 * time.Second)
	if testing.Short() {
		end = time.Now().Add(300 * time.Millisecond)
	}
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(3, uint64(worker)))
			types := []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET}
			addr := func() []byte { return append([]byte{unix.AF_UNIX, 0, 0}, byte('a'+r.IntN(3))) }
			for time.Now().Before(end) {
				i, m := r.IntN(slots), w.message()
				f := take(i)
				if f == nil || r.IntN(20) == 0 {
					if r.IntN(2) == 0 {
						s, _ := w.fam.New(&m.Caller, types[r.IntN(3)], 0)
						put(i, s)
					} else {
						a, b, _ := w.fam.Pair(&m.Caller, types[r.IntN(3)], 0)
						put(i, a)
						put(r.IntN(slots), b)
					}
					if f != nil {
						f.DecRef()
					}
					continue
				}
				s, _ := socket.Of(f)
				o := s.Ops()
				switch r.IntN(14) {
				case 0:
					o.Bind(&m.Caller, addr())
				case 1:
					o.Listen(&m.Caller, r.IntN(3))
				case 2:
					o.Connect(&m.Caller, addr())
				case 3:
					if n, err := o.Accept(&m.Caller); err == nil {
						put(r.IntN(slots), n)
					}
				case 4, 5, 6:
					if r.IntN(3) == 0 {
						m.Addr = addr()
					}
					if other := take(r.IntN(slots)); other != nil {
						fd, err := w.fds.Install(other, 0, 0, 1<<20)
						if err != nil {
							other.DecRef()
							break
						}
						m.Control = []socket.Control{{Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS, Data: socket.Int(fd)}}
						src := uio.Buffer(make([]byte, 1+r.IntN(5000)))
						o.Send(m, &src)
						w.fds.Close(fd)
					}
				case 7, 8, 9:
					m.WantAddr = true
					if r.IntN(3) == 0 {
						m.Flags = unix.MSG_PEEK
					}
					dst := uio.Buffer(make([]byte, r.IntN(5000)))
					o.Receive(m, &dst)
					m.Drop()
				case 10:
					o.Shutdown(r.IntN(3))
				case 11:
					o.Poll()
				case 12:
					o.Name(r.IntN(2) == 0)
					w.net.Proc(0)
				case 13:
					s.Option(&m.Caller, unix.SOL_SOCKET, unix.SO_ERROR)
				}
				f.DecRef()
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		panic("the workers do not end") // with all stacks
	}
	for _, f := range files {
		if f != nil {
			f.DecRef()
		}
	}
	// What was lost is found when a socket is closed.
	a, _ := w.fam.New(&w.message().Caller, unix.SOCK_STREAM, 0)
	a.Open(0, w.ctx.Cred, 0).DecRef()
	w.idle()
}

// What all sockets together hold is bounded: ENOBUFS, and room again when it was read.
func TestBound(t *testing.T) {
	w := newWorld(t)
	most := share.Unix.Used() + 64<<10
	share.Unix.SetMost(most)
	defer share.Unix.SetMost(math.MaxInt64)
	var last *socket.Socket
	var files []*vfs.File
	err := error(nil)
	for len(files) < 400 && err != unix.ENOBUFS {
		a, b, _ := w.fam.Pair(&w.message().Caller, unix.SOCK_STREAM, 0)
		files = append(files, a.Open(0, w.ctx.Cred, 0), b.Open(0, w.ctx.Cred, 0))
		last = b
		for err = nil; err == nil; {
			src := uio.Buffer{1}
			_, err = a.Ops().Send(w.message(), &src)
		}
	}
	if err != unix.ENOBUFS {
		t.Fatal(err)
	}
	if n := share.Unix.Used(); n > most {
		t.Errorf("%d bytes are held", n)
	}
	dst := uio.Buffer(make([]byte, 1000))
	if n, err := last.Ops().Receive(w.message(), &dst); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	src := uio.Buffer{1}
	if _, err := last.Ops().(*sock).peer.Load().Send(w.message(), &src); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.DecRef()
	}
	w.idle()
}
