package net

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Data for a program that is gone ends the connection on the goroutine that receives, which goes on to serve others.
func TestQuickReset(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module has no short way: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	a, b, _, _ := twoHosts(t)
	l, at := serving(t, b)
	for range 20 {
		c, s := l.meet(a, at)
		c.send([]byte("question"), 0, nil)
		if got := string(s.recv(100)); got != "question" {
			t.Fatalf("%q", got)
		}
		s.close()
		if got := c.recv(100); len(got) != 0 {
			t.Fatalf("%q after the end", got)
		}
		c.send([]byte("another"), 0, nil)
		_ = c.until(unix.POLLERR|unix.POLLHUP, func() error { // until the reset is there
			if c.Ops().Poll()&(unix.POLLERR|unix.POLLHUP) == 0 {
				return unix.EAGAIN
			}
			return nil
		})
	}
}

// Requests and answers come whole over IPv4 and IPv6, with sums that the device makes and believes or that are made and checked, on a good network
// and on a bad one, where what is expected is not always what comes.
func TestQuickRequests(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module checks sums that are open: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	for _, test := range []struct {
		name   string
		family int
		large  bool
		rounds int
		bad    bool
	}{
		{"IPv4", unix.AF_INET, true, 200, false},
		{"IPv4, sums", unix.AF_INET, false, 200, false},
		{"IPv4, bad", unix.AF_INET, true, 40, true},
		{"IPv6", unix.AF_INET6, true, 200, false},
		{"IPv6, sums", unix.AF_INET6, false, 200, false},
		{"IPv6, bad", unix.AF_INET6, true, 40, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b, wa, wb := twoHosts(t, func(wa, wb *wire) { wa.large, wb.large = test.large, test.large })
			at := formatAddr(unix.AF_INET, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}), Port: 80})
			if test.family == unix.AF_INET6 {
				at = inet6(2, 80)
				usable(t, a, inet6(1, 0))
				usable(t, b, inet6(2, 0))
			}
			l := open(t, b, test.family, unix.SOCK_STREAM, 0)
			l.must(l.Ops().Bind(&l.caller, at))
			l.must(l.Ops().Listen(&l.caller, 5))
			c := open(t, a, test.family, unix.SOCK_STREAM, 0)
			l.must(c.until(unix.POLLOUT, func() error { return c.Ops().Connect(&c.caller, at) }))
			s := l.accept()
			if test.bad {
				bad(wa, 5, 0.02, 0.1, 0.1)
				bad(wb, 6, 0.02, 0.1, 0.1)
			}
			r := rand.New(rand.NewPCG(1, 2))
			tell := func(from, to *fd, n int) {
				want := make([]byte, n)
				for i := range want {
					want[i] = byte(r.Uint32())
				}
				for rest := want; len(rest) > 0; {
					rest = rest[from.send(rest, 0, nil):]
				}
				for rest := want; len(rest) > 0; {
					got := to.recv(len(rest))
					if len(got) == 0 || !bytes.Equal(got, rest[:len(got)]) {
						t.Fatalf("%d bytes came where %d were left, or others", len(got), len(rest))
					}
					rest = rest[len(got):]
				}
			}
			for i := range test.rounds {
				tell(c, s, 1+r.IntN(1100))
				if i%7 == 0 { // not in turn
					tell(c, s, 1+r.IntN(100))
				}
				most := 1100
				if i%5 == 0 {
					most = 9000
				}
				tell(s, c, 1+r.IntN(most))
			}
		})
	}
}

// inet6 is an address of twoHosts.
func inet6(host byte, port uint16) []byte {
	return formatAddr(unix.AF_INET6, tcpip.FullAddress{Addr: tcpip.AddrFrom16([16]byte{0: 0xfd, 15: host}), Port: port})
}

// usable waits until nobody else was found to have a new address (RFC 4862 section 5.4).
func usable(t *testing.T, n *Network, at []byte) {
	for {
		f := open(t, n, unix.AF_INET6, unix.SOCK_DGRAM, 0)
		err := f.Ops().Bind(&f.caller, at)
		if err != unix.EADDRNOTAVAIL {
			f.must(err)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// What says that it is from this host, or for it, and comes by a wire, does not reach connections within the machine.
func TestQuickMartians(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module has no short way: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	a, b, _, _ := twoHosts(t)
	// reaches sends a segment to the peer's end of c and says whether the short way took it.
	reaches := func(n *Network, c *fd) bool {
		local, _ := c.Ops().Name(false)
		remote, _ := c.Ops().Name(true)
		p := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize)
		h := header.IPv4(p[header.EthernetMinimumSize:])
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(h)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: tcpip.AddrFromSlice(local[4:8]), DstAddr: tcpip.AddrFromSlice(remote[4:8])})
		h.SetChecksum(^h.CalculateChecksum())
		header.TCP(h[header.IPv4MinimumSize:]).Encode(&header.TCPFields{SrcPort: binary.BigEndian.Uint16(local[2:]), DstPort: binary.BigEndian.Uint16(remote[2:]),
			DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
		defer pkt.DecRef()
		pkt.LinkHeader().Consume(header.EthernetMinimumSize)
		pkt.PktType, pkt.RXChecksumValidated = tcpip.PacketHost, true
		return (*n.eth.dispatcher.Load()).(quickReceiver).DeliverQuick(header.IPv4ProtocolNumber, pkt)
	}
	l, at := serving(t, b)
	c, _ := l.meet(a, at)
	if !reaches(b, c) {
		t.Error("a segment of a connection does not take the short way")
	}
	// A packet socket has connections within the machine go through the stack.
	open(t, b, unix.AF_PACKET, unix.SOCK_RAW, int(swap16(unix.ETH_P_ALL)))
	here := inet4(127, 0, 0, 1, 81)
	m := open(t, b, unix.AF_INET, unix.SOCK_STREAM, 0)
	m.must(m.Ops().Bind(&m.caller, here))
	m.must(m.Ops().Listen(&m.caller, 5))
	in, _ := m.meet(b, here)
	if reaches(b, in) {
		t.Error("a segment of 127.0.0.1 came by a wire")
	}
}
