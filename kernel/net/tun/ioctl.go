package tun

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/namespace"
	"gosv/kernel/net"
	"gosv/kernel/socket/netlink"
	"gosv/kernel/vfs"
)

var le = binary.LittleEndian

// features are the flags that an interface may have beside its kind.
const features = unix.IFF_NO_PI | unix.IFF_ONE_QUEUE | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE

// offloads are what programs may say that they do for the network, beside checksums, without which they are not possible.
const offloads = unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_UFO | unix.TUN_F_USO4 | unix.TUN_F_USO6

// Struct ifreq.
const (
	ifreqSize = 40
	nameSize  = unix.IFNAMSIZ
)

type ifreq [ifreqSize]byte

// name is ifr_name, of which no more counts than a name can have.
func (r *ifreq) name() string { return unix.ByteSliceToString(r[:nameSize-1]) }

func (r *ifreq) setName(s string) {
	clear(r[:nameSize])
	copy(r[:nameSize-1], s)
}

// flags is ifr_flags, which may have the bits of an unsigned short.
func (r *ifreq) flags() uint32 { return uint32(le.Uint16(r[nameSize:])) }

func (r *ifreq) setFlags(f uint32) { le.PutUint16(r[nameSize:], uint16(f)) }

// Ioctl implements vfs.FileOps: EBADFD for what needs an interface, EINVAL for an unknown request as on Linux.
func (f *file) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	switch a.Cmd {
	case unix.TUNGETFEATURES:
		return 0, a.PutInt32(unix.IFF_TUN | unix.IFF_TAP | features)
	case unix.TUNSETIFF:
		return 0, f.setInterface(a)
	case unix.TUNSETIFINDEX:
		return 0, f.setIndex(a)
	case unix.TUNSETQUEUE:
		return 0, f.setQueue(a)
	}
	d := f.dev.Load()
	if d == nil {
		return 0, unix.EBADFD
	}
	switch a.Cmd {
	case unix.TUNGETIFF, unix.SIOCGIFHWADDR, unix.SIOCSIFHWADDR:
		return 0, f.interfaceRequest(d, a)
	case unix.TUNSETPERSIST:
		d.mu.Lock()
		d.persist = int32(a.Arg) != 0
		d.mu.Unlock()
		d.told()
	case unix.TUNSETOWNER, unix.TUNSETGROUP:
		return 0, d.setOwner(a)
	case unix.TUNSETNOCSUM: // of no consequence on Linux either
	case unix.TUNSETOFFLOAD:
		const segments = unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		if v := uint32(a.Arg); v&^(unix.TUN_F_CSUM|offloads) != 0 || v&unix.TUN_F_CSUM == 0 && v != 0 || v&unix.TUN_F_TSO_ECN != 0 && v&segments == 0 {
			return 0, unix.EINVAL
		}
	default:
		return 0, d.setting(a)
	}
	return 0, nil
}

// setting serves the requests about a number.
func (d *device) setting(a *vfs.IoctlArgs) error {
	switch a.Cmd {
	case unix.TUNGETSNDBUF:
		return a.PutInt32(d.sndbuf.Load())
	case unix.TUNGETVNETHDRSZ:
		return a.PutInt32(d.header.Load())
	case unix.TUNGETVNETLE:
		v := int32(0)
		if d.little.Load() {
			v = 1
		}
		return a.PutInt32(v)
	case unix.TUNSETSNDBUF, unix.TUNSETVNETHDRSZ, unix.TUNSETVNETLE, unix.TUNSETCARRIER:
	default:
		return unix.EINVAL
	}
	v, err := number(a)
	switch {
	case err != nil:
		return err
	case a.Cmd == unix.TUNSETSNDBUF && v > 0:
		d.sndbuf.Store(v) // packets of programs never wait
	case a.Cmd == unix.TUNSETVNETHDRSZ && v >= headerSize && v <= maxHeader:
		d.header.Store(v)
	case a.Cmd == unix.TUNSETVNETLE:
		d.little.Store(v != 0) // as the processor is in any case
	case a.Cmd == unix.TUNSETCARRIER:
		return d.setCarrier(v != 0)
	default:
		return unix.EINVAL
	}
	return nil
}

// maxHeader bounds what stands in front of a packet, in bytes.
const maxHeader = 1024

// number reads the int that a request points to: EFAULT.
func number(a *vfs.IoctlArgs) (int32, error) {
	var b [4]byte
	_, err := a.Mem.CopyIn(b[:], a.Arg)
	return int32(le.Uint32(b[:])), err
}

