// Package tun is /dev/net/tun: interfaces of the network whose other end is an open file, for programs that are networks
// themselves, such as those of VPNs (Linux's Documentation/networking/tuntap.rst).
//
// A write sends the network one packet, a read takes one that the network has sent: of IP (IFF_TUN), or a frame of Ethernet (IFF_TAP). An
// interface goes when its last file is closed, unless it is persistent; several files share one with IFF_MULTI_QUEUE.
//
// Checksums and segmentation may be left to the network by what a program writes (IFF_VNET_HDR); the network leaves nothing to programs,
// whatever they allow it (TUNSETOFFLOAD).
//
// What waits to be read is at most as many packets as the interface's queue has places, and counts among share.Datagrams; the rest is lost, as on a
// wire.
//
// Lock order: file.setting → net.Exclusively → device.mu → file.mu; device.receiving → netstack's. Neither device.mu nor file.mu is held
// while the network is called.
package tun

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/net"
	"gosv/kernel/share"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// Major and Minor are the numbers of the device file.
const (
	Major = 10
	Minor = 200
)

// Open returns what opens the device. find returns the network of who opens it, and what is to be called when the file no longer uses it.
func Open(find func(*vfs.Context) (n *net.Network, done func(), err error)) vfs.OpenDevice {
	return func(ctx *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
		n, done, err := find(ctx)
		if err != nil {
			return nil, err
		}
		f.SetStream()
		return &file{net: n, done: done}, nil
	}
}

// A file is one end of an interface, or will be.
type file struct {
	vfs.FileDefaults
	net   *net.Network
	done  func()
	queue wait.Queue
	index atomic.Int32 // TUNSETIFINDEX

	// setting is held while the file is attached and detached.
	setting sync.Mutex
	dev     atomic.Pointer[device] // nil: none; changed with setting held, or by the device when it is gone

	mu      sync.Mutex
	waiting []packet // +checklocks:mu
	// deaf: nothing is queued, since nobody would take it.
	deaf bool // +checklocks:mu
}

// A packet is a frame with its header of Ethernet, which is made up on a device that has none.
type packet struct{ frame []byte }

// packetOverhead is what one that waits costs beside its bytes.
const packetOverhead = 128

func (p packet) cost() int64 { return int64(len(p.frame)) + packetOverhead }

const (
	readable = unix.EPOLLIN | unix.EPOLLRDNORM
	writable = unix.EPOLLOUT | unix.EPOLLWRNORM
)

// put queues a packet, of which it keeps the bytes: false when there is no room.
func (f *file) put(p packet, most int) bool {
	f.mu.Lock()
	fits := !f.deaf && len(f.waiting) < most && share.Datagrams.Take(p.cost())
	if fits {
		f.waiting = append(f.waiting, p)
	}
	f.mu.Unlock()
	if fits {
		f.queue.Notify(readable)
	}
	return fits
}

// take takes the oldest packet.
func (f *file) take() (p packet, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		return p, false
	}
	p = f.waiting[0]
	f.waiting[0] = packet{}
	f.waiting = f.waiting[1:]
	share.Datagrams.Give(p.cost())
	return p, true
}

// hear says whether packets are queued from now on, and forgets those that are.
func (f *file) hear(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.waiting {
		share.Datagrams.Give(p.cost())
	}
	f.waiting, f.deaf = nil, !on
}

// Read implements vfs.FileOps: EBADFD without an interface, EINVAL when not even the headers fit. What does not fit of a packet is lost.
func (f *file) Read(_ *vfs.File, dst uio.Sink, _ int64) (int64, error) {
	d := f.dev.Load()
	if d == nil {
		return 0, unix.EBADFD
	}
	if dst.Left() == 0 {
		return 0, nil
	}
	p, ok := f.take()
	if !ok {
		return 0, unix.EAGAIN
	}
	return d.deliver(dst, p)
}

// Write implements vfs.FileOps: EBADFD without an interface, EIO when it is down, EINVAL for what is no packet, EMSGSIZE, EFAULT.
func (f *file) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	d := f.dev.Load()
	if d == nil {
		return 0, unix.EBADFD
	}
	return d.accept(src)
}

// Poll implements vfs.FileOps.
func (f *file) Poll(_ *vfs.File, mask wait.Mask) (ready wait.Mask) {
	d := f.dev.Load()
	if d == nil {
		return unix.EPOLLERR
	}
	f.mu.Lock()
	if len(f.waiting) > 0 {
		ready = readable
	}
	f.mu.Unlock()
	if f.net.Running(&d.plug) {
		ready |= writable
	}
	return ready & (mask | unix.EPOLLERR)
}

// Register implements vfs.FileOps.
func (f *file) Register(_ *vfs.File, e *wait.Entry) { f.queue.Add(e) }

// Unregister implements vfs.FileOps.
func (f *file) Unregister(_ *vfs.File, e *wait.Entry) { f.queue.Remove(e) }

// FDInfo is what /proc/PID/fdinfo shows.
func (f *file) FDInfo() string {
	if d := f.dev.Load(); d != nil {
		return "iff:\t" + f.net.NameOf(&d.plug) + "\n"
	}
	return ""
}

// Release implements vfs.FileOps.
func (f *file) Release(*vfs.File) {
	f.setting.Lock()
	net.Exclusively(func() {
		if d := f.dev.Swap(nil); d != nil {
			d.detach(f)
		}
	})
	f.setting.Unlock()
	f.done()
}
