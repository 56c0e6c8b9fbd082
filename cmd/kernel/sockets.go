package main

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/fs/procfs"
	"gosv/kernel/clock"
	"gosv/kernel/mem"
	"gosv/kernel/namespace"
	"gosv/kernel/net"
	"gosv/kernel/net/tun"
	"gosv/kernel/nsfs"
	"gosv/kernel/socket"
	"gosv/kernel/socket/afunix"
	"gosv/kernel/socket/netlink"
	"gosv/kernel/socket/vsock"
	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// sockets are the networks that sockets belong to: a network namespace (network_namespaces(7)). AF_VSOCK is the same in all, and of AF_UNIX all but
// abstract names.
type sockets struct {
	namespace.Head
	inet  *net.Network
	local *afunix.Network
	vm    *vsock.Network
	l     socket.Families
	files map[string]net.ProcFile      // by name below /proc
	k     *atomic.Pointer[task.Kernel] // where processes are found, once there are any; the same in all
}

func newSockets(pool *mem.Pool, c *clock.Clock, n *net.Network, vm *vsock.Network) *sockets {
	s := &sockets{inet: n, local: afunix.New(pool, c.Wall), vm: vm, k: new(atomic.Pointer[task.Kernel])}
	s.First(namespace.Net)
	s.local.Ioctl = ioctl
	s.fill()
	return s
}

// ioctl serves the requests about interfaces that come by sockets of AF_UNIX.
func ioctl(a *vfs.IoctlArgs) (uint64, error) {
	if t, ok := a.Task.(*task.Task); ok {
		if s, ok := t.Namespaces().List[namespace.Net].(*sockets); ok {
			return s.inet.Ioctl(a)
		}
	}
	return 0, unix.ENOTTY
}

// another makes a network namespace, with nothing but lo: ENOSPC.
func (s *sockets) another(cfg net.Config) task.Maker {
	return func(_ namespace.Object, owner *namespace.User) (namespace.Object, error) {
		mine := cfg
		mine.Owner = owner
		n := &sockets{inet: net.New(mine), local: s.local, vm: s.vm, k: s.k}
		if err := n.Init(namespace.Net, owner, func() { n.inet.End(n.Linger()) }); err != nil {
			return nil, err
		}
		n.fill()
		return n, nil
	}
}

// Families implements socket.Holder.
func (s *sockets) Families() *socket.Families { return &s.l }

// fill makes the address families that sockets can have.
func (s *sockets) fill() {
	l := &s.l
	l[unix.AF_UNIX] = s.local.Family(s.ID())
	l[unix.AF_INET] = s.inet.INET()
	l[unix.AF_INET6] = s.inet.INET6()
	l[unix.AF_PACKET] = s.inet.Packet()
	n := netlink.New(s.inet.Netlink, s.local)
	n.Ioctl, n.Space, n.Owner, n.Spaces = s.inet.Ioctl, s.ID(), s.Owner(), s.named
	l[unix.AF_NETLINK] = n.Family()
	s.inet.OnChange(func(c net.Change) { n.LinkChanged(c.Link, c.Gone) })
	l[unix.AF_VSOCK] = s.vm.Family()
	s.files = map[string]net.ProcFile{"net/unix": {Show: func() string { return s.local.Proc(s.ID()) }}}
	for _, f := range s.inet.ProcFiles() {
		s.files[f.Path] = f
	}
}

// named finds the network that a request of rtnetlink(7) names, and holds it.
func (s *sockets) named(c *socket.Caller, pid, fd int32, byFD bool) (netlink.Stack, *namespace.Head, error) {
	var o namespace.Object
	missing := unix.ESRCH
	if byFD && c.Files != nil {
		f, err := c.Files.Get(int(fd))
		if err != nil {
			return nil, nil, err
		}
		defer f.DecRef()
		o, _ = nsfs.Of(f)
		missing = unix.EINVAL
	} else if k := s.k.Load(); k != nil && !byFD {
		if me := k.Process(c.PID); me != nil {
			if t := k.Task(me.PIDs().Global(pid)); t != nil {
				o = t.NamespaceOf(namespace.Net, false)
			}
		}
	}
	in, ok := o.(*sockets)
	if !ok || !in.Get() {
		return nil, nil, missing
	}
	return in.inet.Netlink(), in.NS(), nil
}

// openTun opens /dev/net/tun in the network of who does so, which the file keeps alive: ENXIO when that has ended.
func openTun(k *task.Kernel) vfs.OpenDevice {
	return tun.Open(func(ctx *vfs.Context) (*net.Network, func(), error) {
		t := k.Task(ctx.TID)
		if t == nil {
			return nil, nil, unix.ENXIO
		}
		in, ok := t.NamespaceOf(namespace.Net, false).(*sockets)
		if !ok || !in.Get() {
			return nil, nil, unix.ENXIO
		}
		return in.inet, in.Put, nil
	})
}

// show adds what /proc tells about networks and sockets.
func (s *sockets) show(proc *procfs.FS) {
	for path, f := range s.files {
		var store func(namespace.Object, string) error
		if f.Store != nil {
			store = func(o namespace.Object, text string) error {
				if in, ok := o.(*sockets); ok {
					return in.files[path].Store(text)
				}
				return unix.EIO
			}
		}
		proc.AddFor(path, namespace.Net, func(o namespace.Object) string {
			if in, ok := o.(*sockets); ok {
				return in.files[path].Show()
			}
			return ""
		}, store)
	}
	proc.Add("sys/net/unix/max_dgram_qlen", 0o644, func() string { return strconv.Itoa(s.local.MaxQueue()) + "\n" }, func(text string) error {
		v, err := strconv.Atoi(text)
		if err != nil {
			return unix.EINVAL
		}
		return s.local.SetMaxQueue(v)
	})
}
