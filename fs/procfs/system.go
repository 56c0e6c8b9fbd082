package procfs

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/aio"
	"gosv/kernel/cred"
	"gosv/kernel/inotify"
	"gosv/kernel/ipc"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/pipe"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
	"gosv/machine"
)

const ro, rw = 0o444, 0o644

// rows is all of /proc but what is about processes.
var rows = []row{
	{path: "self", mode: unix.S_IFLNK | 0o777, text: showSelf},
	{path: "thread-self", mode: unix.S_IFLNK | 0o777, text: showThreadSelf},
	{path: "mounts", mode: unix.S_IFLNK | 0o777, text: link("self/mounts")},
	{path: "net", mode: unix.S_IFLNK | 0o777, text: link("self/net")},
	{path: "cgroups", mode: ro, show: text("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")},
	{path: "cmdline", mode: ro, show: func(v *view, b *out) error { b.str(v.CommandLine, "\n"); return nil }},
	{path: "cpuinfo", mode: ro, show: showCPUInfo},
	{path: "filesystems", mode: ro, show: showFilesystems},
	{path: "interrupts", mode: ro, show: showInterrupts},
	{path: "loadavg", mode: ro, show: showLoad},
	{path: "meminfo", mode: ro, show: showMemory},
	{path: "locks", mode: ro, show: showLocks},
	{path: "stat", mode: ro, show: showStat},
	{path: "swaps", mode: ro, show: text("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")},
	{path: "uptime", mode: ro, show: showUptime},
	{path: "vmstat", mode: ro, show: showVMStat},
	{path: "version", mode: ro, show: showVersion},

	{path: "sys/fs/aio-max-nr", mode: ro, show: number10(aio.MaxEvents)},
	{path: "sys/fs/aio-nr", mode: ro, show: showNumber(func(*view) int64 { return aio.Events() })},
	{path: "sys/fs/epoll/max_user_watches", mode: rw, show: showNumber(maxInterests), store: storeNumber(setMaxInterests)},
	{path: "sys/fs/file-max", mode: rw, show: showNumber(maxFiles), store: storeNumber(setMaxFiles)},
	{path: "sys/fs/file-nr", mode: ro, show: showFiles},
	{path: "sys/fs/inotify/max_queued_events", mode: ro, show: number10(inotify.MaxEvents)},
	{path: "sys/fs/dir-notify-enable", mode: ro, show: text("1\n")},
	{path: "sys/fs/inotify/max_user_watches", mode: ro, show: showNumber(func(*view) int64 { return inotify.MaxWatches() })},
	{path: "sys/fs/mount-max", mode: rw, show: showNumber(mountMax), store: storeNumber(setMountMax)},
	{path: "sys/fs/nr_open", mode: ro, show: text("1048576\n")},
	{path: "sys/fs/overflowgid", mode: ro, show: number10(65534)},
	{path: "sys/fs/overflowuid", mode: ro, show: number10(65534)},
	{path: "sys/fs/pipe-max-size", mode: rw, show: showNumber(func(*view) int64 { return int64(pipe.MaxSize.Load()) }), store: storeNumber(setPipeSize)},
	number32("sys/fs/pipe-user-pages-hard", &pipe.HardPages, 0),
	number32("sys/fs/pipe-user-pages-soft", &pipe.SoftPages, 0),
	{path: "sys/fs/protected_hardlinks", mode: rw, show: showFlag(vfs.ProtectHardlinks), store: storeFlag(vfs.ProtectHardlinks)},
	{path: "sys/fs/protected_symlinks", mode: rw, show: showFlag(vfs.ProtectSymlinks), store: storeFlag(vfs.ProtectSymlinks)},
	{path: "sys/fs/suid_dumpable", mode: ro, show: number10(0)},
	{path: "sys/kernel/cap_last_cap", mode: ro, show: number10(unix.CAP_LAST_CAP)},
	{path: "sys/kernel/core_pattern", mode: rw, show: func(v *view, b *out) error { b.str(v.Kernel.CorePattern(), "\n"); return nil }, store: storeCorePattern},
	{path: "sys/kernel/core_uses_pid", mode: rw, show: showCoreUsesPID, store: storeCoreUsesPID},
	// syslog(2) is for those with CAP_SYSLOG.
	{path: "sys/kernel/dmesg_restrict", mode: ro, show: number10(1)},
	{path: "sys/kernel/domainname", mode: rw, show: showDomain, store: storeName((*task.UTS).SetDomain)},
	{path: "sys/kernel/hostname", mode: rw, show: showHostname, store: storeName((*task.UTS).SetHost)},
	{path: "sys/kernel/msgmax", mode: ro, show: number10(ipc.MsgMax)},
	{path: "sys/kernel/msgmnb", mode: ro, show: number10(ipc.MsgBytes)},
	{path: "sys/kernel/msgmni", mode: ro, show: number10(ipc.MaxObjects)},
	{path: "sys/kernel/ngroups_max", mode: ro, show: number10(cred.MaxGroups)},
	{path: "sys/kernel/osrelease", mode: ro, show: func(v *view, b *out) error { b.str(v.Release, "\n"); return nil }},
	{path: "sys/kernel/ostype", mode: ro, show: text("Linux\n")},
	{path: "sys/kernel/overflowgid", mode: ro, show: number10(65534)},
	{path: "sys/kernel/overflowuid", mode: ro, show: number10(65534)},
	{path: "sys/kernel/pid_max", mode: ro, show: number10(task.PIDMax)},
	{path: "sys/kernel/random/boot_id", mode: ro, show: func(v *view, b *out) error { b.str(v.bootID, "\n"); return nil }},
	{path: "sys/kernel/random/entropy_avail", mode: ro, show: number10(256)},
	{path: "sys/kernel/random/poolsize", mode: ro, show: number10(256)},
	{path: "sys/kernel/random/uuid", mode: ro, show: func(v *view, b *out) error { b.str(uuid(v.Random), "\n"); return nil }},
	{path: "sys/kernel/randomize_va_space", mode: ro, show: number10(2)},
	{path: "sys/kernel/sched_rr_timeslice_ms", mode: rw, show: showSlice, store: storeSlice},
	{path: "sys/kernel/sched_rt_period_us", mode: rw, show: showPeriod, store: storePeriod},
	{path: "sys/kernel/sched_rt_runtime_us", mode: rw, show: showRuntime, store: storeRuntime},
	{path: "sys/kernel/seccomp/actions_avail", mode: ro, show: text("kill_process kill_thread trap errno user_notif trace log allow\n")},
	{path: "sys/kernel/sem", mode: ro, show: func(_ *view, b *out) error {
		b.num(ipc.SemMaxSet).str("\t").num(ipc.SemMaxSet * ipc.MaxObjects).str("\t").num(ipc.SemMaxOps).str("\t").num(ipc.MaxObjects).nl()
		return nil
	}},
	{path: "sys/kernel/shm_rmid_forced", mode: ro, show: number10(0)},
	{path: "sys/kernel/shmall", mode: ro, show: number10(ipc.ShmMax / machine.PageSize)},
	{path: "sys/kernel/shmmax", mode: ro, show: number10(ipc.ShmMax)},
	{path: "sys/kernel/shmmni", mode: ro, show: number10(ipc.MaxObjects)},
	{path: "sys/kernel/tainted", mode: ro, show: number10(0)},
	{path: "sys/kernel/threads-max", mode: rw, show: showNumber(maxThreads), store: storeNumber(setMaxThreads)},
	{path: "sys/kernel/version", mode: ro, show: func(v *view, b *out) error { b.str(v.Version, "\n"); return nil }},
	{path: "sys/net/core/optmem_max", mode: ro, show: number10(socket.MaxControl)},
	number32("sys/net/core/rmem_default", socket.DefaultReceive, socket.MinRecvBuffer),
	number32("sys/net/core/rmem_max", socket.MaxReceive, socket.MinRecvBuffer),
	number32("sys/net/core/somaxconn", socket.MaxBacklog, 0),
	number32("sys/net/core/wmem_default", socket.DefaultSend, socket.MinSendBuffer),
	number32("sys/net/core/wmem_max", socket.MaxSend, socket.MinSendBuffer),
	{path: "sys/vm/hugetlb_shm_group", mode: rw, show: showHugeGroup, store: storeHugeGroup},
	{path: "sys/vm/drop_caches", mode: 0o200, show: refused, store: storeNumber(dropCaches)},
	{path: "sys/vm/max_map_count", mode: rw, show: showNumber(maxAreas), store: storeNumber(setMaxAreas)},
	{path: "sys/vm/mmap_min_addr", mode: ro, show: number10(65536)},
	{path: "sys/vm/nr_hugepages", mode: rw, show: showHugeTotal, store: storeHugeTotal},
	{path: "sys/vm/nr_overcommit_hugepages", mode: rw, show: showHugeOvercommit, store: storeHugeOvercommit},
	{path: "sys/vm/overcommit_memory", mode: rw, show: showOvercommit, store: storeOvercommit},
	{path: "sys/vm/overcommit_ratio", mode: rw, show: showOvercommitRatio, store: storeOvercommitRatio},
}

