package ipc

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/wait"
)

// Commands of msgctl(2) and flags of msgrcv(2).
const (
	MsgStat    = 11
	MsgInfo    = 12
	MsgStatAny = 13

	MsgNoError = 0o10000
	MsgExcept  = 0o20000
	MsgCopy    = 0o40000
)

// Limits of msgget(2). All queues together have their share.IPC, as they lie in the kernel's own memory.
const (
	MsgMax   = 8192  // MSGMAX: bytes of a message
	MsgBytes = 16384 // MSGMNB: bytes of a queue
)

// A Message is what msgsnd(2) sends.
type Message struct {
	Type int64
	Text []byte
}

// Messages is a message queue.
type Messages struct {
	space *Space
	id    int32
	queue wait.Queue // told of every change

	mu                  sync.Mutex
	p                   Perm      // guarded by mu, as is all below
	list                []Message // in order of arrival
	bytes, limit        uint64
	lspid, lrpid        int32
	stime, rtime, ctime int64
	dead                bool
}

func (q *Messages) perm() *Perm       { return &q.p }
func (q *Messages) lock() *sync.Mutex { return &q.mu }
func (q *Messages) setID(id int32)    { q.id = id }

// Msgget is msgget(2): what get gives.
func (sp *Space) Msgget(key int32, flags uint32, c *cred.Cred) (int32, error) {
	return sp.Msg.get(key, flags, c,
		func(*Messages) error { return nil },
		func() (*Messages, error) { return &Messages{space: sp, limit: MsgBytes, ctime: sp.now()}, nil })
}

// Register has e told of changes; Unregister ends it.
func (q *Messages) Register(e *wait.Entry) { q.queue.Add(e) }

// Unregister takes e off.
func (q *Messages) Unregister(e *wait.Entry) { q.queue.Remove(e) }

// TrySend is msgsnd(2) without waiting; the queue keeps m.Text. EAGAIN when it is full, EACCES, EIDRM, ENOMEM.
func (q *Messages) TrySend(m Message, c *cred.Cred, pid int32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return unix.EIDRM
	}
	if err := q.p.allows(c, Write); err != nil {
		return err
	}
	n := uint64(len(m.Text))
	if q.bytes+n > q.limit || uint64(len(q.list)+1) > q.limit {
		return unix.EAGAIN
	}
	if !share.IPC.Take(int64(n + messageCost)) {
		return unix.ENOMEM
	}
	q.list = append(q.list, m)
	q.bytes += n
	q.lspid, q.stime = pid, q.space.now()
	q.queue.Notify(unix.POLLIN)
	return nil
}

// messageCost is what a message takes beside its text.
const messageCost = 96

// TryReceive is msgrcv(2) without waiting: EAGAIN (and no ENOMSG) when there is no such message, E2BIG, EACCES, EIDRM.
func (q *Messages) TryReceive(typ int64, size uint64, flags uint32, c *cred.Cred, pid int32) (m Message, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return m, unix.EIDRM
	}
	if err := q.p.allows(c, Read); err != nil {
		return m, err
	}
	i := q.find(typ, flags)
	if i < 0 {
		return m, unix.EAGAIN
	}
	m = q.list[i]
	if uint64(len(m.Text)) > size && flags&MsgNoError == 0 {
		return m, unix.E2BIG
	}
	if flags&MsgCopy != 0 {
		return m, nil
	}
	q.list = slices.Delete(q.list, i, i+1)
	q.bytes -= uint64(len(m.Text))
	share.IPC.Give(int64(len(m.Text) + messageCost))
	q.lrpid, q.rtime = pid, q.space.now()
	q.queue.Notify(unix.POLLOUT)
	return m, nil
}

// find chooses the message that msgrcv(2) is to return; -1 for none. q.mu is held.
//
// +checklocks:q.mu
func (q *Messages) find(typ int64, flags uint32) int {
	if flags&MsgCopy != 0 {
		if typ >= 0 && typ < int64(len(q.list)) {
			return int(typ)
		}
		return -1
	}
	best := -1
	for i := range q.list {
		t := q.list[i].Type
		switch {
		case typ == 0, typ > 0 && (t == typ) != (flags&MsgExcept != 0):
			return i
		case typ < 0 && (t <= -typ || typ == -1<<63) && (best < 0 || t < q.list[best].Type):
			best = i
		}
	}
	return best
}

// Remove is IPC_RMID: EPERM. Who waits gets EIDRM.
func (q *Messages) Remove(c *cred.Cred) error {
	r := &q.space.Msg
	r.mu.Lock()
	defer r.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return unix.EIDRM
	}
	if err := q.p.owned(c); err != nil {
		return err
	}
	q.dead = true
	share.IPC.Give(int64(q.bytes) + int64(len(q.list)*messageCost))
	q.list = nil
	r.drop(q.id)
	q.queue.Notify(unix.POLLIN | unix.POLLOUT)
	return nil
}

// SetPerm is IPC_SET with msg_qbytes: EPERM, EINVAL, EIDRM.
func (q *Messages) SetPerm(c *cred.Cred, n *Perm, limit uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return unix.EIDRM
	}
	if err := q.p.owned(c); err != nil {
		return err
	}
	if limit > MsgBytes && !c.Capable(unix.CAP_SYS_RESOURCE) {
		return unix.EPERM
	}
	if err := q.p.set(n); err != nil {
		return err
	}
	q.limit, q.ctime = limit, q.space.now()
	q.queue.Notify(unix.POLLIN | unix.POLLOUT)
	return nil
}

// MsgDS is struct msqid64_ds.
type MsgDS struct {
	Perm
	STime, RTime, CTime int64
	Bytes, Count, Limit uint64
	LSPID, LRPID        int32
}

// Stat is IPC_STAT; any: without a look at the rights (MSG_STAT_ANY). EACCES, EIDRM.
func (q *Messages) Stat(c *cred.Cred, any bool) (ds MsgDS, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dead {
		return ds, unix.EIDRM
	}
	if !any {
		if err := q.p.allows(c, Read); err != nil {
			return ds, err
		}
	}
	return MsgDS{q.p, q.stime, q.rtime, q.ctime, q.bytes, uint64(len(q.list)), q.limit, q.lspid, q.lrpid}, nil
}

// MsgUsage returns the messages and bytes of all queues.
func (sp *Space) MsgUsage() (messages, bytes int32) {
	r := &sp.Msg
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.table {
		if q != nil {
			q.mu.Lock()
			messages += int32(len(q.list))
			bytes += int32(q.bytes)
			q.mu.Unlock()
		}
	}
	return messages, bytes
}
