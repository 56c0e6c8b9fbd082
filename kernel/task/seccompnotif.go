package task

import (
	"slices"
	"sync"

	"gosv/kernel/abi"
	"gosv/kernel/seccomp"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// listener is the file of SECCOMP_FILTER_FLAG_NEW_LISTENER (seccomp_unotify(2)): its owner is asked about system calls for which the filter
// answers SECCOMP_RET_USER_NOTIF. Lock order: proc.mu → listener.mu → wait.Queue.
type listener struct {
	vfs.FileDefaults
	killable bool // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

	ready wait.Queue

	mu     sync.Mutex
	asked  []*question // in order of arrival; guarded by mu, as is all below
	last   uint64      // ID of the last question
	users  int         // tasks that have the filter
	closed bool
}

// question is one system call that waits for an answer. Guarded by listener.mu, but for what is set once.
type question struct {
	id       uint64
	task     *Task
	data     seccomp.Data
	sent     bool // somebody has received it
	answered bool
	goOn     bool // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	value    uint64
}

// Requests of ioctl(2). Structures may grow: the size in a request's number counts for ADDFD only.
const (
	notifRecv     = unix.SECCOMP_IOCTL_NOTIF_RECV
	notifSend     = unix.SECCOMP_IOCTL_NOTIF_SEND
	notifValid    = 0x40082102
	notifValidOld = 0x80082102
	notifAddfd    = 0x2103
	ioctlSize     = 0x3fff << 16
	ioctlDir      = 3 << 30
	sizeofNotif   = 80
	sizeofResp    = 24
	sizeofAddfd   = 24
)

// listenerOf returns the listener of the chain, nil when it has none.
func listenerOf(f *seccomp.Filter) (l *listener) {
	f.Each(func(f *seccomp.Filter) {
		if x, ok := f.Listener.(*listener); ok && l == nil {
			l = x
		}
	})
	return l
}

// useFilters counts tasks that have the chain f: by is 1 or -1. With the last, whoever polls the listener sees POLLHUP.
func useFilters(f *seccomp.Filter, by int) {
	l := listenerOf(f)
	if l == nil {
		return
	}
	l.mu.Lock()
	l.users += by
	l.mu.Unlock()
	l.ready.Notify(unix.POLLHUP)
}

// consult has the listener decide about the system call, and reports whether it is to be made; if not, its result is set.
func (t *Task) consult(l *listener, d *seccomp.Data) bool {
	q := &question{task: t, data: *d}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		t.Ctx.RAX = errno(unix.ENOSYS)
		return false
	}
	l.last++
	q.id = l.last
	l.asked = append(l.asked, q)
	l.mu.Unlock()
	l.ready.Notify(unix.POLLIN)
	for {
		l.mu.Lock()
		answered, killable := q.answered, q.sent && l.killable
		l.mu.Unlock()
		if answered {
			break
		}
		err := error(nil)
		if killable {
			err = t.BlockKillable()
		} else {
			err = t.Block(0)
		}
		if err != nil && l.forget(q) {
			t.Ctx.RAX = errno(abi.ERESTARTSYS)
			return false
		}
	}
	if q.goOn {
		return true
	}
	t.Ctx.RAX = q.value
	return false
}

// forget takes q back; false when it has been answered meanwhile.
func (l *listener) forget(q *question) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.answered {
		return false
	}
	l.asked = slices.DeleteFunc(l.asked, func(o *question) bool { return o == q })
	return true
}

// answer ends a question. l.mu is held.
func (l *listener) answer(q *question) {
	q.answered = true
	l.asked = slices.DeleteFunc(l.asked, func(o *question) bool { return o == q })
	q.task.Wake()
}

// find returns the question with that ID, which somebody has received: ENOENT, EINPROGRESS. l.mu is held.
func (l *listener) find(id uint64) (*question, error) {
	for _, q := range l.asked {
		if q.id != id {
			continue
		}
		if !q.sent {
			return nil, unix.EINPROGRESS
		}
		return q, nil
	}
	return nil, unix.ENOENT
}