func text(s string) func(*view, *out) error {
	return func(_ *view, b *out) error { b.str(s); return nil }
}

func link(s string) func(*view) (string, error) {
	return func(*view) (string, error) { return s, nil }
}

func number10(n int64) func(*view, *out) error { return text(strconv.FormatInt(n, 10) + "\n") }

func showFlag(flag *atomic.Bool) func(*view, *out) error {
	return func(_ *view, b *out) error {
		s := "0\n"
		if flag.Load() {
			s = "1\n"
		}
		b.str(s)
		return nil
	}
}

func storeFlag(flag *atomic.Bool) func(*view, string) error {
	return func(_ *view, s string) error {
		n, err := parse(s)
		if err != nil || n < 0 || n > 1 {
			return unix.EINVAL
		}
		flag.Store(n == 1)
		return nil
	}
}

// trim takes away what programs write around a value.
func trim(s string) string { return strings.Trim(s, " \t\n\x00") }

func parse(s string) (int, error) {
	n, err := strconv.Atoi(trim(s))
	if err != nil {
		return 0, unix.EINVAL
	}
	return n, nil
}

func showSelf(v *view) (string, error) {
	n := v.pids.Local(v.ctx.PID)
	if n == 0 {
		return "", unix.ENOENT
	}
	return strconv.Itoa(int(n)), nil
}

