package procfs

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/ipc"
	"gosv/kernel/mm"
	"gosv/kernel/mqueue"
	"gosv/kernel/namespace"
	"gosv/kernel/nsfs"
	"gosv/kernel/pipe"
	"gosv/kernel/task"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
	"gosv/machine/fake"
)

// world is a machine on which process 1 runs and does nothing.
type world struct {
	*vfstest.Tree
	k   *task.Kernel
	fs  *FS
	ctx *vfs.Context // process 1's
}

// ipcSpaces is an IPC namespace.
type ipcSpaces struct {
	sysv *ipc.Space
	mq   *mqueue.Space
	namespace.Head
}

func (s *ipcSpaces) SysV() *ipc.Space      { return s.sysv }
func (s *ipcSpaces) Queues() *mqueue.Space { return s.mq }

const argBase = 0x10000

func start(t *testing.T) *world {
	stop := make(chan struct{})
	m := fake.ForTest(t, fake.Config{CPUs: 2, Enter: func(*machine.Context, machine.Space) machine.Trap {
		<-stop
		return machine.Syscall
	}})
	w := &world{Tree: vfstest.NewOn(t, m)}
	over := make(chan struct{})
	c := clock.New(m)
	spaces := &ipcSpaces{ipc.New(w.Pool, c.Now, nil), mqueue.New(c.Now), namespace.Head{}}
	spaces.First(namespace.IPC)
	w.k = task.New(task.Config{
		Firsts:   [namespace.Kinds]namespace.Object{namespace.IPC: spaces},
		Hostname: "host", Machine: m, Pool: w.Pool, Clock: c, Namespace: w.NS,
		Dispatch: func(t *task.Task) { t.ExitGroup(0) },
		OnExit:   func(int, unix.Signal) { close(over) },
		Load: func(*task.Task, *task.ExecArgs) (*task.Image, error) {
			as, err := mm.New(m, w.Pool)
			if err != nil {
				return nil, err
			}
			as.SetLayout(mm.NewLayout(nil, 8<<20))
			if _, err := as.Map(mm.MapArgs{Addr: argBase, Length: 4096, Prot: unix.PROT_READ | unix.PROT_WRITE,
				Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED}); err != nil {
				return nil, err
			}
			as.CopyOut(argBase, []byte("prog\x00-x\x00HOME=/\x00"))
			exe, err := vfs.Open(w.Ctx, vfs.Path{}, "/prog", 0, 0)
			if err != nil {
				return nil, err
			}
			return &task.Image{Mem: as, Entry: argBase, Stack: argBase + 4096, Comm: "prog", Exe: exe,
				Layout: task.Layout{ArgStart: argBase, ArgEnd: argBase + 8, EnvStart: argBase + 8, EnvEnd: argBase + 15}}, nil
		},
	})
	w.Write(t, "/prog", "")
	w.fs = New(Config{
		Kernel: w.k, Namespace: w.NS, Pool: w.Pool, Clock: c, CPUs: 2, Release: "6.1.0-gosv", Version: "#1",
		Random: func(b []byte) { clear(b) }, CommandLine: "quiet /prog",
		Namespaces: nsfs.New(c.Wall),
	})
	if err := vfs.Mkdir(w.Ctx, vfs.Path{}, "/proc", 0o555); err != nil {
		t.Fatal(err)
	}
	at, err := vfs.Lookup(w.Ctx, vfs.Path{}, "/proc", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.NS.MountFS(at, w.fs.FS(), "proc", unix.MS_NOSUID); err != nil {
		t.Fatal(err)
	}
	files := vfs.NewFDTable()
	for range 2 {
		r, _, err := w.pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := files.Install(r, 0, 0, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.k.Start(&task.ExecArgs{Path: "/prog"}, files, task.NewFS(w.Ctx.Root, w.Ctx.Root, 0o22), w.Ctx.Cred); err != nil {
		t.Fatal(err)
	}
	ctx := *w.Ctx
	ctx.PID, ctx.TID = 1, 1
	w.ctx = &ctx
	w.Tree.Ctx = &ctx
	t.Cleanup(func() {
		close(stop)
		<-over
	})
	return w
}

func (w *world) pipe() (*vfs.File, *vfs.File, error) {
	r, wr, err := pipe.New(w.NS, w.Tree.Ctx.Cred, 0)
	if err == nil {
		wr.DecRef()
	}
	return r, wr, err
}

func TestFiles(t *testing.T) {
	w := start(t)
	for path, want := range map[string]string{
		"/proc/self/cmdline":           "prog\x00-x\x00",
		"/proc/self/environ":           "HOME=/\x00",
		"/proc/1/comm":                 "prog\n",
		"/proc/thread-self/comm":       "prog\n",
		"/proc/self/task/1/comm":       "prog\n",
		"/proc/sys/kernel/osrelease":   "6.1.0-gosv\n",
		"/proc/sys/kernel/ngroups_max": "65536\n",
		"/proc/sys/kernel/hostname":    "host\n",
		"/proc/cmdline":                "quiet /prog\n",
		"/proc/self/cgroup":            "0::/\n",
		"/proc/self/oom_score_adj":     "0\n",
		"/proc/sys/kernel/random/uuid": "00000000-0000-4000-8000-000000000000\n",
		"/proc/mounts":                 "rootfs / tmpfs rw,relatime 0 0\nproc /proc proc rw,nosuid 0 0\n",
	} {
		if got := w.Read(t, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	for path, parts := range map[string][]string{
		"/proc/self/maps":         {"00010000-00011000 rw-p 00000000 00:00 0"},
		"/proc/self/smaps":        {"00010000-00011000 rw-p 00000000 00:00 0", "Size:                  4 kB\n", "Private_Dirty:         4 kB\n", "Pss:                   4 kB\n"},
		"/proc/self/smaps_rollup": {"00010000-00011000 ---p 00000000 00:00 0                                  [rollup]\nRss:  ", "Pss_Anon:              4 kB\n"},
		"/proc/vmstat":            {"nr_free_pages ", "nr_anon_pages 1\n", "pgpgin 0\n"},
		"/proc/self/status":       {"Name:\tprog\n", "Umask:\t0022\n", "Uid:\t0\t0\t0\t0\n", "VmSize:\t", "Threads:\t1\n", "CapEff:\t000001ffffffffff\n", "Cpus_allowed_list:\t0-1\n"},
		"/proc/self/stat":         {"1 (prog) R 0 "},
		"/proc/self/statm":        {"1 1 0 "},
		"/proc/self/limits":       {"Limit                     Soft Limit           Hard Limit           Units", "Max open files"},
		"/proc/meminfo":           {"MemTotal:          16384 kB\n", "MemFree:"},
		"/proc/cpuinfo":           {"processor\t: 0\n", "processor\t: 1\n"},
		"/proc/stat":              {"cpu  ", "cpu1 ", "btime "},
		"/proc/interrupts":        {"CPU0       CPU1       \n", "\nLOC: ", "\nCAL: "},
		"/proc/self/mountinfo":    {" / /proc rw,nosuid - proc proc rw\n"},
		"/proc/self/fdinfo/1":     {"pos:\t0\n", "flags:\t0"},
		"/proc/loadavg":           {"0.00 0.00 0.00 "},
		"/proc/uptime":            {".", " "},
		"/proc/version":           {"Linux version 6.1.0-gosv"},
	} {
		got := w.Read(t, path)
		for _, p := range parts {
			if !strings.Contains(got, p) {
				t.Errorf("%s has no %q:\n%s", path, p, got)
			}
		}
	}
	if n := len(strings.Fields(w.Read(t, "/proc/self/stat"))); n != 52 {
		t.Errorf("stat has %d fields", n)
	}
}

func TestLinks(t *testing.T) {
	w := start(t)
	for path, want := range map[string]string{
		"/proc/self": "1", "/proc/thread-self": "1/task/1", "/proc/self/exe": "/prog", "/proc/1/cwd": "/", "/proc/1/root": "/",
		"/proc/mounts": "self/mounts",
	} {
		if got, err := vfs.Readlink(w.ctx, vfs.Path{}, path); got != want || err != nil {
			t.Errorf("%s -> %q, %v", path, got, err)
		}
	}
	if got, err := vfs.Readlink(w.ctx, vfs.Path{}, "/proc/self/fd/0"); !strings.HasPrefix(got, "pipe:[") || err != nil {
		t.Errorf("fd 0 -> %q, %v", got, err)
	}
	// Opening a pipe again waits for nobody, though its writer is gone.
	for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_WRONLY | unix.O_NONBLOCK} {
		f, err := vfs.Open(w.ctx, vfs.Path{}, "/proc/self/fd/1", flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Opened() {
			t.Errorf("opening a pipe again with flags %#x waits", flags)
		}
		f.DecRef()
	}
	p, err := vfs.Lookup(w.ctx, vfs.Path{}, "/proc/self/exe", 0)
	if name, _ := vfs.PathName(p, w.ctx.Root); err != nil || name != "/prog" {
		t.Errorf("exe leads to %q, %v", name, err)
	}
}

func TestDirectories(t *testing.T) {
	w := start(t)
	root := w.List(t, "/proc")
	for _, name := range []string{".", "..", "self", "1", "sys", "meminfo"} {
		if !slices.Contains(root, name) {
			t.Errorf("/proc has no %s: %v", name, root)
		}
	}
	if got := w.List(t, "/proc/self/fd"); !slices.Equal(got, []string{".", "..", "0", "1"}) {
		t.Error(got)
	}
	if got := w.List(t, "/proc/self/task"); !slices.Equal(got, []string{".", "..", "1"}) {
		t.Error(got)
	}
	var walk func(string)
	walk = func(dir string) {
		for _, name := range w.List(t, dir)[2:] {
			path := dir + "/" + name
			var st, again unix.Stat_t
			if err := vfs.Stat(w.ctx, vfs.Path{}, path, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			vfs.Stat(w.ctx, vfs.Path{}, path, unix.AT_SYMLINK_NOFOLLOW, &again)
			if st.Ino != again.Ino || st.Ino == 0 {
				t.Errorf("%s: inode number %d, then %d", path, st.Ino, again.Ino)
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				walk(path)
			case unix.S_IFREG:
				if name != "mem" && name != "pagemap" && st.Mode&0o444 != 0 {
					w.Read(t, path)
				}
			}
		}
	}
	walk("/proc")
}

func TestRefusals(t *testing.T) {
	w := start(t)
	user := w.As(1000, 1000)
	stranger := *user
	stranger.PID, stranger.TID = 2, 2
	for _, c := range []struct {
		ctx   *vfs.Context
		path  string
		flags int
		err   error
	}{
		{w.ctx, "/proc/2", unix.O_RDONLY, unix.ENOENT},
		{w.ctx, "/proc/01", unix.O_RDONLY, unix.ENOENT},
		{w.ctx, "/proc/self/fd/7", unix.O_RDONLY, unix.ENOENT},
		{w.ctx, "/proc/new", unix.O_CREAT | unix.O_RDWR, unix.EACCES},
		{w.ctx, "/proc/meminfo", unix.O_WRONLY, unix.EACCES},
		{user, "/proc/1/environ", unix.O_RDONLY, unix.EACCES},
		{&stranger, "/proc/1/fd", unix.O_RDONLY, unix.EACCES},
		{user, "/proc/1/fd", unix.O_RDONLY, nil}, // its own
		{user, "/proc/sys/vm/overcommit_memory", unix.O_WRONLY, unix.EACCES},
		{user, "/proc/1/stat", unix.O_RDONLY, nil},
	} {
		f, err := vfs.Open(c.ctx, vfs.Path{}, c.path, c.flags, 0o644)
		if err != c.err {
			t.Errorf("open %s: %v, want %v", c.path, err, c.err)
		}
		if err == nil {
			f.DecRef()
		}
	}
	for name, err := range map[string]error{
		"unlink": vfs.Unlink(w.ctx, vfs.Path{}, "/proc/meminfo"),
		"rmdir":  vfs.Rmdir(w.ctx, vfs.Path{}, "/proc/sys"),
		"mkdir":  vfs.Mkdir(w.ctx, vfs.Path{}, "/proc/x", 0o755),
		"rename": vfs.Rename(w.ctx, vfs.Path{}, "/proc/meminfo", vfs.Path{}, "/proc/x", 0),
	} {
		if err != unix.EPERM && err != unix.EACCES {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (w *world) store(t *testing.T, path, value string) error {
	t.Helper()
	f, err := vfs.Open(w.ctx, vfs.Path{}, path, unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer f.DecRef()
	b := uio.Buffer(value)
	_, err = f.Write(&b)
	return err
}

func TestStores(t *testing.T) {
	w := start(t)
	for _, c := range []struct {
		path, value, now string
		err              error
	}{
		{"/proc/sys/vm/overcommit_memory", "1\n", "1\n", nil},
		{"/proc/sys/vm/overcommit_memory", "7", "1\n", unix.EINVAL},
		{"/proc/sys/vm/overcommit_memory", "0", "0\n", nil},
		{"/proc/self/oom_score_adj", "-1000", "-1000\n", nil},
		{"/proc/self/oom_score_adj", "1001", "-1000\n", unix.EINVAL},
		{"/proc/self/comm", "other\n", "other\n", nil},
		{"/proc/sys/kernel/hostname", "x\n", "x\n", nil},
		{"/proc/sys/fs/mount-max", "4000\n", "4000\n", nil},
		{"/proc/sys/fs/mount-max", "0", "4000\n", unix.EINVAL},
		{"/proc/sys/kernel/threads-max", "77\n", "77\n", nil},
		{"/proc/sys/kernel/threads-max", "0", "77\n", unix.EINVAL},
		{"/proc/sys/fs/epoll/max_user_watches", "4000\n", "4000\n", nil},
		{"/proc/sys/fs/epoll/max_user_watches", "-1", "4000\n", unix.EINVAL},
		{"/proc/sys/fs/file-max", "100000\n", "100000\n", nil},
		{"/proc/sys/fs/file-max", "0", "100000\n", unix.EINVAL},
		{"/proc/sys/fs/file-max", "9223372036854775807", "9223372036854775807\n", nil},
		{"/proc/sys/net/core/rmem_max", "212992", "212992\n", nil},
		{"/proc/sys/net/core/rmem_max", "4194304", "4194304\n", nil},
		{"/proc/sys/net/core/rmem_max", "1000", "4194304\n", unix.EINVAL},
		{"/proc/sys/kernel/domainname", "example.org\n", "example.org\n", nil},
		{"/proc/sys/vm/max_map_count", "65000", "65000\n", nil},
		{"/proc/sys/vm/max_map_count", "65530", "65530\n", nil},
		{"/proc/sys/vm/max_map_count", "99999999", "65530\n", unix.EINVAL},
		{"/proc/sys/fs/protected_symlinks", "0", "0\n", nil},
		{"/proc/sys/fs/protected_symlinks", "1", "1\n", nil},
	} {
		if err := w.store(t, c.path, c.value); err != c.err {
			t.Errorf("store %q into %s: %v", c.value, c.path, err)
		}
		if got := w.Read(t, c.path); got != c.now {
			t.Errorf("%s is %q", c.path, got)
		}
	}
	for value, want := range map[string]error{"3": nil, "1\n": nil, "0": unix.EINVAL, "5": unix.EINVAL} {
		if err := w.store(t, "/proc/sys/vm/drop_caches", value); err != want {
			t.Errorf("drop_caches takes %q: %v", value, err)
		}
	}
	w.fs.Add("sys/net/other/file", 0o644, func() string { return "4096\n" }, nil)
	if got := w.Read(t, "/proc/sys/net/other/file"); got != "4096\n" {
		t.Error(got)
	}
	told := ""
	w.fs.Add("sys/net/other/value", 0o644, func() string { return told }, func(s string) error { told = "[" + s + "]"; return nil })
	w.fs.AddFor("sys/net/other/each", namespace.IPC, func(namespace.Object) string { return told }, func(_ namespace.Object, s string) error { told = "{" + s + "}"; return nil })
	for path, want := range map[string]string{"/proc/sys/net/other/value": "[1 2]", "/proc/sys/net/other/each": "{1 2}"} {
		if err := w.store(t, path, " 1 2\n"); err != nil || told != want {
			t.Errorf("%s was told %q, %v", path, told, err)
		}
	}
}

func TestMemory(t *testing.T) {
	w := start(t)
	f, err := vfs.Open(w.ctx, vfs.Path{}, "/proc/self/mem", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.DecRef()
	b := uio.Buffer("PROG")
	if _, err := f.Pwrite(&b, argBase); err != nil {
		t.Error(err)
	}
	if got := w.Read(t, "/proc/self/cmdline"); got != "PROG\x00-x\x00" {
		t.Errorf("%q", got)
	}
	b = uio.Buffer(make([]byte, 4))
	if _, err := f.Pread(&b, 4096); err != unix.EIO {
		t.Error(err)
	}
}

func TestSys(t *testing.T) {
	w := start(t)
	sys := NewSys(w.fs.Config)
	if err := vfs.Mkdir(w.ctx, vfs.Path{}, "/sys", 0o555); err != nil {
		t.Fatal(err)
	}
	at, err := vfs.Lookup(w.ctx, vfs.Path{}, "/sys", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.NS.MountFS(at, sys.FS(), "sysfs", 0); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/sys/devices/system/cpu/online":                           "0-1\n",
		"/sys/devices/system/cpu/kernel_max":                       "1\n",
		"/sys/devices/system/cpu/cpu1/topology/core_id":            "1\n",
		"/sys/devices/system/cpu/cpu1/topology/thread_siblings":    "2\n",
		"/sys/devices/system/cpu/cpu0/topology/core_siblings_list": "0-1\n",
		"/sys/devices/system/node/node0/cpumap":                    "3\n",
		"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size":       "2097152\n",
	} {
		if got := w.Read(t, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if _, err := vfs.Lookup(w.ctx, vfs.Path{}, "/sys/1", 0); err != unix.ENOENT {
		t.Errorf("processes in /sys: %v", err)
	}
}

func TestCPUMask(t *testing.T) {
	for _, c := range []struct {
		first, end, count int
		want              string
	}{
		{0, 1, 1, "1"}, {0, 4, 4, "f"}, {1, 2, 5, "02"}, {0, 33, 33, "1,ffffffff"}, {32, 33, 64, "00000001,00000000"},
	} {
		var o out
		if got := string(o.cpuMask(c.first, c.end, c.count).b); got != c.want {
			t.Errorf("processors %d to %d of %d: %q, want %q", c.first, c.end, c.count, got, c.want)
		}
	}
}
