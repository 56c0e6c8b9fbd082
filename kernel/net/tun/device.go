package tun

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/net"
	"gosv/kernel/netdev"
)

// A device is an interface seen from the network: a netdev.Device whose wire are files.
type device struct {
	netdev.Soft
	net  *net.Network
	plug net.Plug
	tap  bool

	receiver atomic.Pointer[netdev.Receiver]
	// receiving is held while the receiver is called.
	receiving sync.Mutex

	flags  atomic.Uint32 // IFF_NO_PI, IFF_VNET_HDR, IFF_ONE_QUEUE, IFF_MULTI_QUEUE
	header atomic.Int32  // size of struct virtio_net_hdr in front of packets, in bytes
	sndbuf atomic.Int32
	little atomic.Bool // TUNSETVNETLE

	mu sync.Mutex
	// files take packets; those in idle are attached without doing so (IFF_DETACH_QUEUE).
	files []*file // +checklocks:mu
	idle  []*file // +checklocks:mu
	// persist: the interface outlives its files.
	persist bool // +checklocks:mu
	// owner and group may have an end of the interface; namespace.None: anybody.
	owner uint32 // +checklocks:mu
	group uint32 // +checklocks:mu
	// unplugged: a program says that the wire is (TUNSETCARRIER), or nobody has a file of the interface.
	unplugged bool // +checklocks:mu
	// changed: unplugged has been true.
	changed bool // +checklocks:mu
}

// Lengths of queues, in packets, as they are on Linux.
const (
	tunQueue = 500
	tapQueue = 1000
)

// Most files of an interface.
const maxFiles = 256

// headerSize is that of struct virtio_net_hdr, in bytes.
const headerSize = 10

func newDevice(n *net.Network, name string, index int, tap bool) *device {
	d := &device{net: n, tap: tap, owner: namespace.None, group: namespace.None}
	d.header.Store(headerSize)
	d.sndbuf.Store(1<<31 - 1)
	d.Init()
	d.plug = net.Plug{Name: name, Index: index, Device: d, Bare: !tap, QueueLength: tunQueue, Kind: "tun",
		Info: d.info, Files: d.shown(), Settled: d.settled, Removed: d.gone, Opened: d.opened}
	if tap {
		d.plug.QueueLength, d.plug.MaxMTU = tapQueue, maxPacket-etherHeader
	}
	return d
}

// Features implements netdev.Device.
func (*device) Features() netdev.Features { return netdev.Features{} }

// Start implements netdev.Device.
func (d *device) Start(r netdev.Receiver) error {
	d.receiver.Store(&r)
	return nil
}

// Up implements netdev.Device.
func (d *device) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.unplugged
}

func (d *device) settled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Send implements netdev.Device. What nobody reads is lost.
func (d *device) Send(parts [][]byte, _ netdev.Offload) error {
	frame := slices.Concat(parts...)
	d.mu.Lock()
	to := d.choose(frame)
	if d.unplugged {
		to = nil
	}
	d.mu.Unlock()
	if to == nil || !to.put(packet{frame}, d.plug.QueueLength) {
		d.Count.TxDropped.Add(1)
	}
	return nil
}

var seed = maphash.MakeSeed()

// flowBytes is how much of a packet says what it belongs to: the headers up to the ports, of IPv6 too.
const flowBytes = etherHeader + 40 + 4

// choose returns the file that a packet goes to: that of all packets of a flow.
//
// +checklocks:d.mu
func (d *device) choose(frame []byte) *file {
	switch len(d.files) {
	case 0:
		return nil
	case 1:
		return d.files[0]
	}
	return d.files[maphash.Bytes(seed, flow(frame))%uint64(len(d.files))]
}

// attach adds f, with what the interface is to be from now on unless others have it too: EBUSY, E2BIG.
// It is called exclusively.
func (d *device) attach(f *file, flags uint32) error {
	d.mu.Lock()
	multi := d.flags.Load()&unix.IFF_MULTI_QUEUE != 0
	all := len(d.files) + len(d.idle)
	switch {
	case !multi && all > 0:
		d.mu.Unlock()
		return unix.EBUSY
	case all == maxFiles:
		d.mu.Unlock()
		return unix.E2BIG
	}
	if all == 0 {
		d.flags.Store(flags & features)
		d.unplugged = false
	}
	d.files = append(slices.Clone(d.files), f)
	d.mu.Unlock()
	f.hear(true)
	return nil
}

// detach takes f away; the interface goes with its last file. It is called exclusively.
func (d *device) detach(f *file) {
	d.mu.Lock()
	d.files = without(d.files, f)
	d.idle = without(d.idle, f)
	f.hear(false)
	last, stays := len(d.files)+len(d.idle) == 0, d.persist
	if last {
		d.unplugged, d.changed = true, true
	}
	d.mu.Unlock()
	switch {
	case last && stays:
		d.net.Changed(&d.plug)
	case last:
		d.net.Unplug(&d.plug)
	}
}

// without returns a list without f; the old one may be in use.
func without(list []*file, f *file) []*file {
	return slices.DeleteFunc(slices.Clone(list), func(o *file) bool { return o == f })
}

// gone lets go of the files of an interface that somebody else has removed; it is called exclusively.
func (d *device) gone() {
	d.mu.Lock()
	all := append(slices.Clone(d.files), d.idle...)
	d.files, d.idle = nil, nil
	d.mu.Unlock()
	for _, f := range all {
		f.hear(false)
		f.dev.Store(nil)
		f.queue.Notify(readable | unix.EPOLLERR)
	}
}

// rest has f take packets, or not any more: EINVAL. It is called exclusively.
func (d *device) rest(f *file, idle bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, to := &d.idle, &d.files
	if idle {
		from, to = to, from
	}
	if d.flags.Load()&unix.IFF_MULTI_QUEUE == 0 || !slices.Contains(*from, f) {
		return unix.EINVAL
	}
	*from, *to = without(*from, f), append(slices.Clone(*to), f)
	f.hear(!idle)
	return nil
}

// isIdle reports whether f takes no packets.
func (d *device) isIdle(f *file) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.idle, f)
}

// setCarrier is TUNSETCARRIER: EPERM when no file takes packets.
func (d *device) setCarrier(on bool) error {
	d.mu.Lock()
	if on && len(d.files) == 0 {
		d.mu.Unlock()
		return unix.EPERM
	}
	other := d.unplugged == on
	d.unplugged = !on
	d.changed = d.changed || !on
	d.mu.Unlock()
	if other {
		d.told()
	}
	return nil
}

// told tells of a change of the interface, unless it is gone.
func (d *device) told() {
	net.Exclusively(func() { d.net.Changed(&d.plug) })
}

// opened wakes who waits until packets can be written.
func (d *device) opened(bool) {
	d.mu.Lock()
	all := append(slices.Clone(d.files), d.idle...)
	d.mu.Unlock()
	for _, f := range all {
		f.queue.Notify(writable)
	}
}
