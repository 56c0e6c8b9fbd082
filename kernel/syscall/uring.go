package syscall

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/iouring"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"gosv/machine"
)

func (s *Calls) uringRows(r *table) {
	r.set(unix.SYS_IO_URING_SETUP, call2("io_uring_setup", aUint, aAddr, sysIoUringSetup).partly("SQPOLL has no thread, and asks to be woken always; no file can do IOPOLL: EOPNOTSUPP"))
	r.set(unix.SYS_IO_URING_ENTER, call6("io_uring_enter", aFD, aUint, aUint, aHex, aAddr, aSize, s.sysIoUringEnter))
	r.set(unix.SYS_IO_URING_REGISTER, call4("io_uring_register", aFD, aUint, aAddr, aUint, s.sysIoUringRegister).
		partly("no tags, personalities and registered rings: EINVAL"))
}

func sysIoUringSetup(t *task.Task, entries uint32, at uint64) (uint64, error) {
	var b [iouring.SizeofParams]byte
	if err := copyIn(t, b[:], at); err != nil {
		return 0, err
	}
	p, wq, ok := iouring.GetParams(b[:])
	if !ok {
		return 0, unix.EINVAL
	}
	if p.Flags&iouring.SetupAttachWQ != 0 { // workers are shared anyway
		f, err := file(t, wq)
		if err != nil {
			return 0, err
		}
		_, err = iouring.Of(f)
		f.DecRef()
		if err != nil {
			return 0, unix.EINVAL
		}
	}
	p.SQEntries = entries
	f, r, err := iouring.New(t.Mem().Pool(), t.Kernel().Clock, t.Cred(), p, errnoOf)
	if err != nil {
		return 0, err
	}
	r.Own(t)
	if r.SQPoll() {
		if p.Flags&iouring.SetupSQAff != 0 && p.SQCPU >= uint32(t.Kernel().Machine.CPUs()) {
			f.DecRef()
			return 0, unix.EINVAL
		}
		r.Polls(t)
	}
	r.PutParams(b[:])
	if err := copyOut(t, at, b[:]); err != nil {
		f.DecRef()
		return 0, err
	}
	return install(t, f, unix.O_CLOEXEC)
}

// ring returns an open ring with a reference to its file: EBADF, EOPNOTSUPP.
func ring(t *task.Task, fd int32) (*vfs.File, *iouring.Ring, error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, nil, err
	}
	r, err := iouring.Of(f)
	if err != nil {
		f.DecRef()
		return nil, nil, err
	}
	return f, r, nil
}

// Flags of io_uring_enter(2).
const (
	enterGetevents = 1 << 0
	enterSQWakeup  = 1 << 1
	enterSQWait    = 1 << 2
	enterExtArg    = 1 << 3
)

