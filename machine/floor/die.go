package floor

// How the floor ends the machine when nothing else can: through QEMU's
// debug-exit device (exit status 2n+1), else by a reset.

const (
	statusPanic  = 101 // the runtime or the kernel's Go code gave up
	statusFloor  = 102 // a fault inside the floor
	statusMemory = 103 // the kernel's reserve is used up
)

func stop(status uint64) {
	Out32(0xf4, uint32(status))
	Out8(0x64, 0xfe)
	tripleFault()
	for {
		halt()
	}
}

// die reports an exception that came while this CPU was in the floor, an NMI, a
// double fault or a machine check.
func die(c *cpu, x *context) {
	puts("\ngosv: fatal exception in the floor\n")
	dump(c, x)
	stop(statusFloor)
}

func dump(c *cpu, x *context) {
	putkv("cpu ", c.index)
	putkv(" thread ", uint64(c.thread().id))
	putkv(" vector ", x.Vector)
	putkv(" error ", x.Error)
	putkv(" cr2 ", rdcr2())
	putkv("\nrip ", x.RIP)
	putkv(" cs ", x.CS)
	putkv(" rsp ", x.RSP)
	putkv(" rflags ", x.RFLAGS)
	putkv("\nrax ", x.RAX)
	putkv(" rbx ", x.RBX)
	putkv(" rcx ", x.RCX)
	putkv(" rdx ", x.RDX)
	putkv("\nrsi ", x.RSI)
	putkv(" rdi ", x.RDI)
	putkv(" rbp ", x.RBP)
	putkv(" r8 ", x.R8)
	putkv("\nr9 ", x.R9)
	putkv(" r10 ", x.R10)
	putkv(" r11 ", x.R11)
	putkv(" r12 ", x.R12)
	putkv("\nr13 ", x.R13)
	putkv(" r14 ", x.R14)
	putkv(" r15 ", x.R15)
	puts("\nstack")
	if x.RSP >= DirectMap {
		for i := uint64(0); i < 24; i++ {
			if i&3 == 0 {
				puts("\n ")
			}
			if !readable(x.RSP + i*8) {
				break
			}
			putkv(" ", ld64(x.RSP+i*8))
		}
	}
	puts("\n")
}

// readable reports whether a kernel address is mapped.
func readable(va uint64) bool {
	e := entry(nil, va, 1, false)
	return va>>47 == 0x1ffff && e != 0 && ld64(e)&ptePresent != 0
}
