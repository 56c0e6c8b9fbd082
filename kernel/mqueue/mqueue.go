// Package mqueue is POSIX message queues (mq_overview(7)): named queues whose messages have priorities, open as
// files that poll(2) knows.
//
// Operations never block: EAGAIN, and the file's wait queue. A queue lives while it has a name or is open.
//
// Lock order: Space.mu → Queue.mu → wait.Queue.
package mqueue

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Limits is /proc/sys/fs/mqueue (mq_overview(7)): the most queues, and without CAP_SYS_RESOURCE the most messages of a queue and the largest
// message; and what a queue gets that is made without attributes.
type Limits struct{ Queues, Messages, Size, DefaultMessages, DefaultSize atomic.Int32 }

// Bounds of the limits: Linux's HARD_MSGMAX and HARD_MSGSIZEMAX; MinSize is the least that the size may be limited to.
const (
	MaxQueues   = 65536
	MaxMessages = hardCount
	MaxSize     = hardSize
	MinSize     = 128
)

const (
	hardCount   = 65536
	hardSize    = 16 << 20
	MaxPriority = 32768
	nameMax     = 255
	overhead    = 128 // bytes that a message counts beside its text
	queueCost   = 512 // bytes of share.IPC that a queue takes
)

// Attr is what of struct mq_attr a queue is made with.
type Attr struct{ Count, Size int64 }

// A Message is text with a priority.
type Message struct {
	Priority uint32
	Text     []byte
}

// Space holds the named queues of a kernel.
type Space struct {
	mu    sync.Mutex
	named map[string]*Queue // guarded by mu
	bytes map[uint32]uint64 // what each user's queues may take; guarded by mu
	now   func() int64

	Limits Limits
}

// A Holder is an IPC namespace.
type Holder interface {
	Queues() *Space
}

// New returns an empty space; now tells the wall time in seconds.
func New(now func() int64) *Space {
	s := &Space{named: make(map[string]*Queue), bytes: make(map[uint32]uint64), now: now}
	l := &s.Limits
	l.Queues.Store(256)
	l.Messages.Store(10)
	l.DefaultMessages.Store(10)
	l.Size.Store(8192)
	l.DefaultSize.Store(8192)
	return s
}

// Queue is one message queue.
type Queue struct {
	space    *Space
	attr     Attr
	uid, gid uint32
	mode     uint32
	users    int  // open files; guarded by space.mu
	unlinked bool // guarded by space.mu

	ready wait.Queue

	mu        sync.Mutex
	list      []Message // highest priority first, then in order of arrival; guarded by mu
	bytes     int       // guarded by mu
	receivers int       // tasks that wait for a message; guarded by mu
	notify    *Notify   // guarded by mu
}

// Notify is what mq_notify(3) asks for. One of Send and Removed is called once, without locks.
type Notify struct {
	PID     int32        // of the process that asked for it
	Files   *vfs.FDTable // its descriptors: it ends when one of the queue is closed
	Send    func(sender *cred.Cred, pid int32)
	Removed func() // it was taken back; may be nil
	Drop    func() // nil, or what the caller of SetNotify is to call when that failed
}

