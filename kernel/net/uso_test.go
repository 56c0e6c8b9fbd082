package net

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/netdev"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
)

func ramp(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// datagram4 is a frame with a datagram from 10.0.0.2 to port 90 of 10.0.0.1, with options of IP.
func datagram4(options, data []byte) []byte {
	head := 20 + len(options)
	b := make([]byte, 14+head+8, 14+head+8+len(data))
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x00\x00\x00\x02", DstAddr: "\x02\x00\x00\x00\x00\x01", Type: header.IPv4ProtocolNumber})
	h := header.IPv4(b[14:])
	h.Encode(&header.IPv4Fields{TotalLength: uint16(head + 8 + len(data)), ID: 0xfffe, TTL: 64, Protocol: 17,
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1})})
	h.SetHeaderLength(uint8(head))
	copy(b[34:], options)
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	header.UDP(b[14+head:]).Encode(&header.UDPFields{SrcPort: 5, DstPort: 90, Length: uint16(8 + len(data))})
	return append(b, data...)
}

// datagram6 is the same between fd00::2 and fd00::1.
func datagram6(data []byte) []byte {
	b := make([]byte, 14+40+8, 14+40+8+len(data))
	header.Ethernet(b).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x00\x00\x00\x02", DstAddr: "\x02\x00\x00\x00\x00\x01", Type: header.IPv6ProtocolNumber})
	header.IPv6(b[14:]).Encode(&header.IPv6Fields{PayloadLength: uint16(8 + len(data)), TransportProtocol: header.UDPProtocolNumber, HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16([16]byte{0: 0xfd, 15: 2}), DstAddr: tcpip.AddrFrom16([16]byte{0: 0xfd, 15: 1})})
	header.UDP(b[54:]).Encode(&header.UDPFields{SrcPort: 5, DstPort: 90, Length: uint16(8 + len(data))})
	return append(b, data...)
}

// cutFrame cuts a frame that comes in two parts and one that is empty.
func cutFrame(b []byte, at, size int) (frames [][]byte, offloads []netdev.Offload) {
	at = min(at, len(b))
	p, ok := parseLargeUDP([][]byte{b[:at], nil, b[at:]})
	if ok {
		p.cut(size, func(parts [][]byte, o netdev.Offload) {
			frames, offloads = append(frames, bytes.Join(parts, nil)), append(offloads, o)
		})
	}
	return frames, offloads
}

// checkCut says what is wrong with the datagrams that a frame was cut into, each of which is to have what it needs and the data in turn.
func checkCut(frame []byte, size int, frames [][]byte, offloads []netdev.Offload) error {
	var data []byte
	start := 0
	for i, f := range frames {
		o := offloads[i]
		start = int(o.Start)
		u := header.UDP(f[start:])
		var src, dst tcpip.Address
		if header.Ethernet(f).Type() == header.IPv4ProtocolNumber {
			h, whole := header.IPv4(f[14:]), header.IPv4(frame[14:])
			if !h.IsChecksumValid() || int(h.TotalLength()) != len(f)-14 || h.ID() != whole.ID()+uint16(i) || start != 14+int(h.HeaderLength()) {
				return fmt.Errorf("%d: IPv4 %x", i, f[14:start])
			}
			src, dst = h.SourceAddress(), h.DestinationAddress()
		} else {
			h := header.IPv6(f[14:])
			if int(h.PayloadLength()) != len(f)-54 || start != 54 {
				return fmt.Errorf("%d: IPv6 %x", i, f[14:start])
			}
			src, dst = h.SourceAddress(), h.DestinationAddress()
		}
		if int(u.Length()) != len(u) || !o.Checksum || o.Offset != 6 || o.Segment != netdev.Whole ||
			u.Checksum() != header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, u.Length()) {
			return fmt.Errorf("%d: UDP %x, %+v", i, u[:8], o)
		}
		if !bytes.Equal(f[:12], frame[:12]) || u.SourcePort() != header.UDP(frame[start:]).SourcePort() || len(u) > 8+size || len(u) < 8+size && i < len(frames)-1 {
			return fmt.Errorf("%d: %d bytes, %x", i, len(u), f[:start+8])
		}
		data = append(data, u[8:]...)
	}
	if len(frames) > 0 && !bytes.Equal(data, frame[start+8:][:int(header.UDP(frame[start:]).Length())-8]) {
		return fmt.Errorf("other data, %d bytes", len(data))
	}
	return nil
}

