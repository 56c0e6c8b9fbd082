package signal

import (
	"gosv/kernel/abi"

	"golang.org/x/sys/unix"
)

// Flags of sigaltstack(2).
const (
	OnStackFlag = 1       // SS_ONSTACK
	Disable     = 2       // SS_DISABLE
	AutoDisarm  = 1 << 31 // SS_AUTODISARM

	// MinSize is MINSIGSTKSZ.
	MinSize = 2048
)

// On reports whether the stack pointer sp lies on the alternate stack s.
// With SS_AUTODISARM a program is never on it as far as the kernel knows.
func On(s *abi.StackT, sp uint64) bool {
	return uint32(s.Flags)&AutoDisarm == 0 && inside(s, sp)
}

func inside(s *abi.StackT, sp uint64) bool { return sp > s.SP && sp-s.SP <= s.Size }

// Describe returns s as sigaltstack(2) reports it when the stack pointer is sp.
func Describe(s *abi.StackT, sp uint64) abi.StackT {
	d := *s
	auto := int32(uint32(d.Flags) & AutoDisarm)
	switch {
	case d.Size == 0:
		d.Flags = auto | Disable
	case On(s, sp):
		d.Flags = auto | OnStackFlag
	default:
		d.Flags = auto
	}
	return d
}

// Check validates a new alternate stack and returns it as it is to be stored: EPERM while sp is on the
// old one, EINVAL for unknown flags, ENOMEM for one that is smaller than min bytes.
func Check(old *abi.StackT, new abi.StackT, sp, min uint64) (abi.StackT, error) {
	if On(old, sp) {
		return *old, unix.EPERM
	}
	mode := uint32(new.Flags) &^ AutoDisarm
	if mode != Disable && mode != OnStackFlag && mode != 0 {
		return *old, unix.EINVAL
	}
	if mode == Disable {
		return abi.StackT{Flags: new.Flags}, nil
	}
	if new.Size < min {
		return *old, unix.ENOMEM
	}
	return new, nil
}
