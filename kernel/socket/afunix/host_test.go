package afunix

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/ramfs"
	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/share"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/machine/fake"
)

// world is a kernel's AF_UNIX with a tree to bind names in.
type world struct {
	tb   testing.TB
	net  *Network
	fam  *socket.Family
	ctx  *vfs.Context
	pool *mem.Pool
	fds  *vfs.FDTable
	m    *fake.Machine
	file int // of plain, -1: none yet
}

func newWorld(tb testing.TB) *world {
	m := fake.ForTest(tb, fake.Config{Frames: 4096})
	pool := mem.NewPool(m)
	now := func() int64 { return 5e9 }
	ns := vfs.NewNamespace(ramfs.New(pool, now, ramfs.Options{Mode: 0o755}), pool)
	w := &world{tb: tb, file: -1, net: New(pool, now), pool: pool, m: m, fds: vfs.NewFDTable(), ctx: &vfs.Context{Root: ns.Root(), Cwd: ns.Root(), Cred: cred.Root(), Umask: 0o022, PID: int32(os.Getpid())}}
	w.fam = w.net.Family(0)
	if err := vfs.Mkdir(w.ctx, vfs.Path{}, "/d", 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return w
}

func (w *world) message() *socket.Message {
	return &socket.Message{Caller: socket.Caller{Cred: w.ctx.Cred, PID: w.ctx.PID, Ctx: w.ctx, Files: w.fds, MaxFiles: 1024, Nonblock: true}}
}

// install opens s and returns its descriptor.
func (w *world) install(s *socket.Socket) int {
	fd, err := w.fds.Install(s.Open(0, w.ctx.Cred, 0), 0, 0, 1<<20)
	if err != nil {
		w.tb.Fatal(err)
	}
	return fd
}

func (w *world) sock(fd int) *socket.Socket {
	f, err := w.fds.Get(fd)
	if err != nil {
		return nil
	}
	s, _ := socket.Of(f)
	f.DecRef()
	return s
}

// A side carries out one operation and says what came of it, in words that are the same on both sides. Descriptors are
// those of slots.
type side interface {
	socket(typ int) (int, error)
	pair(typ int) (a, b int, err error)
	bind(fd int, addr []byte) error
	listen(fd, backlog int) error
	connect(fd int, addr []byte) error
	accept(fd int) (int, error)
	send(fd int, b []byte, addr []byte, rights []int, flags int) (int, error)
	recv(fd, n, flags int) (got []byte, ret int, addr []byte, rights, out int, err error)
	shutdown(fd, how int) error
	close(fd int)
	name(fd int, peer bool) ([]byte, error)
	option(fd, name int) (int, error)
	setOption(fd, name, v int) error
	ioctl(fd int, cmd uint) (int, error)
	poll(fd int) int
	path(n int) string // the n-th name of a path
	plain() int        // a file to send; sockets in flight are another test: Linux collects them some time later
}

// --- ours

func (w *world) path(n int) string { return fmt.Sprintf("/d/s%d", n) }

func (w *world) plain() int {
	if w.file < 0 {
		w.file, _ = w.socket(unix.SOCK_STREAM)
	}
	return w.file
}

func (w *world) socket(typ int) (int, error) {
	s, err := w.fam.New(&w.message().Caller, typ, 0)
	if err != nil {
		return -1, err
	}
	return w.install(s), nil
}

func (w *world) pair(typ int) (int, int, error) {
	a, b, err := w.fam.Pair(&w.message().Caller, typ, 0)
	if err != nil {
		return -1, -1, err
	}
	return w.install(a), w.install(b), nil
}

func (w *world) bind(fd int, addr []byte) error {
	return w.sock(fd).Ops().Bind(&w.message().Caller, addr)
}
func (w *world) listen(fd, n int) error { return w.sock(fd).Ops().Listen(&w.message().Caller, n) }
func (w *world) connect(fd int, addr []byte) error {
	return w.sock(fd).Ops().Connect(&w.message().Caller, addr)
}
func (w *world) accept(fd int) (int, error) {
	s, err := w.sock(fd).Ops().Accept(&w.message().Caller)
	if err != nil {
		return -1, err
	}
	return w.install(s), nil
}

func (w *world) send(fd int, b, addr []byte, rights []int, flags int) (int, error) {
	m := w.message()
	m.Addr, m.Flags = addr, flags
	if rights != nil {
		var data []byte
		for _, r := range rights {
			data = append(data, socket.Int(r)...)
		}
		m.Control = []socket.Control{{Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS, Data: data}}
	}
	src := uio.Buffer(b)
	n, err := w.sock(fd).Ops().Send(m, &src)
	return int(n), err
}

func (w *world) recv(fd, n, flags int) (got []byte, ret int, addr []byte, rights, out int, err error) {
	m := w.message()
	m.Flags, m.WantAddr = flags, true
	b := make([]byte, n)
	dst := uio.Buffer(b)
	v, err := w.sock(fd).Ops().Receive(m, &dst)
	rights = len(m.Rights)
	m.Drop()
	return b[:n-len(dst)], int(v), m.Addr, rights, m.Out, err
}

func (w *world) shutdown(fd, how int) error { return w.sock(fd).Ops().Shutdown(how) }
func (w *world) close(fd int) {
	if err := w.fds.Close(fd); err != nil {
		w.tb.Fatal(err)
	}
}
func (w *world) name(fd int, peer bool) ([]byte, error) { return w.sock(fd).Ops().Name(peer) }
func (w *world) option(fd, name int) (int, error) {
	b, err := w.sock(fd).Option(&w.message().Caller, unix.SOL_SOCKET, name)
	if err != nil {
		return 0, err
	}
	return socket.ParseInt(b)
}
func (w *world) setOption(fd, name, v int) error {
	return w.sock(fd).SetOption(&w.message().Caller, unix.SOL_SOCKET, name, socket.Int(v))
}

// intMemory is program memory for one int.
type intMemory struct{ b [4]byte }

func (m *intMemory) CopyIn(dst []byte, _ uint64) (int, error)  { return copy(dst, m.b[:]), nil }
func (m *intMemory) CopyOut(_ uint64, src []byte) (int, error) { return copy(m.b[:], src), nil }

func (w *world) ioctl(fd int, cmd uint) (int, error) {
	m := &intMemory{}
	if _, err := w.sock(fd).Ops().Ioctl(&vfs.IoctlArgs{Cmd: uint32(cmd), Mem: m}); err != nil {
		return 0, err
	}
	return socket.ParseInt(m.b[:])
}

const polled = unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP | unix.POLLPRI | unix.POLLHUP | unix.POLLERR

func (w *world) poll(fd int) int { return int(w.sock(fd).Ops().Poll() & polled) }

// --- the host's

type host struct {
	tb  testing.TB
	dir string
}

func (h *host) path(n int) string { return filepath.Join(h.dir, fmt.Sprintf("s%d", n)) }
func (h *host) plain() int        { return 2 }
func (h *host) socket(typ int) (int, error) {
	return unix.Socket(unix.AF_UNIX, typ|unix.SOCK_NONBLOCK, 0)
}
func (h *host) pair(t int) (int, int, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, t|unix.SOCK_NONBLOCK, 0)
	return p[0], p[1], err
}
func (h *host) listen(fd, n int) error            { return unix.Listen(fd, n) }
func (h *host) shutdown(fd, how int) error        { return unix.Shutdown(fd, how) }
func (h *host) close(fd int)                      { unix.Close(fd) }
func (h *host) option(fd, n int) (int, error)     { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, n) }
func (h *host) setOption(fd, n, v int) error      { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, n, v) }
func (h *host) ioctl(fd int, c uint) (int, error) { return unix.IoctlGetInt(fd, c) }

