package task

import (
	"strings"
	"sync/atomic"

	"gosv/kernel/coredump"
	"gosv/kernel/mm"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine"

	"golang.org/x/sys/unix"
)

// Core files, as core(5) promises them: a process that a signal with that default action kills writes its memory and its threads' registers
// into a file, if RLIMIT_CORE lets it. The thread that takes the signal does it; the others are killed, and wait at the beginning of their end
// (joinDump), where their registers stay as they were, until it is done. SIGKILL ends a dump early.

// cores is what decides about core files.
type cores struct {
	pattern atomic.Pointer[string] // /proc/sys/kernel/core_pattern
	usesPID atomic.Bool            // core_uses_pid
	n       atomic.Int32           // dumps that are being made
}

var firstCorePattern = "core"

const (
	// mostDumps is how many processes dump at a time: each needs buffers, and lists of its memory.
	mostDumps = 4
	coreFlag  = 0x80 // in wait(2)'s status (WCOREDUMP)
)

// Bits of DumpFilter.
const (
	dumpPrivate = 1 << iota // anonymous memory
	dumpShared
	dumpFiles
	dumpSharedFiles
	dumpELFHeaders // the first page of programs and libraries
	dumpHugePrivate
	dumpHugeShared

	firstDumpFilter = dumpPrivate | dumpShared | dumpELFHeaders | dumpHugePrivate
	allDumpFilter   = 1<<9 - 1
)

// CorePattern and SetCorePattern are /proc/sys/kernel/core_pattern: EINVAL for a pipe to a program, which is not there, and for what is too long.
func (k *Kernel) CorePattern() string { return *k.cores.pattern.Load() }

// SetCorePattern changes it.
func (k *Kernel) SetCorePattern(s string) error {
	if err := coredump.CheckPattern(s); err != nil {
		return err
	}
	k.cores.pattern.Store(&s)
	return nil
}

// CoreUsesPID is /proc/sys/kernel/core_uses_pid.
func (k *Kernel) CoreUsesPID() *atomic.Bool { return &k.cores.usesPID }

// DumpFilter is /proc/PID/coredump_filter: which memory a dump holds.
func (p *Process) DumpFilter() uint32 { return uint32(p.dumpFilter.Load()) }

// SetDumpFilter changes it; bits without a meaning are dropped.
func (p *Process) SetDumpFilter(bits uint32) { p.dumpFilter.Store(int32(bits & allDumpFilter)) }

// A dump is one that is being made. Guarded by Process.mu, but for aborted.
type dump struct {
	threads []*Task // in it, the one that makes it first
	left    int     // of them, those that have not come to their end yet
	done    bool
	aborted atomic.Bool // by SIGKILL
}

func (d *dump) abort() {
	if d != nil {
		d.aborted.Store(true)
	}
}

// abortDump ends the dump that p is making, if any, so that its memory comes back.
func (p *Process) abortDump() {
	p.mu.Lock()
	p.dump.abort()
	p.mu.Unlock()
}

// dumps reports whether p's death leaves a core file. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) dumps() bool {
	return p.limits[unix.RLIMIT_CORE].Cur >= machine.PageSize && p.dumpable && !p.exiting && p.execer == nil && p.k.CorePattern() != ""
}

// dieWithCore is the default action of sig, which dumps core. p.mu is held, and released.
//
// +checklocksrelease:t.proc.mu
func (t *Task) dieWithCore(sig unix.Signal) {
	p := t.proc
	d := p.beginDump(t)
	p.exit(int32(sig))
	p.mu.Unlock()
	if d == nil {
		return
	}
	t.awaitThreads(d)
	err := t.writeCore(d, sig)
	if err != nil {
		t.k.Log("process " + itoa(p.PID) + " (" + t.Comm() + "): core file: " + err.Error())
	}
	p.mu.Lock()
	if err == nil {
		p.exitCode |= coreFlag
	}
	d.done, p.dump = true, nil
	for _, o := range d.threads[1:] {
		o.Wake()
	}
	p.mu.Unlock()
	t.k.cores.n.Add(-1)
}

// beginDump returns the dump that t is to make, nil for none. p.mu is held.
//
// +checklocks:p.mu
func (p *Process) beginDump(t *Task) *dump {
	if !p.dumps() {
		return nil
	}
	if n := &p.k.cores.n; n.Add(1) > mostDumps {
		n.Add(-1)
		p.k.Log("process " + itoa(p.PID) + ": no core file: too many at once")
		return nil
	}
	d := &dump{threads: []*Task{t}}
	for _, o := range p.threads {
		if o != t && !o.gone {
			o.dumped = true
			d.threads = append(d.threads, o)
		}
	}
	d.left = len(d.threads) - 1
	p.dump = d
	return d
}

