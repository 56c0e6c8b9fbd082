package vdso

import (
	"encoding/binary"
	"testing"

	"gosv/machine"
)

func TestSet(t *testing.T) {
	page := make([]byte, machine.PageSize)
	d := NewData(page)
	d.Set(machine.Timebase{Usable: true, TSC: 0x1122334455667788, Mult: 42, WallOffset: -7})
	le := binary.LittleEndian
	if seq := le.Uint32(page); seq == 0 || seq&1 != 0 {
		t.Errorf("sequence number is %d", seq)
	}
	if le.Uint32(page[4:]) != 1 || le.Uint64(page[8:]) != 0x1122334455667788 || le.Uint64(page[16:]) != 42 || int64(le.Uint64(page[24:])) != -7 {
		t.Errorf("page is %x", page[:32])
	}
	d.Set(machine.Timebase{})
	if le.Uint32(page[4:]) != 0 || le.Uint32(page)&1 != 0 {
		t.Errorf("page is %x", page[:32])
	}
}

func TestImageFitsThePage(t *testing.T) {
	if len(Image) > ImageSize || Image[:4] != "\x7fELF" {
		t.Errorf("%d bytes, begins %q", len(Image), Image[:4])
	}
}