// Open is mq_open(2): attr is nil for the default, limit the caller's RLIMIT_MSGQUEUE. ENOENT, EEXIST, EACCES, EINVAL, ENOSPC, EMFILE,
// ENAMETOOLONG.
func (s *Space) Open(name string, flags int, mode uint32, attr *Attr, c *cred.Cred, limit uint64) (*vfs.File, error) {
	switch {
	case name == "":
		return nil, unix.ENOENT
	case len(name) > nameMax:
		return nil, unix.ENAMETOOLONG
	case slices.Contains([]byte(name), '/'):
		return nil, unix.EACCES
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.named[name]
	switch {
	case q == nil && flags&unix.O_CREAT == 0:
		return nil, unix.ENOENT
	case q == nil:
		var err error
		if q, err = s.create(mode, attr, c, limit); err != nil {
			return nil, err
		}
		s.named[name] = q
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return nil, unix.EEXIST
	default:
		if err := q.allows(c, flags); err != nil {
			return nil, err
		}
	}
	q.users++
	f := vfs.NewAnon("mqueue", &file{q: q}, c, flags&(unix.O_ACCMODE|unix.O_NONBLOCK))
	f.SetCloser()
	return f, nil
}

// create makes a queue. s.mu is held.
//
// +checklocks:s.mu
func (s *Space) create(mode uint32, attr *Attr, c *cred.Cred, limit uint64) (*Queue, error) {
	l := &s.Limits
	a := Attr{int64(min(l.DefaultMessages.Load(), l.Messages.Load())), int64(min(l.DefaultSize.Load(), l.Size.Load()))}
	privileged := c.Capable(unix.CAP_SYS_RESOURCE)
	if attr != nil {
		a = *attr
		count, size := int64(l.Messages.Load()), int64(l.Size.Load())
		if privileged {
			count, size = hardCount, hardSize
		}
		if a.Count <= 0 || a.Size <= 0 || a.Count > count || a.Size > size {
			return nil, unix.EINVAL
		}
	}
	if len(s.named) >= int(l.Queues.Load()) && !privileged {
		return nil, unix.ENOSPC
	}
	q := &Queue{space: s, attr: a, uid: c.FSUID, gid: c.FSGID, mode: mode & 0o777}
	if s.bytes[q.uid]+q.cost() > limit {
		return nil, unix.EMFILE
	}
	if !share.IPC.Take(queueCost) {
		return nil, unix.ENOSPC
	}
	s.bytes[q.uid] += q.cost()
	return q, nil
}

func (q *Queue) cost() uint64 { return uint64(q.attr.Count) * (uint64(q.attr.Size) + overhead) }

// allows checks the mode bits: EACCES.
func (q *Queue) allows(c *cred.Cred, flags int) error {
	want := uint32(0)
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = 4
	case unix.O_WRONLY:
		want = 2
	case unix.O_RDWR:
		want = 6
	default:
		return unix.EINVAL
	}
	granted := q.mode
	switch {
	case c.FSUID == q.uid:
		granted >>= 6
	case c.FSGID == q.gid || c.InEffectiveGroup(q.gid):
		granted >>= 3
	}
	if want&^granted != 0 && !c.Capable(unix.CAP_DAC_OVERRIDE) {
		return unix.EACCES
	}
	return nil
}

// Unlink is mq_unlink(2): ENOENT, EACCES, ENAMETOOLONG.
func (s *Space) Unlink(name string, c *cred.Cred) error {
	if len(name) > nameMax {
		return unix.ENAMETOOLONG
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.named[name]
	if q == nil {
		return unix.ENOENT
	}
	if c.FSUID != q.uid && !c.Capable(unix.CAP_FOWNER) { // the directory is sticky
		return unix.EPERM
	}
	delete(s.named, name)
	q.unlinked = true
	s.settle(q)
	return nil
}

// Clear takes all names away, when nobody can use them any more.
func (s *Space) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.named {
		q.unlinked = true
		s.settle(q)
	}
	clear(s.named)
}

// settle gives back what q counted for when nothing leads to it any more. s.mu is held.
//
// +checklocks:s.mu
func (s *Space) settle(q *Queue) {
	if q.unlinked && q.users == 0 {
		if s.bytes[q.uid] -= q.cost(); s.bytes[q.uid] == 0 {
			delete(s.bytes, q.uid)
		}
		q.mu.Lock()
		share.IPC.Give(int64(queueCost + q.bytes + overhead*len(q.list)))
		q.list, q.bytes = nil, 0
		q.mu.Unlock()
	}
}

// Exited takes back the notification that process pid asked for; it is called at the end of every process.
func (s *Space) Exited(pid int32) {
	s.mu.Lock()
	var removed []*Notify
	for _, q := range s.named {
		if n := q.take(func(n *Notify) bool { return n.PID == pid }); n != nil {
			removed = append(removed, n)
		}
	}
	s.mu.Unlock()
	for _, n := range removed {
		n.takenBack()
	}
}

// take ends the notification, if it is one of those: nil when it is not.
func (q *Queue) take(match func(*Notify) bool) *Notify {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.notify
	if n == nil || !match(n) {
		return nil
	}
	q.notify = nil
	return n
}

func (n *Notify) takenBack() {
	if n != nil && n.Removed != nil {
		n.Removed()
	}
}

// Of returns the queue that f stands for, nil when f is none.
func Of(f *vfs.File) *Queue {
	if m, ok := f.Ops().(*file); ok {
		return m.q
	}
	return nil
}

// Attr returns what the queue was made with, and how many messages wait.
func (q *Queue) Attr() (a Attr, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.attr, len(q.list)
}

