// Package bpf checks and runs classic BPF programs over packets (socket(7) SO_ATTACH_FILTER; McCanne and
// Jacobson, The BSD Packet Filter, 1993; Linux's networking/filter). kernel/seccomp runs them over system calls.
//
// Programs are foreign: Check accepts those only that end, jump forwards, and stay in their memory. A load outside the packet
// ends a program with 0, which drops the packet.
package bpf

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// MaxLength bounds a program, in instructions (BPF_MAXINSNS).
const MaxLength = 4096

// Size is the size of struct sock_filter in bytes.
const Size = 8

const slots = 16 // words of memory

// An Insn is struct sock_filter.
type Insn struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// GetInsn reads struct sock_filter.
func GetInsn(b []byte) Insn {
	return Insn{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])}
}

// Put writes the struct sock_filter of an instruction; b has Size bytes.
func (in Insn) Put(b []byte) {
	binary.LittleEndian.PutUint16(b, in.Code)
	b[2], b[3] = in.JT, in.JF
	binary.LittleEndian.PutUint32(b[4:], in.K)
}

// Parse reads an array of struct sock_filter and checks it: EINVAL.
func Parse(b []byte) ([]Insn, error) {
	if len(b)%Size != 0 || len(b)/Size > MaxLength {
		return nil, unix.EINVAL
	}
	prog := make([]Insn, len(b)/Size)
	for i := range prog {
		prog[i] = GetInsn(b[i*Size:])
	}
	return prog, Check(prog)
}

// Check accepts what Linux's bpf_check_classic accepts: EINVAL.
func Check(prog []Insn) error {
	if len(prog) == 0 || len(prog) > MaxLength {
		return unix.EINVAL
	}
	for i, in := range prog {
		if !in.valid(len(prog) - i - 1) {
			return unix.EINVAL
		}
	}
	if c := prog[len(prog)-1].Code; c != unix.BPF_RET|unix.BPF_K && c != unix.BPF_RET|unix.BPF_A {
		return unix.EINVAL
	}
	return checkMemory(prog)
}

// checkMemory refuses programs that may read a word of memory that they have not written: EINVAL.
func checkMemory(prog []Insn) error {
	const all = 1<<slots - 1
	known := make([]uint16, len(prog)) // what every way there has written, of jumps so far
	for i := range known {
		known[i] = all
	}
	written := uint16(0)
	for i, in := range prog {
		written &= known[i]
		switch in.Code & 7 {
		case unix.BPF_ST, unix.BPF_STX:
			written |= 1 << in.K
		case unix.BPF_LD, unix.BPF_LDX:
			if in.Code&0xe0 == unix.BPF_MEM && written>>in.K&1 == 0 {
				return unix.EINVAL
			}
		case unix.BPF_JMP:
			if in.Code == unix.BPF_JMP {
				known[i+1+int(in.K)] &= written
			} else {
				known[i+1+int(in.JT)] &= written
				known[i+1+int(in.JF)] &= written
			}
			written = all
		case unix.BPF_RET:
			written = all // the next is reached by jumps only
		}
	}
	return nil
}

// Places of what is not in the packet (SKF_AD_OFF), as offsets of a load.
const (
	adOff      = -0x1000
	adProtocol = adOff + 0
	adType     = adOff + 4
	adIndex    = adOff + 8
	adHardware = adOff + 28
	adVLAN     = adOff + 44
	adHasVLAN  = adOff + 48
)

// valid checks one instruction with left more behind it.
func (in Insn) valid(left int) bool {
	const x = unix.BPF_X
	switch op := in.Code & 0xf0; in.Code & 7 {
	case unix.BPF_LD:
		switch in.Code {
		case unix.BPF_LD | unix.BPF_IMM, unix.BPF_LD | unix.BPF_W | unix.BPF_LEN:
			return true
		case unix.BPF_LD | unix.BPF_MEM:
			return in.K < slots
		}
		mode, size := in.Code&0xe0, in.Code&0x18
		return in.Code < 0x100 && (mode == unix.BPF_ABS || mode == unix.BPF_IND) && size != 0x18
	case unix.BPF_LDX:
		switch in.Code {
		case unix.BPF_LDX | unix.BPF_IMM, unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN, unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH:
			return true
		}
		return in.Code == unix.BPF_LDX|unix.BPF_MEM && in.K < slots
	case unix.BPF_ST, unix.BPF_STX:
		return in.Code < 8 && in.K < slots
	case unix.BPF_ALU:
		if in.Code >= 0x100 {
			return false
		}
		switch op {
		case unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_AND, unix.BPF_OR, unix.BPF_XOR:
			return true
		case unix.BPF_NEG:
			return in.Code&x == 0
		case unix.BPF_DIV, unix.BPF_MOD:
			return in.Code&x != 0 || in.K != 0
		case unix.BPF_LSH, unix.BPF_RSH:
			return in.Code&x != 0 || in.K < 32
		}
	case unix.BPF_JMP:
		switch op {
		case unix.BPF_JA:
			return in.Code == unix.BPF_JMP && in.K < uint32(left)
		case unix.BPF_JEQ, unix.BPF_JGT, unix.BPF_JGE, unix.BPF_JSET:
			return in.Code < 0x100 && int(in.JT) < left && int(in.JF) < left
		}
	case unix.BPF_RET:
		return in.Code == unix.BPF_RET || in.Code == unix.BPF_RET|unix.BPF_A
	case unix.BPF_MISC:
		return in.Code == unix.BPF_MISC|unix.BPF_TAX || in.Code == unix.BPF_MISC|unix.BPF_TXA
	}
	return false
}

