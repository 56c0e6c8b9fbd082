package vfstest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// The same calls on the host's tmpfs and on ours must have the same results.

// Pair is the host's tmpfs and a tree of ours, on which the same calls are made.
type Pair struct{ *pair }

// NewPair returns a new empty directory of the host's with the tree that ctx sees, whose root must be empty and root's.
func NewPair(t testing.TB, ctx *vfs.Context) *Pair { return &Pair{newPair(t, ctx)} }

// Run makes calls at random, which next chooses, and fails the test when a result differs, or what both sides hold
// at the end. It ends after a number of calls, or with 0 when left is false.
func (p *Pair) Run(next func(n int) int, calls int, left func() bool) {
	for n := 0; n < calls || calls == 0 && left(); n++ {
		o := choose(next)
		if o.name == p.without || !comparable(o) || p.special(o) {
			continue
		}
		p.do(o)
		if p.t.Failed() {
			return
		}
	}
	p.compare()
}

// Switch goes on with another tree, which holds the same.
func (p *Pair) Switch(ctx *vfs.Context) { p.ctx = ctx }

// Without leaves a call out: mkdir, link, rename, …
func (p *Pair) Without(name string) { p.without = name }

// NoLinks leaves the numbers of links out from now on.
func (p *Pair) NoLinks() { p.noLinks = true }

// pair is a root directory on each side. The host's calls are made by a thread that is
// confined to it by chroot(2), so that nothing else on the host can be reached.
type pair struct {
	t     testing.TB
	ctx   *vfs.Context
	calls chan func()

	noLinks bool
	without string
	log     []string
}

func newPair(t testing.TB, ctx *vfs.Context) *pair {
	for name, flag := range map[string]*atomic.Bool{"hardlinks": vfs.ProtectHardlinks, "symlinks": vfs.ProtectSymlinks} {
		b, err := os.ReadFile("/proc/sys/fs/protected_" + name)
		flag.Store(err == nil && string(b) == "1\n")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for chroot and device nodes")
	}
	dir, err := os.MkdirTemp("/dev/shm", "vfs")
	if err != nil {
		t.Skip("no tmpfs:", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pair{t: t, ctx: ctx, calls: make(chan func())}
	ready := make(chan error)
	go confined(dir, ready, p.calls)
	if err := <-ready; err != nil {
		t.Skip("cannot be confined:", err)
	}
	t.Cleanup(func() { close(p.calls) })
	return p
}

// confined makes calls with dir as the root and current directory. Its thread ends with it.
func confined(dir string, ready chan<- error, calls <-chan func()) {
	runtime.LockOSThread()
	for _, step := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return unix.Unshare(unix.CLONE_FS) },
		func() error { return unix.Chroot(dir) },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			ready <- err
			return
		}
	}
	unix.Umask(0o022)
	ready <- nil
	for f := range calls {
		f()
	}
}

// onHost makes a call on the host.
func onHost[T any](p *pair, f func() T) (v T) {
	done := make(chan struct{})
	p.calls <- func() { v = f(); close(done) }
	<-done
	return v
}

// op is one call, made on both sides.
type op struct {
	name       string
	a, b       string
	flags, num int
}

func (o op) String() string {
	return fmt.Sprintf("%s(%q, %q, %#x, %#o)", o.name, o.a, o.b, o.flags, o.num)
}

// hostResult returns what the call gives on the host.
func (p *pair) hostResult(o op) string {
	switch o.name {
	case "mkdir":
		return result(unix.Mkdirat(unix.AT_FDCWD, o.a, uint32(o.num)))
	case "rmdir":
		return result(unix.Unlinkat(unix.AT_FDCWD, o.a, unix.AT_REMOVEDIR))
	case "unlink":
		return result(unix.Unlinkat(unix.AT_FDCWD, o.a, 0))
	case "rename":
		return result(unix.Renameat2(unix.AT_FDCWD, o.a, unix.AT_FDCWD, o.b, uint(o.flags)))
	case "link":
		return result(unix.Linkat(unix.AT_FDCWD, o.a, unix.AT_FDCWD, o.b, o.flags))
	case "symlink":
		return result(unix.Symlinkat(o.b, unix.AT_FDCWD, o.a))
	case "mknod":
		return result(unix.Mknodat(unix.AT_FDCWD, o.a, uint32(o.num), o.flags))
	case "readlink":
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(unix.AT_FDCWD, o.a, buf)
		if err != nil {
			return result(err)
		}
		return string(buf[:n])
	case "user":
		unix.SetfsuidRetUid(o.flags)
		unix.SetfsgidRetGid(o.num)
		return "ok"
	case "chown":
		return result(unix.Fchownat(unix.AT_FDCWD, o.a, o.flags, o.num, unix.AT_SYMLINK_NOFOLLOW))
	case "chmod":
		return result(unix.Fchmodat(unix.AT_FDCWD, o.a, uint32(o.num), 0))
	case "access":
		return result(unix.Faccessat(unix.AT_FDCWD, o.a, uint32(o.num), 0))
	case "stat":
		var st unix.Stat_t
		if err := unix.Fstatat(unix.AT_FDCWD, o.a, &st, o.flags); err != nil {
			return result(err)
		}
		return p.describe(&st)
	case "open":
		fd, err := unix.Openat(unix.AT_FDCWD, o.a, o.flags, uint32(o.num))
		if err != nil {
			return result(err)
		}
		defer unix.Close(fd)
		var n int
		if o.b != "" {
			n, err = unix.Write(fd, []byte(o.b))
		}
		return fmt.Sprint(max(n, 0), result(err))
	case "truncate":
		fd, err := unix.Openat(unix.AT_FDCWD, o.a, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return result(err)
		}
		defer unix.Close(fd)
		return result(unix.Ftruncate(fd, int64(o.num)))
	}
	panic(o.name)
}

