package net

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gosv/kernel/netdev"
	"gosv/kernel/socket"
	"gosv/kernel/uio"
)

func TestRules(t *testing.T) {
	for s, ok := range map[string]bool{
		"tcp": true, "tcp:80": true, "tcp:80-90": true, "udp:10.0.0.0/8": true, "udp:10.0.0.0/8:53": true, "any:1.2.3.4:1-65535": true, "icmp": true,
		"tcp:[::1]:80": true, "tcp:[fe80::]/10:80": true, ":80": true, "tcp:[::1]": true,
		"": false, "sctp": false, "tcp:90-80": false, "tcp:x": false, "tcp:1.2.3.4/33": false, "tcp:1.2.3:80": false, "tcp:[::1:80": false, "tcp:70000": false,
	} {
		if _, err := parseRule(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// What the rules name passes, with its answers, and nothing else.
func TestFirewall(t *testing.T) {
	wa, wb := cable(t)
	var said record
	cfg := Config{Memory: 128 << 20, Open: func() (netdev.Device, error) { return wa, nil }, Log: said.add}
	if err := cfg.Parse([]string{"10.0.0.1/24"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Firewall([]string{"tcp:10.0.0.2:80", "udp:53"}, []string{"tcp:10.0.0.0/24:81", "udp:54"}); err != nil {
		t.Fatal(err)
	}
	a := New(cfg)
	open4 := Config{Memory: 128 << 20, Open: func() (netdev.Device, error) { return wb, nil }}
	if err := open4.Parse([]string{"10.0.0.2/24"}, nil); err != nil {
		t.Fatal(err)
	}
	b := New(open4)
	a.Stack()
	listen := func(n *Network, at []byte) *fd {
		l := open(t, n, unix.AF_INET, unix.SOCK_STREAM, 0)
		l.must(l.Ops().Bind(&l.caller, at))
		l.must(l.Ops().Listen(&l.caller, 5))
		return l
	}
	// reaches waits for long if it should.
	reaches := func(from *Network, at []byte, most time.Duration) bool {
		c := open(t, from, unix.AF_INET, unix.SOCK_STREAM, 0)
		defer c.close() // it does not go on trying
		c.caller.Nonblock = true
		if err := c.Ops().Connect(&c.caller, at); err != unix.EINPROGRESS {
			t.Fatal(err)
		}
		for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if p := c.Ops().Poll(); p&unix.POLLOUT != 0 {
				return p&unix.POLLERR == 0
			}
		}
		return false
	}
	const long, short = 20 * time.Second, 500 * time.Millisecond
	listen(a, inet4(10, 0, 0, 1, 80))
	listen(a, inet4(10, 0, 0, 1, 82))
	listen(b, inet4(10, 0, 0, 2, 81))
	listen(b, inet4(10, 0, 0, 2, 83))
	for _, test := range []struct {
		name string
		got  bool
		want bool
	}{
		{"in, allowed", reaches(b, inet4(10, 0, 0, 1, 80), long), true}, {"in, refused", reaches(b, inet4(10, 0, 0, 1, 82), short), false},
		{"out, allowed", reaches(a, inet4(10, 0, 0, 2, 81), long), true}, {"out, refused", reaches(a, inet4(10, 0, 0, 2, 83), short), false},
		{"within the machine", reaches(a, inet4(10, 0, 0, 1, 82), long), true},
	} {
		if test.got != test.want {
			t.Errorf("%s: reached: %v", test.name, test.got)
		}
	}
	// UDP: a question that is allowed out is answered from a port that is not allowed in.
	s := open(t, b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	s.must(s.Ops().Bind(&s.caller, inet4(10, 0, 0, 2, 54)))
	c := open(t, a, unix.AF_INET, unix.SOCK_DGRAM, 0)
	c.must(c.Ops().Bind(&c.caller, inet4(10, 0, 0, 1, 1000)))
	c.send([]byte("question"), 0, inet4(10, 0, 0, 2, 54))
	s.recv(100)
	s.send([]byte("answer"), 0, inet4(10, 0, 0, 1, 1000))
	if b := c.recv(100); string(b) != "answer" {
		t.Errorf("%q", b)
	}
	// A large datagram is no way around.
	refused := func() (in, out int) {
		t.Helper()
		if _, err := fmt.Sscanf(a.eth.wall.show(), "in %d\nout %d\n", &in, &out); err != nil {
			t.Fatal(err)
		}
		return in, out
	}
	_, before := refused()
	big := uio.Buffer(make([]byte, 1400))
	if _, err := c.Ops().Send(&socket.Message{Caller: c.caller, Addr: inet4(10, 0, 0, 2, 56)}, &big); err != nil {
		t.Error(err)
	}
	if _, out := refused(); out != before+1 {
		t.Errorf("%d packets were not let out with a large datagram, %d before", out, before)
	}
	// Unasked, the same does not get in.
	o := open(t, b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	o.must(o.Ops().Bind(&o.caller, inet4(10, 0, 0, 2, 55)))
	o.send([]byte("intruder"), 0, inet4(10, 0, 0, 1, 1000))
	time.Sleep(50 * time.Millisecond)
	dst := uio.Buffer(make([]byte, 10))
	if _, err := c.Ops().Receive(&socket.Message{Caller: c.caller}, &dst); err != unix.EAGAIN {
		t.Errorf("an unasked datagram came in: %v", err)
	}
	if in, out := refused(); in == 0 || out == 0 || !strings.Contains(said.String(), "firewall: refused protocol 6 from 10.0.0.2") {
		t.Errorf("in %d, out %d, said %q", in, out, said.String())
	}
}

// FuzzFrames gives any bytes to the link as frames, in pieces, with and without a firewall.
func FuzzFrames(f *testing.F) {
	eth := func(proto byte, rest ...byte) []byte {
		return append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, proto}, rest...)
	}
	f.Add(eth(0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 9, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0), byte(14))
	f.Add(eth(6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1), byte(1))
	f.Add([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255, 0xfe, 0x80, 0, 0}, byte(3))
	wire := &wire{mac: 1, receiver: make(chan []byte), done: make(chan struct{})}
	wire.peer = wire
	make := func(rules ...string) *Network {
		cfg := Config{Memory: 64 << 20, SLAAC: true, Open: func() (netdev.Device, error) { return wire, nil }}
		if err := cfg.Parse([]string{"10.0.0.1/24"}, nil); err != nil {
			f.Fatal(err)
		}
		if err := cfg.Firewall(rules, rules); err != nil {
			f.Fatal(err)
		}
		n := New(cfg)
		n.Stack()
		return n
	}
	all := func([]byte) bool { return true }
	wire.lose.Store(&all)
	nets := []*Network{make(), make("tcp:80", "udp")}
	f.Fuzz(func(t *testing.T, b []byte, cut byte) {
		if len(b) < header.EthernetMinimumSize {
			return
		}
		at := min(int(cut), len(b))
		for _, n := range nets {
			n.eth.receive([][]byte{b[:at], b[at:]}, netdev.Offload{Checksum: cut&1 != 0})
		}
	})
}
