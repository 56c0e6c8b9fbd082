package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/bpf"
	"gosv/kernel/signal"
	"gosv/kernel/task"
)

func ptraceRows(r *table) {
	r.set(unix.SYS_PTRACE, call4("ptrace", choice("request", ptraceNames), aPID, aAddr, aAddr, sysPtrace))
}

var ptraceNames = []flagName{
	{unix.PTRACE_TRACEME, "PTRACE_TRACEME"}, {unix.PTRACE_PEEKTEXT, "PTRACE_PEEKTEXT"}, {unix.PTRACE_PEEKDATA, "PTRACE_PEEKDATA"},
	{unix.PTRACE_PEEKUSR, "PTRACE_PEEKUSER"}, {unix.PTRACE_POKETEXT, "PTRACE_POKETEXT"}, {unix.PTRACE_POKEDATA, "PTRACE_POKEDATA"},
	{unix.PTRACE_POKEUSR, "PTRACE_POKEUSER"}, {unix.PTRACE_CONT, "PTRACE_CONT"}, {unix.PTRACE_KILL, "PTRACE_KILL"},
	{unix.PTRACE_SINGLESTEP, "PTRACE_SINGLESTEP"}, {unix.PTRACE_GETREGS, "PTRACE_GETREGS"}, {unix.PTRACE_SETREGS, "PTRACE_SETREGS"},
	{unix.PTRACE_GETFPREGS, "PTRACE_GETFPREGS"}, {unix.PTRACE_SETFPREGS, "PTRACE_SETFPREGS"}, {unix.PTRACE_ATTACH, "PTRACE_ATTACH"},
	{unix.PTRACE_DETACH, "PTRACE_DETACH"}, {unix.PTRACE_SYSCALL, "PTRACE_SYSCALL"}, {unix.PTRACE_ARCH_PRCTL, "PTRACE_ARCH_PRCTL"},
	{unix.PTRACE_SYSEMU, "PTRACE_SYSEMU"}, {unix.PTRACE_SYSEMU_SINGLESTEP, "PTRACE_SYSEMU_SINGLESTEP"},
	{unix.PTRACE_SETOPTIONS, "PTRACE_SETOPTIONS"}, {unix.PTRACE_GETEVENTMSG, "PTRACE_GETEVENTMSG"},
	{unix.PTRACE_GETSIGINFO, "PTRACE_GETSIGINFO"}, {unix.PTRACE_SETSIGINFO, "PTRACE_SETSIGINFO"},
	{unix.PTRACE_GETREGSET, "PTRACE_GETREGSET"}, {unix.PTRACE_SETREGSET, "PTRACE_SETREGSET"}, {unix.PTRACE_SEIZE, "PTRACE_SEIZE"},
	{unix.PTRACE_INTERRUPT, "PTRACE_INTERRUPT"}, {unix.PTRACE_LISTEN, "PTRACE_LISTEN"}, {unix.PTRACE_PEEKSIGINFO, "PTRACE_PEEKSIGINFO"},
	{unix.PTRACE_GETSIGMASK, "PTRACE_GETSIGMASK"}, {unix.PTRACE_SETSIGMASK, "PTRACE_SETSIGMASK"},
	{unix.PTRACE_GET_SYSCALL_INFO, "PTRACE_GET_SYSCALL_INFO"}, {unix.PTRACE_GET_RSEQ_CONFIGURATION, "PTRACE_GET_RSEQ_CONFIGURATION"},
	{unix.PTRACE_SECCOMP_GET_FILTER, "PTRACE_SECCOMP_GET_FILTER"}, {unix.PTRACE_SECCOMP_GET_METADATA, "PTRACE_SECCOMP_GET_METADATA"},
}

// Register sets (elf.h) and sizes of structures (sys/user.h).
const (
	ntPrstatus    = 1
	ntPrfpreg     = 2
	ntX86Xstate   = 0x202
	userRegsSize  = 27 * 8
	userFPSize    = 512
	debugRegs     = 848 // offsetof(struct user, u_debugreg)
	userSize      = 912
	auditArch     = 0xc000003e // AUDIT_ARCH_X86_64
	peekShared    = 1
	callInfoSize  = 88
	callInfoEntry = 1
	callInfoExit  = 2
	callInfoBPF   = 3
)

