package syscall

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/ipc"
	"gosv/kernel/share"
	"gosv/kernel/task"
	"gosv/kernel/wait"
)

// msgRows are System V's message queues (sysvipc(7)).
func (s *Calls) msgRows(r *table) {
	r.set(unix.SYS_MSGGET, call2("msgget", aInt, aUint, func(t *task.Task, key int32, flags uint32) (uint64, error) {
		return value(s.space(t).Msgget(key, flags, t.Cred()))
	}))
	r.set(unix.SYS_MSGSND, call4("msgsnd", aInt, aAddr, aSize, aUint, s.msgsnd))
	r.set(unix.SYS_MSGRCV, call5("msgrcv", aInt, aAddr, aSize, aLong, aUint, s.msgrcv))
	r.set(unix.SYS_MSGCTL, call3("msgctl", aInt, aInt, aAddr, s.msgctl))
}

// sizeofMsgDS is the size of struct msqid64_ds.
const sizeofMsgDS = 120

func (s *Calls) msgsnd(t *task.Task, id int32, addr, size uint64, flags uint32) (uint64, error) {
	typ, err := lUint64.load(t, addr)
	if err != nil {
		return 0, err
	}
	if size > ipc.MsgMax || id < 0 || int64(typ) < 1 {
		return 0, unix.EINVAL
	}
	m := ipc.Message{Type: int64(typ), Text: make([]byte, size)}
	if err := copyIn(t, m.Text, addr+8); err != nil {
		return 0, err
	}
	q, err := s.space(t).Msg.Find(id)
	if err != nil {
		return 0, err
	}
	return 0, msgWait(t, q, unix.POLLOUT, flags, unix.EAGAIN, func() error { return q.TrySend(m, t.Cred(), t.PID()) })
}

// msgWait repeats try until it has no reason to wait any more; none is the error of IPC_NOWAIT.
func msgWait(t *task.Task, q *ipc.Messages, events wait.Mask, flags uint32, none error, try func() error) error {
	if err := try(); err != unix.EAGAIN {
		return err
	}
	if flags&ipcNowait != 0 {
		return none
	}
	e := wait.Entry{Waiter: t, Events: events}
	q.Register(&e)
	defer q.Unregister(&e)
	for {
		if err := try(); err != unix.EAGAIN {
			return err
		}
		switch err := t.Block(0); err {
		case nil:
		case abi.ERESTARTSYS:
			return unix.EINTR // msgop(2): never restarted
		default:
			return err
		}
	}
}

func (s *Calls) msgrcv(t *task.Task, id int32, addr, size uint64, typ int64, flags uint32) (uint64, error) {
	if int64(size) < 0 || id < 0 || flags&ipc.MsgCopy != 0 && (flags&ipc.MsgExcept != 0 || flags&ipcNowait == 0) {
		return 0, unix.EINVAL
	}
	q, err := s.space(t).Msg.Find(id)
	if err != nil {
		return 0, err
	}
	var m ipc.Message
	err = msgWait(t, q, unix.POLLIN, flags, unix.ENOMSG, func() (err error) {
		m, err = q.TryReceive(typ, size, flags, t.Cred(), t.PID())
		return err
	})
	if err != nil {
		return 0, err
	}
	text := m.Text[:min(uint64(len(m.Text)), size)]
	if err := lUint64.store(t, addr, uint64(m.Type)); err != nil {
		return 0, err
	}
	return uint64(len(text)), copyOut(t, addr+8, text)
}

func (s *Calls) msgctl(t *task.Task, id, cmd int32, addr uint64) (uint64, error) {
	sp := s.space(t)
	last, used := sp.Msg.Last()
	switch cmd {
	case ipc.Info, ipc.MsgInfo: // struct msginfo: pool, map, max, mnb, mni, ssz, tql, seg
		info := [...]int32{int32(min(share.IPC.Most()/1024, math.MaxInt32)), 0, ipc.MsgMax, ipc.MsgBytes, 4096, 16, 0, 0xffff}
		if cmd == ipc.MsgInfo {
			info[0], info[1] = used, 0
			info[1], info[6] = sp.MsgUsage()
		}
		b := t.Scratch[:32]
		clear(b)
		for i, v := range info {
			le.PutUint32(b[4*i:], uint32(v))
		}
		return uint64(last), copyOut(t, addr, b[:30])
	case ipc.MsgStat, ipc.MsgStatAny:
		q, id, err := sp.Msg.At(id)
		if err != nil {
			return 0, err
		}
		return uint64(id), putMsg(t, q, addr, cmd == ipc.MsgStatAny)
	}
	q, err := sp.Msg.Find(id)
	if err != nil {
		return 0, err
	}
	switch cmd {
	case ipc.Stat:
		return done(putMsg(t, q, addr, false))
	case ipc.SetPerm:
		p, err := ipcPerm(t, addr)
		if err != nil {
			return 0, err
		}
		limit, err := lUint64.load(t, addr+sizeofIPCPerm+40)
		if err != nil {
			return 0, err
		}
		return done(q.SetPerm(t.Cred(), p, limit))
	case ipc.RMID:
		return done(q.Remove(t.Cred()))
	}
	return 0, unix.EINVAL
}

func putMsg(t *task.Task, q *ipc.Messages, addr uint64, any bool) error {
	ds, err := q.Stat(t.Cred(), any)
	if err != nil {
		return err
	}
	var b [sizeofMsgDS]byte
	putPerm(t, b[:], &ds.Perm)
	for i, v := range [...]uint64{uint64(ds.STime), uint64(ds.RTime), uint64(ds.CTime), ds.Bytes, ds.Count, ds.Limit,
		uint64(uint32(t.Number(ds.LSPID))) | uint64(t.Number(ds.LRPID))<<32} {
		le.PutUint64(b[sizeofIPCPerm+8*i:], v)
	}
	return copyOut(t, addr, b[:])
}