func (s *Calls) sysIoUringEnter(t *task.Task, fd int32, submit, least uint32, flags, arg, size uint64) (uint64, error) {
	if flags&^(enterGetevents|enterSQWakeup|enterSQWait|enterExtArg) != 0 {
		return 0, unix.EINVAL
	}
	f, r, err := ring(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	done := uint32(0)
	switch {
	case r.SQPoll():
		if flags&enterSQWakeup != 0 {
			if err := r.Wakeup(s.prepare); err != nil {
				return 0, err
			}
		}
		done = submit
	case submit > 0:
		if done, err = r.Submit(t, submit, s.prepare); err != nil || done < submit {
			return uint64(done), err
		}
	case r.Disabled():
		return 0, unix.EBADFD
	}
	if flags&enterGetevents != 0 {
		if err := r.MayReap(t); err != nil {
			return 0, err
		}
		if err = s.uringWait(t, f, r, least, flags, arg, size); err != nil && done == 0 {
			return 0, err
		}
	}
	return uint64(done), nil
}

// uringWait waits for completions: EINTR, ETIME, EFAULT, EINVAL.
func (s *Calls) uringWait(t *task.Task, f *vfs.File, r *iouring.Ring, least uint32, flags, arg, size uint64) error {
	sig, deadline := arg, int64(0)
	if flags&enterExtArg != 0 {
		b := t.Scratch[:24]
		if size != uint64(len(b)) {
			return unix.EINVAL
		}
		if err := copyIn(t, b, arg); err != nil {
			return err
		}
		var ts uint64
		sig, size, ts = le.Uint64(b), uint64(le.Uint32(b[8:])), le.Uint64(b[16:])
		if ts != 0 {
			v, err := lTimespec.load(t, ts)
			if err != nil {
				return err
			}
			deadline = t.Kernel().Clock.After(abi.TimespecToNsec(v))
		}
	}
	var mask opt[uint64]
	if sig != 0 {
		if size != abi.SigSetSize {
			return unix.EINVAL
		}
		var err error
		if mask.v, err = lSigset.load(t, sig); err != nil {
			return err
		}
		mask.ok = true
	}
	_, err := masked(t, mask, func() (uint64, error) { return 0, waitCompletions(t, f, r, r.Least(least), deadline) })
	switch err {
	case abi.ERESTARTNOHAND:
		return unix.EINTR
	case unix.ETIMEDOUT:
		return unix.ETIME
	}
	return err
}

// waitCompletions waits until so many completions are in the ring, or a timeout request has ended (Linux's io_should_wake). It is no error when less
// have come until the deadline, or a signal; none is.
func waitCompletions(t *task.Task, f *vfs.File, r *iouring.Ring, least uint32, deadline int64) error {
	if r.Flush(); r.Ready() >= least {
		return nil
	}
	entry := wait.Entry{Waiter: t, Events: unix.POLLIN}
	f.Register(&entry)
	defer f.Unregister(&entry)
	before := r.Expired()
	for {
		if r.Flush(); r.Ready() >= least || r.Expired() != before {
			return nil
		}
		if err := t.Block(deadline); err != nil {
			if r.Flush(); r.Ready() > 0 {
				return nil
			}
			return err
		}
	}
}

// Operations of io_uring_register(2).
const (
	registerBuffers      = 0
	unregisterBuffers    = 1
	registerFiles        = 2
	unregisterFiles      = 3
	registerEventfd      = 4
	unregisterEventfd    = 5
	registerFilesUpdate  = 6
	registerEventfdAsync = 7
	registerProbe        = 8
	registerRestrictions = 11
	registerEnableRings  = 12
	registerFiles2       = 13
	registerIowqAff      = 17
	unregisterIowqAff    = 18
	registerIowqWorkers  = 19
	registerPbufRing     = 22
	unregisterPbufRing   = 23
	registerSyncCancel   = 24
	registerFileRange    = 25
)

func (s *Calls) sysIoUringRegister(t *task.Task, fd int32, op uint32, arg uint64, n uint32) (uint64, error) {
	f, r, err := ring(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	if op > registerFileRange {
		return 0, unix.EINVAL
	}
	if err := r.MayRegister(uint8(op)); err != nil {
		return 0, err
	}
	switch none := arg == 0 && n == 0; op {
	case registerBuffers:
		return done(registerBufferList(t, r, arg, n))
	case registerFiles:
		return done(registerFileList(t, r, arg, n))
	case registerFiles2:
		return done(registerFileList2(t, r, arg, n))
	case registerEventfd, registerEventfdAsync:
		return done(registerEvent(t, r, arg, n, op == registerEventfdAsync))
	case registerFilesUpdate:
		return updateFiles(t, r, arg, n)
	case registerProbe:
		return done(s.probe(t, arg, n))
	case registerRestrictions:
		return done(restrict(t, r, arg, n))
	case unregisterBuffers, unregisterFiles, unregisterEventfd, registerEnableRings:
		if !none {
			return 0, unix.EINVAL
		}
		switch op {
		case unregisterBuffers:
			return done(r.UnregisterBuffers())
		case unregisterFiles:
			return done(r.UnregisterFiles())
		case unregisterEventfd:
			return done(r.SetEvent(nil, false))
		}
		return done(r.Enable(t))
	case registerIowqWorkers:
		return done(workers(t, arg, n))
	case registerPbufRing, unregisterPbufRing:
		return done(bufferRing(t, r, arg, n, op == registerPbufRing))
	case registerSyncCancel:
		return done(syncCancel(t, f, r, arg, n))
	case registerFileRange:
		return done(fileRange(t, r, arg, n))
	}
	return 0, unix.EINVAL
}

func registerBufferList(t *task.Task, r *iouring.Ring, arg uint64, n uint32) error {
	if n == 0 || n > abi.MaxIOV*16 {
		return unix.EINVAL
	}
	list := make([]iouring.Range, 0, n)
	for i := range uint64(n) {
		var b [abi.SizeofIovec]byte
		if err := copyIn(t, b[:], arg+i*abi.SizeofIovec); err != nil {
			return err
		}
		v := abi.GetIovec(b[:])
		switch {
		case v.Base == 0 && v.Len == 0: // sparse
		case v.Base == 0 || v.Len == 0 || v.Len > 1<<30 || v.Base > machine.UserTop-v.Len:
			return unix.EFAULT
		default:
			if err := mappedRange(t, v.Base, v.Len); err != nil {
				return err
			}
		}
		list = append(list, iouring.Range{Addr: v.Base, Len: v.Len})
	}
	return r.RegisterBuffers(list)
}

// mappedRange sees to it that memory is there: EFAULT.
func mappedRange(t *task.Task, addr, n uint64) error {
	var b [256]byte
	end := addr + n
	for at := addr &^ (machine.PageSize - 1); at < end; at += uint64(len(b)) * machine.PageSize {
		pages := min(uint64(len(b)), (end-at+machine.PageSize-1)/machine.PageSize)
		if t.Mem().Incore(at, pages*machine.PageSize, b[:pages]) != nil {
			return unix.EFAULT
		}
	}
	return nil
}

// fileAt returns the file whose descriptor is at addr, nil for -1: EFAULT, EBADF.
func fileAt(t *task.Task, addr uint64) (*vfs.File, int32, error) {
	fd, err := lInt32.load(t, addr)
	if err != nil || fd < 0 {
		return nil, fd, err
	}
	f, err := realFile(t, fd)
	if err == nil {
		if _, e := iouring.Of(f); e == nil { // a ring that holds itself would never end
			f.DecRef()
			err = unix.EBADF
		}
	}
	if err != nil {
		f = nil
	}
	return f, fd, err
}

func registerFileList(t *task.Task, r *iouring.Ring, arg uint64, n uint32) error {
	switch {
	case n == 0:
		return unix.EINVAL
	case int(n) > openLimit(t):
		return unix.EMFILE
	}
	var err error
	files := make([]*vfs.File, n)
	for i := range files {
		var fd int32
		if files[i], fd, err = fileAt(t, arg+4*uint64(i)); err == nil && fd < -1 {
			err = unix.EBADF
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = r.RegisterFiles(files)
	}
	if err != nil {
		for _, f := range files {
			if f != nil {
				f.DecRef()
			}
		}
	}
	return err
}

// registerFileList2 is IORING_REGISTER_FILES2 without tags, and with IORING_RSRC_REGISTER_SPARSE.
func registerFileList2(t *task.Task, r *iouring.Ring, arg uint64, n uint32) error {
	b := t.Scratch[:32]
	if n != uint32(len(b)) {
		return unix.EINVAL
	}
	if err := copyIn(t, b, arg); err != nil {
		return err
	}
	count, flags, data, tags := le.Uint32(b), le.Uint32(b[4:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	switch {
	case le.Uint64(b[8:]) != 0 || flags&^1 != 0 || tags != 0:
		return unix.EINVAL
	case flags == 0:
		return registerFileList(t, r, data, count)
	case data != 0 || count == 0:
		return unix.EINVAL
	case int(count) > openLimit(t):
		return unix.EMFILE
	}
	return r.RegisterFiles(make([]*vfs.File, count))
}

func registerEvent(t *task.Task, r *iouring.Ring, arg uint64, n uint32, onlyAsync bool) error {
	if n != 1 {
		return unix.EINVAL
	}
	fd, err := lInt32.load(t, arg)
	if err != nil {
		return err
	}
	f, err := eventFile(t, fd)
	if err != nil {
		return err
	}
	if err = r.SetEvent(f, onlyAsync); err != nil {
		f.DecRef()
	}
	return err
}

// updateFiles is IORING_REGISTER_FILES_UPDATE, with a struct io_uring_files_update.
func updateFiles(t *task.Task, r *iouring.Ring, arg uint64, n uint32) (uint64, error) {
	b := t.Scratch[:16]
	if err := copyIn(t, b, arg); err != nil {
		return 0, err
	}
	if le.Uint32(b[4:]) != 0 {
		return 0, unix.EINVAL
	}
	return setFiles(t, r, le.Uint32(b), le.Uint64(b[8:]), n)
}

// setFiles puts the files of n descriptors into slots: how many.
func setFiles(t *task.Task, r *iouring.Ring, slot uint32, fds uint64, n uint32) (uint64, error) {
	if n == 0 {
		return 0, unix.EINVAL
	}
	if err := r.CheckSlots(slot, n); err != nil {
		return 0, err
	}
	for i := range n {
		f, fd, err := fileAt(t, fds+4*uint64(i))
		if err == nil && fd != -2 { // IORING_REGISTER_FILES_SKIP
			if fd < -1 {
				err = unix.EBADF
			} else {
				err = r.SetFile(slot+i, f)
			}
			if err != nil && f != nil {
				f.DecRef()
			}
		}
		if err != nil {
			if i > 0 {
				err = nil
			}
			return uint64(i), err
		}
	}
	return uint64(n), nil
}

// installFiles puts the files of n descriptors into free slots, whose numbers it stores in the place of the descriptors: how many.
func installFiles(t *task.Task, r *iouring.Ring, fds uint64, n uint32) (uint64, error) {
	if err := r.CheckSlots(0, 0); err != nil {
		return 0, err
	}
	for i := range uint64(n) {
		err := installFile(t, r, fds+4*i)
		if err != nil {
			if i > 0 {
				err = nil
			}
			return i, err
		}
	}
	return uint64(n), nil
}

// installFile puts the file of the descriptor at addr into a free slot, and stores the slot's number there: EBADF, ENFILE, EFAULT.
func installFile(t *task.Task, r *iouring.Ring, addr uint64) error {
	f, _, err := fileAt(t, addr)
	if err != nil {
		return err
	}
	if f == nil {
		return unix.EBADF
	}
	slot, err := r.InstallFile(f)
	if err != nil {
		f.DecRef()
		return err
	}
	if err = lInt32.store(t, addr, int32(slot)); err != nil {
		_ = r.CloseFile(slot) // the store's error is what counts
	}
	return err
}

// probe tells which operations there are.
func (s *Calls) probe(t *task.Task, arg uint64, n uint32) error {
	n = min(n, uint32(len(uringOps)))
	if arg == 0 {
		return unix.EFAULT
	}
	b := make([]byte, 16+8*n)
	if err := copyIn(t, b, arg); err != nil {
		return err
	}
	for _, c := range b {
		if c != 0 {
			return unix.EINVAL
		}
	}
	b[0], b[1] = byte(len(uringOps)-1), byte(n)
	for i := range n {
		b[16+8*i] = byte(i)
		if uringOps[i].prepare != nil {
			b[16+8*i+2] = 1 // IO_URING_OP_SUPPORTED
		}
	}
	return copyOut(t, arg, b)
}

// Kinds of restrictions.
const (
	restrictRegister      = 0
	restrictOp            = 1
	restrictFlagsAllowed  = 2
	restrictFlagsRequired = 3
)

func restrict(t *task.Task, r *iouring.Ring, arg uint64, n uint32) error {
	if arg == 0 || n > 256 {
		return unix.EINVAL
	}
	l := &iouring.Restrictions{Register: make(map[uint8]bool), Ops: make(map[uint8]bool)}
	for i := range uint64(n) {
		b := t.Scratch[:16]
		if err := copyIn(t, b, arg+16*i); err != nil {
			return err
		}
		v := b[2]
		switch le.Uint16(b) {
		case restrictRegister:
			l.Register[v] = true
		case restrictOp:
			l.Ops[v] = true
		case restrictFlagsAllowed:
			l.Allowed = v
		case restrictFlagsRequired:
			l.Required = v
		default:
			return unix.EINVAL
		}
	}
	return r.Restrict(l)
}

// workers is IORING_REGISTER_IOWQ_MAX_WORKERS: it sets how many bounded and unbounded workers there may be, where that is not 0, and tells how many there might be.
func workers(t *task.Task, arg uint64, n uint32) error {
	b := t.Scratch[:8]
	if arg == 0 || n != 2 {
		return unix.EINVAL
	}
	if err := copyIn(t, b, arg); err != nil {
		return err
	}
	var most [2]int
	for i := range most {
		n := le.Uint32(b[4*i:])
		if n > math.MaxInt32 {
			return unix.EINVAL
		}
		most[i] = int(n)
	}
	for i, n := range t.SetWorkers(most) {
		le.PutUint32(b[4*i:], uint32(n))
	}
	return copyOut(t, arg, b)
}

// bufferRing is IORING_REGISTER_PBUF_RING and its opposite, with a struct io_uring_buf_reg.
func bufferRing(t *task.Task, r *iouring.Ring, arg uint64, n uint32, register bool) error {
	if n != 1 {
		return unix.EINVAL
	}
	b := t.Scratch[:40]
	if err := copyIn(t, b, arg); err != nil {
		return err
	}
	addr, entries, gid := le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:])
	if le.Uint16(b[14:]) != 0 || le.Uint64(b[16:])|le.Uint64(b[24:])|le.Uint64(b[32:]) != 0 {
		return unix.EINVAL
	}
	if !register {
		return r.UnregisterGroup(gid)
	}
	if addr != 0 && entries < 1<<16 && mappedRange(t, addr, 16*uint64(max(entries, 1))) != nil {
		return unix.EFAULT
	}
	return r.RegisterGroup(gid, addr, entries)
}

// syncCancel is IORING_REGISTER_SYNC_CANCEL, with a struct io_uring_sync_cancel_reg: it waits until what it cancels has ended.
// ENOENT, ETIME, EINTR.
func syncCancel(t *task.Task, f *vfs.File, r *iouring.Ring, arg uint64, n uint32) error {
	var b [64]byte
	if n != 1 {
		return unix.EINVAL
	}
	if err := copyIn(t, b[:], arg); err != nil {
		return err
	}
	data, fd, flags := le.Uint64(b[:]), int32(le.Uint32(b[8:])), le.Uint32(b[12:])
	ts := unix.Timespec{Sec: int64(le.Uint64(b[16:])), Nsec: int64(le.Uint64(b[24:]))}
	const known = iouring.CancelAll | iouring.CancelFD | iouring.CancelAny | iouring.CancelFDFixed
	if flags&^known != 0 || le.Uint64(b[32:])|le.Uint64(b[40:])|le.Uint64(b[48:])|le.Uint64(b[56:]) != 0 {
		return unix.EINVAL
	}
	deadline := int64(0)
	if ts.Sec != -1 || ts.Nsec != -1 {
		deadline = t.Kernel().Clock.After(abi.TimespecToNsec(ts))
	}
	entry := wait.Entry{Waiter: t, Events: unix.POLLIN}
	f.Register(&entry)
	defer f.Unregister(&entry)
	for found := false; ; found = true {
		v, err := r.Cancel(t, nil, data, fd, flags)
		switch {
		case err == nil && (v == 0 || flags&(iouring.CancelAll|iouring.CancelAny) == 0):
			return nil
		case err == unix.ENOENT && found:
			return nil
		case err != nil && err != unix.EALREADY:
			return err
		}
		switch err := t.Block(deadline); err {
		case nil:
		case unix.ETIMEDOUT:
			return unix.ETIME
		default:
			return unix.EINTR
		}
	}
}

// fileRange is IORING_REGISTER_FILE_ALLOC_RANGE, with a struct io_uring_file_index_range.
func fileRange(t *task.Task, r *iouring.Ring, arg uint64, n uint32) error {
	b := t.Scratch[:16]
	if arg == 0 || n != 0 {
		return unix.EINVAL
	}
	if err := copyIn(t, b, arg); err != nil {
		return err
	}
	if le.Uint64(b[8:]) != 0 {
		return unix.EINVAL
	}
	return r.SetAllocRange(le.Uint32(b), le.Uint32(b[4:]))
}