// joinDump keeps t as it is while a dump is made that it is in.
func (t *Task) joinDump() {
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	t.gone = true
	if !t.dumped {
		return
	}
	d := p.dump
	if d.left--; d.left == 0 {
		d.threads[0].Wake()
	}
	for !d.done {
		p.mu.Unlock()
		t.sleep()
		p.mu.Lock()
	}
}

// awaitThreads waits until all other threads of the dump are in joinDump.
func (t *Task) awaitThreads(d *dump) {
	p := t.proc
	p.mu.Lock()
	defer p.mu.Unlock()
	for d.left > 0 {
		p.mu.Unlock()
		t.sleep()
		p.mu.Lock()
	}
}

// writeCore makes the file of d.
func (t *Task) writeCore(d *dump, sig unix.Signal) error {
	p := t.proc
	ctx := t.VFS()
	f, err := openCore(&ctx, t.coreName(sig))
	if err != nil {
		return err
	}
	defer f.DecRef()
	w := &coreWriter{file: f, left: p.Limit(unix.RLIMIT_CORE).Cur, end: p.Limit(unix.RLIMIT_FSIZE).Cur, aborted: &d.aborted}
	var files coredump.FileTable
	segments, err := t.coreSegments(&files)
	if err != nil {
		return err
	}
	process := t.coreProcess(files.Bytes())
	head, data, err := coredump.Headers(process.Length()+len(d.threads)*coredump.ThreadLength(t.cpu.FloatSize()), segments)
	if err != nil {
		return err
	}
	w.put(head)
	for i, o := range d.threads {
		o.coreThread(w, sig, t, process, i == 0)
	}
	w.at(data)
	t.coreMemory(w, segments)
	return w.finish()
}