func sockaddr(addr []byte) unix.Sockaddr {
	if addr == nil {
		return nil
	}
	p := addr[2:]
	if len(p) == 0 {
		return &unix.SockaddrUnix{}
	}
	if p[0] == 0 {
		return &unix.SockaddrUnix{Name: "@" + string(p[1:])}
	}
	return &unix.SockaddrUnix{Name: string(bytes.TrimRight(p, "\x00"))}
}

func rawName(sa unix.Sockaddr) []byte {
	u, ok := sa.(*unix.SockaddrUnix)
	switch {
	case !ok:
		return nil
	case u.Name == "", u.Name == "@": // x/sys/unix shows an empty name so
		return []byte{1, 0}
	case u.Name[0] == '@':
		return append([]byte{1, 0, 0}, u.Name[1:]...)
	}
	return pathAddr(u.Name)
}

func (h *host) bind(fd int, addr []byte) error    { return unix.Bind(fd, sockaddr(addr)) }
func (h *host) connect(fd int, addr []byte) error { return unix.Connect(fd, sockaddr(addr)) }
func (h *host) accept(fd int) (int, error) {
	n, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK)
	return n, err
}

func (h *host) send(fd int, b, addr []byte, rights []int, flags int) (int, error) {
	var oob []byte
	if rights != nil {
		oob = unix.UnixRights(rights...)
	}
	return unix.SendmsgN(fd, b, oob, sockaddr(addr), flags|unix.MSG_NOSIGNAL)
}

