package net

import (
	"slices"
	"sync/atomic"

	"gosv/kernel/netdev"
	"gosv/kernel/serial"
	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
)

// dummy is an interface that nothing is behind: what it sends is gone.
type dummy struct {
	netdev.Soft
	plug Plug
}

func newDummy() *dummy {
	d := &dummy{}
	d.Init()
	d.plug = Plug{Device: d, NoARP: true, QueueLength: queueLength, Kind: "dummy", Info: func() []byte { return nil }, Settled: func() bool { return false },
		Removed: func() {}, Moved: func(*Network) {}}
	return d
}

// Features implements netdev.Device.
func (*dummy) Features() netdev.Features { return netdev.Features{} }

// Start implements netdev.Device.
func (*dummy) Start(netdev.Receiver) error { return nil }

// Up implements netdev.Device.
func (*dummy) Up() bool { return true }

// Send implements netdev.Device.
func (d *dummy) Send(parts [][]byte, _ netdev.Offload) error {
	d.Sent(sizeOf(parts))
	return nil
}

func sizeOf(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// A vethEnd is one of two interfaces that are joined (veth(4)): what one sends, the other receives, in whatever network namespace it is.
//
// What is sent waits in the queue of the receiver, so that no network calls into another, and is delivered by a goroutine that lasts as long as something
// waits. Sums and segments are left open: they need not be made between two networks of one machine.
type vethEnd struct {
	netdev.Soft
	plug Plug
	peer *vethEnd
	net  atomic.Pointer[Network]
	up   atomic.Bool

	receiver atomic.Pointer[netdev.Receiver]
	wire     serial.Queue[onWire] // what is on the way to it
}

// onWire is a frame on the way.
type onWire struct {
	frame []byte
	o     netdev.Offload
}

// wireOverhead is what a frame costs beside its bytes.
const wireOverhead = 128

func (w *onWire) cost() int64 { return int64(len(w.frame)) + wireOverhead }

// newPair makes two ends, without names.
func newPair() (a, b *vethEnd) {
	a, b = &vethEnd{}, &vethEnd{}
	a.join(b)
	b.join(a)
	return a, b
}

func (e *vethEnd) join(peer *vethEnd) {
	e.Init()
	e.peer, e.wire.Do = peer, e.deliver
	e.plug = Plug{Device: e, QueueLength: queueLength, Kind: "veth", Info: func() []byte { return nil }, Settled: func() bool { return true },
		Removed: e.removed, Moved: e.moved, Opened: e.opened, Peer: e.other}
}

// addPair makes what l describes, and its peer, which is there first as on Linux.
func (n *Network) addPair(l *netlink.NewLink) error {
	a, b := newPair()
	of := l.Peer
	if of == nil { // what is not said of the peer is as with its end, as on Linux
		of = &netlink.NewLink{In: l.In, MTU: l.MTU}
	}
	a.net.Store(n.where(l))
	b.net.Store(n.where(of))
	a.plug.Name, b.plug.Name = l.Name, of.Name
	if err := n.place(of, &b.plug, "veth%d"); err != nil {
		return err
	}
	if err := n.place(l, &a.plug, "veth%d"); err != nil {
		n.where(of).Unplug(&b.plug)
		return err
	}
	return nil
}

// removed takes the other end away with this one.
func (e *vethEnd) removed() {
	e.up.Store(false)
	e.peer.up.Store(false)
	e.peer.net.Load().Unplug(&e.peer.plug)
}

// moved says that the end will be in another network. What is on the way to it is lost.
func (e *vethEnd) moved(n *Network) {
	e.net.Store(n)
	e.opened(false)
	for _, w := range e.wire.Clear() {
		share.Datagrams.Give(w.cost())
	}
}

// opened says that the interface was brought up or down, which is seen at the other end.
func (e *vethEnd) opened(up bool) {
	if e.up.Swap(up) != up && e.peer.up.Load() {
		e.peer.net.Load().Changed(&e.peer.plug)
	}
}

// other is where the other end is.
func (e *vethEnd) other() (*Network, int) { return e.peer.net.Load(), e.peer.plug.NIC() }

// Features implements netdev.Device.
func (*vethEnd) Features() netdev.Features { return leftOpen }

// leftOpen is what the ends leave to each other. Tests on the host leave nothing, since their netstack looks at all sums.
var leftOpen = netdev.Features{Checksum: true, TCPv4: true, TCPv6: true, UDP: true}

// Start implements netdev.Device.
func (e *vethEnd) Start(r netdev.Receiver) error {
	e.receiver.Store(&r)
	return nil
}

// Up implements netdev.Device.
func (e *vethEnd) Up() bool { return e.up.Load() && e.peer.up.Load() }

// Send implements netdev.Device. What has no room at the other end is lost, as is all when either end is down.
func (e *vethEnd) Send(parts [][]byte, o netdev.Offload) error {
	if !e.Up() {
		e.Count.TxDropped.Add(1)
		return nil
	}
	e.Sent(sizeOf(parts))
	if !e.peer.queue(onWire{slices.Concat(parts...), o}) {
		e.peer.Count.RxDropped.Add(1)
	}
	return nil
}

// queue takes a frame from the wire.
func (e *vethEnd) queue(w onWire) bool {
	if !share.Datagrams.Take(w.cost()) {
		return false
	}
	if !e.wire.Add(w, queueLength) {
		share.Datagrams.Give(w.cost())
		return false
	}
	return true
}

// deliver gives the network a frame.
func (e *vethEnd) deliver(w onWire) {
	share.Datagrams.Give(w.cost())
	if r := e.receiver.Load(); r != nil && e.up.Load() {
		e.Received(len(w.frame))
		(*r)([][]byte{w.frame}, w.o)
	}
}
