package seccomp

import "golang.org/x/sys/unix"

// InsnSize is the size of struct sock_filter in bytes.
const InsnSize = 8

// An Insn is struct sock_filter.
type Insn struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// GetInsn reads struct sock_filter.
func GetInsn(b []byte) Insn { return Insn{le.Uint16(b), b[2], b[3], le.Uint32(b[4:])} }

// Codes of instructions: class, and size and mode, or operation and source.
const (
	ldAbs  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ldLen  = unix.BPF_LD | unix.BPF_W | unix.BPF_LEN
	ldImm  = unix.BPF_LD | unix.BPF_IMM
	ldMem  = unix.BPF_LD | unix.BPF_MEM
	ldxLen = unix.BPF_LDX | unix.BPF_W | unix.BPF_LEN
	ldxImm = unix.BPF_LDX | unix.BPF_IMM
	ldxMem = unix.BPF_LDX | unix.BPF_MEM
	st     = unix.BPF_ST
	stx    = unix.BPF_STX
	tax    = unix.BPF_MISC | unix.BPF_TAX
	txa    = unix.BPF_MISC | unix.BPF_TXA
	neg    = unix.BPF_ALU | unix.BPF_NEG
	retK   = unix.BPF_RET | unix.BPF_K
	retA   = unix.BPF_RET | unix.BPF_A
	ja     = unix.BPF_JMP | unix.BPF_JA

	alu = unix.BPF_ALU
	jmp = unix.BPF_JMP
	x   = unix.BPF_X

	slots = 16 // words of memory
)

// check accepts what Linux's bpf_check_classic and seccomp_check_filter accept: EINVAL.
func check(prog []Insn) error {
	if len(prog) == 0 || len(prog) > MaxLength {
		return unix.EINVAL
	}
	for i, in := range prog {
		if !in.valid(len(prog) - i - 1) {
			return unix.EINVAL
		}
	}
	if last := prog[len(prog)-1].Code; last != retK && last != retA {
		return unix.EINVAL
	}
	return checkMemory(prog)
}

// valid checks one instruction with left more behind it.
func (in Insn) valid(left int) bool {
	switch in.Code {
	case ldAbs:
		return in.K < dataSize && in.K&3 == 0
	case ldMem, ldxMem, st, stx:
		return in.K < slots
	case ldLen, ldImm, ldxLen, ldxImm, tax, txa, neg, retK, retA:
		return true
	case ja:
		return in.K < uint32(left)
	}
	switch op := in.Code & 0xf0; in.Code & 7 {
	case alu:
		if in.Code&^0xf8 != alu || in.Code&0x100 != 0 {
			return false
		}
		switch op {
		case unix.BPF_ADD, unix.BPF_SUB, unix.BPF_MUL, unix.BPF_AND, unix.BPF_OR, unix.BPF_XOR:
			return true
		case unix.BPF_DIV:
			return in.Code&x != 0 || in.K != 0
		case unix.BPF_LSH, unix.BPF_RSH:
			return in.Code&x != 0 || in.K < 32
		}
	case jmp:
		switch op {
		case unix.BPF_JEQ, unix.BPF_JGT, unix.BPF_JGE, unix.BPF_JSET:
			return in.Code&^0xf8 == jmp && int(in.JT) < left && int(in.JF) < left
		}
	}
	return false
}

// checkMemory refuses programs that may read a word of memory that they have not written.
func checkMemory(prog []Insn) error {
	const all = 1<<slots - 1
	known := make([]uint16, len(prog)) // what every way there has written, of jumps so far
	for i := range known {
		known[i] = all
	}
	written := uint16(0)
	for i, in := range prog {
		written &= known[i]
		switch in.Code {
		case st, stx:
			written |= 1 << in.K
		case ldMem, ldxMem:
			if written>>in.K&1 == 0 {
				return unix.EINVAL
			}
		case ja:
			known[i+1+int(in.K)] &= written
			written = all
		case retK, retA:
			written = all // the next is reached by jumps only
		default:
			if in.Code&7 == jmp {
				known[i+1+int(in.JT)] &= written
				known[i+1+int(in.JF)] &= written
				written = all
			}
		}
	}
	return nil
}

// run runs a program that check accepted.
func run(prog []Insn, d *Data) uint32 {
	var a, xr uint32
	var mem [slots]uint32
	for pc := 0; ; pc++ {
		in := prog[pc]
		switch in.Code {
		case ldAbs:
			a = d.word(in.K)
			continue
		case ldLen:
			a = dataSize
			continue
		case ldImm:
			a = in.K
			continue
		case ldMem:
			a = mem[in.K]
			continue
		case ldxLen:
			xr = dataSize
			continue
		case ldxImm:
			xr = in.K
			continue
		case ldxMem:
			xr = mem[in.K]
			continue
		case st:
			mem[in.K] = a
			continue
		case stx:
			mem[in.K] = xr
			continue
		case tax:
			xr = a
			continue
		case txa:
			a = xr
			continue
		case neg:
			a = -a
			continue
		case retK:
			return in.K
		case retA:
			return a
		case ja:
			pc += int(in.K)
			continue
		}
		v := in.K
		if in.Code&x != 0 {
			v = xr
		}
		if in.Code&7 == jmp {
			if holds(in.Code&0xf0, a, v) {
				pc += int(in.JT)
			} else {
				pc += int(in.JF)
			}
			continue
		}
		if in.Code&0xf0 == unix.BPF_DIV && v == 0 {
			return KillThread // Linux: the program returns 0
		}
		a = compute(in.Code&0xf0, a, v)
	}
}

func holds(op uint16, a, v uint32) bool {
	switch op {
	case unix.BPF_JEQ:
		return a == v
	case unix.BPF_JGT:
		return a > v
	case unix.BPF_JGE:
		return a >= v
	}
	return a&v != 0
}

func compute(op uint16, a, v uint32) uint32 {
	switch op {
	case unix.BPF_ADD:
		return a + v
	case unix.BPF_SUB:
		return a - v
	case unix.BPF_MUL:
		return a * v
	case unix.BPF_DIV:
		return a / v
	case unix.BPF_AND:
		return a & v
	case unix.BPF_OR:
		return a | v
	case unix.BPF_XOR:
		return a ^ v
	case unix.BPF_LSH:
		return a << (v & 31)
	}
	return a >> (v & 31)
}
