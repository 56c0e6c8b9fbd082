package machine

// Emulated says that a barrier orders nothing for devices: QEMU before 8.1 leaves barriers out of a machine of one processor that it
// emulates, though its devices run on other threads of the host. It is set before there are devices.
var Emulated bool

// Settle orders the stores to a Memory before the loads that follow it, as a device sees them. Where a barrier does not do that, it stores
// more than a processor can hold back, so that what was stored before is out.
func Settle() {
	if Emulated {
		drain()
	}
}

func drain()
