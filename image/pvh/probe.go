package pvh

import (
	"debug/elf"
	"fmt"
)

// DebugExitPort is the I/O port of QEMU's isa-debug-exit device as gosv
// configures it. Writing v ends QEMU with status v<<1 | 1.
const DebugExitPort = 0xf4

// Probe returns the smallest bootable image: it goes the kernel's own way into
// 64-bit mode and writes value to DebugExitPort. A virtual machine that ends
// with that value has really run code.
func Probe(value byte) []byte {
	text := []byte{
		0xb0, value, // mov al, value
		0xe6, DebugExitPort, // out DebugExitPort, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp back to hlt
	}
	image, err := Link(encode([]segment{load(elf.PF_R|elf.PF_X, LinkAddress, 0, text)}, LinkAddress))
	if err != nil {
		panic(fmt.Sprintf("pvh: probe image: %v", err)) // constant input
	}
	return image
}