func TestUSOCut(t *testing.T) {
	data := ramp(5300)
	for name, b := range map[string][]byte{
		"IPv4":          datagram4(nil, data),
		"options":       datagram4([]byte{1, 1, 1, 0}, data),
		"most options":  datagram4(make([]byte, 40), data),
		"IPv6":          datagram6(data),
		"IPv4, padding": append(datagram4(nil, data), make([]byte, 9)...),
		"IPv6, padding": append(datagram6(data), make([]byte, 9)...),
	} {
		for _, at := range []int{0, 3, 14, 42, 62, 82, 1000, len(b)} {
			for size, want := range map[int]int{1000: 6, 2650: 2, 5300: 1, 65535: 1, 42: 127, 41: 0, 0: 0} {
				frames, offloads := cutFrame(b, at, size)
				if len(frames) != want {
					t.Errorf("%s, of %d: %d datagrams, not %d", name, size, len(frames), want)
				}
				if err := checkCut(b, size, frames, offloads); err != nil {
					t.Errorf("%s, %d at a time, parts at %d: %v", name, size, at, err)
				}
			}
		}
	}
}

// A packet that lies is dropped.
func TestUSOLies(t *testing.T) {
	for _, test := range []struct {
		name string
		lie  func(four, six []byte) []byte
	}{
		{"TCP", func(four, _ []byte) []byte { four[23] = 6; return sum4(four) }},
		{"sum of IP", func(four, _ []byte) []byte { four[24]++; return four }},
		{"more fragments", func(four, _ []byte) []byte { four[20] |= 0x20; return sum4(four) }},
		{"last fragment", func(four, _ []byte) []byte { four[21] = 9; return sum4(four) }},
		{"short header of IP", func(four, _ []byte) []byte { four[14] = 0x44; return sum4(four) }},
		{"header of IP beyond the packet", func(four, _ []byte) []byte { four[14] = 0x4f; return four[:60] }},
		{"IPv6 as IPv4", func(four, _ []byte) []byte { four[14] = 0x65; return sum4(four) }},
		{"IP longer than the frame", func(four, _ []byte) []byte { return four[:len(four)-1] }},
		{"IP without UDP", func(four, _ []byte) []byte { binary.BigEndian.PutUint16(four[16:], 27); return sum4(four) }},
		{"IP shorter than its header", func(four, _ []byte) []byte { binary.BigEndian.PutUint16(four[16:], 19); return sum4(four) }},
		{"no data", func(_, _ []byte) []byte { return datagram4(nil, nil) }},
		{"UDP longer than IP", func(four, _ []byte) []byte { four[39]++; return four }},
		{"UDP of nothing", func(four, _ []byte) []byte { four[38], four[39] = 0, 0; return four }},
		{"VLAN", func(four, _ []byte) []byte { four[12], four[13] = 0x81, 0; return four }},
		{"fragment of IPv6", func(_, six []byte) []byte { six[20] = 44; return six }},
		{"IPv6 longer than the frame", func(_, six []byte) []byte { return six[:len(six)-1] }},
		{"IPv6 without UDP", func(_, six []byte) []byte { six[18], six[19] = 0, 7; return six }},
		{"UDP shorter than IPv6", func(_, six []byte) []byte { six[59]--; return six }},
		{"half a header of IPv6", func(_, six []byte) []byte { return six[:40] }},
		{"half a header of Ethernet", func(_, six []byte) []byte { return six[:13] }},
		{"nothing", func(_, _ []byte) []byte { return nil }},
	} {
		if frames, _ := cutFrame(test.lie(datagram4(nil, ramp(3001)), datagram6(ramp(3001))), 50, 1000); len(frames) != 0 {
			t.Errorf("%s: %d datagrams", test.name, len(frames))
		}
	}
}

