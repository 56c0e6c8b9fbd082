package tun

import (
	"bytes"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/cred"
	"gosv/kernel/net"
	"gosv/kernel/netdev"
	"gosv/kernel/share"
	"gosv/kernel/socket/netlink"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
)

// memory is a program's, from address 0 on.
type memory []byte

func (m memory) CopyIn(dst []byte, va uint64) (int, error) {
	if va > uint64(len(m)) || copy(dst, m[va:]) < len(dst) {
		return 0, unix.EFAULT
	}
	return len(dst), nil
}

func (m memory) CopyOut(va uint64, src []byte) (int, error) {
	if va > uint64(len(m)) || copy(m[va:], src) < len(src) {
		return 0, unix.EFAULT
	}
	return len(src), nil
}

func newNet(tb testing.TB) *net.Network {
	n := net.New(net.Config{Bare: true})
	tb.Cleanup(func() { n.End(func() {}) })
	return n
}

func open(tb testing.TB, n *net.Network) *file {
	tb.Helper()
	ops, err := Open(func(*vfs.Context) (*net.Network, func(), error) { return n, func() {}, nil })(nil, vfs.NewAnon("tun", nil, cred.Root(), unix.O_RDWR))
	if err != nil {
		tb.Fatal(err)
	}
	return ops.(*file)
}

func ioctl(f *file, cmd uint32, m memory, arg uint64) error {
	_, err := f.Ioctl(nil, &vfs.IoctlArgs{Cmd: cmd, Mem: m, Arg: arg, Ctx: &vfs.Context{Cred: cred.Root()}})
	return err
}

// set is TUNSETIFF.
func set(f *file, name string, flags uint32) (string, error) {
	var r ifreq
	r.setName(name)
	r.setFlags(flags)
	err := ioctl(f, unix.TUNSETIFF, r[:], 0)
	return r.name(), err
}

const (
	me   = "\x0a\x4d\x00\x01"
	peer = "\x0a\x4d\x00\x02"
)

// up gives the interface an address and brings it up.
func up(tb testing.TB, n *net.Network, f *file) {
	tb.Helper()
	index := f.dev.Load().plug.NIC()
	if err := n.Netlink().AddAddress(netlink.Address{Index: index, Addr: []byte(me), Bits: 24}); err != nil {
		tb.Fatal(err)
	}
	if err := n.Netlink().SetLink(index, netlink.LinkChange{Flags: unix.IFF_UP, Mask: unix.IFF_UP}); err != nil {
		tb.Fatal(err)
	}
}

func read(f *file, room int) ([]byte, error) {
	b := make([]byte, room)
	dst := uio.Buffer(b)
	n, err := f.Read(nil, &dst, 0)
	return b[:n], err
}

func write(f *file, b []byte) error {
	src := uio.Buffer(b)
	_, err := f.Write(nil, &src, 0)
	return err
}

// ping is an echo request from peer to me.
func ping(id byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize)
	h := header.IPv4(b)
	h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpip.AddrFromSlice([]byte(peer)), DstAddr: tcpip.AddrFromSlice([]byte(me))})
	h.SetChecksum(^h.CalculateChecksum())
	c := header.ICMPv4(b[header.IPv4MinimumSize:])
	c.SetType(header.ICMPv4Echo)
	c.SetIdent(uint16(id))
	c.SetChecksum(^checksum.Checksum(c, 0))
	return b
}

// answer waits for the reply to a ping, leaving out what else the stack sends.
func answer(tb testing.TB, f *file) []byte {
	tb.Helper()
	bell := wait.NewBell()
	e := wait.Entry{Waiter: bell, Events: readable}
	f.Register(nil, &e)
	defer f.Unregister(nil, &e)
	for end := time.After(20 * time.Second); ; {
		b, err := read(f, 2000)
		switch {
		case err == nil && len(b) == 28 && b[0] == 0x45 && b[20] == byte(header.ICMPv4EchoReply):
			return b
		case err == unix.EAGAIN:
			select {
			case <-bell:
			case <-end:
				tb.Fatal("no answer came")
			}
		case err != nil:
			tb.Fatal(err)
		}
	}
}