// TrySend is mq_send(3) without waiting; the queue keeps m.Text. EAGAIN, EMSGSIZE, ENOMEM.
func (q *Queue) TrySend(m Message, c *cred.Cred, pid int32) error {
	if int64(len(m.Text)) > q.attr.Size {
		return unix.EMSGSIZE
	}
	q.mu.Lock()
	if int64(len(q.list)) >= q.attr.Count {
		q.mu.Unlock()
		return unix.EAGAIN
	}
	if !share.IPC.Take(int64(len(m.Text) + overhead)) {
		q.mu.Unlock()
		return unix.ENOMEM
	}
	i, _ := slices.BinarySearchFunc(q.list, m, func(have, m Message) int {
		if have.Priority >= m.Priority {
			return -1
		}
		return 1
	})
	q.list = slices.Insert(q.list, i, m)
	q.bytes += len(m.Text)
	var n *Notify
	if len(q.list) == 1 && q.receivers == 0 {
		n, q.notify = q.notify, nil
	}
	q.mu.Unlock()
	q.ready.Notify(unix.POLLIN)
	if n != nil {
		n.Send(c, pid)
	}
	return nil
}

// TryReceive is mq_receive(3) without waiting: EAGAIN, EMSGSIZE when the buffer of size bytes is smaller than the longest message.
func (q *Queue) TryReceive(size uint64) (m Message, err error) {
	if size < uint64(q.attr.Size) {
		return m, unix.EMSGSIZE
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return m, unix.EAGAIN
	}
	m = q.list[0]
	q.list = slices.Delete(q.list, 0, 1)
	q.bytes -= len(m.Text)
	share.IPC.Give(int64(len(m.Text) + overhead))
	q.ready.Notify(unix.POLLOUT)
	return m, nil
}

// Waiting counts a task that waits for a message or, with by −1, does so no more: while there are any, nobody is notified.
func (q *Queue) Waiting(by int) {
	q.mu.Lock()
	q.receivers += by
	q.mu.Unlock()
}

// SetNotify is mq_notify(3); nil takes back what process pid asked for. EBUSY.
func (q *Queue) SetNotify(n *Notify, pid int32) error {
	if n == nil {
		q.take(func(n *Notify) bool { return n.PID == pid }).takenBack()
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.notify != nil {
		return unix.EBUSY
	}
	q.notify = n
	return nil
}

// file is an open queue.
type file struct {
	vfs.FileDefaults
	q *Queue
}

// Closed implements vfs.Closer.
func (f *file) Closed(t *vfs.FDTable) {
	f.q.take(func(n *Notify) bool { return n.Files == t }).takenBack()
}

// Read implements vfs.FileOps: a line about the queue.
func (f *file) Read(_ *vfs.File, dst uio.Sink, off int64) (int64, error) {
	q := f.q
	q.mu.Lock()
	pid := int32(0)
	if q.notify != nil {
		pid = q.notify.PID
	}
	line := "QSIZE:" + pad(q.bytes) + " NOTIFY:0     SIGNO:0     NOTIFY_PID:" + pad(int(pid)) + "\n"
	q.mu.Unlock()
	if off >= int64(len(line)) {
		return 0, nil
	}
	n, err := dst.Put([]byte(line[off:]))
	return int64(n), err
}

func pad(n int) string {
	s := strconv.Itoa(n)
	for len(s) < 10 {
		s += " "
	}
	return s
}

// Poll implements vfs.FileOps.
func (f *file) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	var ready wait.Mask
	if len(f.q.list) > 0 {
		ready |= unix.POLLIN | 0x40 // and POLLRDNORM
	}
	if int64(len(f.q.list)) < f.q.attr.Count {
		ready |= unix.POLLOUT | 0x100 // and POLLWRNORM
	}
	return ready & mask
}

// Register implements vfs.FileOps.
func (f *file) Register(_ *vfs.File, e *wait.Entry) { f.q.ready.Add(e) }

// Unregister implements vfs.FileOps.
func (f *file) Unregister(_ *vfs.File, e *wait.Entry) { f.q.ready.Remove(e) }

// Release implements vfs.FileOps.
func (f *file) Release(*vfs.File) {
	s := f.q.space
	s.mu.Lock()
	defer s.mu.Unlock()
	f.q.users--
	s.settle(f.q)
}
