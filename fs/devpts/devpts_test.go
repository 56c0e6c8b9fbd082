package devpts

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/task"
	"gosv/kernel/tty"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine/fake"
)

type jobs struct{}

func (jobs) SignalForeground(task.Terminal, unix.Signal) {}
func (jobs) HangUp(task.Terminal)                        {}

func now() int64 { return 1e18 }

// tree makes /dev/ptmx and /dev/pts.
func tree(t *testing.T, options string) *vfs.Context {
	t.Helper()
	pool := mem.NewPool(fake.New(fake.Config{}))
	ns := vfs.NewNamespace(ramfs.New(pool, now, ramfs.Options{Mode: 0o755}), pool)
	ctx := &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root()}
	for _, dir := range []string{"/dev", "/dev/pts"} {
		if err := vfs.Mkdir(ctx, ctx.Root, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ns.AddDevice(unix.S_IFCHR, tty.AuxMajor, tty.MasterMinor, OpenMaster)
	if err := vfs.Mknod(ctx, ctx.Root, "/dev/ptmx", unix.S_IFCHR|0o666, unix.Mkdev(tty.AuxMajor, tty.MasterMinor), nil); err != nil {
		t.Fatal(err)
	}
	fs, err := New(jobs{}, now, options)
	if err != nil {
		t.Fatal(err)
	}
	at, err := vfs.Lookup(ctx, ctx.Root, "/dev/pts", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.MountFS(at, fs, "devpts", 0); err != nil {
		t.Fatal(err)
	}
	return ctx
}

func open(ctx *vfs.Context, path string) (*vfs.File, error) {
	return vfs.Open(ctx, ctx.Root, path, unix.O_RDWR|unix.O_NOCTTY, 0)
}

// word is a program's memory that holds one number.
type word [4]byte

func (w *word) CopyIn(dst []byte, _ uint64) (int, error)  { return copy(dst, w[:]), nil }
func (w *word) CopyOut(_ uint64, src []byte) (int, error) { return copy(w[:], src), nil }

func TestMaster(t *testing.T) {
	ctx := tree(t, "mode=620,gid=5,ptmxmode=666")
	m, err := open(ctx, "/dev/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	m2, err := open(ctx, "/dev/pts/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	var n word
	if _, err := m2.Ioctl(&vfs.IoctlArgs{Cmd: unix.TIOCGPTN, Mem: &n}); err != nil || n[0] != 1 {
		t.Errorf("second terminal: %v, %v", n, err)
	}
	if _, err := open(ctx, "/dev/pts/0"); err != unix.EIO {
		t.Errorf("locked slave: %v", err)
	}
	if _, err := m.Ioctl(&vfs.IoctlArgs{Cmd: unix.TIOCSPTLCK, Mem: &word{}}); err != nil {
		t.Fatal(err)
	}
	s, err := open(ctx, "/dev/pts/0")
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	s.Stat(&st)
	if st.Mode != unix.S_IFCHR|0o620 || st.Gid != 5 || st.Rdev != unix.Mkdev(136, 0) {
		t.Errorf("mode %o, group %d, device %#x", st.Mode, st.Gid, st.Rdev)
	}
	src := uio.Buffer("hi\n")
	if _, err := s.Write(&src); err != nil {
		t.Error(err)
	}
	b := make([]byte, 10)
	dst := uio.Buffer(b)
	if n, err := m.Read(&dst); string(b[:n]) != "hi\r\n" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
	m.DecRef()
	if _, err := open(ctx, "/dev/pts/0"); err != unix.ENOENT {
		t.Errorf("slave without master: %v", err)
	}
	s.DecRef()
	m3, err := open(ctx, "/dev/ptmx") // takes the free number
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Lookup(ctx, ctx.Root, "/dev/pts/0", 0); err != nil {
		t.Error(err)
	}
	m2.DecRef()
	m3.DecRef()
}

func TestNothingElse(t *testing.T) {
	ctx := tree(t, "max=1")
	m, err := open(ctx, "/dev/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(ctx, "/dev/ptmx"); err != unix.ENOSPC {
		t.Errorf("beyond max: %v", err)
	}
	for what, err := range map[string]error{
		"mkdir":  vfs.Mkdir(ctx, ctx.Root, "/dev/pts/x", 0o700),
		"mknod":  vfs.Mknod(ctx, ctx.Root, "/dev/pts/7", unix.S_IFCHR|0o600, unix.Mkdev(136, 7), nil),
		"unlink": vfs.Unlink(ctx, ctx.Root, "/dev/pts/0"),
	} {
		if err != unix.EPERM {
			t.Errorf("%s: %v", what, err)
		}
	}
	m.DecRef()
	if _, err := open(ctx, "/dev/pts/ptmx"); err != nil {
		t.Errorf("ptmx: %v", err) // mode 000, but we are root
	}
}

func TestOptions(t *testing.T) {
	for _, bad := range []string{"mode=9", "gid=x", "max=5000", "max=-1", "what"} {
		if _, err := New(jobs{}, now, bad); err != unix.EINVAL {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := New(jobs{}, now, "newinstance,mode=0620,ptmxmode=0666,gid=5,uid=0,max=10"); err != nil {
		t.Error(err)
	}
}