// openCore makes the file, in place of one that is there: the process's own, and for nobody else (Linux's do_coredump).
func openCore(ctx *vfs.Context, name string) (*vfs.File, error) {
	if err := vfs.Unlink(ctx, vfs.Path{}, name); err != nil && err != unix.ENOENT {
		return nil, err
	}
	f, err := vfs.Open(ctx, vfs.Path{}, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if i := f.Inode(); i.UID() != ctx.Cred.FSUID || i.Mode()&0o677 != 0o600 { // of a file system without owners, or rights
		f.DecRef()
		return nil, unix.EPERM
	}
	return f, nil
}

// coreName makes the file's name from the pattern.
func (t *Task) coreName(sig unix.Signal) string {
	p, c := t.proc, t.Cred()
	host, _ := t.ns.UTS().Names()
	v := coredump.Values{PID: p.own, GlobalPID: p.PID, TID: t.OwnTID(), GlobalTID: t.TID(), UID: c.UID, GID: c.GID, Signal: int32(sig),
		Time: t.k.Clock.Wall() / 1e9, Limit: p.Limit(unix.RLIMIT_CORE).Cur, Host: host, Comm: t.Comm(), UsesPID: t.k.cores.usesPID.Load()}
	if exe := p.Exe(); exe != nil {
		v.Exe = exe.MapName()
	}
	return coredump.Name(t.k.CorePattern(), &v)
}

// coreSegments lists t's memory, and which files are mapped.
func (t *Task) coreSegments(files *coredump.FileTable) (list []coredump.Segment, err error) {
	as, filter := t.mem.AddressSpace, t.proc.DumpFilter()
	const step = 64 // areas at a time
	for at := uint64(0); ; {
		areas := as.AreasFrom(at, step)
		if len(areas) == 0 {
			return list, nil
		}
		for i := range areas {
			a := &areas[i]
			list = append(list, coredump.Segment{Start: a.Start, End: a.End, Filled: filled(as, a, filter), Prot: a.Prot})
			if a.Object != nil && !a.Special {
				files.Add(a.Start, a.End, a.Offset/machine.PageSize, a.Name)
			}
			at = a.End
		}
		if len(list) >= coredump.MaxSegments {
			return nil, coredump.ErrSegments
		}
	}
}

// filled says how many bytes of an area are dumped (Linux's vma_dump_size).
func filled(as *mm.AddressSpace, a *mm.AreaInfo, filter uint32) uint64 {
	whole := a.End - a.Start
	want := func(bits uint32) uint64 {
		if filter&bits == 0 {
			return 0
		}
		return whole
	}
	switch {
	case a.Special:
		return whole
	case a.DontDump:
		return 0
	case a.HugeTLB && a.Shared:
		return want(dumpHugeShared)
	case a.HugeTLB:
		return want(dumpHugePrivate)
	case a.Shared && strings.HasSuffix(a.Name, " (deleted)"):
		return want(dumpShared)
	case a.Shared:
		return want(dumpSharedFiles)
	case filter&dumpPrivate != 0 && as.Own(a.Start, a.End):
		return whole
	case a.Object == nil:
		return 0
	case filter&dumpFiles != 0:
		return whole
	case filter&dumpELFHeaders != 0 && a.Offset == 0 && a.Prot&unix.PROT_READ != 0:
		var magic [4]byte
		if n, err := as.Peek(magic[:], a.Start); err == nil && n == len(magic) && string(magic[:]) == "\x7fELF" {
			return machine.PageSize
		}
	}
	return 0
}

// coreIDs are the numbers of the thread or process id.
func (p *Process) coreIDs(id int32) coredump.IDs {
	local := p.pids.Local
	return coredump.IDs{ID: id, Parent: local(p.PPID()), Group: local(p.PGID()), Session: local(p.SID())}
}

// mostArgs is more of the command line than the dump tells.
const mostArgs = 80

func (t *Task) coreProcess(files []byte) *coredump.Process {
	p, c, l := t.proc, t.Cred(), t.proc.Layout()
	args := make([]byte, min(l.ArgEnd-l.ArgStart, mostArgs))
	n, _ := t.mem.CopyIn(args, l.ArgStart)
	_, _, nice, _, _ := t.Scheduler(0)
	return &coredump.Process{IDs: p.coreIDs(p.own), Nice: int8(nice), UID: c.UID, GID: c.GID, Comm: t.Comm(), Args: args[:n],
		SigInfo: t.taken.Info[:], Auxv: l.Auxv, Files: files}
}

// coreThread writes the notes of o, and in the first thread, t, those of the process behind its registers.
func (o *Task) coreThread(w *coreWriter, sig unix.Signal, t *Task, process *coredump.Process, first bool) {
	p := o.proc
	c := coredump.Thread{IDs: p.coreIDs(o.OwnTID()), Signal: int32(sig)}
	if first {
		_, _, c.KidUser, c.KidSystem = p.Usage()
	}
	p.mu.Lock()
	var s usageSum
	s.addTask(o)
	s.split()
	c.User, c.System, c.Pending, c.Blocked = s.utime, s.stime, uint64(o.pending.Set()), uint64(o.blocked)
	c.Regs, c.Float = o.Registers(), o.FloatRegisters()
	p.mu.Unlock()
	w.put(coredump.StatusNote(&c, process.SigInfo))
	if first {
		w.put(process.Notes())
	}
	w.put(coredump.FloatNotes(&c))
}

// coreMemory writes what the segments hold; what was never touched stays a hole.
func (t *Task) coreMemory(w *coreWriter, segments []coredump.Segment) {
	page := make([]byte, machine.PageSize)
	for _, s := range segments {
		first := w.pos
		end := s.Start + s.Filled
		for va := s.Start; w.err == nil && !w.full; {
			at, ok := t.mem.NextPage(page, va, end)
			if !ok {
				break
			}
			w.at(first + at - s.Start)
			w.put(page)
			va = at + machine.PageSize
		}
		w.at(first + s.Filled)
	}
}

// A coreWriter writes a file in order, with holes. After an error it does nothing.
type coreWriter struct {
	file    *vfs.File
	buf     []byte
	pos     uint64 // behind buf
	left    uint64 // bytes that may still be written, holes aside (RLIMIT_CORE)
	end     uint64 // where the file ends at the latest (RLIMIT_FSIZE)
	full    bool   // one of them is reached: the rest is cut off
	aborted *atomic.Bool
	err     error
}

const coreBuffer = 16 * machine.PageSize

// at goes on at a place further behind.
func (w *coreWriter) at(pos uint64) {
	if pos != w.pos {
		w.flush()
		w.pos = pos
	}
}

func (w *coreWriter) put(b []byte) {
	if len(w.buf)+len(b) > coreBuffer {
		w.flush()
	}
	w.buf = append(w.buf, b...)
	w.pos += uint64(len(b))
}

func (w *coreWriter) flush() {
	if w.err == nil && w.aborted.Load() {
		w.err = unix.EINTR
	}
	off := w.pos - uint64(len(w.buf))
	if room := min(w.left, w.end-min(off, w.end)); room < uint64(len(w.buf)) {
		w.buf, w.full = w.buf[:room], true
	}
	src := uio.Buffer(w.buf)
	for len(src) > 0 && w.err == nil {
		n, err := w.file.Pwrite(&src, int64(off))
		off += uint64(n)
		w.left -= uint64(n)
		if w.err = err; err == nil && n == 0 {
			w.err = unix.EIO
		}
	}
	w.buf = w.buf[:0]
}

// finish writes what is left, and makes a hole at the end part of the file.
func (w *coreWriter) finish() error {
	w.flush()
	if w.err == nil && !w.full && w.pos <= w.end {
		w.err = w.file.Truncate(int64(w.pos))
	}
	return w.err
}
