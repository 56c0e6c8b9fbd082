package loader

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
)

// Keys of the auxiliary vector, getauxval(3).
const (
	atPHDR         = 3
	atPHENT        = 4
	atPHNUM        = 5
	atPAGESZ       = 6
	atBASE         = 7
	atFLAGS        = 8
	atENTRY        = 9
	atUID          = 11
	atEUID         = 12
	atGID          = 13
	atEGID         = 14
	atPLATFORM     = 15
	atHWCAP        = 16
	atCLKTCK       = 17
	atSECURE       = 23
	atRANDOM       = 25
	atHWCAP2       = 26
	atEXECFN       = 31
	atSYSINFO_EHDR = 33
	atMINSIGSTKSZ  = 51
)

// ClockTick is USER_HZ, the unit of times(2): ticks a second.
const ClockTick = 100

const platform = "x86_64"

type aux struct{ key, value uint64 }

// stackArgs is what a new program finds on its stack.
type stackArgs struct {
	argv, envp []string
	execfn     string
	random     [16]byte
	aux        []aux // without RANDOM, EXECFN, PLATFORM, NULL
}

// stackImage is the initial stack: bytes goes to sp and ends at the stack's top.
type stackImage struct {
	sp                                 uint64
	bytes                              []byte
	argStart, argEnd, envStart, envEnd uint64
	auxv                               []byte // for /proc/PID/auxv
}

// CheckArgs applies Linux's limits on arguments and environment (execve(2),
// "Limits on size of arguments and environment"): E2BIG. stackLimit is RLIMIT_STACK in bytes.
func CheckArgs(argv, envp []string, execfn string, stackLimit uint64) error {
	const most, least = 8 << 20 / 4 * 3, 131072
	limit := max(min(most, stackLimit/4), least)
	need := uint64(max(len(argv), 1)+len(envp))*8 + uint64(len(execfn)) + 1
	for _, list := range [2][]string{argv, envp} {
		for _, s := range list {
			if len(s) >= abi.MaxArgStrlen {
				return unix.E2BIG
			}
			need += uint64(len(s)) + 1
		}
	}
	if need > limit {
		return unix.E2BIG
	}
	return nil
}

// build lays the stack out below top as Linux does: from the top eight zero bytes, the
// file name, environment and arguments; then platform and random bytes; then
// what _start finds at the stack pointer, which is a multiple of 16: argc,
// argv, envp and the auxiliary vector (System V ABI, AMD64 supplement §3.4.1).
func (a *stackArgs) build(top uint64) stackImage {
	strings := len(a.execfn) + 1 + 8
	for _, s := range a.argv {
		strings += len(s) + 1
	}
	for _, s := range a.envp {
		strings += len(s) + 1
	}
	middle := len(platform) + 1 + len(a.random)
	vector := 8 * (1 + len(a.argv) + 1 + len(a.envp) + 1 + 2*(len(a.aux)+4))
	sp := top - uint64(strings+middle+vector)
	sp &^= 15
	img := stackImage{sp: sp, bytes: make([]byte, top-sp)}

	// The vector goes up from sp, the strings end at top.
	le := binary.LittleEndian
	at := 0
	word := func(v uint64) {
		le.PutUint64(img.bytes[at:], v)
		at += 8
	}
	pos := len(img.bytes) - strings
	str := func(s string) uint64 {
		addr := sp + uint64(pos)
		pos += copy(img.bytes[pos:], s) + 1
		return addr
	}
	word(uint64(len(a.argv)))
	img.argStart = sp + uint64(pos)
	for _, s := range a.argv {
		word(str(s))
	}
	word(0)
	img.argEnd = sp + uint64(pos)
	img.envStart = img.argEnd
	for _, s := range a.envp {
		word(str(s))
	}
	word(0)
	img.envEnd = sp + uint64(pos)
	execfn := str(a.execfn)
	pos = len(img.bytes) - strings - middle
	random := sp + uint64(pos)
	pos += copy(img.bytes[pos:], a.random[:])
	platformAt := str(platform)

	first := at
	for _, x := range a.aux {
		word(x.key)
		word(x.value)
	}
	for _, x := range [...]aux{{atRANDOM, random}, {atEXECFN, execfn}, {atPLATFORM, platformAt}, {0, 0}} {
		word(x.key)
		word(x.value)
	}
	img.auxv = img.bytes[first:at]
	return img
}
