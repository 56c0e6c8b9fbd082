package pvh

import (
	"debug/elf"
	"fmt"
)

// DebugExitPort is the I/O port of QEMU's isa-debug-exit device as gosv
// configures it. Writing v ends QEMU with status v<<1 | 1.
const DebugExitPort = 0xf4

// Stub returns the smallest bootable image, for tests of what starts one: it
// goes the kernel's own way into 64-bit mode, writes value to DebugExitPort, and
// halts.
func Stub(value byte) []byte {
	text := []byte{
		0xb0, value, // mov al, value
		0xe6, DebugExitPort, // out DebugExitPort, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp back to hlt
	}
	image, err := Link(encode([]segment{load(elf.PF_R|elf.PF_X, LinkAddress, 0, text)}, LinkAddress))
	if err != nil {
		panic(fmt.Sprintf("pvh: stub image: %v", err)) // constant input
	}
	return image
}