func (h *host) recv(fd, n, flags int) (got []byte, ret int, addr []byte, rights, out int, err error) {
	b, oob := make([]byte, n), make([]byte, 4096)
	ret, oobn, out, from, err := unix.Recvmsg(fd, b, oob, flags)
	if err != nil {
		return nil, 0, nil, 0, 0, err
	}
	msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range msgs {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			rights += len(fds)
			for _, f := range fds {
				unix.Close(f)
			}
		}
	}
	return b[:min(ret, n)], ret, rawName(from), rights, out, nil
}

func (h *host) name(fd int, peer bool) ([]byte, error) {
	var sa unix.Sockaddr
	var err error
	if peer {
		sa, err = unix.Getpeername(fd)
	} else {
		sa, err = unix.Getsockname(fd)
	}
	return rawName(sa), err
}

func (h *host) poll(fd int) int {
	p := []unix.PollFd{{Fd: int32(fd), Events: polled}}
	if _, err := unix.Poll(p, 0); err != nil {
		h.tb.Fatal(err)
	}
	return int(p[0].Revents)
}

// --- the sequences

const slots = 6

// play carries out what script says on one side and returns a line for each step.
func play(s side, script []byte) (log []string) {
	var fds [slots]int
	for i := range fds {
		fds[i] = -1
	}
	defer func() {
		for _, fd := range fds {
			if fd >= 0 {
				s.close(fd)
			}
		}
	}()
	next := func(n int) int {
		if len(script) == 0 {
			return 0
		}
		v := int(script[0]) % n
		script = script[1:]
		return v
	}
	types := []int{unix.SOCK_STREAM, unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET}
	addr := func() []byte {
		switch n := next(6); {
		case n < 3:
			return pathAddr(s.path(n))
		default:
			return []byte(fmt.Sprintf("\x01\x00\x00gosv-test-%d-%d", os.Getpid(), n))
		}
	}
	show := func(b []byte) string { return strings.ReplaceAll(string(b), filepath.Dir(s.path(0)), "") }
	put := func(i, fd int) {
		if fds[i] >= 0 {
			s.close(fds[i])
		}
		fds[i] = fd
	}
	seq := 0
	for len(script) > 0 {
		op, i := next(20), next(slots)
		fd := fds[i]
		line := fmt.Sprintf("%d %d: ", op, i)
		if fd < 0 && op > 1 {
			continue
		}
		switch op {
		case 0:
			n, err := s.socket(types[next(4)])
			put(i, n)
			line += fmt.Sprint("socket ", err)
		case 1:
			j := (i + 1) % slots
			a, b, err := s.pair(types[next(4)])
			put(i, a)
			put(j, b)
			line += fmt.Sprint("pair ", err)
		case 2:
			line += fmt.Sprint("bind ", s.bind(fd, addr()))
		case 3:
			line += fmt.Sprint("listen ", s.listen(fd, next(4)))
		case 4:
			line += fmt.Sprint("connect ", s.connect(fd, addr()))
		case 5:
			n, err := s.accept(fd)
			if err == nil {
				put(next(slots), n)
			}
			line += fmt.Sprint("accept ", err)
		case 6, 7, 8:
			size := []int{0, 1, 3, 100, 5000, 40000, 300000}[next(7)]
			if typ, _ := s.option(fd, unix.SO_TYPE); typ == unix.SOCK_SEQPACKET {
				size = max(size, 1) // newer Linuxes do not count empty packets as unread
			}
			b := bytes.Repeat([]byte{byte(seq)}, size)
			seq++
			var to []byte
			if next(4) == 0 {
				to = addr()
			}
			var rights []int
			if next(5) == 0 && size > 0 { // x/sys/unix would add a byte
				for range next(3) + 1 {
					rights = append(rights, s.plain())
				}
			}
			n, err := s.send(fd, b, to, rights, 0)
			if err == unix.EMSGSIZE || err == unix.EPIPE {
				err = unix.ENOTCONN // newer Linuxes look in another order
			}
			line += fmt.Sprintf("send %d rights %d: %d %v", size, len(rights), n, err)
		case 9, 10, 11:
			flags := 0
			for _, f := range []int{unix.MSG_PEEK, unix.MSG_TRUNC, unix.MSG_WAITALL} {
				if next(4) == 0 {
					flags |= f
				}
			}
			size := []int{1, 2, 50, 4000, 50000, 500000}[next(6)]
			got, n, from, rights, out, err := s.recv(fd, size, flags)
			if n < 0 || err != nil {
				n = 0
			}
			line += fmt.Sprintf("recv %d %#x: %d %x %q rights %d %#x %v", size, flags, n, sum(got), show(from), rights, out&(unix.MSG_TRUNC|unix.MSG_CTRUNC|unix.MSG_OOB), err)
		case 12:
			line += fmt.Sprint("shutdown ", s.shutdown(fd, next(3)))
		case 13:
			put(i, -1)
			line += "close"
		case 14:
			peer := next(2) == 1
			n, err := s.name(fd, peer)
			line += fmt.Sprintf("name %v %q %v", peer, show(n), err)
		case 15:
			n, err := s.option(fd, []int{unix.SO_ERROR, unix.SO_ACCEPTCONN, unix.SO_SNDBUF, unix.SO_TYPE, unix.SO_PEEK_OFF}[next(5)])
			line += fmt.Sprint("option ", n, err)
		case 16:
			line += fmt.Sprint("sndbuf ", s.setOption(fd, unix.SO_SNDBUF, next(200)*500))
		case 17:
			n, err := s.ioctl(fd, unix.SIOCINQ)
			line += fmt.Sprint("inq ", n, err)
		case 18:
			n, err := s.ioctl(fd, unix.SIOCOUTQ)
			if n > 1 { // the sizes of structures differ between Linuxes
				n = 2
			}
			line += fmt.Sprint("outq ", n, err)
		case 19:
			line += fmt.Sprint("SO_PEEK_OFF ", s.setOption(fd, unix.SO_PEEK_OFF, next(5)-1))
		}
		for j, fd := range fds {
			if fd >= 0 {
				line += fmt.Sprintf(" %d:%#x", j, s.poll(fd))
			}
		}
		log = append(log, line)
	}
	return log
}