// sum4 makes the sum of an IPv4 header right, as long as it says that it is, and as one without options if that is too short.
func sum4(b []byte) []byte {
	h := header.IPv4(b[14:])
	h.SetChecksum(0)
	n := max(int(h.HeaderLength()), 20)
	h.SetChecksum(^checksum.Checksum(h[:n], 0))
	return b
}

func FuzzUSO(f *testing.F) {
	f.Add(datagram4(nil, ramp(50)), uint16(20), uint8(14))
	f.Add(datagram4([]byte{7, 4, 4, 0}, ramp(50)), uint16(1), uint8(50))
	f.Add(datagram6(ramp(50)), uint16(49), uint8(0))
	f.Add(append(datagram6(ramp(9)), 0, 0), uint16(9), uint8(62))
	f.Add(datagram4(nil, nil), uint16(0), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, size uint16, at uint8) {
		before := bytes.Clone(b)
		frames, offloads := cutFrame(b, int(at), int(size))
		if !bytes.Equal(b, before) {
			t.Error("it changed what the device has")
		}
		if len(frames) > maxSegmentsUDP {
			t.Errorf("%d datagrams", len(frames))
		}
		if err := checkCut(b, int(size), frames, offloads); err != nil {
			t.Error(err)
		}
	})
}

// needsKernelNetstack skips a test of what scripts/netstack adds.
func needsKernelNetstack(t *testing.T) {
	t.Helper()
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module knows no large packets of UDP: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
}

// What a program sends with UDP_SEGMENT goes to a link that can cut it as one packet, and what such a link brings comes as datagrams.
func TestUSO(t *testing.T) {
	needsKernelNetstack(t)
	type sent struct {
		frame []byte
		o     netdev.Offload
	}
	large := make(chan sent, 100)
	a, b, _, wb := twoHosts(t, func(wa, wb *wire) {
		wa.large, wb.large = true, true
		wa.udp = func(f []byte, o netdev.Offload) { large <- sent{f, o} }
	})
	usable(t, a, inet6(1, 0))
	usable(t, b, inet6(2, 0))
	for _, test := range []struct {
		name   string
		family int
		at     []byte
		head   int // Ethernet and IP
	}{
		{"IPv4", unix.AF_INET, inet4(10, 0, 0, 2, 90), 34},
		{"IPv6", unix.AF_INET6, inet6(2, 90), 54},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, out := open(t, b, test.family, unix.SOCK_DGRAM, 0), open(t, a, test.family, unix.SOCK_DGRAM, 0)
			in.must(in.Ops().Bind(&in.caller, test.at))
			out.must(out.SetOption(&out.caller, unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.LittleEndian.AppendUint32(nil, 1000)))
			for _, n := range []int{5300, 2000, 1001, 64000} {
				data := ramp(n)
				if got := out.send(data, 0, test.at); got != n {
					t.Fatalf("%d of %d bytes were sent", got, n)
				}
				var s sent
				select {
				case s = <-large:
				case <-time.After(20 * time.Second):
					t.Fatal("no large packet was sent")
				}
				want := netdev.Offload{Checksum: true, Start: uint16(test.head), Offset: 6, Segment: netdev.UDP, Size: 1000, Header: uint16(test.head + 8)}
				u := header.UDP(s.frame[test.head:])
				if s.o != want || u.DestinationPort() != 90 || int(u.Length()) != n+8 || !bytes.Equal(u[8:], data) {
					t.Fatalf("%+v, %d bytes: %x", s.o, len(s.frame), s.frame[:test.head+8])
				}
				var src, dst tcpip.Address
				if test.family == unix.AF_INET {
					h := header.IPv4(s.frame[14:])
					if !h.IsValid(n+28) || int(h.TotalLength()) != n+28 || !h.IsChecksumValid() {
						t.Errorf("IPv4 %x", h[:20])
					}
					src, dst = h.SourceAddress(), h.DestinationAddress()
				} else {
					h := header.IPv6(s.frame[14:])
					if !h.IsValid(n+48) || int(h.PayloadLength()) != n+8 {
						t.Errorf("IPv6 %x", h[:40])
					}
					src, dst = h.SourceAddress(), h.DestinationAddress()
				}
				if u.Checksum() != header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, u.Length()) {
					t.Errorf("the sum is %x", u.Checksum())
				}
				// One that nobody vouches for is dropped, and the next one comes.
				wb.in([][]byte{s.frame}, netdev.Offload{Segment: netdev.UDP, Size: 999})
				wb.in([][]byte{s.frame[:20], s.frame[20:]}, s.o)
				for rest := data; len(rest) > 0; {
					got := in.recv(65536)
					if len(got) != min(1000, len(rest)) || !bytes.Equal(got, rest[:len(got)]) {
						t.Fatalf("%d bytes came where %d were left, or others", len(got), len(rest))
					}
					rest = rest[len(got):]
				}
			}
		})
	}
}

