// Package vdso holds the shared object that the kernel maps into every
// program, so that clock_gettime(2) and its like need no system call; see
// vdso(7).
//
// Two pages go into an address space, side by side: [vvar], the data page, and
// behind it [vdso], the image. Both are the same frames for all programs and
// read-only for them. In a time namespace with offsets of its own [vvar] is an empty page, by which the functions ask the
// kernel. The functions compute the time from the processor's
// time-stamp counter by the numbers in the data page (machine.Timebase), and ask
// the kernel for clocks that they do not know or when Timebase is not usable.
//
// The machine code, the ELF image around it and the reasons for both are in
// the command gen, which writes image.go.
package vdso

//go:generate go run gosv/kernel/vdso/gen

import (
	"sync"

	"gosv/machine"
)

// Layout of the pages in a program.
const (
	// DataSize is the length of [vvar].
	DataSize = machine.PageSize
	// ImageSize is the length of [vdso].
	ImageSize = machine.PageSize
)

// Data is the data page, as the kernel sees it.
type Data struct {
	mu   sync.Mutex // serialises Set
	page machine.Memory
}

// NewData makes page, which must be one zeroed page that stays in place, the data page.
// Until the first Set the functions ask the kernel.
func NewData(page []byte) *Data {
	return &Data{page: machine.MemoryOf(page[:DataSize])}
}

// Set publishes a new time base. A program that reads the page meanwhile
// starts again: the sequence number at offset 0 is odd during the change.
func (d *Data) Set(tb machine.Timebase) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seq := d.page.Load32(0)
	d.page.Store32(0, seq+1)
	usable := uint32(0)
	if tb.Usable {
		usable = 1
	}
	d.page.Store32(4, usable)
	d.page.Store64(8, tb.TSC)
	d.page.Store64(16, tb.Mult)
	d.page.Store64(24, uint64(tb.WallOffset))
	d.page.Store32(0, seq+2)
}