// sysPtrace is ptrace(2): the request decides what addr and data are.
func sysPtrace(t *task.Task, request, pid int32, addr, data uint64) (uint64, error) {
	switch request {
	case unix.PTRACE_TRACEME:
		return done(t.Traceme())
	case unix.PTRACE_ATTACH:
		return done(t.Attach(pid, false, 0))
	case unix.PTRACE_SEIZE:
		if addr != 0 {
			return 0, unix.EIO
		}
		return done(t.Attach(pid, true, data))
	case unix.PTRACE_KILL:
		return done(t.TraceKill(pid))
	case unix.PTRACE_INTERRUPT:
		return done(t.Interrupt(pid))
	case unix.PTRACE_LISTEN:
		return done(t.Listen(pid))
	case unix.PTRACE_DETACH:
		return done(t.Detach(pid, data))
	case unix.PTRACE_CONT:
		return done(t.Resume(pid, task.ResumeRun, data))
	case unix.PTRACE_SYSCALL:
		return done(t.Resume(pid, task.ResumeCall, data))
	case unix.PTRACE_SINGLESTEP:
		return done(t.Resume(pid, task.ResumeStep, data))
	case unix.PTRACE_SYSEMU:
		return done(t.Resume(pid, task.ResumeEmulate, data))
	case unix.PTRACE_SYSEMU_SINGLESTEP:
		return done(t.Resume(pid, task.ResumeEmulate|task.ResumeStep, data))
	case unix.PTRACE_PEEKTEXT, unix.PTRACE_PEEKDATA, unix.PTRACE_POKETEXT, unix.PTRACE_POKEDATA:
		return done(traceWord(t, request, pid, addr, data))
	case unix.PTRACE_PEEKUSR, unix.PTRACE_POKEUSR:
		return done(traceUser(t, request, pid, addr, data))
	case unix.PTRACE_GETREGS, unix.PTRACE_SETREGS, unix.PTRACE_GETFPREGS, unix.PTRACE_SETFPREGS:
		return done(traceRegs(t, request, pid, data))
	case unix.PTRACE_GETREGSET, unix.PTRACE_SETREGSET:
		return done(traceRegset(t, request, pid, addr, data))
	case unix.PTRACE_ARCH_PRCTL:
		return done(traceArch(t, pid, int32(data), addr))
	case unix.PTRACE_GET_SYSCALL_INFO:
		return traceCallInfo(t, pid, addr, data)
	case unix.PTRACE_GET_RSEQ_CONFIGURATION:
		return traceRseq(t, pid, addr, data)
	case unix.PTRACE_SECCOMP_GET_FILTER:
		return traceFilter(t, pid, addr, data)
	case unix.PTRACE_SECCOMP_GET_METADATA:
		return traceFilterMeta(t, pid, addr, data)
	case unix.PTRACE_PEEKSIGINFO:
		return tracePending(t, pid, addr, data)
	}
	return done(traceSignals(t, request, pid, addr, data))
}

// traceSignals are the requests that concern signals and events, and what is none: EIO.
func traceSignals(t *task.Task, request, pid int32, addr, data uint64) error {
	switch request {
	case unix.PTRACE_SETOPTIONS:
		return t.Traced(pid, func(o *task.Task) error { return t.SetTraceOptions(o, data) })
	case unix.PTRACE_GETEVENTMSG:
		var v uint64
		if err := t.Traced(pid, func(o *task.Task) error { v = o.TraceMessage(); return nil }); err != nil {
			return err
		}
		return lUint64.store(t, data, v)
	case unix.PTRACE_GETSIGINFO:
		var v abi.SigInfo
		if err := traceInfo(t, pid, func(i *signal.Info) { v = *i }); err != nil {
			return err
		}
		return copyOut(t, data, v[:])
	case unix.PTRACE_SETSIGINFO:
		var v abi.SigInfo
		if err := copyIn(t, v[:], data); err != nil {
			return err
		}
		return traceInfo(t, pid, func(i *signal.Info) { *i = v })
	case unix.PTRACE_GETSIGMASK, unix.PTRACE_SETSIGMASK:
		return traceMask(t, request, pid, addr, data)
	}
	if err := t.Traced(pid, func(*task.Task) error { return nil }); err != nil {
		return err
	}
	return unix.EIO
}

