package abi

import "golang.org/x/sys/unix"

// Sizes of the structures for processes and the system.
const (
	SizeofSysinfo        = 112
	SizeofUtsname        = 390
	SizeofRusage         = 144
	SizeofRlimit         = 16
	SizeofRobustListHead = 24
	SizeofSchedAttr      = 56
	SizeofCapUserHeader  = 8
	SizeofCapUserData    = 12
	// CloneArgsVer0, 1 and 2 are the sizes that struct clone_args has had.
	CloneArgsVer0 = 64
	CloneArgsVer1 = 80
	CloneArgsVer2 = 88
)

// PutSysinfo writes struct sysinfo.
func PutSysinfo(b []byte, s *unix.Sysinfo_t) {
	b = b[:SizeofSysinfo]
	clear(b[:SizeofSysinfo])
	put64(b, 0, uint64(s.Uptime))
	for i, v := range s.Loads {
		put64(b, 8+8*i, v)
	}
	put64(b, 32, s.Totalram)
	put64(b, 40, s.Freeram)
	put64(b, 48, s.Sharedram)
	put64(b, 56, s.Bufferram)
	put64(b, 64, s.Totalswap)
	put64(b, 72, s.Freeswap)
	le.PutUint16(b[80:], s.Procs)
	put64(b, 88, s.Totalhigh)
	put64(b, 96, s.Freehigh)
	put32(b, 104, s.Unit)
}

// PutUtsname writes struct utsname.
func PutUtsname(b []byte, u *unix.Utsname) {
	b = b[:SizeofUtsname]
	const n = len(u.Sysname)
	for i, f := range [...]*[n]byte{&u.Sysname, &u.Nodename, &u.Release, &u.Version, &u.Machine, &u.Domainname} {
		copy(b[i*n:(i+1)*n], f[:])
	}
}

// PutRusage writes struct rusage.
func PutRusage(b []byte, r *unix.Rusage) {
	b = b[:SizeofRusage]
	PutTimeval(b, r.Utime)
	PutTimeval(b[16:], r.Stime)
	for i, v := range [...]int64{
		r.Maxrss, r.Ixrss, r.Idrss, r.Isrss, r.Minflt, r.Majflt, r.Nswap,
		r.Inblock, r.Oublock, r.Msgsnd, r.Msgrcv, r.Nsignals, r.Nvcsw, r.Nivcsw,
	} {
		put64(b, 32+8*i, uint64(v))
	}
}

// GetRlimit reads struct rlimit64.
func GetRlimit(b []byte) unix.Rlimit { return unix.Rlimit{Cur: get64(b, 0), Max: get64(b, 8)} }

// PutRlimit writes struct rlimit64.
func PutRlimit(b []byte, r unix.Rlimit) {
	b = b[:SizeofRlimit]
	put64(b, 0, r.Cur)
	put64(b, 8, r.Max)
}

// CloneArgs is struct clone_args of clone3(2).
type CloneArgs struct {
	Flags, Pidfd, ChildTID, ParentTID, ExitSignal uint64
	Stack, StackSize, TLS                         uint64
	SetTID, SetTIDSize                            uint64
	Cgroup                                        uint64
}

// GetCloneArgs reads struct clone_args of CloneArgsVer2 bytes.
func GetCloneArgs(b []byte) CloneArgs {
	return CloneArgs{
		Flags: get64(b, 0), Pidfd: get64(b, 8), ChildTID: get64(b, 16), ParentTID: get64(b, 24),
		ExitSignal: get64(b, 32), Stack: get64(b, 40), StackSize: get64(b, 48), TLS: get64(b, 56),
		SetTID: get64(b, 64), SetTIDSize: get64(b, 72), Cgroup: get64(b, 80),
	}
}

// RobustListHead is struct robust_list_head: user addresses and an offset.
type RobustListHead struct {
	List          uint64
	FutexOffset   int64
	ListOpPending uint64
}

// GetRobustListHead reads struct robust_list_head.
func GetRobustListHead(b []byte) RobustListHead {
	b = b[:SizeofRobustListHead]
	return RobustListHead{get64(b, 0), int64(get64(b, 8)), get64(b, 16)}
}

// GetSchedAttr reads struct sched_attr of SizeofSchedAttr bytes.
func GetSchedAttr(b []byte) unix.SchedAttr {
	b = b[:SizeofSchedAttr]
	return unix.SchedAttr{
		Size: get32(b, 0), Policy: get32(b, 4), Flags: get64(b, 8), Nice: int32(get32(b, 16)),
		Priority: get32(b, 20), Runtime: get64(b, 24), Deadline: get64(b, 32), Period: get64(b, 40),
		Util_min: get32(b, 48), Util_max: get32(b, 52),
	}
}

// PutSchedAttr writes struct sched_attr.
func PutSchedAttr(b []byte, a unix.SchedAttr) {
	b = b[:SizeofSchedAttr]
	put32(b, 0, a.Size)
	put32(b, 4, a.Policy)
	put64(b, 8, a.Flags)
	put32(b, 16, uint32(a.Nice))
	put32(b, 20, a.Priority)
	put64(b, 24, a.Runtime)
	put64(b, 32, a.Deadline)
	put64(b, 40, a.Period)
	put32(b, 48, a.Util_min)
	put32(b, 52, a.Util_max)
}

// GetCapUserHeader reads struct __user_cap_header_struct.
func GetCapUserHeader(b []byte) unix.CapUserHeader {
	b = b[:SizeofCapUserHeader]
	return unix.CapUserHeader{Version: get32(b, 0), Pid: int32(get32(b, 4))}
}

// PutCapUserData writes struct __user_cap_data_struct.
func PutCapUserData(b []byte, d unix.CapUserData) {
	b = b[:SizeofCapUserData]
	put32(b, 0, d.Effective)
	put32(b, 4, d.Permitted)
	put32(b, 8, d.Inheritable)
}

// GetCapUserData reads struct __user_cap_data_struct.
func GetCapUserData(b []byte) unix.CapUserData {
	b = b[:SizeofCapUserData]
	return unix.CapUserData{Effective: get32(b, 0), Permitted: get32(b, 4), Inheritable: get32(b, 8)}
}
