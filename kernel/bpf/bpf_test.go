package bpf

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"golang.org/x/sys/unix"
)

func code(list ...Insn) (b []byte) {
	for _, in := range list {
		b = binary.LittleEndian.AppendUint16(b, in.Code)
		b = append(b, in.JT, in.JF)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	return b
}

var arp = []Insn{{0x28, 0, 0, 12}, {0x15, 0, 1, 0x806}, {0x6, 0, 0, 262144}, {0x6, 0, 0, 0}} // tcpdump -dd arp

// What tcpdump makes of "udp and port 53".
var dns = []Insn{{0x28, 0, 0, 12}, {0x15, 0, 6, 0x86dd}, {0x30, 0, 0, 20}, {0x15, 0, 15, 0x11}, {0x28, 0, 0, 54}, {0x15, 12, 0, 0x35}, {0x28, 0, 0, 56}, {0x15, 10, 11, 0x35},
	{0x15, 0, 10, 0x800}, {0x30, 0, 0, 23}, {0x15, 0, 8, 0x11}, {0x28, 0, 0, 20}, {0x45, 6, 0, 0x1fff}, {0xb1, 0, 0, 14}, {0x48, 0, 0, 14}, {0x15, 2, 0, 0x35},
	{0x48, 0, 0, 16}, {0x15, 0, 1, 0x35}, {0x6, 0, 0, 262144}, {0x6, 0, 0, 0}}

func TestFilters(t *testing.T) {
	query, _ := hex.DecodeString("ffffffffffff525400123456080045000020000000004011000000000000ffffffffc3500035000c0000abcd0000")
	for _, test := range []struct {
		prog []Insn
		data []byte
		want uint32
	}{
		{dns, query, 262144}, {arp, query, 0}, {dns, query[:30], 0}, {arp, append(append(make([]byte, 12), 8, 6), 0), 262144}, {arp, nil, 0},
		{[]Insn{{0x80, 0, 0, 0}, {0x16, 0, 0, 0}}, query, uint32(len(query))}, // the length
		{[]Insn{{0x20, 0, 0, 0xfffff004}, {0x16, 0, 0, 0}}, query, 4},         // the type of the packet
		{[]Insn{{0x1, 0, 0, 0}, {0, 0, 0, 1}, {0x3c, 0, 0, 0}, {0x6, 0, 0, 1}}, query, 0},
	} {
		prog, err := Parse(code(test.prog...))
		if err != nil {
			t.Fatal(err)
		}
		if got := Run(prog, &Packet{Data: test.data, Len: len(test.data), Type: 4}); got != test.want {
			t.Errorf("%v on %d bytes gives %d, not %d", test.prog, len(test.data), got, test.want)
		}
	}
}

func TestBad(t *testing.T) {
	for _, prog := range [][]Insn{
		{}, {{0x28, 0, 0, 12}}, {{0x15, 0, 1, 0}, {0x6, 0, 0, 0}}, {{0x5, 0, 0, 1}, {0x6, 0, 0, 0}}, {{0x60, 0, 0, 16}, {0x6, 0, 0, 0}},
		{{0x34, 0, 0, 0}, {0x6, 0, 0, 0}}, {{0x64, 0, 0, 32}, {0x6, 0, 0, 0}}, {{0xffff, 0, 0, 0}, {0x6, 0, 0, 0}}, {{0x38, 0, 0, 0}, {0x6, 0, 0, 0}},
	} {
		if _, err := Parse(code(prog...)); err != unix.EINVAL {
			t.Errorf("%v: %v", prog, err)
		}
	}
}

// host runs a program on Linux, over a datagram: ok is false when it is not accepted.
func host(t *testing.T, prog []Insn, data []byte) (n int, ok bool) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	list := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		list[i] = unix.SockFilter{Code: in.Code, Jt: in.JT, Jf: in.JF, K: in.K}
	}
	if len(list) == 0 || unix.SetsockoptSockFprog(fds[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(list)), Filter: &list[0]}) != nil {
		return 0, false
	}
	if _, err := unix.Write(fds[0], data); err != nil {
		return 0, true // dropped: EPERM
	}
	n, _ = unix.Read(fds[1], make([]byte, len(data)+1))
	return max(n, 0), true
}

// Random programs are accepted when Linux accepts them, and want what they want there.
func FuzzLinux(f *testing.F) {
	f.Add(code(dns...), []byte("some data that is long enough for all of it to be looked at"))
	f.Add(code(arp...), []byte{})
	f.Add(code(Insn{0x60, 0, 0, 3}, Insn{0x16, 0, 0, 0}), []byte("x"))
	f.Fuzz(func(t *testing.T, b, data []byte) {
		if len(b) > 50*Size || len(data) == 0 || len(data) > 2000 {
			return
		}
		prog, err := Parse(b)
		all := make([]Insn, len(b)/Size)
		for i := range all {
			w := b[i*Size:]
			all[i] = Insn{binary.LittleEndian.Uint16(w), w[2], w[3], binary.LittleEndian.Uint32(w[4:])}
			if all[i].Code&7 <= 1 && int32(all[i].K) < 0 || all[i].Code&0xe0 == unix.BPF_IND {
				return // what is not in the packet differs
			}
		}
		if len(b)%Size != 0 {
			return
		}
		n, ok := host(t, all, data)
		if ok != (err == nil) {
			t.Fatalf("%v: Linux accepts it: %v; here: %v", all, ok, err)
		}
		if !ok {
			return
		}
		if got := min(Run(prog, &Packet{Data: data, Len: len(data)}), uint32(len(data))); int(got) != n {
			t.Fatalf("%v gives %d, on Linux %d", all, got, n)
		}
	})
}