// traceInfo calls f with the information of the stop: EINVAL when there is none.
func traceInfo(t *task.Task, pid int32, f func(*signal.Info)) error {
	return t.Traced(pid, func(o *task.Task) error {
		i := o.TraceInfo()
		if i == nil {
			return unix.EINVAL
		}
		f(i)
		return nil
	})
}

func traceMask(t *task.Task, request, pid int32, size, data uint64) error {
	if size != 8 {
		return unix.EINVAL
	}
	var v uint64
	var err error
	if request == unix.PTRACE_SETSIGMASK {
		if v, err = lUint64.load(t, data); err != nil {
			return err
		}
	}
	err = t.Traced(pid, func(o *task.Task) error {
		if request == unix.PTRACE_SETSIGMASK {
			o.SetTraceMask(signal.Set(v))
		}
		v = uint64(o.TraceMask())
		return nil
	})
	if err != nil || request == unix.PTRACE_SETSIGMASK {
		return err
	}
	return lUint64.store(t, data, v)
}

// traceWord reads or writes a word of the tracee's memory: EIO.
func traceWord(t *task.Task, request, pid int32, addr, data uint64) error {
	m, err := t.TraceMemory(pid)
	if err != nil {
		return err
	}
	defer m.Release()
	var b [8]byte
	n := 0
	if request == unix.PTRACE_POKETEXT || request == unix.PTRACE_POKEDATA {
		le.PutUint64(b[:], data)
		if n, _ = m.Poke(addr, b[:]); n < len(b) {
			return unix.EIO
		}
		return nil
	}
	if n, _ = m.Peek(b[:], addr); n < len(b) {
		return unix.EIO
	}
	return copyOut(t, data, b[:])
}

// traceUser reads or writes a word of struct user.
func traceUser(t *task.Task, request, pid int32, addr, data uint64) error {
	var v uint64
	err := t.Traced(pid, func(o *task.Task) error {
		if addr&7 != 0 || addr >= userSize {
			return unix.EIO
		}
		switch {
		case addr >= debugRegs && request == unix.PTRACE_POKEUSR:
			return o.SetDebugRegister(int(addr-debugRegs)/8, data)
		case addr >= debugRegs:
			v = o.DebugRegister(int(addr-debugRegs) / 8)
		case addr < userRegsSize && request == unix.PTRACE_POKEUSR:
			return o.SetRegister(int(addr/8), data)
		case addr < userRegsSize:
			v = o.Registers()[addr/8]
		case request == unix.PTRACE_POKEUSR:
			return unix.EIO
		}
		return nil
	})
	if err != nil || request == unix.PTRACE_POKEUSR {
		return err
	}
	return lUint64.store(t, data, v)
}

// A regset is one set of registers: get returns a copy, good until the next call of that tracee.
type regset struct {
	get func(o *task.Task) []byte
	set func(o *task.Task, b []byte) error
	// unit is what lengths must be a multiple of.
	unit int
}

var (
	generalRegs = regset{getRegs, setRegs, 8}
	floatRegs   = regset{
		func(o *task.Task) []byte { return append([]byte(nil), o.FloatRegisters()[:userFPSize]...) },
		func(o *task.Task, b []byte) error { return setFloat(o, b, userFPSize) }, 8}
	extendedRegs = regset{
		func(o *task.Task) []byte { return append([]byte(nil), o.FloatRegisters()...) },
		func(o *task.Task, b []byte) error { return setFloat(o, b, len(o.FloatRegisters())) }, 8}
)

func getRegs(o *task.Task) []byte {
	r := o.Registers()
	b := make([]byte, userRegsSize)
	for i, v := range r {
		le.PutUint64(b[8*i:], v)
	}
	return b
}

func setRegs(o *task.Task, b []byte) error {
	for i := 0; i+8 <= len(b) && i < userRegsSize; i += 8 {
		if err := o.SetRegister(i/8, le.Uint64(b[i:])); err != nil {
			return err
		}
	}
	return nil
}

