package seccomp

import (
	"encoding/binary"

	"gosv/kernel/bpf"

	"golang.org/x/sys/unix"
)

// check accepts what Linux's bpf_check_classic and seccomp_check_filter accept: EINVAL.
func check(prog []bpf.Insn) error {
	for _, in := range prog {
		if !allowed(in) {
			return unix.EINVAL
		}
	}
	return bpf.Check(prog)
}

// allowed reports whether filters of system calls may have the instruction: no remainders, and of loads from the
// packet those only of whole words of struct seccomp_data.
func allowed(in bpf.Insn) bool {
	switch in.Code & 7 {
	case unix.BPF_LD:
		switch in.Code & 0xe0 {
		case unix.BPF_ABS:
			return in.Code&0x18 == unix.BPF_W && in.K < dataSize && in.K&3 == 0
		case unix.BPF_IND:
			return false
		}
	case unix.BPF_LDX:
		return in.Code&0xe0 != unix.BPF_MSH
	case unix.BPF_ALU:
		return in.Code&0xf0 != unix.BPF_MOD
	}
	return true
}

// packet is d as a packet: in the order of struct seccomp_data, each word as loads take it from the network.
func (d *Data) packet() (b [dataSize]byte) {
	be := binary.BigEndian
	be.PutUint32(b[0:], uint32(d.NR))
	be.PutUint32(b[4:], d.Arch)
	putLong := func(at int, v uint64) {
		be.PutUint32(b[at:], uint32(v))
		be.PutUint32(b[at+4:], uint32(v>>32))
	}
	putLong(8, d.IP)
	for i, v := range d.Args {
		putLong(16+8*i, v)
	}
	return b
}