// setIndex is TUNSETIFINDEX, the number of the interface that will be made: EINVAL, EPERM after that.
func (f *file) setIndex(a *vfs.IoctlArgs) error {
	if f.dev.Load() != nil {
		return unix.EPERM
	}
	v, err := number(a)
	switch {
	case err != nil:
		return err
	case v < 0:
		return unix.EINVAL
	}
	f.index.Store(v)
	return nil
}

// setInterface is TUNSETIFF: the file becomes an end of an interface that is there, or of a new one. EEXIST when it is one already, EPERM,
// EINVAL, EBUSY, E2BIG, ENOMEM, and Network.Plug's.
func (f *file) setInterface(a *vfs.IoctlArgs) error {
	var r ifreq
	if _, err := a.Mem.CopyIn(r[:], a.Arg); err != nil {
		return err
	}
	f.setting.Lock()
	defer f.setting.Unlock()
	if f.dev.Load() != nil {
		return unix.EEXIST
	}
	d, err := (*device)(nil), error(nil)
	net.Exclusively(func() { d, err = f.find(r.name(), r.flags(), a) })
	if err != nil {
		return err
	}
	f.queue.Notify(readable | writable | unix.EPOLLERR)
	r.setName(f.net.NameOf(&d.plug))
	_, err = a.Mem.CopyOut(a.Arg, r[:])
	return err
}

// find attaches f to the interface of that name, which it makes when there is none.
// It is called exclusively.
func (f *file) find(name string, flags uint32, a *vfs.IoctlArgs) (*device, error) {
	if p, taken := f.net.Plugged(name); taken {
		return f.join(p, flags, a)
	}
	return f.make(name, flags, a)
}

// join attaches f to p, which may be nil for an interface that was not plugged in.
func (f *file) join(p *net.Plug, flags uint32, a *vfs.IoctlArgs) (*device, error) {
	if flags&unix.IFF_TUN_EXCL != 0 {
		return nil, unix.EBUSY
	}
	if p == nil {
		return nil, unix.EINVAL
	}
	d, ok := p.Device.(*device)
	switch {
	case !ok, d.tap && flags&unix.IFF_TAP == 0, !d.tap && flags&unix.IFF_TUN == 0:
		return nil, unix.EINVAL
	case (flags^d.flags.Load())&unix.IFF_MULTI_QUEUE != 0:
		return nil, unix.EINVAL
	case !d.mayAttach(a):
		return nil, unix.EPERM
	}
	if err := d.attach(f, flags); err != nil {
		return nil, err
	}
	f.dev.Store(d)
	f.net.Changed(p)
	return d, nil
}

// mayAttach says whether the caller may have an end of the interface: one that belongs to somebody is for that user or group, and for root.
func (d *device) mayAttach(a *vfs.IoctlArgs) bool {
	c := a.Ctx.Cred
	d.mu.Lock()
	defer d.mu.Unlock()
	return (d.owner == namespace.None || d.owner == c.EUID) && (d.group == namespace.None || c.InEffectiveGroup(d.group)) ||
		c.CapableIn(d.net.Owner(), unix.CAP_NET_ADMIN)
}

// make makes an interface, of which f is the first end.
// It is called exclusively.
func (f *file) make(name string, flags uint32, a *vfs.IoctlArgs) (*device, error) {
	if !a.Ctx.Cred.CapableIn(f.net.Owner(), unix.CAP_NET_ADMIN) {
		return nil, unix.EPERM
	}
	tap := flags&unix.IFF_TUN == 0
	switch {
	case tap && flags&unix.IFF_TAP == 0:
		return nil, unix.EINVAL
	case name == "" && tap:
		name = "tap%d"
	case name == "":
		name = "tun%d"
	}
	d := newDevice(f.net, name, int(f.index.Load()), tap)
	if err := d.attach(f, flags); err != nil {
		return nil, err
	}
	if err := f.net.Plug(&d.plug); err != nil {
		return nil, err
	}
	f.dev.Store(d)
	return d, nil
}

// setOwner is TUNSETOWNER and TUNSETGROUP: EINVAL for who has no number outside the caller's user namespace.
func (d *device) setOwner(a *vfs.IoctlArgs) error {
	u, group := a.Ctx.Cred.User, a.Cmd == unix.TUNSETGROUP
	id := u.RealUID(uint32(a.Arg))
	if group {
		id = u.RealGID(uint32(a.Arg))
	}
	if id == namespace.None {
		return unix.EINVAL
	}
	d.mu.Lock()
	if group {
		d.group = id
	} else {
		d.owner = id
	}
	d.mu.Unlock()
	d.told()
	return nil
}