// A Packet is what a program looks at.
type Packet struct {
	Data []byte // that is there
	Len  int    // of the whole packet
	// What loads at negative offsets give.
	Protocol, Type, Index, Hardware uint32
}

// load reads size bytes at an offset.
func (p *Packet) load(off int64, size int) (uint32, bool) {
	if off < 0 {
		switch off {
		case adProtocol:
			return p.Protocol, true
		case adType:
			return p.Type, true
		case adIndex:
			return p.Index, true
		case adHardware:
			return p.Hardware, true
		case adVLAN, adHasVLAN:
			return 0, true
		}
		return 0, false
	}
	if off+int64(size) > int64(len(p.Data)) {
		return 0, false
	}
	b := p.Data[off:]
	switch size {
	case 1:
		return uint32(b[0]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	}
	return binary.BigEndian.Uint32(b), true
}

// Run runs a program that Check accepted: how many bytes of the packet it wants, 0 for none of it.
func Run(prog []Insn, p *Packet) uint32 {
	var a, x uint32
	var mem [slots]uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		switch in.Code & 7 {
		case unix.BPF_LD:
			v, ok := in.fetch(p, x, &mem)
			if !ok {
				return 0
			}
			a = v
		case unix.BPF_LDX:
			switch in.Code {
			case unix.BPF_LDX | unix.BPF_IMM:
				x = in.K
			case unix.BPF_LDX | unix.BPF_MEM:
				x = mem[in.K%slots]
			case unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN:
				x = uint32(p.Len)
			default: // the length of a header of IP
				v, ok := p.load(int64(int32(in.K)), 1)
				if !ok {
					return 0
				}
				x = 4 * (v & 15)
			}
		case unix.BPF_ST:
			mem[in.K%slots] = a
		case unix.BPF_STX:
			mem[in.K%slots] = x
		case unix.BPF_ALU:
			v := in.K
			if in.Code&unix.BPF_X != 0 {
				v = x
			}
			var ok bool
			if a, ok = compute(in.Code&0xf0, a, v); !ok {
				return 0
			}
		case unix.BPF_JMP:
			pc += in.jump(a, x)
		case unix.BPF_RET:
			if in.Code&unix.BPF_A != 0 {
				return a
			}
			return in.K
		default:
			if in.Code&0xf8 == unix.BPF_TAX {
				x = a
			} else {
				a = x
			}
		}
	}
	return 0
}

// fetch is what an instruction of the class LD loads.
func (in *Insn) fetch(p *Packet, x uint32, mem *[slots]uint32) (uint32, bool) {
	off := int64(int32(in.K))
	switch in.Code & 0xe0 {
	case unix.BPF_IMM:
		return in.K, true
	case unix.BPF_MEM:
		return mem[in.K%slots], true
	case unix.BPF_LEN:
		return uint32(p.Len), true
	case unix.BPF_IND:
		off = int64(int32(in.K + x))
	}
	size := 4
	switch in.Code & 0x18 {
	case unix.BPF_H:
		size = 2
	case unix.BPF_B:
		size = 1
	}
	return p.load(off, size)
}

// jump is how many instructions are skipped.
func (in *Insn) jump(a, x uint32) int {
	v := in.K
	if in.Code&unix.BPF_X != 0 {
		v = x
	}
	var holds bool
	switch in.Code & 0xf0 {
	case unix.BPF_JA:
		return int(in.K)
	case unix.BPF_JEQ:
		holds = a == v
	case unix.BPF_JGT:
		holds = a > v
	case unix.BPF_JGE:
		holds = a >= v
	case unix.BPF_JSET:
		holds = a&v != 0
	}
	if holds {
		return int(in.JT)
	}
	return int(in.JF)
}

// compute is an instruction of the class ALU; ok is false when it divides by nothing.
func compute(op uint16, a, v uint32) (_ uint32, ok bool) {
	switch op {
	case unix.BPF_ADD:
		a += v
	case unix.BPF_SUB:
		a -= v
	case unix.BPF_MUL:
		a *= v
	case unix.BPF_AND:
		a &= v
	case unix.BPF_OR:
		a |= v
	case unix.BPF_XOR:
		a ^= v
	case unix.BPF_LSH:
		a <<= v & 31
	case unix.BPF_RSH:
		a >>= v & 31
	case unix.BPF_NEG:
		a = -a
	case unix.BPF_DIV, unix.BPF_MOD:
		if v == 0 {
			return 0, false
		}
		if op == unix.BPF_DIV {
			a /= v
		} else {
			a %= v
		}
	}
	return a, true
}
