package floor

// The floor speaks on the first serial port (16550 at 0x3f8), by polling.

// setSerial sets 115200 baud, 8 bits, no parity: no emulator asks for it but Bochs, every real port does.
func setSerial() {
	Out8(0x3fb, 0x83) // divisor next
	Out8(0x3f8, 1)
	Out8(0x3f9, 0)
	Out8(0x3fb, 3)
}

func putc(b byte) {
	for i := 0; In8(0x3fd)&0x20 == 0 && i < 100000; i++ {
		pause()
	}
	Out8(0x3f8, b)
}

func puts(s string) {
	for i := 0; i < len(s); i++ {
		if s[i] == '\n' {
			putc('\r')
		}
		putc(s[i])
	}
}

func putx(v uint64) {
	puts("0x")
	sh := 60
	for sh > 0 && v>>uint(sh) == 0 {
		sh -= 4
	}
	for ; sh >= 0; sh -= 4 {
		putc("0123456789abcdef"[v>>uint(sh)&15])
	}
}

func putkv(s string, v uint64) {
	puts(s)
	putx(v)
}

// Emergency writes b to the serial port.
func Emergency(b []byte) {
	for _, c := range b {
		if c == '\n' {
			putc('\r')
		}
		putc(c)
	}
}