// onOurs returns what the call gives here.
func (p *pair) onOurs(o op) string {
	c, at := p.ctx, vfs.Path{}
	switch o.name {
	case "mkdir":
		return result(vfs.Mkdir(c, at, o.a, uint32(o.num)))
	case "rmdir":
		return result(vfs.Rmdir(c, at, o.a))
	case "unlink":
		return result(vfs.Unlink(c, at, o.a))
	case "rename":
		return result(vfs.Rename(c, at, o.a, at, o.b, uint(o.flags)))
	case "link":
		return result(vfs.Link(c, at, o.a, at, o.b, o.flags))
	case "symlink":
		return result(vfs.Symlink(c, o.b, at, o.a))
	case "mknod":
		return result(vfs.Mknod(c, at, o.a, uint32(o.num), uint64(o.flags), nil))
	case "readlink":
		s, err := vfs.Readlink(c, at, o.a)
		if err != nil {
			return result(err)
		}
		return s
	case "user":
		c.Cred = c.Cred.SetFSUID(uint32(o.flags)).SetFSGID(uint32(o.num))
		return "ok"
	case "chown":
		q, err := vfs.Lookup(c, at, o.a, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return result(err)
		}
		return result(vfs.Chown(c, q, uint32(o.flags), uint32(o.num)))
	case "chmod":
		q, err := vfs.Lookup(c, at, o.a, 0)
		if err != nil {
			return result(err)
		}
		return result(vfs.Chmod(c, q, uint32(o.num)))
	case "access":
		return result(vfs.Access(c, at, o.a, uint32(o.num), 0))
	case "stat":
		var st unix.Stat_t
		if err := vfs.Stat(c, at, o.a, o.flags, &st); err != nil {
			return result(err)
		}
		return p.describe(&st)
	case "open":
		f, err := vfs.Open(c, at, o.a, o.flags, uint32(o.num))
		if err != nil {
			return result(err)
		}
		defer f.DecRef()
		var n int64
		if o.b != "" {
			b := uio.Buffer(o.b)
			n, err = f.Write(&b)
		}
		return fmt.Sprint(max(n, 0), result(err))
	case "truncate":
		f, err := vfs.Open(c, at, o.a, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return result(err)
		}
		defer f.DecRef()
		return result(f.Truncate(int64(o.num)))
	}
	panic(o.name)
}

func result(err error) string {
	if err == nil {
		return "ok"
	}
	return unix.ErrnoName(err.(unix.Errno))
}

// describe tells what must be the same; sizes of directories differ.
func (p *pair) describe(st *unix.Stat_t) string {
	if p.noLinks {
		st.Nlink = 1
	}
	s := fmt.Sprintf("%o links %d owner %d:%d rdev %#x", st.Mode, st.Nlink, st.Uid, st.Gid, st.Rdev)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprintf(" size %d", st.Size)
	}
	return s
}

func (p *pair) do(o op) {
	p.t.Helper()
	ours := p.onOurs(o)
	if o.name == "rename" && ours == "EXDEV" {
		return // a directory of an overlay's lower layer; there is one file system otherwise
	}
	host := onHost(p, func() string { return p.hostResult(o) })
	p.log = append(p.log, o.String()+" = "+host)
	if host != ours {
		p.t.Errorf("%v: the host says %q, we say %q\nafter\n%s", o, host, ours, strings.Join(p.log[max(0, len(p.log)-30):], "\n"))
	}
}

