package procfs

import "strconv"

// out collects the contents of a file. Its methods are not inlined: they are used a
// hundred times, and the kernel is to stay small.
type out struct{ b []byte }

//go:noinline
func (o *out) str(s ...string) *out {
	for _, s := range s {
		o.b = append(o.b, s...)
	}
	return o
}

//go:noinline
func (o *out) num(n int64) *out {
	o.b = strconv.AppendInt(o.b, n, 10)
	return o
}

//go:noinline
func (o *out) unum(n uint64) *out {
	o.b = strconv.AppendUint(o.b, n, 10)
	return o
}

// nums appends numbers with a space before each.
//
//go:noinline
func (o *out) nums(list ...int64) *out {
	for _, n := range list {
		o.str(" ").num(n)
	}
	return o
}

// hex appends n in at least width hexadecimal digits.
//
//go:noinline
func (o *out) hex(n uint64, width int) *out { return o.digits(n, 16, width, '0') }

// right appends n in a field of width.
//
//go:noinline
func (o *out) right(n uint64, width int) *out { return o.digits(n, 10, width, ' ') }

//go:noinline
func (o *out) digits(n uint64, base, width int, fill byte) *out {
	var buf [20]byte
	d := strconv.AppendUint(buf[:0], n, base)
	for range width - len(d) {
		o.b = append(o.b, fill)
	}
	o.b = append(o.b, d...)
	return o
}

// pad appends spaces up to a column counted from start.
//
//go:noinline
func (o *out) pad(start, column int) *out {
	for len(o.b)-start < column {
		o.b = append(o.b, ' ')
	}
	return o
}

//go:noinline
func (o *out) nl() *out { return o.str("\n") }

// kb appends a line of a memory table: "Name:      123 kB".
//
//go:noinline
func (o *out) kb(name string, pages uint64, column int) *out {
	return o.kib(name, pages*4, column)
}

// kib is kb of a number in KiB.
func (o *out) kib(name string, n uint64, column int) *out {
	start := len(o.b)
	o.str(name, ":").pad(start, column)
	return o.right(n, 8).str(" kB\n")
}

// field appends a line "Name:\tvalue".
//
//go:noinline
func (o *out) field(name, value string) *out { return o.str(name, ":\t", value, "\n") }

// hundredths appends ns as seconds with two digits behind the point.
//
//go:noinline
func (o *out) hundredths(ns int64) *out {
	cs := uint64(max(ns, 0)) / 10_000_000
	return o.unum(cs/100).str(".").digits(cs%100, 10, 2, '0')
}

// ticks converts ns to clock ticks, of which there are 100 a second (USER_HZ).
func ticks(ns int64) int64 { return ns / 10_000_000 }
