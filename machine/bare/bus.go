package bare

import (
	"errors"
	"unsafe"

	"gosv/machine"
	"gosv/machine/floor"
)

// Registers implements machine.Bus.
func (*Machine) Registers(pa, n uint64) (machine.Memory, error) {
	if n == 0 || n > 1<<30 || pa+n < pa || pa+n > 1<<52 {
		return machine.Memory{}, errors.New("impossible device register range")
	}
	return device(floor.MapRegisters(pa, n), n), nil
}

// mostAddress is the end of the physical addresses that the direct map has room for.
const mostAddress = 1 << 46

// DeviceMemory implements machine.Bus.
func (m *Machine) DeviceMemory(pa, n uint64) (machine.Frame, error) {
	most := uint64(mostAddress)
	if leaves, _, _, _ := floor.CPUID(0x80000000, 0); leaves >= 0x80000008 {
		sizes, _, _, _ := floor.CPUID(0x80000008, 0)
		most = min(most, 1<<(sizes&63))
	}
	if n == 0 || (pa|n)%machine.PageSize != 0 || pa < floor.FrameLimit()*machine.PageSize || pa >= most || n > most-pa {
		return machine.NoFrame, errors.New("impossible range of a device's memory")
	}
	// Its page tables: one for each GiB, one for each 512 GiB, and those of the parts that are not whole large pages.
	if _, free := m.Usage(); n>>30+n>>39+6 > free/8 {
		return machine.NoFrame, machine.ErrNoMemory
	}
	spaces.mu.Lock() // spaces copy the highest table
	defer spaces.mu.Unlock()
	if spaces.any {
		return machine.NoFrame, errors.New("a device's memory comes too late")
	}
	floor.MapMemory(pa, n)
	return machine.Frame(pa / machine.PageSize), nil
}

// In implements machine.Bus.
func (*Machine) In(port uint16, size int) uint32 {
	switch size {
	case 1:
		return uint32(floor.In8(port))
	case 2:
		return uint32(floor.In16(port))
	}
	return floor.In32(port)
}

// Out implements machine.Bus.
func (*Machine) Out(port uint16, size int, v uint32) {
	switch size {
	case 1:
		floor.Out8(port, uint8(v))
	case 2:
		floor.Out16(port, uint16(v))
	default:
		floor.Out32(port, v)
	}
}

// Physical implements machine.Firmware.
func (*Machine) Physical(pa, n uint64) ([]byte, error) {
	if !floor.Physical(pa, n) {
		return nil, errors.New("not memory")
	}
	return unsafe.Slice((*byte)(direct(pa)), n), nil
}
