package floor

func rdrand() (v uint64, ok bool)

// random returns 64 bits from RDRAND, or from the clock where there is none.
func random() uint64 {
	if _, _, c, _ := cpuid(1, 0); c>>30&1 != 0 {
		for i := 0; i < 10; i++ {
			if v, ok := rdrand(); ok {
				return v
			}
		}
	}
	v := rdtsc() * 0x9e3779b97f4a7c15
	return v ^ v>>29
}
