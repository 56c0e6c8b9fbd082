package ipc

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
)

func TestMessages(t *testing.T) {
	sp := New(nil, func() int64 { return 5 }, nil)
	c := cred.Root()
	id, err := sp.Msgget(Private, Creat|0o600, c)
	if err != nil {
		t.Fatal(err)
	}
	q, err := sp.Msg.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	for i, typ := range []int64{3, 1, 2, 1} {
		if err := q.TrySend(Message{typ, []byte{byte(i)}}, c, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		typ   int64
		flags uint32
		want  byte
	}{{1, MsgCopy, 1}, {2, 0, 2}, {1, MsgExcept, 0}, {-9, 0, 1}, {0, 0, 3}} {
		m, err := q.TryReceive(step.typ, 10, step.flags, c, 2)
		if err != nil || m.Text[0] != step.want {
			t.Errorf("type %d, flags %#o: %v, %v", step.typ, step.flags, m, err)
		}
	}
	if _, err := q.TryReceive(0, 10, 0, c, 2); err != unix.EAGAIN {
		t.Error(err)
	}
	n := 0
	for ; q.TrySend(Message{1, make([]byte, MsgMax)}, c, 1) == nil; n++ {
	}
	if n != MsgBytes/MsgMax {
		t.Errorf("%d messages of the greatest size", n)
	}
	if _, err := q.TryReceive(0, 1, 0, c, 2); err != unix.E2BIG {
		t.Error(err)
	}
	if ds, _ := q.Stat(c, false); ds.Count != 2 || ds.Bytes != MsgBytes || ds.LSPID != 1 {
		t.Errorf("%+v", ds)
	}
	if err := q.Remove(c); err != nil {
		t.Fatal(err)
	}
	if got := share.IPC.Used(); got != 0 {
		t.Errorf("%d bytes are left", got)
	}
	if err := q.TrySend(Message{1, nil}, c, 1); err != unix.EIDRM {
		t.Error(err)
	}
}

// What all queues take together has a limit, as it is the kernel's own memory.
func TestMessageTotal(t *testing.T) {
	share.IPC.SetMost(1 << 20)
	defer share.IPC.SetMost(math.MaxInt64)
	sp := New(nil, func() int64 { return 5 }, nil)
	c := cred.Root()
	var err error
	sent := 0
	for range MaxObjects {
		id, e := sp.Msgget(Private, Creat|0o600, c)
		if e != nil {
			t.Fatal(e)
		}
		q, _ := sp.Msg.Find(id)
		for err == nil {
			if err = q.TrySend(Message{1, make([]byte, MsgMax)}, c, 1); err == nil {
				sent += MsgMax
			}
		}
		if err == unix.ENOMEM {
			break
		}
		err = nil
	}
	if err != unix.ENOMEM || sent > 1<<20 || sent < 1<<19 {
		t.Errorf("%d bytes, %v", sent, err)
	}
	sp.Clear()
	if got := share.IPC.Used(); got != 0 {
		t.Errorf("%d bytes are left", got)
	}
}

// The same of semaphores, what is to be undone, and the objects themselves.
func TestSemaphoreTotal(t *testing.T) {
	share.IPC.SetMost(1 << 20)
	defer share.IPC.SetMost(math.MaxInt64)
	sp := New(nil, func() int64 { return 5 }, nil)
	c := cred.Root()
	if _, err := sp.Semget(Private, 32000, Creat|0o600, c); err != nil {
		t.Fatal(err)
	}
	id, err := sp.Semget(Private, 10000, Creat|0o600, c)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := sp.Sem.Find(id)
	pid := int32(1)
	for ; err == nil; pid++ {
		_, err = s.Try([]SemOp{{Op: 1, Flags: SemUndo}}, c, pid)
	}
	if err != unix.ENOMEM || pid < 5 || pid > 30 {
		t.Errorf("%d processes: %v", pid, err)
	}
	if _, err = sp.Semget(Private, 32000, Creat|0o600, c); err != unix.ENOSPC {
		t.Error(err)
	}
	sp.Exited(1)
	if _, err = s.Try([]SemOp{{Op: 1, Flags: SemUndo}}, c, pid); err != nil {
		t.Error(err)
	}
	for err = nil; err == nil; {
		_, err = sp.Msgget(Private, Creat|0o600, c)
	}
	if err != unix.ENOSPC {
		t.Error(err)
	}
	sp.Clear()
	if got := share.IPC.Used(); got != 0 {
		t.Errorf("%d bytes are left", got)
	}
}
