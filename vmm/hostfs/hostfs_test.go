package hostfs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// served is a server and the folder that it serves, "in", beside which lies "secret".
type served struct {
	*Server
	t   testing.TB
	top string
}

func serve(t testing.TB, c Config) *served {
	t.Helper()
	top := t.TempDir()
	c.Dir = filepath.Join(top, "in")
	for _, err := range []error{
		os.Mkdir(c.Dir, 0o755), os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644),
		os.Symlink("../secret", filepath.Join(c.Dir, "link")), os.Symlink(top, filepath.Join(c.Dir, "abs")),
		os.WriteFile(filepath.Join(c.Dir, "file"), []byte("text"), 0o644), os.Mkdir(filepath.Join(c.Dir, "dir"), 0o755),
		os.WriteFile(filepath.Join(c.Dir, "dir", "inner"), []byte("inner"), 0o600), unix.Mkfifo(filepath.Join(c.Dir, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &served{s, t, top}
}

// call makes a request and returns the reply behind its header.
func (s *served) call(op uint32, node uint64, args []byte) ([]byte, unix.Errno) {
	s.t.Helper()
	head := le.AppendUint32(nil, uint32(inHeader+len(args)))
	head = le.AppendUint64(le.AppendUint64(le.AppendUint32(head, op), 42), node)
	head = append(head, make([]byte, 16)...)
	out := make([]byte, 64<<10)
	n := s.Handle([][]byte{head[:7], head[7:], args}, [][]byte{out[:20], out[20:]})
	if n < outHeader || le.Uint32(out) != n || le.Uint64(out[8:]) != 42 {
		s.t.Fatalf("a reply of %d bytes: %x", n, out[:outHeader])
	}
	return out[outHeader:n], unix.Errno(-int32(le.Uint32(out[4:])))
}

func (s *served) lookup(dir uint64, name string) (uint64, unix.Errno) {
	s.t.Helper()
	b, err := s.call(fuseabi.OpLookup, dir, append([]byte(name), 0))
	if err != 0 {
		return 0, err
	}
	return le.Uint64(b), 0
}

func words(v ...uint64) (b []byte) {
	for _, v := range v {
		b = le.AppendUint64(b, v)
	}
	return b
}

// TestNoWayOut tries names and links that lead elsewhere.
func TestNoWayOut(t *testing.T) {
	s := serve(t, Config{})
	for _, name := range []string{"..", ".", "", "/", "../secret", "dir/inner", "/etc/passwd", "dir/../../secret", "file/"} {
		if id, err := s.lookup(fuseabi.RootID, name); err != unix.EINVAL {
			t.Errorf("%q: node %d, %v", name, id, err)
		}
		if _, err := s.call(fuseabi.OpMkdir, fuseabi.RootID, append(words(0o700), append([]byte(name), 0)...)); err != unix.EINVAL {
			t.Errorf("mkdir %q: %v", name, err)
		}
		if _, err := s.call(fuseabi.OpUnlink, fuseabi.RootID, append([]byte(name), 0)); err != unix.EINVAL {
			t.Errorf("unlink %q: %v", name, err)
		}
	}
	for _, name := range []string{"link", "abs", "fifo"} {
		id, err := s.lookup(fuseabi.RootID, name)
		if err != 0 {
			t.Fatal(err)
		}
		if _, err := s.call(fuseabi.OpOpen, id, words(0)); err == 0 {
			t.Errorf("%s was opened", name)
		}
		if _, err := s.call(fuseabi.OpOpendir, id, words(0)); err != unix.ENOTDIR {
			t.Errorf("%s was opened as a directory: %v", name, err)
		}
		if _, err := s.lookup(id, "secret"); err != unix.ENOTDIR {
			t.Errorf("a name below %s: %v", name, err)
		}
		if name != "fifo" {
			set := make([]byte, 88)
			le.PutUint32(set, fuseabi.FattrMode|fuseabi.FattrSize)
			if _, err := s.call(fuseabi.OpSetattr, id, set); err == 0 {
				t.Errorf("%s was changed", name)
			}
		}
	}
	create := append(append(words(unix.O_RDWR|uint64(0o600)<<32), words(0)...), "link\x00"...)
	if _, err := s.call(fuseabi.OpCreate, fuseabi.RootID, create); err != unix.EEXIST {
		t.Errorf("create through a link: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(s.top, "secret")); string(b) != "secret" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDevicesAreNotMade(t *testing.T) {
	s := serve(t, Config{})
	for _, mode := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFDIR, 0} {
		args := le.AppendUint32(le.AppendUint32(nil, mode|0o600), 0x103)
		args = append(append(args, make([]byte, 8)...), "dev\x00"...)
		if _, err := s.call(fuseabi.OpMknod, fuseabi.RootID, args); err != unix.EPERM {
			t.Errorf("%#o: %v", mode, err)
		}
	}
}

// TestKernelIsHidden: /proc and /sys of the host are empty.
func TestKernelIsHidden(t *testing.T) {
	if _, err := New(Config{Dir: "/proc"}); err == nil {
		t.Error("/proc was shared")
	}
	root, err := New(Config{Dir: "/", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := &served{root, t, "/"}
	for _, name := range []string{"proc", "sys"} {
		id, err := s.lookup(fuseabi.RootID, name)
		if err != 0 {
			continue // a machine without
		}
		for _, inner := range []string{"self", "1", "version", "kernel"} {
			if _, err := s.lookup(id, inner); err != unix.ENOENT {
				t.Errorf("/%s/%s: %v", name, inner, err)
			}
		}
		b, err := s.call(fuseabi.OpOpendir, id, words(0))
		if err != 0 {
			t.Fatal(err)
		}
		if list, err := s.call(fuseabi.OpReaddir, id, append(words(le.Uint64(b), 0, 4096), make([]byte, 16)...)); err != 0 || len(list) != 0 {
			t.Errorf("/%s lists %d bytes, %v", name, len(list), err)
		}
	}
}

// TestKernelFileIsHidden: a single file of /proc that is mounted in the folder can be neither opened nor linked, and has no attributes.
func TestKernelFileIsHidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts something")
	}
	runtime.LockOSThread() // for good: the thread ends with its mounts
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip(err)
	}
	top := t.TempDir()
	dir := filepath.Join(top, "in")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), unix.Mount("/proc/version", filepath.Join(dir, "file"), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(dir, "file"), unix.MNT_DETACH)
	server, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	s := &served{server, t, top}
	id, errno := s.lookup(fuseabi.RootID, "file")
	if errno != 0 {
		t.Fatal(errno)
	}
	if _, err := s.call(fuseabi.OpOpen, id, words(unix.O_RDONLY)); err != unix.EACCES {
		t.Errorf("open: %v", err)
	}
	if _, err := s.call(fuseabi.OpCreate, fuseabi.RootID, append(words(unix.O_RDONLY|unix.O_CREAT, 0), "file\x00"...)); err != unix.EACCES {
		t.Errorf("create: %v", err)
	}
	if _, err := s.call(fuseabi.OpLink, fuseabi.RootID, append(words(id), "link\x00"...)); err != unix.EPERM {
		t.Errorf("link: %v", err)
	}
	if _, err := s.call(fuseabi.OpSetxattr, id, append(words(1), "user.a\x00v"...)); err != unix.EOPNOTSUPP {
		t.Errorf("setxattr: %v", err)
	}
	set := make([]byte, 88)
	le.PutUint32(set, fuseabi.FattrMode)
	if _, err := s.call(fuseabi.OpSetattr, id, set); err != unix.EPERM {
		t.Errorf("chmod: %v", err)
	}
}

func TestOnlyOneFile(t *testing.T) {
	s := serve(t, Config{Only: "file"})
	if _, err := s.lookup(fuseabi.RootID, "dir"); err != unix.ENOENT {
		t.Errorf("dir: %v", err)
	}
	if _, err := s.lookup(fuseabi.RootID, "file"); err != 0 {
		t.Errorf("file: %v", err)
	}
	b, _ := s.call(fuseabi.OpOpendir, fuseabi.RootID, words(0))
	list, err := s.call(fuseabi.OpReaddir, fuseabi.RootID, append(words(le.Uint64(b), 0, 4096), make([]byte, 16)...))
	if err != 0 || !strings.Contains(string(list), "file") || strings.Contains(string(list), "dir") || strings.Contains(string(list), "link") {
		t.Errorf("%q, %v", list, err)
	}
}

// TestForgotten: nodes and handles that are gone are gone.
func TestForgotten(t *testing.T) {
	s := serve(t, Config{Valid: time.Second})
	id, _ := s.lookup(fuseabi.RootID, "file")
	again, _ := s.lookup(fuseabi.RootID, "file")
	if id == 0 || id != again {
		t.Fatalf("nodes %d and %d", id, again)
	}
	b, err := s.call(fuseabi.OpOpen, id, words(unix.O_RDWR))
	if err != 0 {
		t.Fatal(err)
	}
	fh := le.Uint64(b)
	forget := func(n uint64) {
		s.Handle([][]byte{append(append(le.AppendUint32(le.AppendUint32(nil, 48), fuseabi.OpForget), words(1, id, 0, 0)...), words(n)...)}, nil)
	}
	forget(1)
	if _, err := s.call(fuseabi.OpGetattr, id, words(0, 0)); err != 0 {
		t.Errorf("forgotten too early: %v", err)
	}
	forget(1 << 60)
	forget(1 << 60)
	if _, err := s.call(fuseabi.OpGetattr, id, words(0, 0)); err != unix.ENOENT {
		t.Errorf("not forgotten: %v", err)
	}
	read := append(words(fh, 0, 100), make([]byte, 16)...)
	if b, err := s.call(fuseabi.OpRead, id, read); err != 0 || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := s.call(fuseabi.OpRelease, id, words(fh, 0, 0)); err != 0 {
		t.Error(err)
	}
	for _, op := range []uint32{fuseabi.OpRelease, fuseabi.OpRead, fuseabi.OpReaddir} {
		if _, err := s.call(op, id, read); err != unix.EBADF {
			t.Errorf("%d: %v", op, err)
		}
	}
	s.Handle([][]byte{append(le.AppendUint32(le.AppendUint32(nil, 48), fuseabi.OpForget), words(1, fuseabi.RootID, 0, 0, 5)...)}, nil)
	if _, err := s.lookup(fuseabi.RootID, "file"); err != 0 {
		t.Errorf("the root was forgotten: %v", err)
	}
	if id, err := s.lookup(fuseabi.RootID, "nothing"); id != 0 || err != 0 {
		t.Errorf("node %d, %v for what is not there", id, err)
	}
}

// FuzzHandle has a guest send whatever it likes. Nothing outside the folder may change, and a read-only one not at all.
func FuzzHandle(f *testing.F) {
	message := func(op uint32, node uint64, args string) []byte {
		b := append([]byte{byte(op), byte(node), byte(len(args))}, args...)
		return b
	}
	f.Add(append(message(fuseabi.OpLookup, 1, "file\x00"), message(fuseabi.OpOpen, 2, string(words(2)))...), false)
	f.Add(append(message(fuseabi.OpLookup, 1, "dir\x00"), message(fuseabi.OpOpendir, 2, string(words(0)))...), false)
	f.Add(append(message(fuseabi.OpOpendir, 1, string(words(0))), message(fuseabi.OpReaddirplus, 1, string(append(words(1, 0, 4096), make([]byte, 16)...)))...), false)
	f.Add(append(message(fuseabi.OpCreate, 1, string(words(0x18000000002, 0))+"new\x00"), message(fuseabi.OpWrite, 2, string(words(1, 0, 3, 0, 0))+"abc")...), false)
	f.Add(message(fuseabi.OpRename2, 1, string(words(1, 0))+"file\x00link\x00"), true)
	f.Add(message(fuseabi.OpSymlink, 1, "l\x00/etc/passwd\x00"), false)
	f.Fuzz(func(t *testing.T, b []byte, readOnly bool) {
		s := serve(t, Config{ReadOnly: readOnly})
		for len(b) >= 3 {
			op, node, n := uint32(b[0]), uint64(b[1]), min(int(b[2]), len(b)-3)
			args := b[3 : 3+n]
			b = b[3+n:]
			if op == fuseabi.OpForget || op == fuseabi.OpBatchForget {
				s.Handle([][]byte{append(append(le.AppendUint32(le.AppendUint32(nil, uint32(inHeader+n)), op), words(1, node, 0, 0)...), args...)}, nil)
				continue
			}
			s.call(op, node, args)
		}
		if b, err := os.ReadFile(filepath.Join(s.top, "secret")); string(b) != "secret" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if list, err := os.ReadDir(s.top); err != nil || len(list) != 2 {
			t.Errorf("%v, %v", list, err)
		}
		if list, err := os.ReadDir(filepath.Join(s.top, "in")); readOnly && (err != nil || len(list) != 5) {
			t.Errorf("%v, %v", list, err)
		}
	})
}
