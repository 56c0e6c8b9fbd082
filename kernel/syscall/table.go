// Package syscall is the boundary between programs and the kernel: it decodes
// the arguments of every system call, checks them, and calls the room that
// does the work. It also starts programs (execve).
//
// The heart is one table with a row for each number (rows.go). A row names the
// kind of each argument; the kind decides how the raw register becomes a typed
// value, which errno a bad one gives, and how strace shows it. A handler
// therefore never sees an unchecked pointer, path or flag. Calls that are not
// implemented have rows too, with the errno that programs get and the reason.
//
// What each call does is in section 2 of the manual pages; where those are silent,
// Linux 6.1 on x86-64 is followed. docs/syscalls.md is made from the table.
package syscall

//go:generate go test -run TestDocs -update

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/machine"
)

// numbers is the size of the table: 0 to 462, the calls of Linux 6.9.
const numbers = 463

// A table has the rows by number.
type table [numbers]*row

//go:noinline
func (r *table) set(nr int, to *row) { r[nr] = to }

// A row is one system call.
type row struct {
	name string
	// call decodes the arguments and does the work; for a call that is not
	// implemented it is nil, and programs get errno.
	call func(*task.Task) (uint64, error)
	// handler is the function that callN got, and decode are the decoders of its arguments.
	handler any
	decode  [6]any
	errno   unix.Errno
	// note says why a call is missing or what is missing of it.
	note string
	args []*formatter
	// result shows the value for strace; nil: a decimal number.
	result func(b []byte, v uint64) []byte
	// final calls do not return to the program when they succeed.
	final bool
}

// A kind is a kind of argument.
type kind[T any] struct{ *argument }

// An argument is a kind without its type, which lets all kinds share their code.
type argument struct {
	decode any // a decoder[T]
	*formatter
}

func newKind[T any](decode decoder[T], f *formatter) kind[T] {
	return kind[T]{&argument{decode, f}}
}

// as is a kind that strace shows another way.
func (k kind[T]) as(f *formatter) kind[T] { return kind[T]{&argument{k.decode, f}} }

// A decoder makes a value of an argument. The errno of a bad one is that which the manual pages give for such arguments.
type decoder[T any] func(t *task.Task, raw uint64) (T, error)

// A formatter shows an argument as strace(1) would.
type formatter struct {
	// name is the kind's name in the documentation.
	name string
	// raw shows a register that says all by itself.
	raw func(b []byte, raw uint64) []byte
	// in, if not nil, shows an argument that the program hands over, before the call, in place of raw.
	in func(b []byte, t *task.Task, a *args, i int) []byte
	// out, if not nil, shows what the kernel has stored, after a call that succeeded
	// with value v, in place of both.
	out func(b []byte, t *task.Task, a *args, i int, v uint64) []byte
}

// args are the raw arguments, in order.
type args [6]uint64

func argsOf(c *machine.Context) args { return args{c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9} }

func setArgs(c *machine.Context, a args) {
	c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
}

// The callN make a row from the kinds of the arguments and the handler. The compiler makes one of each for every
// combination of kinds, so they are kept small: all else is in newRow, and the closure holds nothing but
// the row, because one over typed functions would take a description of all their types along.
// They are not inlined, as each is used often, once.
//
//go:noinline
func call0(name string, fn func(*task.Task) (uint64, error)) *row { return &row{name: name, call: fn} }

//go:noinline
func call1[A any](name string, a kind[A], fn func(*task.Task, A) (uint64, error)) *row {
	r := newRow(name, fn, a.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A) (uint64, error))(t, a)
	}
	return r
}

//go:noinline
func call2[A, B any](name string, a kind[A], b kind[B], fn func(*task.Task, A, B) (uint64, error)) *row {
	r := newRow(name, fn, a.argument, b.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		b, err := r.decode[1].(decoder[B])(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A, B) (uint64, error))(t, a, b)
	}
	return r
}