// setFloat replaces the first bytes of the state by b, which must be whole: EFAULT.
func setFloat(o *task.Task, b []byte, size int) error {
	if len(b) < size {
		return unix.EFAULT
	}
	state := append([]byte(nil), o.FloatRegisters()...)
	copy(state, b[:size])
	if size == userFPSize && len(state) > userFPSize {
		state[userFPSize] |= 3 // XSTATE_BV: x87 and SSE are not in their initial state
	}
	return o.SetFloatRegisters(state)
}

func traceRegs(t *task.Task, request, pid int32, data uint64) error {
	switch request {
	case unix.PTRACE_GETREGS:
		_, err := readRegset(t, pid, &generalRegs, data, userRegsSize)
		return err
	case unix.PTRACE_SETREGS:
		return writeRegset(t, pid, &generalRegs, data, userRegsSize)
	case unix.PTRACE_GETFPREGS:
		_, err := readRegset(t, pid, &floatRegs, data, userFPSize)
		return err
	}
	return writeRegset(t, pid, &floatRegs, data, userFPSize)
}

func readRegset(t *task.Task, pid int32, s *regset, addr, size uint64) (n uint64, err error) {
	var b []byte
	if err := t.Traced(pid, func(o *task.Task) error { b = s.get(o); return nil }); err != nil {
		return 0, err
	}
	b = b[:min(size, uint64(len(b)))]
	return uint64(len(b)), copyOut(t, addr, b)
}

// maxRegset is more than any set of registers has.
const maxRegset = 4096

func writeRegset(t *task.Task, pid int32, s *regset, addr, size uint64) error {
	b := make([]byte, min(size, maxRegset))
	if err := copyIn(t, b, addr); err != nil {
		return err
	}
	return t.Traced(pid, func(o *task.Task) error { return s.set(o, b) })
}

// traceRegset is PTRACE_GETREGSET and PTRACE_SETREGSET: typ is that of a note in a core file, data the address of
// a struct iovec, whose length becomes that of what was moved.
func traceRegset(t *task.Task, request, pid int32, typ, data uint64) error {
	b := t.Scratch[:abi.SizeofIovec]
	if err := copyIn(t, b, data); err != nil {
		return err
	}
	v := abi.GetIovec(b)
	var s *regset
	switch typ {
	case ntPrstatus:
		s = &generalRegs
	case ntPrfpreg:
		s = &floatRegs
	case ntX86Xstate:
		s = &extendedRegs
	default:
		return unix.EINVAL
	}
	if v.Len%uint64(s.unit) != 0 {
		return unix.EINVAL
	}
	n, err := uint64(0), error(nil)
	if request == unix.PTRACE_GETREGSET {
		n, err = readRegset(t, pid, s, v.Base, v.Len)
	} else {
		n = min(v.Len, maxRegset)
		err = writeRegset(t, pid, s, v.Base, n)
	}
	if err != nil {
		return err
	}
	return lUint64.store(t, data+8, n)
}

// traceArch is PTRACE_ARCH_PRCTL: arch_prctl(2) for the tracee.
func traceArch(t *task.Task, pid, code int32, addr uint64) error {
	const fsBase, gsBase = 21, 22
	reg := fsBase
	if code == archSetGS || code == archGetGS {
		reg = gsBase
	}
	switch code {
	case archSetFS, archSetGS:
		return t.Traced(pid, func(o *task.Task) error { return o.SetRegister(reg, addr) })
	case archGetFS, archGetGS:
		var v uint64
		if err := t.Traced(pid, func(o *task.Task) error { v = o.Registers()[reg]; return nil }); err != nil {
			return err
		}
		return lUint64.store(t, addr, v)
	}
	return unix.EINVAL
}