func TestPing(t *testing.T) {
	n := newNet(t)
	f := open(t, n)
	if _, err := read(f, 100); err != unix.EBADFD {
		t.Error(err)
	}
	if f.Poll(nil, readable) != unix.EPOLLERR {
		t.Error("not attached:", f.Poll(nil, readable))
	}
	name, err := set(f, "", unix.IFF_TUN|unix.IFF_NO_PI)
	if err != nil || name != "tun0" {
		t.Fatal(name, err)
	}
	if err := write(f, ping(1)); err != unix.EIO {
		t.Error("down:", err)
	}
	up(t, n, f)
	if f.Poll(nil, readable|writable)&writable == 0 {
		t.Error("cannot be written")
	}
	if err := write(f, ping(7)); err != nil {
		t.Fatal(err)
	}
	if b := answer(t, f); !bytes.Equal(b[12:20], []byte(me+peer)) || b[25] != 7 {
		t.Errorf("% x", b)
	}
	if f.FDInfo() != "iff:\ttun0\n" {
		t.Error(f.FDInfo())
	}
	f.Release(nil)
	for _, l := range n.Netlink().Links() {
		if l.Name == "tun0" {
			t.Error("the interface has outlived its file")
		}
	}
}

// What is told of interfaces that come, change and go.
func TestChanges(t *testing.T) {
	n := newNet(t)
	var got []string
	n.OnChange(func(c net.Change) {
		what := "is another"
		switch {
		case c.New:
			what = "is new"
		case c.Gone:
			what = "is gone"
		}
		if c.Link.Flags&unix.IFF_RUNNING == 0 {
			what += " and does not run"
		}
		got = append(got, c.Link.Name+" "+what)
	})
	f := open(t, n)
	if _, err := set(f, "a%d", unix.IFF_TAP); err != nil {
		t.Fatal(err)
	}
	up(t, n, f)
	off := make(memory, 4)
	for _, r := range []struct {
		cmd uint32
		arg uint64
	}{{unix.TUNSETPERSIST, 1}, {unix.TUNSETCARRIER, 0}} {
		if err := ioctl(f, r.cmd, off, r.arg); err != nil {
			t.Fatal(err)
		}
	}
	files := n.FilesOf("a0")
	text := ""
	for _, p := range files {
		if strings.HasSuffix(p.Path, "/tun_flags") || strings.HasSuffix(p.Path, "/operstate") {
			text += p.Path + " " + p.Show()
		}
	}
	if text != "class/net/a0/operstate down\nclass/net/a0/tun_flags 0x802\n" {
		t.Error(text)
	}
	f.Release(nil)
	f = open(t, n)
	if _, err := set(f, "a0", unix.IFF_TAP); err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().RemoveLink(f.dev.Load().plug.NIC()); err != nil {
		t.Fatal(err)
	}
	if _, err := read(f, 100); err != unix.EBADFD {
		t.Error("removed:", err)
	}
	f.Release(nil)
	want := "a0 is new and does not run, a0 is another, a0 is another, a0 is another and does not run, a0 is another and does not run, a0 is another, a0 is gone and does not run"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("%s,\nwant %s", s, want)
	}
	if err := n.Netlink().RemoveLink(net.Loopback); err != unix.EOPNOTSUPP {
		t.Error("lo:", err)
	}
}

// What nobody reads is lost when there is too much of it, and costs nothing when the file is closed.
func TestQueueIsBounded(t *testing.T) {
	before := share.Datagrams.Used()
	n := newNet(t)
	f := open(t, n)
	if _, err := set(f, "", unix.IFF_TUN|unix.IFF_NO_PI); err != nil {
		t.Fatal(err)
	}
	up(t, n, f)
	d := f.dev.Load()
	for range tunQueue + 100 {
		if err := d.Send([][]byte{make([]byte, etherHeader), ping(1)}, netdev.Offload{}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	waiting := len(f.waiting)
	f.mu.Unlock()
	if s := d.Stats(); s.TxDropped < 100 || waiting != tunQueue {
		t.Error(s.TxDropped, waiting)
	}
	f.Release(nil)
	if got := share.Datagrams.Used(); got != before {
		t.Errorf("%d bytes are still taken", got-before)
	}
}

// Files come and go, and interfaces are removed, while packets move.
func TestRaces(t *testing.T) {
	before := share.Datagrams.Used()
	n := newNet(t)
	n.Stack()
	var all sync.WaitGroup
	for i := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := range 200 {
				f := open(t, n)
				name, err := set(f, []string{"shared", "own%d"}[(i+j)%2], unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)
				if err != nil {
					t.Error(name, err)
				}
				if d := f.dev.Load(); d != nil {
					_ = n.Netlink().SetLink(d.plug.NIC(), netlink.LinkChange{Flags: unix.IFF_UP, Mask: unix.IFF_UP})
					_ = write(f, ping(byte(j)))
					_ = d.Send([][]byte{make([]byte, etherHeader), ping(1)}, netdev.Offload{})
					if j%16 == 0 {
						_ = n.Netlink().RemoveLink(d.plug.NIC())
					}
				}
				_, _ = read(f, 100)
				n.Netlink().Links()
				f.Release(nil)
			}
		}()
	}
	all.Wait()
	if got := share.Datagrams.Used(); got != before {
		t.Errorf("%d bytes are still taken", got-before)
	}
	for _, l := range n.Netlink().Links() {
		if l.Name != "lo" {
			t.Error(l.Name, "is left")
		}
	}
}