// compare checks that both trees hold the same.
func (p *pair) compare() {
	p.t.Helper()
	p.do(op{name: "user"})
	tree := func(list func(dir string) []string, stat func(string) string, read func(string) string) (all []string) {
		var walk func(string)
		walk = func(dir string) {
			names := list(dir)
			slices.Sort(names)
			for _, n := range names {
				path := dir + "/" + n
				s := stat(path)
				all = append(all, path+" "+s)
				switch {
				case strings.HasPrefix(s, "4"):
					walk(path)
				case strings.HasPrefix(s, "10") && strings.Index(s, " ") == 6:
					all = append(all, read(path))
				}
			}
		}
		walk(".")
		return all
	}
	host := onHost(p, func() []string {
		return tree(func(dir string) []string {
			entries, _ := os.ReadDir(dir)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return names
		}, func(path string) string {
			return p.hostResult(op{name: "stat", a: path, flags: unix.AT_SYMLINK_NOFOLLOW})
		},
			func(path string) string { b, _ := os.ReadFile(path); return string(b) })
	})
	ours := tree(func(dir string) []string { return p.tree().List(p.t, dir)[2:] },
		func(path string) string { return p.onOurs(op{name: "stat", a: path, flags: unix.AT_SYMLINK_NOFOLLOW}) },
		func(path string) string { return p.tree().Read(p.t, path) })
	if !slices.Equal(host, ours) {
		p.t.Errorf("the trees differ.\nHost:\n%s\nours:\n%s\nafter\n%s", strings.Join(host, "\n"), strings.Join(ours, "\n"),
			strings.Join(p.log[max(0, len(p.log)-40):], "\n"))
	}
}

// choose makes a call out of random numbers.
func choose(next func(n int) int) op {
	pick := func(list ...string) string { return list[next(len(list))] }
	path := func() string {
		var parts []string
		for range 1 + next(4) {
			parts = append(parts, pick("a", "b", "c", "d", ".", "..", "a", "b"))
		}
		return pick("", "", "", "/") + strings.Join(parts, pick("/", "/", "//")) + pick("", "", "", "", "/", "/.")
	}
	o := op{name: pick("mkdir", "mkdir", "rmdir", "unlink", "rename", "rename", "link", "symlink", "mknod", "readlink", "chmod", "chmod", "chown", "user", "access", "stat", "open", "open", "open", "truncate")}
	o.a = path()
	switch o.name {
	case "mkdir":
		o.num = []int{0o755, 0o1777, 0o7777, 0}[next(4)]
	case "rename":
		o.b = path()
		o.flags = []int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, 1 << 10, unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE}[next(7)]
	case "link":
		o.b = path()
		o.flags = []int{0, unix.AT_SYMLINK_FOLLOW}[next(2)]
	case "symlink":
		o.b = pick("a", "b", "b/c", "./d", "a/", "a//b", "nothing", "c/d/a", "a/../b", "/", "/a", "..", "/b/../c", strings.Repeat("a/", 30))
	case "mknod":
		o.num = []int{unix.S_IFREG | 0o644, unix.S_IFIFO | 0o600, unix.S_IFSOCK | 0o755, unix.S_IFCHR | 0o666, 0o600, unix.S_IFDIR | 0o755, 0o30000}[next(7)]
		o.flags = int(unix.Mkdev(1, 3))
	case "user", "chown":
		o.flags, o.num = []int{0, 1000, 1001, -1}[next(4)], []int{0, 1000, 1001, -1}[next(4)]
	case "chmod":
		if o.num = next(0o10000); next(2) == 0 {
			o.num |= 0o777
		}
	case "access":
		o.num = next(8)
	case "stat":
		o.flags = []int{0, unix.AT_SYMLINK_NOFOLLOW}[next(2)]
	case "open":
		o.flags = []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR}[next(3)] | unix.O_NONBLOCK
		for _, f := range []int{unix.O_CREAT, unix.O_CREAT, unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND, unix.O_NOFOLLOW, unix.O_DIRECTORY, unix.O_PATH} {
			if next(4) == 0 {
				o.flags |= f
			}
		}
		o.num = []int{0o644, 0o600, 0o4755, 0}[next(4)]
		if o.flags&(unix.O_WRONLY|unix.O_RDWR) != 0 {
			o.b = pick("", "hello", "x")
		}
	case "truncate":
		o.num = []int{0, 3, 5000, -1}[next(4)]
	}
	return o
}

// comparable leaves out what cannot be the same: devices and pipes have no drivers here, and
// Linux 6.4 changed O_DIRECTORY|O_CREAT, which is EINVAL now and made a file before.
func comparable(o op) bool {
	return !(o.name == "open" && o.flags&unix.O_DIRECTORY != 0 && o.flags&unix.O_CREAT != 0)
}

// special says that o opens a device, a pipe or a socket.
func (p *pair) special(o op) bool {
	if o.name != "open" && o.name != "truncate" {
		return false
	}
	st := onHost(p, func() (st unix.Stat_t) {
		unix.Fstatat(unix.AT_FDCWD, o.a, &st, 0)
		return st
	})
	switch st.Mode & unix.S_IFMT {
	case 0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return false
	}
	return true
}

// tree lets the helpers of Tree see what the calls see.
func (p *pair) tree() *Tree { return &Tree{Ctx: p.ctx} }
