package main

import "encoding/binary"

// Offsets in the data page, which lies just before the image. Package vdso
// writes it; see its type data.
const (
	dataSeq    = 0  // uint32, odd while the page is being written
	dataUsable = 4  // uint32, 0: ask the kernel
	dataTSC    = 8  // uint64
	dataMult   = 16 // uint64
	dataWall   = 24 // int64
)

// An op is one instruction: what it is in as(1)'s Intel syntax, and its bytes.
// The test has as(1) check that the two agree.
type op struct {
	text  string
	bytes []byte
	label string // a branch's target, or the name defined here when there are no bytes
}

// code is the program: a list of instructions and labels.
type code []op

func (c *code) op(text string, b ...byte)       { *c = append(*c, op{text: text, bytes: b}) }
func (c *code) label(name string)               { *c = append(*c, op{label: name}) }
func (c *code) jump(text, to string, b ...byte) { *c = append(*c, op{text, append(b, 0, 0, 0, 0), to}) }

// imm appends a little-endian immediate of n bytes to an opcode.
func imm(opcode []byte, v uint64, n int) []byte {
	var w [8]byte
	binary.LittleEndian.PutUint64(w[:], v)
	return append(opcode, w[:n]...)
}

// assemble lays the code out at address base and returns its bytes and the
// labels' addresses. Every branch and every address of the data page is a
// 32-bit displacement at the end of its instruction.
func (c code) assemble(base uint64) ([]byte, map[string]uint64) {
	at := map[string]uint64{"data": 0}
	at["data"] -= 4096 // wraps: the page before address 0
	pc := base
	for _, o := range c {
		if o.bytes == nil {
			at[o.label] = pc
		}
		pc += uint64(len(o.bytes))
	}
	var out []byte
	for _, o := range c {
		out = append(out, o.bytes...)
		if o.bytes != nil && o.label != "" {
			target, ok := at[o.label]
			if !ok {
				panic("no label " + o.label)
			}
			d := target - (base + uint64(len(out)))
			binary.LittleEndian.PutUint32(out[len(out)-4:], uint32(d))
		}
	}
	return out, at
}

// now reads the clock: r8 becomes the data page, rax nanoseconds. It jumps to
// fallback when programs may not compute the time. The time is the wall clock
// when wall is true; else the clock that edi names decides (bits of wallClocks).
// It uses rax, rcx, rdx, r8 and r9 and leaves rdi and rsi alone.
func (c *code) now(name, fallback string, wall bool) {
	c.jump("lea r8, [rip+data]", "data", 0x4c, 0x8d, 0x05)
	c.label(name)
	c.op("mov r9d, [r8]", 0x45, 0x8b, 0x08)
	c.op("test r9b, 1", 0x41, 0xf6, 0xc1, 0x01)
	c.jump("jne "+name, name, 0x0f, 0x85)
	c.op("cmp dword ptr [r8+4], 0", 0x41, 0x83, 0x78, dataUsable, 0x00)
	c.jump("je "+fallback, fallback, 0x0f, 0x84)
	c.op("lfence", 0x0f, 0xae, 0xe8)
	c.op("rdtsc", 0x0f, 0x31)
	c.op("shl rdx, 32", 0x48, 0xc1, 0xe2, 0x20)
	c.op("or rax, rdx", 0x48, 0x09, 0xd0)
	c.op("mov edx, 0", 0xba, 0, 0, 0, 0)
	c.op("sub rax, [r8+8]", 0x49, 0x2b, 0x40, dataTSC)
	c.op("cmovs rax, rdx", 0x48, 0x0f, 0x48, 0xc2) // signed: the base may lie before the counter's 0
	c.op("mul qword ptr [r8+16]", 0x49, 0xf7, 0x60, dataMult)
	c.op("shrd rax, rdx, 32", 0x48, 0x0f, 0xac, 0xd0, 0x20)
	if !wall {
		c.op("mov ecx, 0x21", imm([]byte{0xb9}, wallClocks, 4)...)
		c.op("bt ecx, edi", 0x0f, 0xa3, 0xf9)
		c.jump("jnc "+name+"_mono", name+"_mono", 0x0f, 0x83)
	}
	c.op("add rax, [r8+24]", 0x49, 0x03, 0x40, dataWall)
	c.label(name + "_mono")
	c.op("cmp r9d, [r8]", 0x45, 0x3b, 0x08)
	c.jump("jne "+name, name, 0x0f, 0x85)
}

