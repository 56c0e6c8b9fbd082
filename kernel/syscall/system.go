package syscall

import (
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/klog"
	"gosv/kernel/namespace"
	"gosv/kernel/socket"
	"gosv/kernel/task"
	"gosv/kernel/vdso"
)

// What uname(2) tells. Programs look at the release for what the kernel can do.
const (
	sysname = "Linux"
	release = "6.1.0-gosv"
	version = "#1 SMP gosv"
	arch    = "x86_64"
)

// Options say how system calls are served.
type Options struct {
	// Strace sends every call to the kernel's log.
	Strace bool
	// Missing is told the names that calls did not find; nil: nobody asks.
	Missing func(name string)
	// VDSO is mapped into every program; nil: none.
	VDSO *vdso.Object
	// Log is what syslog(2) reads.
	Log *klog.Log
	// Families are the address families of sockets.
	Families socket.Families
}

// New returns the system calls. Its methods Table, Failed,
// Dispatch and Load are for task.Config.
func New(o Options) *Calls {
	s := &Calls{o: o}
	s.ipc.First(namespace.IPC)
	s.timex.status, s.timex.maxError, s.timex.estError = staUnsync, 16_000_000, 16_000_000
	s.fill()
	return s
}

// Uname returns what uname(2) tells in a UTS namespace.
func Uname(in *task.UTS) (u unix.Utsname) {
	host, domain := in.Names()
	copy(u.Sysname[:], sysname)
	copy(u.Nodename[:], host)
	copy(u.Release[:], release)
	copy(u.Version[:], version)
	copy(u.Machine[:], arch)
	copy(u.Domainname[:], domain)
	return u
}

func (s *Calls) systemRows(r *table) {
	r.set(unix.SYS_UNAME, call1("uname", out(lUtsname), func(t *task.Task, to dest[unix.Utsname]) (uint64, error) {
		return done(to.put(t, Uname(t.Namespaces().UTS())))
	}))
	r.set(unix.SYS_SETHOSTNAME, call2("sethostname", aSource, aInt, func(t *task.Task, addr uint64, n int32) (uint64, error) {
		return setNodeName(t, (*task.UTS).SetHost, addr, n)
	}))
	r.set(unix.SYS_SETDOMAINNAME, call2("setdomainname", aSource, aInt, func(t *task.Task, addr uint64, n int32) (uint64, error) {
		return setNodeName(t, (*task.UTS).SetDomain, addr, n)
	}))
	r.set(unix.SYS_SYSINFO, call1("sysinfo", out(lSysinfo), sysSysinfo))
	r.set(unix.SYS_GETRANDOM, call3("getrandom", aSink, aSize, flags("flags", unix.GRND_NONBLOCK|unix.GRND_RANDOM|unix.GRND_INSECURE, grndNames), sysGetrandom))
	r.set(unix.SYS_GETCPU, call3("getcpu", out(lUint32), out(lUint32), aAddr, sysGetcpu))
	r.set(unix.SYS_REBOOT, call4("reboot", aUint.as(show("magic", appendHex)), aUint.as(show("magic", appendHex)), aUint.as(show("command", appendHex)), aAddr, sysReboot).
		partly("restarting and halting end the machine, as powering off does; no kexec, no suspending: EINVAL"))
	r.set(unix.SYS_SYSLOG, call3("syslog", choice("action", syslogActions), aSink, aInt, s.sysSyslog).
		partly("what the host sees of the log is not the machine's to say: EPERM for the console's level"))
	schedRows(r)
}

// setNodeName is the end of sethostname(2) and setdomainname(2): EPERM, EINVAL, EFAULT.
func setNodeName(t *task.Task, set func(*task.UTS, string), addr uint64, n int32) (uint64, error) {
	uts := t.Namespaces().UTS()
	if !t.Cred().CapableIn(uts.Owner(), unix.CAP_SYS_ADMIN) {
		return 0, unix.EPERM
	}
	if n < 0 || n > 64 {
		return 0, unix.EINVAL
	}
	b := make([]byte, n)
	if err := copyIn(t, b, addr); err != nil {
		return 0, err
	}
	set(uts, string(b))
	return 0, nil
}

func sysSysinfo(t *task.Task, to dest[unix.Sysinfo_t]) (uint64, error) {
	k := t.Kernel()
	total, free := k.Pool.Usage()
	threads, _, _ := k.Counts()
	const page = 4096
	return done(to.put(t, unix.Sysinfo_t{
		Uptime: (k.Clock.Now() + t.Ahead(unix.CLOCK_BOOTTIME)) / 1e9, Totalram: total * page, Freeram: free * page, Procs: uint16(threads), Unit: 1, Loads: k.LoadAverages(),
	}))
}

// fillRandom fills b with random bytes. The generator is the Go runtime's:
// ChaCha8, seeded at boot from the processor, one for each processor.
func fillRandom(b []byte) {
	for len(b) > 0 {
		var w [8]byte
		le.PutUint64(w[:], rand.Uint64())
		b = b[copy(b, w[:]):]
	}
}

func sysGetrandom(t *task.Task, addr, n uint64, flags uint32) (uint64, error) {
	if flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return 0, unix.EINVAL
	}
	n = min(n, abi.MaxRW)
	for got := uint64(0); got < n; {
		b := t.Scratch[:min(n-got, uint64(len(t.Scratch)))]
		fillRandom(b)
		if err := copyOut(t, addr+got, b); err != nil {
			if got > 0 {
				return got, nil
			}
			return 0, err
		}
		got += uint64(len(b))
		if got < n && t.Interrupted() {
			return got, nil
		}
	}
	return n, nil
}

func sysGetcpu(t *task.Task, cpu, node dest[uint32], _ uint64) (uint64, error) {
	if err := cpu.putOpt(t, uint32(t.Kernel().Machine.Number())); err != nil {
		return 0, err
	}
	return done(node.putOpt(t, 0))
}

// Commands of reboot(2).
const (
	rebootRestart  = 0x01234567
	rebootHalt     = 0xcdef0123
	rebootCADOn    = 0x89abcdef
	rebootCADOff   = 0
	rebootPowerOff = 0x4321fedc
	rebootRestart2 = 0xa1b2c3d4
)

// sysReboot is reboot(2): EINVAL, EPERM, EFAULT. A machine that would start again or halt ends too: it is there for one program.
func sysReboot(t *task.Task, magic, magic2, command uint32, arg uint64) (uint64, error) {
	first := t.Process().PIDs() == t.Kernel().PIDs()
	if !t.Cred().CapableIn(t.Process().PIDs().Owner(), unix.CAP_SYS_BOOT) {
		return 0, unix.EPERM
	}
	switch magic2 {
	case 0x28121969, 0x05121996, 0x16041998, 0x20112000:
	default:
		return 0, unix.EINVAL
	}
	if magic != 0xfee1dead {
		return 0, unix.EINVAL
	}
	switch command {
	case rebootCADOn, rebootCADOff: // there is no keyboard
		if !first {
			return 0, unix.EINVAL
		}
		return 0, nil
	case rebootRestart2:
		if _, err := readString(t, arg, 256); first && err == unix.EFAULT {
			return 0, err
		}
		fallthrough
	case rebootRestart:
		t.Shutdown(unix.SIGHUP)
	case rebootHalt, rebootPowerOff:
		t.Shutdown(unix.SIGINT)
	default: // no other kernel is loaded, and nothing is there to sleep on
		return 0, unix.EINVAL
	}
	return 0, nil
}
