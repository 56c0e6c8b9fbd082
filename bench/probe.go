package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// entryProbe is a kernel of its own that does one thing: at its PVH entry it
// reads the TSC, writes it to the UART as 'T' and eight bytes, little-endian,
// and ends the machine. Under icount that is the number of instructions that
// the firmware spends before any kernel begins.
//
// The file is a 64-bit ELF with one PT_LOAD and the Xen note for PVH
// (XEN_ELFNOTE_PHYS32_ENTRY, 18), as QEMU wants it.
func entryProbe() []byte {
	code := []byte{ // 32-bit protected mode, paging off
		0x0f, 0x31, // rdtsc
		0x89, 0xc3, // mov ebx, eax
		0x89, 0xd6, // mov esi, edx
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb0, 'T', 0xee, // mov al, 'T'; out dx, al
		0xb9, 0x04, 0x00, 0x00, 0x00, // mov ecx, 4
		0x88, 0xd8, // 1: mov al, bl
		0xee,             // out dx, al
		0xc1, 0xeb, 0x08, // shr ebx, 8
		0xe2, 0xf8, // loop 1b
		0xb9, 0x04, 0x00, 0x00, 0x00, // mov ecx, 4
		0x89, 0xf0, // 2: mov eax, esi
		0xee,             // out dx, al
		0xc1, 0xee, 0x08, // shr esi, 8
		0xe2, 0xf8, // loop 2b
		0xb0, 0xfe, 0xe6, 0x64, // mov al, 0xfe; out 0x64, al (reset)
		0x0f, 0x01, 0x1d, 0x00, 0x00, 0x10, 0x00, // lidt [base]: not a table
		0x0f, 0x0b, // ud2: triple fault
		0xf4, 0xeb, 0xfd, // hlt; jmp back
	}
	const base, header, phdr = 0x100000, 64, 56
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, 4)
	note = binary.LittleEndian.AppendUint32(note, 18)
	note = append(note, "Xen\x00"...)
	noteAt := uint64(header + 2*phdr)
	codeAt := noteAt + uint64(len(note)) + 4
	note = binary.LittleEndian.AppendUint32(note, uint32(base+codeAt))
	size := codeAt + uint64(len(code))

	le := binary.LittleEndian
	var b []byte
	b = append(b, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint16(b, 2)  // ET_EXEC
	b = le.AppendUint16(b, 62) // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+codeAt)
	b = le.AppendUint64(b, header)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, phdr, 2, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	segment := func(kind, flags uint32, off, n, align uint64) {
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, flags)
		for _, v := range []uint64{off, base + off, base + off, n, n, align} {
			b = le.AppendUint64(b, v)
		}
	}
	segment(1, 5, 0, size, 4096)
	segment(4, 4, noteAt, uint64(len(note)), 4)
	b = append(b, note...)
	return append(b, code...)
}

// firmwareTime returns the TSC at a kernel's PVH entry, in a machine that is
// set up as m.
func firmwareTime(dir string, m machine) (uint64, error) {
	m.kernel = filepath.Join(dir, "entryprobe.elf")
	if err := os.WriteFile(m.kernel, entryProbe(), 0o644); err != nil {
		return 0, err
	}
	r, err := m.run(waitEnd, 20*time.Second)
	if err != nil {
		return 0, err
	}
	_, after, ok := bytes.Cut(r.output, []byte("T"))
	if !ok || len(after) < 8 {
		return 0, fmt.Errorf("the entry probe printed %q", r.output)
	}
	return binary.LittleEndian.Uint64(after), nil
}