func sum(b []byte) (v uint64) {
	for _, c := range b {
		v = v*31 + uint64(c) + 1
	}
	return v
}

// compare plays script on both sides.
func compare(t *testing.T, script []byte) {
	dir, err := os.MkdirTemp("/tmp", "unix")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	theirs := play(&host{t, dir}, script)
	w := newWorld(t)
	ours := play(w, script)
	for i := range max(len(ours), len(theirs)) {
		if ours[i] != theirs[i] {
			lo := max(0, i-12)
			t.Fatalf("step %d: Linux %s\n ours: %s\nbefore:\n%s", i, theirs[i], ours[i], strings.Join(theirs[lo:i], "\n"))
		}
	}
	if w.file >= 0 {
		w.close(w.file)
	}
	w.idle()
}

// idle checks that nothing is left when all descriptors are closed.
func (w *world) idle() {
	w.tb.Helper()
	w.net.flights.mu.Lock()
	defer w.net.flights.mu.Unlock()
	if n := len(w.net.flights.files) + len(w.net.flights.byUser); n != 0 {
		w.tb.Errorf("%d entries in flight are left", n)
	}
	if n := w.net.heap.Load() + share.Unix.Used(); n != 0 {
		w.tb.Errorf("%d bytes of packets are left", n)
	}
}

func TestLikeLinux(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 30
	}
	for i := range n {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		script := make([]byte, 400)
		for j := range script {
			script[j] = byte(r.Uint32())
		}
		if compare(t, script); t.Failed() {
			t.Fatalf("seed %d", i)
		}
	}
}

func FuzzLikeLinux(f *testing.F) {
	for i := range 4 {
		r := rand.New(rand.NewPCG(2, uint64(i)))
		script := make([]byte, 200)
		for j := range script {
			script[j] = byte(r.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1000 {
			return
		}
		compare(t, script)
	})
}
