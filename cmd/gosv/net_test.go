package main

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"gosv/vmm"
)

func TestForwards(t *testing.T) {
	for s, want := range map[string]vmm.Forward{
		"8080:80": {Port: 8080, Guest: 80}, "127.0.0.1:5353:53/udp": {UDP: true, Host: netip.MustParseAddr("127.0.0.1"), Port: 5353, Guest: 53}, "1:2/tcp": {Port: 1, Guest: 2},
		"80": {Guest: 80}, "53/udp": {UDP: true, Guest: 53}, "127.0.0.1::80": {Host: netip.MustParseAddr("127.0.0.1"), Guest: 80}, "80/": {}, ":": {}, "a:80": {}, "80:b": {}, "0:80": {}, "80:70000": {}, "80:80/sctp": {}, "1.2.3:80:80": {}, "[::1]:80:80": {}, "": {}, ":80": {},
	} {
		got, err := parseForward(s)
		if (err != nil) != (want == vmm.Forward{}) || err == nil && got.Forward != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func TestNetworkOptions(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port) + ":80"
	for _, test := range []struct {
		o    netOptions
		want string // in the error
	}{
		{netOptions{kind: "user"}, ""}, {netOptions{kind: "none"}, ""},
		{netOptions{kind: "user", publish: []string{taken}}, "in use"},
		{netOptions{kind: "none", publish: []string{"1:1"}}, "--net user only"},
		{netOptions{kind: "wifi", ip: []string{"1.2.3.4/8"}}, "bridge:NAME"}, {netOptions{kind: "tap:tap0"}, "which address"}, {netOptions{kind: "tap"}, "tap:IFNAME"}, {netOptions{kind: "tap:", ip: []string{"1.2.3.4/8"}}, "tap:IFNAME"},
		{netOptions{kind: "tap:interface-name-too-long", ip: []string{"1.2.3.4/8"}}, "15 characters"},
		{netOptions{kind: "user", ip: []string{"10.0.0.1"}}, "ADDRESS/BITS"}, {netOptions{kind: "user", ip: []string{"dhcp"}}, ""},
		{netOptions{kind: "user", dns: []string{"example.org"}}, "no IP address"},
		{netOptions{kind: "segment:a/b", ip: []string{"10.0.0.1/8"}}, "no slash"},
	} {
		n, err := test.o.open(1)
		if err == nil {
			n.close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.o, err)
		}
	}
}

// Frames go from one member of a segment to the other, and to it alone once its address is known.
func TestSegment(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	var ends [3]net.PacketConn
	for i := range ends {
		n, err := (&netOptions{kind: "segment:test", ip: []string{"10.0.0.1/24"}}).open(1)
		if err != nil {
			t.Fatal(err)
		}
		defer n.close()
		if ends[i], err = net.FilePacketConn(n.device.File); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
	}
	frame := func(to, from byte) []byte {
		return append([]byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0}, "text"...)
	}
	send := func(i int, b []byte) {
		if _, err := ends[i].(net.Conn).Write(b); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(i int) string {
		b := make([]byte, 2000)
		n, _, err := ends[i].ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	send(0, frame(9, 1)) // nobody has 9: all get it
	if a, b := receive(1), receive(2); a != string(frame(9, 1)) || b != a {
		t.Errorf("%q, %q", a, b)
	}
	send(1, frame(1, 2))
	if got := receive(0); got != string(frame(1, 2)) {
		t.Errorf("%q", got)
	}
	send(2, frame(1, 3))
	send(2, frame(2, 3)) // the next that member 1 gets
	if got := receive(1); got != string(frame(2, 3)) {
		t.Errorf("member 1 got %q, which was for member 0", got)
	}
}
