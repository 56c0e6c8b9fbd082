package net

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip"
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