// FuzzWrite gives the network what programs write, with all kinds of headers.
func FuzzWrite(f *testing.F) {
	f.Add(uint32(unix.IFF_TUN|unix.IFF_NO_PI), ping(1))
	f.Add(uint32(unix.IFF_TUN), append([]byte{0, 0, 8, 0}, ping(1)...))
	f.Add(uint32(unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR), append([]byte{1, 1, 40, 0, 100, 0, 20, 0, 2, 0}, ping(1)...))
	f.Add(uint32(unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR), append([]byte{1, 5, 28, 0, 10, 0, 20, 0, 6, 0}, udp(60)...))
	f.Add(uint32(unix.IFF_TAP|unix.IFF_NO_PI), append(make([]byte, 12), append([]byte{8, 0}, ping(1)...)...))
	f.Add(uint32(unix.IFF_TAP|unix.IFF_VNET_HDR), append(make([]byte, 4+10+12), append([]byte{8, 0}, udp(9)...)...))
	n := newNet(f)
	ends := map[uint32]*file{}
	f.Fuzz(func(t *testing.T, flags uint32, b []byte) {
		flags &= unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TAP
		end := ends[flags]
		if end == nil {
			kind := uint32(unix.IFF_TUN)
			if flags&unix.IFF_TAP != 0 {
				kind = 0
			}
			end = open(t, n)
			if _, err := set(end, "", flags|kind); err != nil {
				t.Fatal(err)
			}
			up(t, n, end)
			ends[flags] = end
		}
		switch err := write(end, b); err {
		case nil, unix.EINVAL, unix.EMSGSIZE:
		default:
			t.Error(err)
		}
		for {
			if got, err := read(end, math.MaxUint16+100); err == unix.EAGAIN {
				break
			} else if err != nil || len(got) == 0 {
				t.Fatal(err)
			}
		}
	})
}

// udp is a datagram from peer to me with size bytes of data.
func udp(size int) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize+size)
	h := header.IPv4(b)
	h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFromSlice([]byte(peer)), DstAddr: tcpip.AddrFromSlice([]byte(me))})
	h.SetChecksum(^h.CalculateChecksum())
	header.UDP(b[header.IPv4MinimumSize:]).Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: uint16(header.UDPMinimumSize + size)})
	return b
}

func FuzzIoctl(f *testing.F) {
	for _, cmd := range []uint32{unix.TUNSETIFF, unix.TUNGETIFF, unix.TUNGETFEATURES, unix.TUNSETOFFLOAD, unix.TUNSETQUEUE, unix.TUNSETVNETHDRSZ,
		unix.TUNSETSNDBUF, unix.TUNSETCARRIER, unix.TUNSETIFINDEX, unix.SIOCSIFHWADDR, unix.SIOCGIFHWADDR, unix.TUNSETOWNER, unix.TUNSETPERSIST, unix.TUNSETVNETLE} {
		var r ifreq
		r.setName("tun%d")
		r.setFlags(unix.IFF_TUN)
		f.Add(cmd, uint64(0), r[:])
	}
	f.Fuzz(func(t *testing.T, cmd uint32, arg uint64, b []byte) {
		n := newNet(t)
		for _, attached := range []bool{false, true} {
			end := open(t, n)
			if attached {
				if _, err := set(end, "", unix.IFF_TAP|unix.IFF_MULTI_QUEUE); err != nil {
					t.Fatal(err)
				}
			}
			_ = ioctl(end, cmd, b, arg)
			_ = ioctl(end, unix.TUNSETPERSIST, nil, 0)
			end.Release(nil)
		}
		for _, l := range n.Netlink().Links() {
			if l.Name != "lo" {
				t.Error(l.Name, "is left")
			}
		}
	})
}
