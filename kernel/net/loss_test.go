package net

import (
	"bytes"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/netdev"
)

// bad makes what a wire sends get lost, arrive twice, or arrive late, all by chance. Frames that get late overtake each other.
func bad(w *wire, seed uint64, lost, twice, late float64) {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 1))
	chance := func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64() < p
	}
	deliver := func(f []byte) {
		select {
		case w.peer.receiver <- f:
		default:
		}
	}
	lose := func(f []byte) bool {
		if chance(lost) {
			return true
		}
		if chance(twice) {
			deliver(bytes.Clone(f))
		}
		if chance(late) {
			time.AfterFunc(3*time.Millisecond, func() { deliver(f) })
			return true
		}
		return false
	}
	w.lose.Store(&lose)
}

// A transfer is complete and in order on a network that loses, doubles and reorders frames, with windows of all sizes.
func TestLoss(t *testing.T) {
	if os.Getenv("GOSV_NETSTACK") != "kernel" {
		t.Skip("the netstack of the module loses its congestion window: `make test-host` runs this with that of the kernel (scripts/netstack)")
	}
	for _, test := range []struct {
		name              string
		lost, twice, late float64
		window, bytes     int
	}{
		{"lost", 0.03, 0, 0, 0, 1 << 20},
		{"twice", 0, 0.2, 0, 0, 2 << 20},
		{"reordered", 0, 0, 0.2, 0, 2 << 20},
		{"all", 0.02, 0.05, 0.1, 0, 1 << 20},
		{"tiny window", 0, 0, 0.02, 2304, 128 << 10},
		{"urgent", 0.02, 0.05, 0.1, 0, 256 << 10},
		{"large packets", 0.03, 0.05, 0.1, 0, 1 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			large := test.name == "large packets"
			a, b, wa, wb := twoHosts(t, func(wa, wb *wire) { wa.large, wb.large = large, large })
			l, at := serving(t, b, func(l *fd) {
				if test.window > 0 {
					l.must(l.SetOption(&l.caller, unix.SOL_SOCKET, unix.SO_RCVBUF, []byte{byte(test.window / 2), byte(test.window / 2 >> 8), 0, 0}))
				}
			})
			c, s := l.meet(a, at)
			flags, most := 0, 40000
			if test.name == "urgent" { // the last byte of each piece, which must not be missed in the stream
				flags, most = unix.MSG_OOB, 3000
				l.must(s.SetOption(&s.caller, unix.SOL_SOCKET, unix.SO_OOBINLINE, []byte{1, 0, 0, 0}))
			}
			if large {
				most = 200000
			}
			bad(wa, 7, test.lost, test.twice, test.late)
			bad(wb, 9, test.lost, test.twice, test.late)
			want := make([]byte, test.bytes)
			r := rand.NewChaCha8([32]byte{3})
			_, _ = r.Read(want) // never fails
			go func() {
				for rest := want; len(rest) > 0; {
					rest = rest[c.send(rest[:min(len(rest), most)], flags, nil):]
				}
				_ = c.Ops().Shutdown(unix.SHUT_WR) // the reader finds out
			}()
			var got []byte
			for {
				b := s.recv(30000)
				if len(b) == 0 {
					break
				}
				got = append(got, b...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came of %d, or others", len(got), len(want))
			}
		})
	}
}

// silent is a device that takes everything and says nothing.
type silent struct {
	wire
	in   netdev.Receiver
	sent atomic.Int32
}

func (s *silent) Start(r netdev.Receiver) error { s.in = r; return nil }
func (s *silent) Send(parts [][]byte, _ netdev.Offload) error {
	s.sent.Add(1)
	return nil
}

// Whatever comes in by the link, the stack survives it, and still answers.
func FuzzLink(f *testing.F) {
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	ip := func(protocol byte, payload []byte) []byte {
		b := make([]byte, 34, 34+len(payload))
		copy(b, mac[:])
		b[12], b[13] = 8, 0
		h := header.IPv4(b[14:])
		h.Encode(&header.IPv4Fields{TotalLength: uint16(20 + len(payload)), TTL: 64, Protocol: protocol,
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 9}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1})})
		h.SetChecksum(^h.CalculateChecksum())
		return append(b, payload...)
	}
	syn := make([]byte, 40)
	header.TCP(syn).Encode(&header.TCPFields{SrcPort: 5, DstPort: 80, SeqNum: 1, DataOffset: 40, Flags: header.TCPFlagSyn, WindowSize: 1000})
	f.Add(ip(6, syn), uint8(1))
	ack := make([]byte, 20)
	header.TCP(ack).Encode(&header.TCPFields{SrcPort: 5, DstPort: 80, SeqNum: 2, AckNum: 1, DataOffset: 20, Flags: header.TCPFlagAck | header.TCPFlagPsh, WindowSize: 1000})
	f.Add(ip(6, append(ack, 1, 2, 3)), uint8(1)) // what the short way looks at
	f.Add(ip(17, []byte{0, 5, 0, 90, 0, 12, 0, 0, 1, 2, 3, 4}), uint8(1))
	f.Add(ip(1, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}), uint8(0))
	f.Add(append(append([]byte{}, mac[:]...), 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1), uint8(0))
	v6 := append(append([]byte{}, mac[:]...), 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 255)
	v6 = append(v6, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	f.Add(append(v6, 134, 0, 0, 0, 64, 0xc0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0), uint8(1))
	cfg := Config{Memory: 128 << 20, DHCP: true, SLAAC: true}
	dev := &silent{wire: wire{mac: 1}}
	cfg.Open = func() (netdev.Device, error) { return dev, nil }
	if err := cfg.Parse([]string{"10.0.0.1/24", "fd00::1/64"}, nil); err != nil {
		f.Fatal(err)
	}
	if err := cfg.Firewall([]string{"tcp:80", "udp", "icmp"}, nil); err != nil {
		f.Fatal(err)
	}
	n := New(cfg)
	n.setup = newSetup(n)
	n.setup.learn = func(Learned) {}
	t := &testing.T{}
	n.Stack()
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		k := open(t, n, unix.AF_INET6, typ, 0)
		if err := k.Ops().Bind(&k.caller, formatAddr(unix.AF_INET6, tcpip.FullAddress{Port: 80})); err != nil {
			f.Fatal(err)
		}
		if typ == unix.SOCK_STREAM {
			if err := k.Ops().Listen(&k.caller, 10); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, flags uint8) {
		o := netdev.Offload{Checksum: flags&1 != 0, Valid: flags&2 != 0}
		at := min(len(b), int(flags>>2))
		dev.in([][]byte{b[:at], b[at:]}, o)
	})
}
