package mqueue

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
)

func newSpace() *Space { return New(func() int64 { return 1 }) }

func open(t *testing.T, s *Space, name string, attr *Attr) (*vfs.File, *Queue) {
	t.Helper()
	f, err := s.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600, attr, cred.Root(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return f, Of(f)
}

func TestOrder(t *testing.T) {
	s := newSpace()
	f, q := open(t, s, "q", &Attr{8, 16})
	defer f.DecRef()
	for _, m := range []Message{{1, []byte("a")}, {5, []byte("b")}, {1, []byte("c")}, {9, []byte("d")}, {5, []byte("e")}} {
		if err := q.TrySend(m, cred.Root(), 1); err != nil {
			t.Fatal(err)
		}
	}
	got := ""
	for {
		m, err := q.TryReceive(16)
		if err == unix.EAGAIN {
			break
		}
		got += string(m.Text)
	}
	if got != "dbeac" {
		t.Errorf("order %s", got)
	}
}

func TestLimits(t *testing.T) {
	s := newSpace()
	c := cred.Root()
	for _, a := range []Attr{{0, 1}, {1, 0}, {-1, 1}, {hardCount + 1, 1}, {1, hardSize + 1}} {
		if _, err := s.Open("q", unix.O_RDWR|unix.O_CREAT, 0, &a, c, 1<<40); err != unix.EINVAL {
			t.Errorf("%v: %v", a, err)
		}
	}
	for name, want := range map[string]error{"": unix.ENOENT, "a/b": unix.EACCES, strings.Repeat("x", 256): unix.ENAMETOOLONG} {
		if _, err := s.Open(name, unix.O_RDWR|unix.O_CREAT, 0, nil, c, 1<<40); err != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	f, q := open(t, s, "q", &Attr{2, 4})
	if _, err := s.Open("r", unix.O_RDWR|unix.O_CREAT, 0, &Attr{2, 4}, c, 2*q.cost()-1); err != unix.EMFILE {
		t.Errorf("beyond RLIMIT_MSGQUEUE: %v", err)
	}
	if err := q.TrySend(Message{0, []byte("12345")}, c, 1); err != unix.EMSGSIZE {
		t.Error(err)
	}
	if _, err := q.TryReceive(3); err != unix.EMSGSIZE {
		t.Error(err)
	}
	q.TrySend(Message{0, nil}, c, 1)
	q.TrySend(Message{0, nil}, c, 1)
	if err := q.TrySend(Message{0, nil}, c, 1); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := s.Unlink("q", c); err != nil || s.bytes[0] == 0 {
		t.Errorf("%v; an open queue counts until it is closed", err)
	}
	f.DecRef()
	if len(s.bytes) != 0 {
		t.Errorf("left: %v", s.bytes)
	}
}

func TestNotify(t *testing.T) {
	s := newSpace()
	f, q := open(t, s, "q", nil)
	defer f.DecRef()
	told := 0
	n := &Notify{PID: 7, Send: func(*cred.Cred, int32) { told++ }}
	if err := q.SetNotify(n, 7); err != nil {
		t.Fatal(err)
	}
	if err := q.SetNotify(n, 8); err != unix.EBUSY {
		t.Error(err)
	}
	q.SetNotify(nil, 8) // not its own
	q.Waiting(1)
	q.TrySend(Message{0, nil}, cred.Root(), 1) // somebody waits for it
	q.Waiting(-1)
	q.TryReceive(MaxSize)
	if told != 0 {
		t.Error("told although somebody waited")
	}
	q.TrySend(Message{0, nil}, cred.Root(), 1)
	q.TrySend(Message{0, nil}, cred.Root(), 1)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	q.SetNotify(n, 7)
	s.Exited(7)
	if q.notify != nil {
		t.Error("the end of the process takes nothing back")
	}
}

func TestConcurrent(t *testing.T) {
	s := newSpace()
	f, q := open(t, s, "q", &Attr{10, 8})
	defer f.DecRef()
	var wg sync.WaitGroup
	const each = 60
	for range 4 {
		wg.Go(func() {
			for sent := 0; sent < each; {
				if q.TrySend(Message{uint32(sent % 7), []byte("x")}, cred.Root(), 1) == nil {
					sent++
				}
			}
		})
	}
	got := 0
	for got < 4*each {
		if _, err := q.TryReceive(8); err == nil {
			got++
		}
	}
	wg.Wait()
	if _, n := q.Attr(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// What all queues hold together has a bound, whatever RLIMIT_MSGQUEUE says, and goes with the last of them.
func TestTotal(t *testing.T) {
	before := share.IPC.Used()
	share.IPC.SetMost(256 << 10)
	defer share.IPC.SetMost(math.MaxInt64)
	s := newSpace()
	var files []*vfs.File
	var err error
	for i := 0; err == nil; i++ {
		var f *vfs.File
		name := "q" + strconv.Itoa(i)
		if f, err = s.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600, &Attr{4, 8192}, cred.Root(), math.MaxUint64); err != nil {
			break
		}
		files = append(files, f)
		for err = nil; err == nil; {
			err = Of(f).TrySend(Message{0, make([]byte, 8192)}, cred.Root(), 1)
		}
		if err == unix.EAGAIN {
			err = nil
		}
		if i%2 == 0 {
			_ = s.Unlink(name, cred.Root())
		}
	}
	if err != unix.ENOMEM || len(files) < 6 {
		t.Errorf("%d queues: %v", len(files), err)
	}
	if _, err = Of(files[0]).TryReceive(8192); err != nil {
		t.Error(err)
	}
	if err = Of(files[0]).TrySend(Message{0, make([]byte, 8192)}, cred.Root(), 1); err != nil {
		t.Error(err)
	}
	s.Clear()
	for _, f := range files {
		f.DecRef()
	}
	if got := share.IPC.Used() - before; got != 0 {
		t.Errorf("%d bytes are left", got)
	}
}
