package syscall

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/socket/netlink"
)

// noNetwork is a netlink.Stack that has nothing.
type noNetwork struct{}

func (noNetwork) Links() []netlink.Link                            { return nil }
func (noNetwork) SetLink(int, netlink.LinkChange) error            { return unix.ENODEV }
func (noNetwork) AddLink(*netlink.NewLink) error                   { return unix.EOPNOTSUPP }
func (noNetwork) MoveLink(int, netlink.Stack, string) (int, error) { return 0, unix.ENODEV }
func (noNetwork) RemoveLink(int) error                             { return unix.ENODEV }
func (noNetwork) Addresses() []netlink.Address                     { return nil }
func (noNetwork) AddAddress(netlink.Address) error                 { return unix.ENODEV }
func (noNetwork) RemoveAddress(netlink.Address) error              { return unix.EADDRNOTAVAIL }
func (noNetwork) Routes() []netlink.Route                          { return nil }
func (noNetwork) AddRoute(netlink.Route) error                     { return unix.ENETUNREACH }
func (noNetwork) RemoveRoute(netlink.Route) error                  { return unix.ESRCH }
func (noNetwork) RouteTo([]byte, int) (netlink.Route, error) {
	return netlink.Route{}, unix.ENETUNREACH
}
func (noNetwork) Neighbours() []netlink.Neighbour               { return nil }
func (noNetwork) AddNeighbour(netlink.Neighbour) error          { return unix.ENODEV }
func (noNetwork) RemoveNeighbour(netlink.Neighbour) error       { return unix.ENOENT }
func (noNetwork) Sockets(family, protocol int) []netlink.Socket { return nil }

func testFamilies(pool *mem.Pool, c *clock.Clock) (l socket.Families) {
	local := afunix.New(pool, c.Wall)
	l[unix.AF_UNIX] = local.Family(0)
	l[unix.AF_NETLINK] = netlink.New(func() netlink.Stack { return noNetwork{} }, local).Family()
	return l
}

// socketCalls are the calls of sockets, and those that do something else to them.
var socketCalls = []uint64{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT,
	unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_SENDMMSG, unix.SYS_RECVMMSG, unix.SYS_SHUTDOWN, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT,
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_CLOSE, unix.SYS_DUP, unix.SYS_FCNTL, unix.SYS_IOCTL,
	unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_POLL, unix.SYS_EPOLL_CTL, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_FTRUNCATE, unix.SYS_MMAP, unix.SYS_PREAD64,
}

// message lays out a msghdr at a place of its own: with an address, a buffer, and ancillary data that sends descriptors 3 and 4.
func (u *user) messageAt(addr, n uint64, control bool) uint64 {
	buf := u.alloc(64)
	iov := u.words(buf, 64)
	words := []uint64{addr, n, iov, 1, 0, 0, 0, 0}
	if control {
		words[4] = u.words(24, unix.SOL_SOCKET|unix.SCM_RIGHTS<<32, 3|4<<32, 28, unix.SOL_SOCKET|unix.SCM_CREDENTIALS<<32, 1, 0)
		words[5] = 24
	}
	return u.words(words...)
}

// sockets opens some sockets of each kind, from descriptor 3 on, and returns addresses for them.
func (u *user) sockets() (addrs []uint64) {
	path := append([]byte{unix.AF_UNIX, 0}, "/tmp/s\x00"...)
	abstract := append([]byte{unix.AF_UNIX, 0, 0}, "name"...)
	kernel := binary.LittleEndian.AppendUint32([]byte{unix.AF_NETLINK, 0, 0, 0, 0, 0, 0, 0}, 1)
	for _, b := range [][]byte{path, abstract, kernel} {
		at := u.alloc(32)
		u.write(at, b)
		addrs = append(addrs, at)
	}
	for _, typ := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		u.call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, typ, 0, u.alloc(8))
		u.call(unix.SYS_SOCKET, unix.AF_UNIX, typ, 0)
	}
	u.call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	u.call(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_SOCK_DIAG)
	return addrs
}

// TestHostileSocketArguments is TestHostileArguments with descriptors that are sockets.
func TestHostileSocketArguments(t *testing.T) {
	for _, nr := range socketCalls[:18] {
		t.Run(New(Options{}).rows[nr].name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{Strace: nr%2 == 0})
			w.run(func(u *user) {
				u.handle(unix.SIGALRM, 0, func(*user) {})
				u.must(unix.SYS_SETITIMER, 0, u.words(0, 300, 0, 300), 0)
				addrs := u.sockets()
				buf, msg := u.alloc(4096), u.messageAt(addrs[1], 7, true)
				for fd := uint64(0); fd < 12; fd++ {
					for _, base := range [][6]uint64{{fd, buf, 64, 0, 0, 0}, {fd, msg, 0, 0, 0, 0}, {fd, addrs[0], 10, 0, addrs[1], 7}, {fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buf, 4, 0}, {unix.AF_UNIX, 1, 0, buf, 0, 0}} {
						for i := range 6 {
							for _, v := range hostile {
								a := base
								a[i] = v
								u.call(nr, a[:]...)
							}
						}
					}
				}
				u.exit(0)
			})
		})
	}
}

// FuzzSocketCalls makes sequences of calls on sockets.
func FuzzSocketCalls(f *testing.F) {
	f.Add([]byte{2, 5, 20, 30, 0, 0, 0, 0, 3, 5, 40, 0, 0, 0, 0, 0, 11, 3, 12, 0, 0, 0, 0, 0, 12, 4, 13, 0, 0, 0, 0, 0})
	f.Add([]byte{9, 3, 16, 32, 0, 0, 0, 0, 10, 4, 16, 32, 0, 0, 0, 0, 15, 3, 1, 0, 0, 0, 0, 0, 22, 4, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, Options{})
		w.patience = 300 * time.Millisecond
		w.run(func(u *user) {
			u.handle(unix.SIGALRM, 0, func(*user) {})
			u.must(unix.SYS_SETITIMER, 0, u.words(0, 300, 0, 300), 0)
			addrs := u.sockets()
			pool := append([]uint64{
				0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, u.messageAt(addrs[0], 10, true), u.messageAt(0, 0, false), u.messageAt(addrs[1], 7, false), u.messageAt(0, 0, true),
				u.alloc(512), u.words(110), u.words(8), addrs[0], addrs[1], addrs[2], unix.MSG_DONTWAIT, unix.MSG_PEEK, unix.MSG_OOB | unix.MSG_DONTWAIT,
				unix.SO_PASSCRED, unix.SO_RCVTIMEO, unix.SO_PEEK_OFF, unix.SO_PEERGROUPS, unix.SOL_NETLINK, 16, 24, 512, 4096, 1 << 20,
				unix.SIOCINQ, unix.SIOCOUTQ, unix.F_SETFL, unix.O_NONBLOCK, unix.SOCK_SEQPACKET, unix.AF_UNIX,
			}, hostile...)
			for calls := 0; len(script) >= 8 && calls < 64; script, calls = script[8:], calls+1 {
				var a [6]uint64
				for i := range a {
					a[i] = pool[int(script[1+i])%len(pool)]
				}
				u.call(socketCalls[int(script[0])%len(socketCalls)], a[:]...)
			}
			u.exit(0)
		})
	})
}
