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
