package main

import (
	"strings"

	"gosv/fs/procfs"
)

// cpuID executes the cpuid instruction.
type cpuID func(leaf, sub uint32) (a, b, c, d uint32)

// info describes the processor as Linux does in /proc/cpuinfo (Intel SDM Vol. 2A, CPUID).
func (id cpuID) info() procfs.CPUInfo {
	top, b, c, d := id(0, 0)
	i := procfs.CPUInfo{Vendor: registers(b, d, c), Flags: id.flags(top)}
	if ext, _, _, _ := id(0x80000000, 0); ext >= 0x80000004 {
		var model strings.Builder
		for leaf := uint32(0x80000002); leaf <= 0x80000004; leaf++ {
			a, b, c, d := id(leaf, 0)
			model.WriteString(registers(a, b, c, d))
		}
		i.Model = strings.Trim(model.String(), "\x00 ")
	}
	a, _, _, _ := id(1, 0)
	i.Family, i.Number, i.Stepping = int(a>>8&15), int(a>>4&15), int(a&15)
	if i.Family == 6 || i.Family == 15 {
		i.Number |= int(a>>16&15) << 4
	}
	if i.Family == 15 {
		i.Family += int(a >> 20 & 255)
	}
	return i
}

// registers returns the characters in registers.
func registers(regs ...uint32) string {
	var b []byte
	for _, r := range regs {
		b = append(b, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	return string(b)
}

// The names of feature bits, from bit 0 on; "-" has none.
const (
	leaf1EDX = "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
	leaf1ECX = "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor"
	leaf7EBX = "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"
	leaf7ECX = "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg - avx512_vpopcntdq - la57 - - - - - rdpid"
	extEDX   = "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"
	extECX   = "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce"
)

func (id cpuID) flags(top uint32) string {
	_, _, c1, d1 := id(1, 0)
	_, _, cx, dx := id(0x80000001, 0)
	var b7, c7 uint32
	if top >= 7 {
		_, b7, c7, _ = id(7, 0)
	}
	var list []string
	for _, f := range [...]struct {
		bits  uint32
		names string
	}{{d1, leaf1EDX}, {dx, extEDX}, {c1, leaf1ECX}, {cx, extECX}, {b7, leaf7EBX}, {c7, leaf7ECX}} {
		for bit, name := range strings.Fields(f.names) {
			if f.bits>>bit&1 != 0 && name != "-" {
				list = append(list, name)
			}
		}
	}
	return strings.Join(list, " ")
}