// setQueue is TUNSETQUEUE: EINVAL.
func (f *file) setQueue(a *vfs.IoctlArgs) error {
	var r ifreq
	if _, err := a.Mem.CopyIn(r[:], a.Arg); err != nil {
		return err
	}
	what := r.flags() & (unix.IFF_ATTACH_QUEUE | unix.IFF_DETACH_QUEUE)
	if what != unix.IFF_ATTACH_QUEUE && what != unix.IFF_DETACH_QUEUE {
		return unix.EINVAL
	}
	err := error(unix.EINVAL)
	net.Exclusively(func() {
		if d := f.dev.Load(); d != nil {
			if err = d.rest(f, what == unix.IFF_DETACH_QUEUE); err == nil {
				d.net.Changed(&d.plug)
			}
		}
	})
	return err
}

// interfaceRequest serves the requests with struct ifreq about the interface.
func (f *file) interfaceRequest(d *device, a *vfs.IoctlArgs) error {
	var r ifreq
	if _, err := a.Mem.CopyIn(r[:], a.Arg); err != nil {
		return err
	}
	switch a.Cmd {
	case unix.SIOCSIFHWADDR:
		kind := uint16(unix.ARPHRD_NONE)
		if d.tap {
			kind = unix.ARPHRD_ETHER
		}
		if le.Uint16(r[nameSize:]) != kind {
			return unix.EINVAL
		}
		err := error(nil)
		net.Exclusively(func() {
			if err = f.net.SetAddress(&d.plug, r[nameSize+2:nameSize+8]); err == nil {
				f.net.Changed(&d.plug)
			}
		})
		return err
	case unix.SIOCGIFHWADDR:
		clear(r[nameSize:])
		le.PutUint16(r[nameSize:], unix.ARPHRD_NONE)
		if d.tap {
			mac := d.MAC()
			le.PutUint16(r[nameSize:], unix.ARPHRD_ETHER)
			copy(r[nameSize+2:], mac[:])
		}
	default:
		r.setName(f.net.NameOf(&d.plug))
		flags := d.allFlags() | unix.IFF_NOFILTER
		if d.isIdle(f) {
			flags |= unix.IFF_DETACH_QUEUE
		}
		r.setFlags(flags)
	}
	_, err := a.Mem.CopyOut(a.Arg, r[:])
	return err
}

// allFlags are those of the interface with its kind.
func (d *device) allFlags() uint32 {
	flags := d.flags.Load() | unix.IFF_TUN
	if d.tap {
		flags ^= unix.IFF_TUN | unix.IFF_TAP
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.persist {
		flags |= unix.IFF_PERSIST
	}
	return flags
}

// owners returns the user and the group that may have an end of the interface.
func (d *device) owners() (uid, gid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.owner, d.group
}

// shown are the files below /sys/class/net/NAME, which ip-tuntap(8) reads.
func (d *device) shown() []net.ProcFile {
	line := func(id uint32) string { return strconv.Itoa(int(int32(id))) + "\n" }
	return []net.ProcFile{
		{Path: "tun_flags", Show: func() string { return "0x" + strconv.FormatUint(uint64(d.allFlags()), 16) + "\n" }},
		{Path: "owner", Show: func() string { owner, _ := d.owners(); return line(owner) }},
		{Path: "group", Show: func() string { _, group := d.owners(); return line(group) }},
	}
}

// What rtnetlink tells of interfaces of the kind (IFLA_TUN_).
const (
	tunOwner = iota + 1
	tunGroup
	tunType
	tunInfo
	tunVNetHeader
	tunPersist
	tunMultiQueue
	tunQueues
	tunIdle
)

// info is IFLA_INFO_DATA.
func (d *device) info() (b []byte) {
	flags := d.allFlags()
	d.mu.Lock()
	owner, group, files, idle := d.owner, d.group, len(d.files), len(d.idle)
	d.mu.Unlock()
	if owner != namespace.None {
		b = netlink.Attr32(b, tunOwner, owner)
	}
	if group != namespace.None {
		b = netlink.Attr32(b, tunGroup, group)
	}
	b = netlink.Attr8(b, tunType, byte(flags&(unix.IFF_TUN|unix.IFF_TAP)))
	for _, f := range [...]struct {
		typ       int
		flag, set uint32
	}{{tunInfo, unix.IFF_NO_PI, 0}, {tunVNetHeader, unix.IFF_VNET_HDR, unix.IFF_VNET_HDR}, {tunPersist, unix.IFF_PERSIST, unix.IFF_PERSIST},
		{tunMultiQueue, unix.IFF_MULTI_QUEUE, unix.IFF_MULTI_QUEUE}} {
		v := byte(0)
		if flags&f.flag == f.set {
			v = 1
		}
		b = netlink.Attr8(b, f.typ, v)
	}
	if flags&unix.IFF_MULTI_QUEUE != 0 {
		b = netlink.Attr32(netlink.Attr32(b, tunQueues, uint32(files)), tunIdle, uint32(idle))
	}
	return b
}
