package seccomp

import (
	"testing"

	"gosv/kernel/bpf"

	"golang.org/x/sys/unix"
)

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
)

func stmt(code uint16, k uint32) bpf.Insn { return bpf.Insn{Code: code, K: k} }
func jump(code uint16, k uint32, jt, jf uint8) bpf.Insn {
	return bpf.Insn{Code: code, JT: jt, JF: jf, K: k}
}

func TestAnswers(t *testing.T) {
	d := &Data{NR: 39, Arch: ArchX86_64, IP: 0x123456789, Args: [6]uint64{1 << 40, 2, 3, 4, 5, 0xfedcba9876543210}}
	aluX := func(op uint16, a, v uint32) []bpf.Insn {
		return []bpf.Insn{stmt(ldxImm, v), stmt(ldImm, a), stmt(alu|op|x, 0), stmt(retA, 0)}
	}
	aluK := func(op uint16, a, v uint32) []bpf.Insn {
		return []bpf.Insn{stmt(ldImm, a), stmt(alu|op, v), stmt(retA, 0)}
	}
	for name, c := range map[string]struct {
		prog []bpf.Insn
		want uint32
	}{
		"constant": {[]bpf.Insn{stmt(retK, Allow)}, Allow},
		"nr":       {[]bpf.Insn{stmt(ldAbs, 0), stmt(retA, 0)}, 39},
		"arch":     {[]bpf.Insn{stmt(ldAbs, 4), stmt(retA, 0)}, ArchX86_64},
		"ip low":   {[]bpf.Insn{stmt(ldAbs, 8), stmt(retA, 0)}, 0x23456789},
		"ip high":  {[]bpf.Insn{stmt(ldAbs, 12), stmt(retA, 0)}, 1},
		"arg low":  {[]bpf.Insn{stmt(ldAbs, 16), stmt(retA, 0)}, 0},
		"arg high": {[]bpf.Insn{stmt(ldAbs, 20), stmt(retA, 0)}, 1 << 8},
		"last":     {[]bpf.Insn{stmt(ldAbs, 60), stmt(retA, 0)}, 0xfedcba98},
		"length":   {[]bpf.Insn{stmt(ldLen, 0), stmt(retA, 0)}, 64},
		"lengthX":  {[]bpf.Insn{stmt(ldxLen, 0), stmt(txa, 0), stmt(retA, 0)}, 64},
		"memory":   {[]bpf.Insn{stmt(ldImm, 7), stmt(st, 3), stmt(ldImm, 0), stmt(ldMem, 3), stmt(retA, 0)}, 7},
		"memoryX":  {[]bpf.Insn{stmt(ldxImm, 8), stmt(stx, 15), stmt(ldxImm, 0), stmt(ldxMem, 15), stmt(txa, 0), stmt(retA, 0)}, 8},
		"tax":      {[]bpf.Insn{stmt(ldImm, 9), stmt(tax, 0), stmt(ldImm, 0), stmt(txa, 0), stmt(retA, 0)}, 9},
		"neg":      {[]bpf.Insn{stmt(ldImm, 1), stmt(neg, 0), stmt(retA, 0)}, 0xffffffff},
		"add":      {aluK(unix.BPF_ADD, 0xffffffff, 2), 1},
		"subX":     {aluX(unix.BPF_SUB, 1, 2), 0xffffffff},
		"mul":      {aluK(unix.BPF_MUL, 7, 6), 42},
		"div":      {aluK(unix.BPF_DIV, 43, 6), 7},
		"div by 0": {aluX(unix.BPF_DIV, 43, 0), KillThread},
		"and":      {aluX(unix.BPF_AND, 12, 10), 8},
		"or":       {aluK(unix.BPF_OR, 12, 3), 15},
		"xor":      {aluK(unix.BPF_XOR, 12, 10), 6},
		"shift":    {aluK(unix.BPF_LSH, 1, 31), 1 << 31},
		"shift 33": {aluX(unix.BPF_RSH, 4, 33), 2},
		"ja":       {[]bpf.Insn{stmt(ja, 1), stmt(retK, 1), stmt(retK, 2)}, 2},
		"jeq":      {[]bpf.Insn{stmt(ldImm, 5), jump(jmp|unix.BPF_JEQ, 5, 1, 0), stmt(retK, 1), stmt(retK, 2)}, 2},
		"jgt":      {[]bpf.Insn{stmt(ldImm, 5), jump(jmp|unix.BPF_JGT, 5, 1, 0), stmt(retK, 1), stmt(retK, 2)}, 1},
		"jge":      {[]bpf.Insn{stmt(ldImm, 5), jump(jmp|unix.BPF_JGE, 5, 1, 0), stmt(retK, 1), stmt(retK, 2)}, 2},
		"jset":     {[]bpf.Insn{stmt(ldImm, 5), jump(jmp|unix.BPF_JSET, 2, 1, 0), stmt(retK, 1), stmt(retK, 2)}, 1},
	} {
		f, err := New(c.prog, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, by := f.Run(d); got != c.want || by != f {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

func TestBadPrograms(t *testing.T) {
	ret := stmt(retK, Allow)
	for name, prog := range map[string][]bpf.Insn{
		"empty":       {},
		"too long":    make([]bpf.Insn, bpf.MaxLength+1),
		"no return":   {stmt(ldAbs, 0)},
		"odd offset":  {stmt(ldAbs, 2), ret},
		"beyond":      {stmt(ldAbs, 64), ret},
		"half":        {stmt(unix.BPF_LD|unix.BPF_H|unix.BPF_ABS, 0), ret},
		"header":      {stmt(unix.BPF_LDX|unix.BPF_B|unix.BPF_MSH, 0), ret},
		"protocol":    {stmt(ldAbs, 0xfffff000), ret},
		"byte":        {stmt(unix.BPF_LD|unix.BPF_B|unix.BPF_ABS, 0), ret},
		"indirect":    {stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_IND, 0), ret},
		"modulo":      {stmt(alu|unix.BPF_MOD, 3), ret},
		"div by 0":    {stmt(alu|unix.BPF_DIV, 0), ret},
		"shift by 32": {stmt(alu|unix.BPF_LSH, 32), ret},
		"slot 16":     {stmt(st, 16), ret},
		"unwritten":   {stmt(ldMem, 0), ret},
		"maybe":       {jump(jmp|unix.BPF_JEQ, 0, 1, 0), stmt(st, 0), stmt(ldMem, 0), ret},
		"jump out":    {jump(jmp|unix.BPF_JEQ, 0, 1, 0), ret},
		"jump far":    {stmt(ja, 1), ret},
		"jump back":   {stmt(ja, 0xffffffff), ret},
		"unknown":     {stmt(0xffff, 0), ret},
		"wide":        {stmt(alu|unix.BPF_ADD|0x100, 0), ret},
		"jump last":   {ret, stmt(ja, 0)},
		"return X":    {stmt(unix.BPF_RET|unix.BPF_X, 0)},
	} {
		if _, err := New(prog, nil); err != unix.EINVAL {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChain(t *testing.T) {
	var f *Filter
	for _, v := range []uint32{Allow, Errno | 1, Errno | 2, Log} {
		n, err := New([]bpf.Insn{stmt(retK, v)}, f)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Under(n) || n.Under(f) {
			t.Error("the chain is not one")
		}
		f = n
	}
	if got, by := f.Run(&Data{}); got != Errno|2 || by != f.prev {
		t.Errorf("%#x", got)
	}
	if f.Length() != 4 {
		t.Error(f.Length())
	}
	kill, _ := New([]bpf.Insn{stmt(retK, KillThread)}, f)
	if got, _ := kill.Run(&Data{}); got != KillThread {
		t.Errorf("%#x", got)
	}
	worse, _ := New([]bpf.Insn{stmt(retK, KillProcess)}, kill)
	if got, _ := worse.Run(&Data{}); got != KillProcess {
		t.Errorf("%#x", got)
	}
	long := make([]bpf.Insn, bpf.MaxLength)
	for i := range long {
		long[i] = stmt(retK, Allow)
	}
	n, err := 0, error(nil)
	for f = nil; err == nil; n++ {
		f, err = New(long, f)
	}
	if err != unix.ENOMEM || n != 8 {
		t.Errorf("after %d filters: %v", n, err)
	}
}

func TestStrict(t *testing.T) {
	for nr, want := range map[int32]uint32{unix.SYS_READ: Allow, unix.SYS_EXIT: Allow, unix.SYS_EXIT_GROUP: KillThread, -1: KillThread} {
		if got, _ := Strict.Run(&Data{NR: nr}); got != want {
			t.Errorf("%d: %#x", nr, got)
		}
	}
}

// FuzzProgram: what check accepts ends, and touches nothing it should not.
func FuzzProgram(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 0, 1, 39, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f, 6, 0, 0, 0, 1, 0, 5, 0}, uint64(39))
	f.Add([]byte{0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0}, uint64(1))
	f.Add([]byte{0x3c, 0, 0, 0, 0, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0}, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var prog []bpf.Insn
		for ; len(b) >= bpf.Size; b = b[bpf.Size:] {
			prog = append(prog, bpf.GetInsn(b))
		}
		filter, err := New(prog, nil)
		if err != nil {
			return
		}
		d := &Data{NR: int32(seed), Arch: ArchX86_64, IP: seed, Args: [6]uint64{seed, seed << 7, ^seed}}
		one, _ := filter.Run(d)
		two, _ := filter.Run(d)
		if one != two {
			t.Errorf("%#x, then %#x", one, two)
		}
	})
}