// A send says how many segments were sent when the device has no room for one of them, to who asked for errors; without IP_RECVERR it is silent, as on Linux.
func TestSegmentsWithoutRoom(t *testing.T) {
	a, b, wa, _ := twoHosts(t)
	at := inet4(10, 0, 0, 2, 90)
	in, out := open(t, b, unix.AF_INET, unix.SOCK_DGRAM, 0), open(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	in.must(in.Ops().Bind(&in.caller, at))
	out.must(out.SetOption(&out.caller, unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.LittleEndian.AppendUint32(nil, 1000)))
	out.must(out.SetOption(&out.caller, unix.SOL_IP, unix.IP_RECVERR, binary.LittleEndian.AppendUint32(nil, 1)))
	out.send([]byte{1}, 0, at)
	in.recv(1) // now the neighbour is known
	var frames atomic.Int32
	third := func(f []byte) bool {
		if len(f) > 1000 && frames.Add(1) == 3 {
			wa.full.Store(true)
		}
		return false
	}
	wa.lose.Store(&third)
	data := uio.Buffer(ramp(10500))
	m := &socket.Message{Caller: out.caller, Addr: at}
	if n, err := out.Ops().Send(m, &data); n != 3000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := out.Ops().Send(m, &data); n != 0 || err != unix.ENOBUFS {
		t.Errorf("without any room: %d bytes, %v", n, err)
	}
}

// Where the link cuts nothing, datagrams are sent one by one; within the machine always.
func TestUSOSoftware(t *testing.T) {
	unexpected := func([]byte, netdev.Offload) { t.Error("a large packet was sent") }
	a, b, _, _ := twoHosts(t, func(wa, _ *wire) { wa.large, wa.udp = true, unexpected })
	for _, test := range []struct {
		name     string
		from, to *Network
		at       []byte
	}{
		{"lo of a machine whose link can", a, a, inet4(127, 0, 0, 1, 91)},
		{"own address", a, a, inet4(10, 0, 0, 1, 92)},
		{"a link that cannot", b, a, inet4(10, 0, 0, 1, 93)},
	} {
		in, out := open(t, test.to, unix.AF_INET, unix.SOCK_DGRAM, 0), open(t, test.from, unix.AF_INET, unix.SOCK_DGRAM, 0)
		in.must(in.Ops().Bind(&in.caller, test.at))
		out.must(out.SetOption(&out.caller, unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.LittleEndian.AppendUint32(nil, 1000)))
		out.send([]byte{1}, 0, test.at)
		in.recv(1) // now the neighbour is known: what waits for that is overtaken
		data := ramp(2500)
		if got := out.send(data, 0, test.at); got != len(data) {
			t.Fatalf("%s: %d bytes were sent", test.name, got)
		}
		for rest := data; len(rest) > 0; {
			got := in.recv(65536)
			if len(got) != min(1000, len(rest)) || !bytes.Equal(got, rest[:len(got)]) {
				t.Fatalf("%s: %d bytes came where %d were left, or others", test.name, len(got), len(rest))
			}
			rest = rest[len(got):]
		}
	}
}
