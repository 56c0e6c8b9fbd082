package futex

// An Op is the encoded operation of FUTEX_WAKE_OP (futex(2)): an operation, a
// comparison and a signed argument of twelve bits for each.
type Op uint32

func (o Op) operation() uint32  { return uint32(o) >> 28 & 7 }
func (o Op) comparison() uint32 { return uint32(o) >> 24 & 15 }

// opArgument returns the argument of the operation; with the top bit set it is a shift count.
func (o Op) opArgument() uint32 {
	v := uint32(int32(o) << 8 >> 20)
	if o>>31 != 0 {
		return 1 << (v & 31)
	}
	return v
}

func (o Op) cmpArgument() int32 { return int32(o) << 20 >> 20 }

func (o Op) valid() bool { return o.operation() <= 4 && o.comparison() <= 5 }

func (o Op) apply(old uint32) uint32 {
	arg := o.opArgument()
	switch o.operation() {
	case 0: // FUTEX_OP_SET
		return arg
	case 1: // FUTEX_OP_ADD
		return old + arg
	case 2: // FUTEX_OP_OR
		return old | arg
	case 3: // FUTEX_OP_ANDN
		return old &^ arg
	}
	return old ^ arg // FUTEX_OP_XOR
}

func (o Op) test(old uint32) bool {
	v, arg := int32(old), o.cmpArgument()
	switch o.comparison() {
	case 0: // FUTEX_OP_CMP_EQ
		return v == arg
	case 1:
		return v != arg
	case 2:
		return v < arg
	case 3:
		return v <= arg
	case 4:
		return v > arg
	}
	return v >= arg // FUTEX_OP_CMP_GE
}
