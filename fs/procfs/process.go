package procfs

import (
	"math"
	"math/bits"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gosv/kernel/mm"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// processRows is /proc/PID, and what of it is marked inTask /proc/PID/task/TID.
var processRows = []*row{
	{path: "auxv", mode: 0o400, show: showAuxv, private: true, bound: true, inTask: true},
	{path: "cgroup", mode: ro, show: text("0::/\n"), inTask: true},
	{path: "cmdline", mode: ro, show: showCmdline, inTask: true},
	{path: "comm", mode: rw, show: showComm, store: storeComm, inTask: true},
	{path: "coredump_filter", mode: rw, show: showDumpFilter, store: storeDumpFilter},
	{path: "cwd", mode: unix.S_IFLNK | 0o777, jump: jumpCwd, private: true, inTask: true},
	{path: "environ", mode: 0o400, show: showEnviron, private: true, bound: true, inTask: true},
	{path: "exe", mode: unix.S_IFLNK | 0o777, jump: jumpExe, private: true, inTask: true},
	{path: "fd", mode: unix.S_IFDIR | 0o500, more: descriptors{fdRow}, private: true, inTask: true},
	{path: "fdinfo", mode: unix.S_IFDIR | 0o500, more: descriptors{fdinfoRow}, private: true, inTask: true},
	{path: "ns", mode: unix.S_IFDIR | 0o511, more: nil, dir: nsRows, private: true, inTask: true},
	{path: "limits", mode: ro, show: showLimits, inTask: true},
	{path: "map_files", mode: unix.S_IFDIR | 0o500, named: areas{}, private: true},
	{path: "maps", mode: ro, open: openRecords(mapsRecord), private: true, bound: true, inTask: true},
	{path: "mem", mode: 0o600, open: openMemory, private: true, bound: true, inTask: true},
	{path: "mountinfo", mode: ro, show: showMountinfo, inTask: true},
	{path: "mounts", mode: ro, show: showMounts, inTask: true},
	netRow,
	{path: "oom_score", mode: ro, show: showOOMScore, inTask: true},
	{path: "oom_score_adj", mode: rw, show: showOOM, store: storeOOM, inTask: true},
	{path: "pagemap", mode: 0o400, open: openPagemap, private: true, bound: true, inTask: true},
	{path: "personality", mode: 0o400, show: showPersonality, private: true, inTask: true},
	{path: "root", mode: unix.S_IFLNK | 0o777, jump: jumpRoot, private: true, inTask: true},
	{path: "smaps", mode: ro, open: openRecords(smapsRecord), private: true, bound: true, inTask: true},
	{path: "smaps_rollup", mode: ro, show: showRollup, private: true, bound: true, inTask: true},
	{path: "stat", mode: ro, show: showProcessStat, inTask: true},
	{path: "statm", mode: ro, show: showStatm, inTask: true},
	{path: "status", mode: ro, show: showStatus, inTask: true},
	{path: "syscall", mode: 0o400, show: showSyscall, private: true, inTask: true},
	{path: "gid_map", mode: rw, show: showMap(true), store: storeMap(true), inTask: true},
	{path: "setgroups", mode: rw, show: showSetgroups, store: storeSetgroups, inTask: true},
	{path: "timens_offsets", mode: rw, show: showTimeOffsets, store: storeTimeOffsets},
	{path: "uid_map", mode: rw, show: showMap(false), store: storeMap(false), inTask: true},
	{path: "wchan", mode: ro, show: text("0"), inTask: true},
	{path: "task", mode: unix.S_IFDIR | 0o555, more: threads{}},
}

var (
	fdRow     = &row{mode: unix.S_IFLNK | 0o700, jump: jumpFD, private: true}
	fdinfoRow = &row{mode: unix.S_IFREG | 0o444, show: showFDInfo, private: true}

	// netRow is /proc/PID/net: its entries are those that AddFor was given.
	netRow = &row{path: "net", mode: unix.S_IFDIR | 0o555, inTask: true}

	processRow = &row{mode: unix.S_IFDIR | 0o555}
	threadRow  = &row{mode: unix.S_IFDIR | 0o555}
)

func init() {
	for _, r := range []*row{fdRow, fdinfoRow, mapFileRows[0], mapFileRows[1], processRow, threadRow} {
		number(r)
	}
	processRow.dir = processRows
	for _, r := range processRows {
		if r.inTask {
			threadRow.dir = append(threadRow.dir, r)
		}
	}
}

// processes lists /proc's numbers.
type processes struct{}

func (processes) list(v *view) ([]int32, error) {
	var list []int32
	for _, p := range v.Kernel.Processes() {
		if n := v.pids.Local(p.PID); n != 0 && v.sees(p) {
			list = append(list, n)
		}
	}
	sort.Sort(ascending(list))
	return list, nil
}

func (processes) find(v *view, n int32) (*row, subject, error) {
	n = v.pids.Global(n)
	s := subject{pid: n, tid: n, fd: -1}
	p := v.Kernel.Process(n)
	if p == nil {
		t := v.Kernel.Task(n) // a thread's number works too, though it is not listed
		if t == nil {
			return nil, s, unix.ENOENT
		}
		p, s.pid = t.Process(), t.PID()
	}
	if !v.sees(p) {
		return nil, s, unix.ENOENT
	}
	return processRow, s, nil
}

// ascending sorts numbers.
type ascending []int32

func (a ascending) Len() int           { return len(a) }
func (a ascending) Less(i, j int) bool { return a[i] < a[j] }
func (a ascending) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// threads lists /proc/PID/task.
type threads struct{}

func (threads) list(v *view) ([]int32, error) {
	var list []int32
	for _, t := range v.p.Threads() {
		list = append(list, v.pids.Local(t.TID()))
	}
	sort.Sort(ascending(list))
	return list, nil
}

func (threads) find(v *view, n int32) (*row, subject, error) {
	n = v.pids.Global(n)
	s := subject{pid: v.pid, tid: n, fd: -1}
	if t := v.Kernel.Task(n); t == nil || t.PID() != v.pid {
		return nil, s, unix.ENOENT
	}
	return threadRow, s, nil
}

// descriptors lists /proc/PID/fd and fdinfo.
type descriptors struct{ row *row }

func (descriptors) list(v *view) ([]int32, error) {
	var list []int32
	if t := v.p.Files(); t != nil {
		for _, fd := range t.List() {
			list = append(list, int32(fd))
		}
	}
	return list, nil
}

func (d descriptors) find(v *view, n int32) (*row, subject, error) {
	s := subject{pid: v.pid, tid: v.tid, fd: n}
	f, err := v.file(n)
	if err != nil {
		return nil, s, err
	}
	f.DecRef()
	return d.row, s, nil
}

// file returns a descriptor's file with a reference: ENOENT.
func (v *view) file(fd int32) (*vfs.File, error) {
	if t := v.p.Files(); t != nil {
		if f, err := t.Get(int(fd)); err == nil {
			return f, nil
		}
	}
	return nil, unix.ENOENT
}

func jumpFD(v *view) (vfs.Path, error) {
	f, err := v.file(v.fd)
	if err != nil {
		return vfs.Path{}, err
	}
	defer f.DecRef()
	return f.Path(), nil
}

func showFDInfo(v *view, b *out) error {
	f, err := v.file(v.fd)
	if err != nil {
		return err
	}
	defer f.DecRef()
	pos, _ := f.Seek(0, unix.SEEK_CUR)
	b.str("pos:\t").num(pos).str("\nflags:\t0").digits(uint64(f.Flags()), 8, 0, '0')
	b.str("\nmnt_id:\t").unum(f.Path().Mount.ID).str("\nino:\t").unum(f.Inode().Ino).nl()
	w := lockLines{v: v, b: b, before: "lock:\t"}
	w.add(f, v.pid, f.HeldLocks())
	if t := v.p.Files(); t != nil {
		w.add(f, v.pid, t.HeldLocks(f.Inode()))
	}
	switch i := f.Ops().(type) {
	case interface{ FDInfo() string }:
		b.str(i.FDInfo())
	case interface {
		FDInfo(*task.PIDNamespace) string
	}:
		b.str(i.FDInfo(v.pids))
	}
	return nil
}

func jumpExe(v *view) (vfs.Path, error) {
	if f := v.p.Exe(); f != nil {
		return f.Path(), nil
	}
	return vfs.Path{}, unix.ENOENT
}

func jumpCwd(v *view) (vfs.Path, error) {
	if fs := v.p.FS(); fs != nil {
		return fs.Cwd(), nil
	}
	return vfs.Path{}, unix.ENOENT
}

func jumpRoot(v *view) (vfs.Path, error) {
	if fs := v.p.FS(); fs != nil {
		return fs.Root(), nil
	}
	return vfs.Path{}, unix.ENOENT
}

func showAuxv(v *view, b *out) error {
	l := v.p.Layout()
	v.memory(func(*mm.AddressSpace) { b.b = append(b.b, l.Auxv...) })
	return nil
}

// memory calls f with the address space; a process that ended has none.
func (v *view) memory(f func(as *mm.AddressSpace)) {
	if m := v.p.Memory(); m != nil {
		if !v.bound || m.AddressSpace == v.space {
			f(m.AddressSpace)
		}
		m.Release()
	}
}

// copyRange appends user memory from start to end as far as it can be read.
func (v *view) copyRange(b *out, start, end uint64) {
	if end <= start || end-start > 1<<22 {
		return
	}
	v.memory(func(as *mm.AddressSpace) {
		buf := make([]byte, end-start)
		n, _ := as.CopyIn(buf, start)
		b.b = append(b.b, buf[:n]...)
	})
}

func showCmdline(v *view, b *out) error {
	l := v.p.Layout()
	v.copyRange(b, l.ArgStart, l.ArgEnd)
	return nil
}

func showEnviron(v *view, b *out) error {
	l := v.p.Layout()
	v.copyRange(b, l.EnvStart, l.EnvEnd)
	return nil
}

func showComm(v *view, b *out) error {
	b.str(v.t.Comm(), "\n")
	return nil
}

func storeComm(v *view, s string) error {
	v.t.SetComm(strings.TrimRight(s, "\n"))
	return nil
}

// limitNames are the lines of /proc/PID/limits, by resource.
var limitNames = [...][2]string{
	{"Max cpu time", "seconds"}, {"Max file size", "bytes"}, {"Max data size", "bytes"}, {"Max stack size", "bytes"},
	{"Max core file size", "bytes"}, {"Max resident set", "bytes"}, {"Max processes", "processes"}, {"Max open files", "files"},
	{"Max locked memory", "bytes"}, {"Max address space", "bytes"}, {"Max file locks", "locks"}, {"Max pending signals", "signals"},
	{"Max msgqueue size", "bytes"}, {"Max nice priority", ""}, {"Max realtime priority", ""}, {"Max realtime timeout", "us"},
}

func showLimits(v *view, b *out) error {
	line := func(name, soft, hard, unit string) {
		start := len(b.b)
		b.str(name).pad(start, 26).str(soft).pad(start, 47).str(hard).pad(start, 68).str(unit).pad(start, 79).nl()
	}
	line("Limit", "Soft Limit", "Hard Limit", "Units")
	amount := func(n uint64) string {
		if n == math.MaxUint64 {
			return "unlimited"
		}
		return strconv.FormatUint(n, 10)
	}
	for r, n := range limitNames {
		l := v.p.Limit(r)
		line(n[0], amount(l.Cur), amount(l.Max), n[1])
	}
	return nil
}

// areaRecord makes show's text a record for each area, by its end.
func areaRecord(show func(as *mm.AddressSpace, a *mm.AreaInfo, b *out)) record {
	return func(v *view, after uint64, b *out) (key uint64, ok bool) {
		v.memory(func(as *mm.AddressSpace) {
			for _, a := range as.AreasFrom(after, 1) {
				show(as, &a, b)
				key, ok = a.End, true
			}
		})
		return key, ok
	}
}

var mapsRecord = areaRecord(func(_ *mm.AddressSpace, a *mm.AreaInfo, b *out) { mapsLine(b, a) })

// mapsLine has a space behind the inode whether or not a name follows: there are programs that insist on it.
func mapsLine(b *out, a *mm.AreaInfo) {
	start := len(b.b)
	b.hex(a.Start, 8).str("-").hex(a.End, 8).str(" ")
	for i, c := range "rwx" {
		if a.Prot>>i&1 == 0 {
			c = '-'
		}
		b.str(string(c))
	}
	if a.Shared {
		b.str("s ")
	} else {
		b.str("p ")
	}
	b.hex(a.Offset, 8).str(" ").hex(uint64(a.Major), 2).str(":").hex(uint64(a.Minor), 2).str(" ").unum(a.Inode).str(" ")
	if a.Name != "" {
		b.pad(start, 73).str(escape(a.Name, "\n"))
	}
	b.nl()
}

// memoryFile is /proc/PID/mem: positions are addresses.
type memoryFile struct {
	vfs.FileDefaults
	v *view
}

func openMemory(v *view) (vfs.FileOps, error) { return &memoryFile{v: v}, nil }

func (m *memoryFile) Seek(*vfs.File, int64, int) (int64, error) { return 0, unix.EINVAL }

func (m *memoryFile) Read(_ *vfs.File, dst uio.Sink, off int64) (done int64, err error) {
	m.v.memory(func(as *mm.AddressSpace) {
		buf := make([]byte, min(dst.Left(), 1<<16))
		for dst.Left() > 0 && err == nil {
			want := min(dst.Left(), len(buf))
			n, fault := as.Peek(buf[:want], uint64(off+done))
			n, err = dst.Put(buf[:n])
			done += int64(n)
			if err == nil && fault != nil {
				err = unix.EIO
			}
		}
	})
	if done > 0 {
		err = nil
	}
	return done, err
}

func (m *memoryFile) Write(_ *vfs.File, src uio.Source, off int64) (done int64, err error) {
	m.v.memory(func(as *mm.AddressSpace) {
		buf := make([]byte, min(src.Left(), 1<<16))
		for src.Left() > 0 && err == nil {
			var n int
			if n, err = src.Take(buf[:min(src.Left(), len(buf))]); err != nil {
				return
			}
			n, err = as.Poke(uint64(off+done), buf[:n])
			done += int64(n)
			if err != nil {
				err = unix.EIO
			}
		}
	})
	if done > 0 {
		err = nil
	}
	return done, err
}

func showPersonality(v *view, b *out) error {
	b.hex(uint64(v.t.Personality()), 8).nl()
	return nil
}

// showSyscall tells where a thread that sleeps is: in which system call, with which arguments, and its stack pointer and program counter.
func showSyscall(v *view, b *out) error {
	where, ok := v.t.Where(v.t == v.asker())
	if !ok {
		b.str("running\n")
		return nil
	}
	if where.NR < 0 {
		b.str("-1 0x").hex(where.SP, 1).str(" 0x").hex(where.PC, 1).nl()
		return nil
	}
	b.num(where.NR)
	for _, a := range where.Args {
		b.str(" 0x").hex(a, 1)
	}
	b.str(" 0x").hex(where.SP, 1).str(" 0x").hex(where.PC, 1).nl()
	return nil
}

func showOOMScore(v *view, b *out) error {
	b.num(v.p.OOMScore()).nl()
	return nil
}

func showOOM(v *view, b *out) error {
	b.num(int64(v.p.OOMAdj())).nl()
	return nil
}

func storeOOM(v *view, s string) error {
	n, err := parse(s)
	if err != nil || n < task.MinOOMAdj || n > 1000 {
		return unix.EINVAL
	}
	if n < v.p.OOMAdj() && !v.ctx.Cred.Capable(unix.CAP_SYS_RESOURCE) {
		return unix.EACCES
	}
	v.p.SetOOMAdj(n)
	return nil
}

func showDumpFilter(v *view, b *out) error {
	b.hex(uint64(v.p.DumpFilter()), 8).nl()
	return nil
}

func storeDumpFilter(v *view, s string) error {
	n, err := strconv.ParseUint(trim(s), 0, 32)
	if err != nil {
		return unix.EINVAL
	}
	v.p.SetDumpFilter(uint32(n))
	return nil
}

func showStatm(v *view, b *out) error {
	var s mm.Stats
	v.memory(func(as *mm.AddressSpace) { s = as.Stats() })
	b.unum(s.Size).nums(int64(s.RSS), int64(s.RSSFile+s.RSSShmem), int64(s.Exec), 0, int64(s.Data+s.Stack), 0).nl()
	return nil
}

func showProcessStat(v *view, b *out) error {
	var s mm.Stats
	v.memory(func(as *mm.AddressSpace) { s = as.Stats() })
	p, l := v.p, v.p.Layout()
	utime, stime, cutime, cstime := p.Usage()
	tty, tpgid := int64(0), int64(-1)
	if term, fg := p.Terminal(); term != nil {
		tty, tpgid = ttyNumber(term), int64(v.pids.Local(fg))
	}
	policy, own, nice, _, err := v.t.Scheduler(0)
	if err != nil {
		policy, own, nice = 0, 0, 0
	}
	priority := 20 + nice
	if rt := v.t.RealTimePriority(); rt > 0 {
		priority = -1 - rt
	}
	state := p.State()
	if v.tid != v.pid {
		state = v.t.State()
	}
	b.num(int64(v.pids.Local(v.tid))).str(" (", v.t.Comm(), ") ", string(state))
	number := func(n int32) int64 { return int64(v.pids.Local(n)) }
	b.nums(number(p.PPID()), number(p.PGID()), number(p.SID()), tty, tpgid, 0, p.Faults(), 0, 0, 0,
		ticks(utime), ticks(stime), ticks(cutime), ticks(cstime), int64(priority), int64(nice), int64(len(p.Threads())), 0,
		ticks(p.Started()+v.ahead()), int64(s.Size*vfs.BlockSize), int64(s.RSS)).str(" ").unum(p.Limit(unix.RLIMIT_RSS).Cur)
	b.nums(int64(l.StartCode), int64(l.EndCode), int64(l.StartStack), 0, 0)
	ignored, caught := p.Handlers().Ignored()
	b.nums(0, 0, int64(ignored&math.MaxInt32), int64(caught&math.MaxInt32), 0, 0, 0, int64(unix.SIGCHLD), 0, int64(own), int64(policy), 0, 0, 0,
		0, 0, 0, int64(l.ArgStart), int64(l.ArgEnd), int64(l.EnvStart), int64(l.EnvEnd), 0).nl()
	return nil
}

// ttyNumber is tty_nr: the device number in the old encoding.
func ttyNumber(t task.Terminal) int64 {
	if d, ok := t.(interface{ Device() (major, minor uint32) }); ok {
		major, minor := d.Device()
		return int64(minor&0xff | major<<8 | (minor&^0xff)<<12)
	}
	return 0
}

// stateNames are the words behind the letters of the state.
var stateNames = map[byte]string{'R': "R (running)", 'S': "S (sleeping)", 'D': "D (disk sleep)", 'T': "T (stopped)", 't': "t (tracing stop)", 'Z': "Z (zombie)", 'X': "X (dead)"}

func showStatus(v *view, b *out) error {
	p, c := v.p, v.t.Cred()
	state := p.State()
	if v.tid != v.pid {
		state = v.t.State()
	}
	b.field("Name", v.t.Comm())
	if fs := p.FS(); fs != nil {
		b.str("Umask:\t").digits(uint64(fs.Umask()), 8, 4, '0').nl()
	}
	b.field("State", stateNames[state])
	v.statusIDs(b)
	v.statusMemory(b)
	b.str("Threads:\t").num(int64(len(p.Threads()))).nl()
	ignored, caught := p.Handlers().Ignored()
	for _, f := range []struct {
		name string
		bits uint64
	}{
		{"SigIgn", uint64(ignored)}, {"SigCgt", uint64(caught)}, {"CapInh", uint64(c.Inheritable)}, {"CapPrm", uint64(c.Permitted)},
		{"CapEff", uint64(c.Effective)}, {"CapBnd", uint64(c.Bounding)}, {"CapAmb", uint64(c.Ambient)},
	} {
		b.str(f.name, ":\t").hex(f.bits, 16).nl()
	}
	noNew := "0"
	if c.NoNewPrivs {
		noNew = "1"
	}
	mode, filters := v.t.SeccompMode()
	b.field("NoNewPrivs", noNew)
	b.str("Seccomp:\t").num(int64(mode)).str("\nSeccomp_filters:\t").num(int64(filters)).nl()
	v.statusCPUs(b)
	voluntary, forced := v.t.Switches()
	b.str("voluntary_ctxt_switches:\t").num(voluntary).str("\nnonvoluntary_ctxt_switches:\t").num(forced).nl()
	return nil
}

// statusIDs shows the numbers of the process and of its user.
func (v *view) statusIDs(b *out) {
	p, c := v.p, v.t.Cred()
	tracer := int32(0)
	if t := v.t.Tracer(); t != nil {
		tracer = t.PID()
	}
	for _, f := range []struct {
		name string
		n    int32
	}{{"Tgid", v.pid}, {"Ngid", 0}, {"Pid", v.tid}, {"PPid", p.PPID()}, {"TracerPid", tracer}} {
		b.str(f.name, ":\t").num(int64(v.pids.Local(f.n))).nl()
	}
	ids := func(name string, list ...uint32) {
		b.str(name, ":")
		for _, id := range list {
			b.str("\t").unum(uint64(id))
		}
		b.nl()
	}
	u := v.user()
	ids("Uid", u.ShowUID(c.UID), u.ShowUID(c.EUID), u.ShowUID(c.SUID), u.ShowUID(c.FSUID))
	ids("Gid", u.ShowGID(c.GID), u.ShowGID(c.EGID), u.ShowGID(c.SGID), u.ShowGID(c.FSGID))
	b.str("FDSize:\t").num(int64(v.fdSize())).str("\nGroups:\t")
	for _, g := range c.Groups {
		b.unum(uint64(u.ShowGID(g))).str(" ")
	}
	b.nl()
	for _, f := range []struct {
		name string
		n    int32
	}{{"NStgid", v.pid}, {"NSpid", v.tid}, {"NSpgid", p.PGID()}, {"NSsid", p.SID()}} {
		b.str(f.name, ":")
		for _, n := range v.pids.Chain(f.n, p.PIDs()) {
			b.str("\t").num(int64(n))
		}
		b.nl()
	}
}

// fdSize is the number of slots of the descriptor table.
func (v *view) fdSize() int {
	if t := v.p.Files(); t != nil {
		return t.Len()
	}
	return 0
}

func (v *view) statusMemory(b *out) {
	v.memory(func(as *mm.AddressSpace) {
		s := as.Stats()
		for _, f := range []struct {
			name  string
			pages uint64
		}{
			{"VmPeak", s.Peak}, {"VmSize", s.Size}, {"VmLck", s.Locked}, {"VmPin", 0}, {"VmHWM", s.MaxRSS}, {"VmRSS", s.RSS},
			{"RssAnon", s.RSSAnon}, {"RssFile", s.RSSFile}, {"RssShmem", s.RSSShmem}, {"VmData", s.Data}, {"VmStk", s.Stack},
			{"VmExe", s.Exec}, {"VmPTE", s.Tables}, {"VmSwap", 0}, {"HugetlbPages", s.HugeTLB},
		} {
			b.str(f.name, ":\t").right(f.pages*4, 8).str(" kB\n")
		}
	})
}

// statusCPUs tells on which processors the thread may run.
func (v *view) statusCPUs(b *out) {
	set, err := v.t.Affinity(0)
	if err != nil {
		return
	}
	b.str("Cpus_allowed:\t").hex(set[0]&(1<<min(v.CPUs, 63)-1), (v.CPUs+3)/4).str("\nCpus_allowed_list:\t")
	sep := ""
	for w := set[0] & (1<<min(v.CPUs, 63) - 1); w != 0; {
		first := bits.TrailingZeros64(w)
		n := bits.TrailingZeros64(^(w >> first))
		b.str(sep).num(int64(first))
		if n > 1 {
			b.str("-").num(int64(first + n - 1))
		}
		w &^= (1<<n - 1) << first
		sep = ","
	}
	b.nl()
}

// mountOptions names the flags of a mount.
func mountOptions(flags uint64) string {
	s := "rw"
	if flags&unix.MS_RDONLY != 0 {
		s = "ro"
	}
	for _, o := range [...]struct {
		flag uint64
		name string
	}{
		{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}, {unix.MS_NOATIME, "noatime"},
		{unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"}, {unix.MS_NOSYMFOLLOW, "nosymfollow"},
	} {
		if flags&o.flag != 0 {
			s += "," + o.name
		}
	}
	return s
}

// fsOptions is what stands behind the flags for the file system's own options.
func fsOptions(o string) string {
	if o == "" {
		return ""
	}
	return "," + mangle(o)
}

// mangle writes a field of a table, where white space and the backslash are escaped.
func mangle(s string) string { return escape(s, " \t\n\\") }

// escape writes the bytes of set as a backslash and three octal digits.
func escape(s, set string) string {
	if !strings.ContainsAny(s, set) {
		return s
	}
	var b []byte
	for i := range len(s) {
		c := s[i]
		if strings.IndexByte(set, c) < 0 {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return string(b)
}

// mountList lists the mounts that the process sees.
func (v *view) mountList() []vfs.MountInfo {
	fs := v.p.FS()
	if fs == nil {
		return nil
	}
	return v.Namespace.Mounts(fs.Root())
}

func showMounts(v *view, b *out) error {
	for _, m := range v.mountList() {
		b.str(mangle(m.Source), " ", mangle(m.Point), " ", m.Type, " ", mountOptions(m.Flags), fsOptions(m.Options), " 0 0\n")
	}
	return nil
}

// propagation is what mountinfo tells of it, with a space before each.
func propagation(m *vfs.MountInfo) (s string) {
	if m.Shared != 0 {
		s += " shared:" + strconv.FormatUint(m.Shared, 10)
	}
	if m.Master != 0 {
		s += " master:" + strconv.FormatUint(m.Master, 10)
	}
	if m.Unbindable {
		s += " unbindable"
	}
	return s
}

func showMountinfo(v *view, b *out) error {
	for _, m := range v.mountList() {
		b.unum(m.ID).str(" ").unum(m.ParentID).str(" ").unum(uint64(unix.Major(m.Dev))).str(":").unum(uint64(unix.Minor(m.Dev)))
		access, _, _ := strings.Cut(mountOptions(m.Flags), ",")
		b.str(" ", mangle(m.Root), " ", mangle(m.Point), " ", mountOptions(m.Flags), propagation(&m), " - ", m.Type, " ", mangle(m.Source), " ", access, fsOptions(m.Options), "\n")
	}
	return nil
}