func showThreadSelf(v *view) (string, error) {
	n := v.pids.Local(v.ctx.TID)
	if n == 0 {
		return "", unix.ENOENT
	}
	return strconv.Itoa(int(v.pids.Local(v.ctx.PID))) + "/task/" + strconv.Itoa(int(n)), nil
}

// megahertz tells the frequency of the time stamp counter, 0 when unknown.
func (f *FS) megahertz() (mhz, thousandths uint64) {
	mult := f.Clock.Timebase().Mult // ns per cycle, times 1<<32
	if mult == 0 {
		return 0, 0
	}
	khz := 1_000_000 * (1 << 32) / mult
	return khz / 1000, khz % 1000
}

func showCPUInfo(v *view, b *out) error {
	mhz, rest := v.megahertz()
	i := &v.CPUInfo
	speed := out{}
	speed.unum(mhz).str(".").digits(rest, 10, 3, '0')
	for n := range v.CPUs {
		for _, f := range [...][2]string{
			{"processor\t", strconv.Itoa(n)},
			{"vendor_id\t", i.Vendor},
			{"cpu family\t", strconv.Itoa(i.Family)},
			{"model\t\t", strconv.Itoa(i.Number)},
			{"model name\t", i.Model},
			{"stepping\t", strconv.Itoa(i.Stepping)},
			{"cpu MHz\t\t", string(speed.b)},
			{"physical id\t", "0"},
			{"siblings\t", strconv.Itoa(v.CPUs)},
			{"core id\t\t", strconv.Itoa(n)},
			{"cpu cores\t", strconv.Itoa(v.CPUs)},
			{"flags\t\t", i.Flags},
		} {
			b.str(f[0], ": ", f[1], "\n")
		}
		b.nl()
	}
	return nil
}

func showFilesystems(v *view, b *out) error {
	for _, t := range v.Namespace.Types() {
		if !t.OnDevice {
			b.str("nodev")
		}
		b.str("\t", t.Name, "\n")
	}
	return nil
}

func showLoad(v *view, b *out) error {
	threads, _, last := v.Kernel.Counts()
	if t := v.asker(); t != nil && t.Process().PIDs() != v.Kernel.PIDs() {
		last = t.Process().PIDs().Last()
	}
	running := 0
	for _, p := range v.Kernel.Processes() {
		for _, t := range p.Threads() {
			if t.State() == 'R' {
				running++
			}
		}
	}
	for _, a := range v.Kernel.LoadAverages() {
		a += 1 << 16 / 200 // rounded
		b.unum(a>>16).str(".").digits(a&0xffff*100>>16, 10, 2, '0').str(" ")
	}
	b.num(int64(running)).str("/").num(int64(threads)).nums(int64(last)).nl()
	return nil
}

