package floor

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"
)

// TestLayout holds layout_amd64.h and the Go structures together.
func TestLayout(t *testing.T) {
	header, err := os.ReadFile("layout_amd64.h")
	if err != nil {
		t.Fatal(err)
	}
	inHeader := map[string]uintptr{}
	for _, m := range regexp.MustCompile(`(?m)^#define ([CPS]_\w+) (0x[0-9a-f]+)(?:\s*//.*)?$`).FindAllStringSubmatch(string(header), -1) {
		v, err := strconv.ParseUint(m[2], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		inHeader[m[1]] = uintptr(v)
	}
	var x context
	var c cpu
	var s space
	inGo := map[string]uintptr{
		"C_R15": unsafe.Offsetof(x.R15), "C_R14": unsafe.Offsetof(x.R14), "C_R13": unsafe.Offsetof(x.R13),
		"C_R12": unsafe.Offsetof(x.R12), "C_R11": unsafe.Offsetof(x.R11), "C_R10": unsafe.Offsetof(x.R10),
		"C_R9": unsafe.Offsetof(x.R9), "C_R8": unsafe.Offsetof(x.R8), "C_RBP": unsafe.Offsetof(x.RBP),
		"C_RDI": unsafe.Offsetof(x.RDI), "C_RSI": unsafe.Offsetof(x.RSI), "C_RDX": unsafe.Offsetof(x.RDX),
		"C_RCX": unsafe.Offsetof(x.RCX), "C_RBX": unsafe.Offsetof(x.RBX), "C_RAX": unsafe.Offsetof(x.RAX),
		"C_VEC": unsafe.Offsetof(x.Vector), "C_ERR": unsafe.Offsetof(x.Error), "C_RIP": unsafe.Offsetof(x.RIP),
		"C_CS": unsafe.Offsetof(x.CS), "C_RFL": unsafe.Offsetof(x.RFLAGS), "C_RSP": unsafe.Offsetof(x.RSP),
		"C_SS": unsafe.Offsetof(x.SS), "C_TOP": contextTop, "C_FS": unsafe.Offsetof(x.FSBase), "C_GS": unsafe.Offsetof(x.GSBase),
		"C_CR2": unsafe.Offsetof(x.FaultAddr), "C_ORIG": unsafe.Offsetof(x.OrigRAX), "C_FLAG": unsafe.Offsetof(x.flag),
		"C_KSP": unsafe.Offsetof(x.kSP), "C_KBP": unsafe.Offsetof(x.kBP), "C_CPU": unsafe.Offsetof(x.cpu), "C_SPACE": unsafe.Offsetof(x.space),
		"C_DEBUG": unsafe.Offsetof(x.debug), "C_FX": unsafe.Offsetof(x.float), "C_DR": unsafe.Offsetof(x.dr), "C_WANT": unsafe.Offsetof(x.want), "C_REAL": unsafe.Offsetof(x.real),
		"C_SINCE": unsafe.Offsetof(x.since), "C_USED": unsafe.Offsetof(x.used),

		"P_SELF": unsafe.Offsetof(c.self), "P_USERTOP": unsafe.Offsetof(c.userTop), "P_SCRATCH": unsafe.Offsetof(c.scratch),
		"P_FLOORSP": unsafe.Offsetof(c.floorSP), "P_G": unsafe.Offsetof(c.g), "P_FLOORFS": unsafe.Offsetof(c.floorFS),
		"P_INFLOOR": unsafe.Offsetof(c.inFloor), "P_THRTOP": unsafe.Offsetof(c.thrTop), "P_THRFS": unsafe.Offsetof(c.thrFS),
		"P_ROOT": unsafe.Offsetof(c.root), "P_SPACE": unsafe.Offsetof(c.space), "P_BIT": unsafe.Offsetof(c.bit),
		"P_NUMBER": unsafe.Offsetof(c.number), "P_TSS": unsafe.Offsetof(c.tss), "P_IST": unsafe.Offsetof(c.tss) + 0x24, "P_DEBUG": unsafe.Offsetof(c.debug), "P_TAGS": unsafe.Offsetof(c.tags),
		"P_GIVEN": unsafe.Offsetof(c.given), "P_CLAIMED": unsafe.Offsetof(c.claimed),

		"S_ROOT": unsafe.Offsetof(s.root), "S_CPUS": unsafe.Offsetof(s.cpus), "S_PCID": unsafe.Offsetof(s.pcid), "S_TAG": unsafe.Offsetof(s.tag),
	}
	for name, v := range inGo {
		if inHeader[name] != v {
			t.Errorf("%s is %#x in layout_amd64.h, %#x in Go", name, inHeader[name], v)
		}
	}
	for name := range inHeader {
		if _, ok := inGo[name]; !ok {
			t.Errorf("%s is not checked", name)
		}
	}
	if n := unsafe.Sizeof(thread{}); n > 4096 {
		t.Errorf("a thread takes %d bytes, more than a page", n)
	}
	if n := unsafe.Sizeof(cpu{}); n > 8192 {
		t.Errorf("a cpu takes %d bytes, more than two pages", n)
	}
	if n := unsafe.Sizeof(space{}); n != 64 {
		t.Errorf("a space takes %d bytes, not a cache line", n)
	}
	if unsafe.Offsetof(x.float)%64 != 0 {
		t.Error("the XSAVE area is not aligned")
	}
}

func TestScale(t *testing.T) {
	for _, c := range [][3]uint64{
		{5 << 32, 1 << 31, 5 << 31}, {1, 1 << 32, 1}, {3000000000, 1 << 32 / 3, 999999999},
		{1 << 62, 1 << 32, 1 << 62},
	} {
		if got := scale(c[0], c[1]); got != c[2] {
			t.Errorf("scale(%#x, %#x) = %#x, want %#x", c[0], c[1], got, c[2])
		}
	}
}