// Ioctl implements vfs.FileOps.
func (l *listener) Ioctl(f *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	t, ok := a.Task.(*Task)
	if !ok {
		return 0, unix.ENOTTY
	}
	switch a.Cmd {
	case notifRecv:
		return 0, l.receive(t, f, a.Arg)
	case notifSend:
		return 0, l.send(t, a.Arg)
	case notifValid, notifValidOld:
		id, err := t.mem.Load64(a.Arg)
		if err != nil {
			return 0, unix.EFAULT
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, err = l.find(id); err != nil {
			err = unix.ENOENT
		}
		return 0, err
	}
	if a.Cmd&^(ioctlSize|ioctlDir) == notifAddfd {
		return l.addFD(t, a.Arg, uint64(a.Cmd&ioctlSize>>16))
	}
	return 0, unix.EINVAL
}

// receive is SECCOMP_IOCTL_NOTIF_RECV: it waits for a question. EINVAL when the structure is not zero, EFAULT, ERESTARTSYS.
func (l *listener) receive(t *Task, f *vfs.File, addr uint64) error {
	var b [sizeofNotif]byte
	if n, _ := t.mem.CopyIn(b[:], addr); n < len(b) {
		return unix.EFAULT
	}
	if b != [sizeofNotif]byte{} {
		return unix.EINVAL
	}
	q := l.take()
	for q == nil {
		if err := t.WaitFor(f, unix.POLLIN, 0); err != nil {
			return err
		}
		if q = l.take(); q == nil && l.Poll(f, unix.POLLHUP) != 0 {
			return unix.ENOENT
		}
	}
	le.PutUint64(b[0:], q.id)
	le.PutUint32(b[8:], uint32(t.Number(q.task.TID())))
	d := &q.data
	le.PutUint32(b[16:], uint32(d.NR))
	le.PutUint32(b[20:], d.Arch)
	le.PutUint64(b[24:], d.IP)
	for i, v := range d.Args {
		le.PutUint64(b[32+8*i:], v)
	}
	if n, _ := t.mem.CopyOut(addr, b[:]); n < len(b) {
		l.mu.Lock()
		q.sent = false
		l.mu.Unlock()
		l.ready.Notify(unix.POLLIN)
		return unix.EFAULT
	}
	l.ready.Notify(unix.POLLOUT)
	q.task.Wake() // it may wait otherwise from now on
	return nil
}

// take returns the oldest question that nobody has received, nil for none.
func (l *listener) take() *question {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.asked {
		if !q.sent {
			q.sent = true
			return q
		}
	}
	return nil
}

// send is SECCOMP_IOCTL_NOTIF_SEND: EINVAL, ENOENT, EINPROGRESS, EFAULT.
func (l *listener) send(t *Task, addr uint64) error {
	const goOn = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	var b [sizeofResp]byte
	if n, _ := t.mem.CopyIn(b[:], addr); n < len(b) {
		return unix.EFAULT
	}
	id, value, code, flags := le.Uint64(b[:]), le.Uint64(b[8:]), int32(le.Uint32(b[16:])), le.Uint32(b[20:])
	if flags&^goOn != 0 || flags != 0 && (value != 0 || code != 0) {
		return unix.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q, err := l.find(id)
	if err != nil {
		return err
	}
	if q.value, q.goOn = value, flags != 0; code != 0 {
		q.value = uint64(int64(code))
	}
	l.answer(q)
	return nil
}

// addFD is SECCOMP_IOCTL_NOTIF_ADDFD: it gives the asking task a copy of a descriptor of t's, and returns its number. EINVAL, E2BIG, EBADF,
// ENOENT, EINPROGRESS, EMFILE, EFAULT.
func (l *listener) addFD(t *Task, addr, size uint64) (uint64, error) {
	const setFD, sendIt = unix.SECCOMP_ADDFD_FLAG_SETFD, unix.SECCOMP_ADDFD_FLAG_SEND
	if size < sizeofAddfd || size >= 4096 {
		return 0, unix.EINVAL
	}
	b := make([]byte, size)
	if n, _ := t.mem.CopyIn(b, addr); n < len(b) {
		return 0, unix.EFAULT
	}
	for _, rest := range b[sizeofAddfd:] {
		if rest != 0 {
			return 0, unix.E2BIG
		}
	}
	id, flags := le.Uint64(b), le.Uint32(b[8:])
	src, dst, fdFlags := le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:])
	if fdFlags&^unix.O_CLOEXEC != 0 || flags&^(setFD|sendIt) != 0 || dst != 0 && flags&setFD == 0 {
		return 0, unix.EINVAL
	}
	f, err := t.Files.Get(int(int32(src)))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	q, err := l.find(id)
	if err == nil && int32(dst) < 0 {
		err = unix.EBADF
	}
	if err != nil {
		f.DecRef()
		return 0, err
	}
	fd, err := q.task.giveFile(f, int(dst), int(fdFlags), flags&setFD != 0)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	if flags&sendIt != 0 {
		q.value = uint64(fd)
		l.answer(q)
	}
	return uint64(fd), nil
}

// giveFile puts f into the table of t, which waits in a system call: at fd if that is asked for. EMFILE, EBADF.
func (t *Task) giveFile(f *vfs.File, fd, flags int, at bool) (int, error) {
	_, files, _ := t.shared()
	if files == nil {
		return 0, unix.ENOENT
	}
	limit := int(min(t.proc.Limit(unix.RLIMIT_NOFILE).Cur, 1<<20))
	if at {
		return fd, files.InstallAt(f, fd, flags, limit)
	}
	return files.Install(f, flags, 0, limit)
}

// Poll implements vfs.FileOps.
func (l *listener) Poll(_ *vfs.File, mask wait.Mask) wait.Mask {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ready wait.Mask
	for _, q := range l.asked {
		if q.sent {
			ready |= unix.POLLOUT | 0x100 // and POLLWRNORM
		} else {
			ready |= unix.POLLIN | 0x40 // and POLLRDNORM
		}
	}
	if l.users == 0 {
		ready |= unix.POLLHUP
	}
	return ready & (mask | unix.POLLHUP)
}

// Register implements vfs.FileOps.
func (l *listener) Register(_ *vfs.File, e *wait.Entry) { l.ready.Add(e) }

// Unregister implements vfs.FileOps.
func (l *listener) Unregister(_ *vfs.File, e *wait.Entry) { l.ready.Remove(e) }

// Release implements vfs.FileOps: who waits, and who will ask, gets ENOSYS.
func (l *listener) Release(*vfs.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, q := range slices.Clone(l.asked) {
		q.value = errno(unix.ENOSYS)
		l.answer(q)
	}
}
