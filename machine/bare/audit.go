package bare

import (
	"errors"
	"strconv"

	"gosv/machine"
	"gosv/machine/floor"
)

// Audit looks through the kernel's half of the page tables and says what should
// not be: a page that is writable and executable, one that programs can reach,
// or a writable alias of a frame that holds the kernel's text or constants.
// It is for tests.
func (*Machine) Audit() error {
	return audit(tableAt(floor.KernelRoot()), 4, 0xffff<<48, present|writable|user, floor.Constant)
}

// audit checks the tables below t, which is of the given level and begins at va;
// the rights above it are up. constant says whether one of n frames holds text or constants.
func audit(t *table, level uint, va, up uint64, constant func(frame, n uint64) bool) error {
	first := 0
	if level == 4 {
		first = 256
	}
	for i := first; i < 512; i++ {
		e := t[i]
		if e&present == 0 {
			continue
		}
		at := va | uint64(i)<<(3+9*level)
		eff := e & up & (writable | user)
		noX := e&noExec != 0
		if level > 1 && e&large == 0 {
			if noX {
				return finding(at, "a table that forbids execution")
			}
			if err := audit(tableAt(e), level-1, at, e&up|present, constant); err != nil {
				return err
			}
			continue
		}
		f, n := e&frameBits/machine.PageSize, uint64(1)
		if level == 2 {
			f, n = f&^511, 512
		}
		switch {
		case eff&user != 0:
			return finding(at, "programs can reach it")
		case eff&writable != 0 && !noX:
			return finding(at, "writable and executable")
		case eff&writable != 0 && constant(f, n):
			return finding(at, "a writable alias of the kernel's text or constants")
		}
	}
	return nil
}

func finding(va uint64, what string) error {
	return errors.New("0x" + strconv.FormatUint(va, 16) + ": " + what)
}