// split turns nanoseconds in rax into seconds in rdx and the rest in rcx. It
// divides by a multiplication, exact for every 64-bit value (Hacker's Delight,
// chapter 10): n/1e9 = ((n>>9) * 0x44b82fa09b5a53 >> 64) >> 11.
func (c *code) split() {
	c.op("mov rcx, rax", 0x48, 0x89, 0xc1)
	c.op("shr rax, 9", 0x48, 0xc1, 0xe8, 0x09)
	c.op("movabs rdx, 0x44b82fa09b5a53", imm([]byte{0x48, 0xba}, 0x44b82fa09b5a53, 8)...)
	c.op("mul rdx", 0x48, 0xf7, 0xe2)
	c.op("shr rdx, 11", 0x48, 0xc1, 0xea, 0x0b)
	c.op("imul rax, rdx, 1000000000", imm([]byte{0x48, 0x69, 0xc2}, 1000000000, 4)...)
	c.op("sub rcx, rax", 0x48, 0x29, 0xc1)
}

// kernel asks the kernel instead.
func (c *code) kernel(label string, nr uint64) {
	c.label(label)
	c.op("mov eax, "+itoa(nr), imm([]byte{0xb8}, nr, 4)...)
	c.op("syscall", 0x0f, 0x05)
	c.op("ret", 0xc3)
}

func (c *code) align() {
	n := 0
	for _, o := range *c {
		n += len(o.bytes)
	}
	for ; n%16 != 0; n++ {
		c.op("int3", 0xcc)
	}
}

// The clocks that can be computed here, as bits: REALTIME 0, MONOTONIC 1,
// MONOTONIC_RAW 4, the two COARSE 5 and 6, BOOTTIME 7; and those of them that
// count from 1970.
const (
	userClocks = 1<<0 | 1<<1 | 1<<4 | 1<<5 | 1<<6 | 1<<7
	wallClocks = 1<<0 | 1<<5
)

// program is the text of the vDSO; see vdso(7).
func program() code {
	var c code

	// int clock_gettime(clockid_t edi, struct timespec *rsi)
	c.label("clock_gettime")
	c.op("cmp edi, 7", 0x83, 0xff, 0x07)
	c.jump("ja gettime_kernel", "gettime_kernel", 0x0f, 0x87)
	c.op("mov eax, 0xf3", imm([]byte{0xb8}, userClocks, 4)...)
	c.op("bt eax, edi", 0x0f, 0xa3, 0xf8)
	c.jump("jnc gettime_kernel", "gettime_kernel", 0x0f, 0x83)
	c.now("gettime_now", "gettime_kernel", false)
	c.split()
	c.op("mov [rsi], rdx", 0x48, 0x89, 0x16)
	c.op("mov [rsi+8], rcx", 0x48, 0x89, 0x4e, 0x08)
	c.op("xor eax, eax", 0x31, 0xc0)
	c.op("ret", 0xc3)
	c.kernel("gettime_kernel", 228)
	c.align()

	// int gettimeofday(struct timeval *rdi, struct timezone *rsi)
	c.label("gettimeofday")
	c.op("test rdi, rdi", 0x48, 0x85, 0xff)
	c.jump("je tod_zone", "tod_zone", 0x0f, 0x84)
	c.now("tod_now", "tod_kernel", true)
	c.split()
	c.op("imul rcx, rcx, 274877907", imm([]byte{0x48, 0x69, 0xc9}, 274877907, 4)...) // /1000, exact below 2^32
	c.op("shr rcx, 38", 0x48, 0xc1, 0xe9, 38)
	c.op("mov [rdi], rdx", 0x48, 0x89, 0x17)
	c.op("mov [rdi+8], rcx", 0x48, 0x89, 0x4f, 0x08)
	c.label("tod_zone")
	c.op("xor eax, eax", 0x31, 0xc0)
	c.op("test rsi, rsi", 0x48, 0x85, 0xf6)
	c.jump("je tod_done", "tod_done", 0x0f, 0x84)
	c.op("mov [rsi], rax", 0x48, 0x89, 0x06) // UTC, no daylight saving
	c.label("tod_done")
	c.op("ret", 0xc3)
	c.kernel("tod_kernel", 96)
	c.align()

	// time_t time(time_t *rdi)
	c.label("time")
	c.now("time_now", "time_kernel", true)
	c.split()
	c.op("mov rax, rdx", 0x48, 0x89, 0xd0)
	c.op("test rdi, rdi", 0x48, 0x85, 0xff)
	c.jump("je time_done", "time_done", 0x0f, 0x84)
	c.op("mov [rdi], rax", 0x48, 0x89, 0x07)
	c.label("time_done")
	c.op("ret", 0xc3)
	c.kernel("time_kernel", 201)
	c.align()

	// int clock_getres(clockid_t, struct timespec *)
	c.kernel("clock_getres", 229)
	c.align()

	// int getcpu(unsigned *cpu, unsigned *node, void *unused)
	c.kernel("getcpu", 309)
	c.align()
	return c
}