func showMemory(v *view, b *out) error {
	total, free := v.Pool.Usage()
	count := v.Pool.Count()
	files, shmem := uint64(count[mem.File]), uint64(count[mem.Shmem])
	const column = 16
	for _, f := range []struct {
		name  string
		pages uint64
	}{
		{"MemTotal", total}, {"MemFree", free}, {"MemAvailable", free}, {"Buffers", 0}, {"Cached", files + shmem}, {"SwapCached", 0},
		{"SwapTotal", 0}, {"SwapFree", 0}, {"AnonPages", uint64(count[mem.Anonymous])}, {"Shmem", shmem}, {"CommitLimit", v.Pool.CommitLimit()}, {"Committed_AS", v.Pool.Committed()},
	} {
		b.kb(f.name, f.pages, column)
	}
	showHugeMemory(v, b)
	return nil
}

// showVMStat tells what vmstat(8) reads. There is no swap, and no disk whose pages come and go.
func showVMStat(v *view, b *out) error {
	_, free := v.Pool.Usage()
	count := v.Pool.Count()
	for _, f := range []struct {
		name string
		n    uint64
	}{
		{"nr_free_pages", free}, {"nr_anon_pages", uint64(count[mem.Anonymous])}, {"nr_file_pages", uint64(count[mem.File] + count[mem.Shmem])},
		{"nr_shmem", uint64(count[mem.Shmem])}, {"pgpgin", 0}, {"pgpgout", 0}, {"pswpin", 0}, {"pswpout", 0},
		{"pgfault", uint64(v.Kernel.Total().Faults)},
	} {
		b.str(f.name, " ").unum(f.n).nl()
	}
	return nil
}

func showOvercommit(v *view, b *out) error {
	mode, _ := v.Pool.Overcommit()
	b.num(int64(mode)).nl()
	return nil
}

func showOvercommitRatio(v *view, b *out) error {
	_, ratio := v.Pool.Overcommit()
	b.num(int64(ratio)).nl()
	return nil
}

func storeOvercommit(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	_, ratio := v.Pool.Overcommit()
	return v.Pool.SetOvercommit(mem.Overcommit(n), ratio)
}

func storeOvercommitRatio(v *view, s string) error {
	n, err := parse(s)
	if err != nil {
		return err
	}
	mode, _ := v.Pool.Overcommit()
	return v.Pool.SetOvercommit(mode, n)
}

func showHostname(v *view, b *out) error {
	host, _ := v.uts().Names()
	b.str(host, "\n")
	return nil
}

// uts returns the UTS namespace of who asks.
func (v *view) uts() *task.UTS {
	if t := v.asker(); t != nil {
		if u, ok := t.NamespaceOf(namespace.UTS, false).(*task.UTS); ok {
			return u
		}
	}
	return v.Kernel.First().UTS()
}

func showDomain(v *view, b *out) error {
	_, domain := v.uts().Names()
	b.str(domain, "\n")
	return nil
}

// storeName takes one of the names of a UTS namespace: EPERM.
func storeName(set func(*task.UTS, string)) func(*view, string) error {
	return func(v *view, s string) error {
		u := v.uts()
		if !v.ctx.Cred.CapableIn(u.Owner(), unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		set(u, strings.TrimRight(s, "\n"))
		return nil
	}
}

func storeCorePattern(v *view, s string) error {
	return v.Kernel.SetCorePattern(strings.TrimRight(s, "\n\x00"))
}

func showCoreUsesPID(v *view, b *out) error { return showFlag(v.Kernel.CoreUsesPID())(v, b) }

func storeCoreUsesPID(v *view, s string) error { return storeFlag(v.Kernel.CoreUsesPID())(v, s) }

// refused is shown of what can only be written, to root too.
func refused(*view, *out) error { return unix.EACCES }

func showVersion(v *view, b *out) error {
	b.str("Linux version ", v.Release, " (gosv) ", v.Version, "\n")
	return nil
}

// uuid makes a random UUID (RFC 9562 §5.4).
func uuid(random func([]byte)) string {
	var r [16]byte
	random(r[:])
	r[6] = r[6]&0x0f | 0x40
	r[8] = r[8]&0x3f | 0x80
	o := out{}
	for i, c := range r {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			o.str("-")
		}
		o.hex(uint64(c), 2)
	}
	return string(o.b)
}