//go:noinline
func call3[A, B, C any](name string, a kind[A], b kind[B], c kind[C], fn func(*task.Task, A, B, C) (uint64, error)) *row {
	r := newRow(name, fn, a.argument, b.argument, c.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		b, err := r.decode[1].(decoder[B])(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		c, err := r.decode[2].(decoder[C])(t, t.Ctx.RDX)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A, B, C) (uint64, error))(t, a, b, c)
	}
	return r
}

//go:noinline
func call4[A, B, C, D any](name string, a kind[A], b kind[B], c kind[C], d kind[D], fn func(*task.Task, A, B, C, D) (uint64, error)) *row {
	r := newRow(name, fn, a.argument, b.argument, c.argument, d.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		b, err := r.decode[1].(decoder[B])(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		c, err := r.decode[2].(decoder[C])(t, t.Ctx.RDX)
		if err != nil {
			return 0, err
		}
		d, err := r.decode[3].(decoder[D])(t, t.Ctx.R10)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A, B, C, D) (uint64, error))(t, a, b, c, d)
	}
	return r
}

//go:noinline
func call5[A, B, C, D, E any](name string, a kind[A], b kind[B], c kind[C], d kind[D], e kind[E], fn func(*task.Task, A, B, C, D, E) (uint64, error)) *row {
	r := newRow(name, fn, a.argument, b.argument, c.argument, d.argument, e.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		b, err := r.decode[1].(decoder[B])(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		c, err := r.decode[2].(decoder[C])(t, t.Ctx.RDX)
		if err != nil {
			return 0, err
		}
		d, err := r.decode[3].(decoder[D])(t, t.Ctx.R10)
		if err != nil {
			return 0, err
		}
		e, err := r.decode[4].(decoder[E])(t, t.Ctx.R8)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A, B, C, D, E) (uint64, error))(t, a, b, c, d, e)
	}
	return r
}

//go:noinline
func call6[A, B, C, D, E, F any](name string, a kind[A], b kind[B], c kind[C], d kind[D], e kind[E], f kind[F], fn func(*task.Task, A, B, C, D, E, F) (uint64, error)) *row {
	r := newRow(name, fn, a.argument, b.argument, c.argument, d.argument, e.argument, f.argument)
	r.call = func(t *task.Task) (uint64, error) {
		a, err := r.decode[0].(decoder[A])(t, t.Ctx.RDI)
		if err != nil {
			return 0, err
		}
		b, err := r.decode[1].(decoder[B])(t, t.Ctx.RSI)
		if err != nil {
			return 0, err
		}
		c, err := r.decode[2].(decoder[C])(t, t.Ctx.RDX)
		if err != nil {
			return 0, err
		}
		d, err := r.decode[3].(decoder[D])(t, t.Ctx.R10)
		if err != nil {
			return 0, err
		}
		e, err := r.decode[4].(decoder[E])(t, t.Ctx.R8)
		if err != nil {
			return 0, err
		}
		f, err := r.decode[5].(decoder[F])(t, t.Ctx.R9)
		if err != nil {
			return 0, err
		}
		return r.handler.(func(*task.Task, A, B, C, D, E, F) (uint64, error))(t, a, b, c, d, e, f)
	}
	return r
}

//go:noinline
func newRow(name string, handler any, args ...*argument) *row {
	r := &row{name: name, handler: handler}
	for i, a := range args {
		r.decode[i] = a.decode
		r.args = append(r.args, a.formatter)
	}
	return r
}

// missing is a call that is not implemented.
func missing(name string, errno unix.Errno, note string) *row {
	return &row{name: name, errno: errno, note: note}
}

// partly adds to a row what is missing of its call.
func (r *row) partly(note string) *row { r.note = note; return r }

// address makes strace show the result in hexadecimal.
func (r *row) address() *row {
	r.result = appendHex
	return r
}

// ends marks a call that does not return.
func (r *row) ends() *row { r.final = true; return r }