// traceCallInfo is PTRACE_GET_SYSCALL_INFO: struct ptrace_syscall_info, cut to size; the result is its whole length.
func traceCallInfo(t *task.Task, pid int32, size, data uint64) (uint64, error) {
	var b [callInfoSize]byte
	n := 24
	err := t.Traced(pid, func(o *task.Task) error {
		r := o.Registers()
		const r10, r9, r8, rax, rdx, rsi, rdi, orig, rip, rsp = 7, 8, 9, 10, 12, 13, 14, 15, 16, 19
		le.PutUint32(b[4:], auditArch)
		le.PutUint64(b[8:], r[rip])
		le.PutUint64(b[16:], r[rsp])
		entry, exit, filter := o.CallState()
		switch {
		case exit:
			b[0] = callInfoExit
			le.PutUint64(b[24:], r[rax])
			if int64(r[rax]) < 0 && int64(r[rax]) >= -4095 {
				b[32] = 1
			}
			n = 33
		case entry, filter:
			b[0] = callInfoEntry
			le.PutUint64(b[24:], r[orig])
			for i, reg := range [...]int{rdi, rsi, rdx, r10, r8, r9} {
				le.PutUint64(b[32+8*i:], r[reg])
			}
			n = 80
			if filter {
				b[0] = callInfoBPF
				le.PutUint32(b[80:], uint32(o.TraceMessage()))
				n = 84
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return uint64(n), copyOut(t, data, b[:min(size, uint64(n))])
}

// tracePending is PTRACE_PEEKSIGINFO: addr holds offset, flags and number, data is where the siginfos go.
func tracePending(t *task.Task, pid int32, addr, data uint64) (uint64, error) {
	var b [16]byte
	if err := copyIn(t, b[:], addr); err != nil {
		return 0, err
	}
	from, fl, nr := le.Uint64(b[:]), le.Uint32(b[8:]), int32(le.Uint32(b[12:]))
	if fl&^peekShared != 0 || nr < 0 {
		return 0, unix.EINVAL
	}
	var list []signal.Info
	most := min(int(nr), 1024)
	err := t.Traced(pid, func(o *task.Task) error {
		o.TracePending(fl&peekShared != 0, from, func(i *signal.Info) bool {
			if len(list) < most {
				list = append(list, *i)
			}
			return len(list) < most
		})
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i := range list {
		if err := copyOut(t, data+uint64(i)*abi.SizeofSigInfo, list[i][:]); err != nil {
			if i > 0 {
				return uint64(i), nil
			}
			return 0, err
		}
	}
	return uint64(len(list)), nil
}

// traceRseq is PTRACE_GET_RSEQ_CONFIGURATION: struct ptrace_rseq_configuration, cut to size; the result is its whole length.
func traceRseq(t *task.Task, pid int32, size, data uint64) (uint64, error) {
	var b [24]byte
	err := t.Traced(pid, func(o *task.Task) error {
		at, n, sig := o.RseqConfiguration()
		le.PutUint64(b[:], at)
		le.PutUint32(b[8:], n)
		le.PutUint32(b[12:], sig)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return uint64(len(b)), copyOut(t, data, b[:min(size, uint64(len(b)))])
}

// traceFilter is PTRACE_SECCOMP_GET_FILTER: the instructions of the filter with n older ones go to data, if that is not 0; the result is their number.
func traceFilter(t *task.Task, pid int32, n, data uint64) (uint64, error) {
	var prog []bpf.Insn
	err := t.Traced(pid, func(o *task.Task) error {
		f, err := t.TraceFilter(o, n)
		if err == nil {
			prog = f.Program()
		}
		return err
	})
	if err != nil || data == 0 {
		return uint64(len(prog)), err
	}
	b := make([]byte, len(prog)*bpf.Size)
	for i, in := range prog {
		in.Put(b[i*bpf.Size:])
	}
	return uint64(len(prog)), copyOut(t, data, b)
}

// traceFilterMeta is PTRACE_SECCOMP_GET_METADATA: data holds struct seccomp_metadata, cut to size, which names the filter and gets its flags.
func traceFilterMeta(t *task.Task, pid int32, size, data uint64) (uint64, error) {
	var b [16]byte
	size = min(size, uint64(len(b)))
	if size < 8 {
		return 0, unix.EINVAL
	}
	if err := copyIn(t, b[:8], data); err != nil {
		return 0, err
	}
	err := t.Traced(pid, func(o *task.Task) error {
		f, err := t.TraceFilter(o, le.Uint64(b[:]))
		if err == nil && f.Log {
			le.PutUint64(b[8:], unix.SECCOMP_FILTER_FLAG_LOG)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, copyOut(t, data, b[:size])
}
