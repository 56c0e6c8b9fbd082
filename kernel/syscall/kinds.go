package syscall

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gosv/kernel/abi"
	"gosv/kernel/cred"
	"gosv/kernel/task"
)

func appendHex(b []byte, v uint64) []byte {
	if v == 0 {
		return append(b, '0')
	}
	return strconv.AppendUint(append(b, "0x"...), v, 16)
}

func appendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }

// show makes the formatter of a value that the raw argument alone tells.
func show(name string, f func(b []byte, raw uint64) []byte) *formatter {
	return &formatter{name: name, raw: f}
}

func showInt32(b []byte, raw uint64) []byte  { return appendInt(b, int64(int32(raw))) }
func showUint32(b []byte, raw uint64) []byte { return strconv.AppendUint(b, uint64(uint32(raw)), 10) }
func showInt64(b []byte, raw uint64) []byte  { return appendInt(b, int64(raw)) }
func showUint64(b []byte, raw uint64) []byte { return strconv.AppendUint(b, raw, 10) }
func showAddr(b []byte, raw uint64) []byte {
	if raw == 0 {
		return append(b, "NULL"...)
	}
	return appendHex(b, raw)
}
func showOctal(b []byte, raw uint64) []byte {
	return strconv.AppendUint(append(b, '0'), uint64(uint32(raw)), 8)
}

// The plain kinds. The C type decides how many bits of the register count.
var (
	aInt    = newKind(func(_ *task.Task, v uint64) (int32, error) { return int32(v), nil }, show("int", showInt32))
	aUint   = newKind(func(_ *task.Task, v uint64) (uint32, error) { return uint32(v), nil }, show("unsigned", showUint32))
	aLong   = newKind(func(_ *task.Task, v uint64) (int64, error) { return int64(v), nil }, show("long", showInt64))
	aUlong  = newKind(func(_ *task.Task, v uint64) (uint64, error) { return v, nil }, show("unsigned long", showUint64))
	aOffset = aLong.as(show("offset", showInt64))
	aSize   = aUlong.as(show("size", showUint64))
	aHex    = aUlong.as(show("word", appendHex))
	aAddr   = aUlong.as(show("address", showAddr))
	aMode   = aUint.as(show("mode", showOctal))
	aFD     = aInt.as(show("fd", showInt32))
	aPID    = newKind(func(t *task.Task, v uint64) (int32, error) { return t.Process().PIDs().Argument(int32(v)), nil }, show("pid", showInt32))
	aWhoID  = aInt.as(show("id", showInt32))
	aUID    = newKind(func(t *task.Task, v uint64) (uint32, error) { return realID(uint32(v), t.Cred().User.RealUID) }, show("id", showInt32))
	aGID    = newKind(func(t *task.Task, v uint64) (uint32, error) { return realID(uint32(v), t.Cred().User.RealGID) }, show("id", showInt32))
	aDirFD  = aInt.as(show("dirfd", showDirFD))
	aSignal = newKind(func(_ *task.Task, v uint64) (unix.Signal, error) { return unix.Signal(int32(v)), nil }, show("signal", showSignal))
)

// realID is an ID that a program names as the kernel knows it: EINVAL when its user namespace has no such one; −1 stays.
func realID(n uint32, real func(uint32) uint32) (uint32, error) {
	if n == cred.Keep {
		return n, nil
	}
	id := real(n)
	if id == cred.Keep {
		return 0, unix.EINVAL
	}
	return id, nil
}

//go:noinline
func showDirFD(b []byte, raw uint64) []byte {
	if int32(raw) == unix.AT_FDCWD {
		return append(b, "AT_FDCWD"...)
	}
	return showInt32(b, raw)
}

// path is a name for a file, at most PATH_MAX with its NUL. It fails with
// EFAULT and ENAMETOOLONG; whether it may be empty is the handler's business.
var aPath = newKind(decodePath, &formatter{name: "path", in: showString})

func decodePath(t *task.Task, addr uint64) (string, error) {
	s, err := readString(t, addr, abi.PathMax)
	if err == errTooLong {
		return "", unix.ENAMETOOLONG
	}
	return s, err
}

// optPath is a path that may be NULL.
type optPath struct {
	path string
	ok   bool
}

var aOptPath = newKind(func(t *task.Task, addr uint64) (optPath, error) {
	if addr == 0 {
		return optPath{}, nil
	}
	s, err := decodePath(t, addr)
	return optPath{s, true}, err
}, &formatter{name: "path or NULL", in: showString})

// maxShown is how much of a string or buffer strace shows.
const maxShown = 32

//go:noinline
func showString(b []byte, t *task.Task, a *args, i int) []byte {
	if a[i] == 0 {
		return append(b, "NULL"...)
	}
	s, err := readString(t, a[i], abi.PathMax)
	if err != nil {
		return appendHex(b, a[i])
	}
	return strconv.AppendQuote(b, s)
}

// appendBytes shows n bytes of user memory as a string.
//
//go:noinline
func appendBytes(b []byte, t *task.Task, addr, n uint64) []byte {
	if addr == 0 {
		return append(b, "NULL"...)
	}
	buf := make([]byte, min(n, maxShown))
	if got, _ := t.Mem().CopyIn(buf, addr); got < len(buf) {
		return appendHex(b, addr)
	}
	b = strconv.AppendQuoteToASCII(b, string(buf))
	if n > maxShown {
		b = append(b, "..."...)
	}
	return b
}

// aSource is memory that the call reads; its length is the next argument.
var aSource = aUlong.as(&formatter{name: "buffer in",
	in: func(b []byte, t *task.Task, a *args, i int) []byte { return appendBytes(b, t, a[i], a[i+1]) }})

// aSink is memory that the call fills with as many bytes as it returns; its size is the next argument.
var aSink = aUlong.as(&formatter{name: "buffer out", raw: showAddr,
	out: func(b []byte, t *task.Task, a *args, i int, v uint64) []byte {
		return appendBytes(b, t, a[i], min(v, a[i+1]))
	}})

// A layout is how a structure lies in a program's memory.
type layout[T any] struct {
	name string
	size int
	get  func([]byte) T
	put  func([]byte, T)
	// show appends to b what lies in mem; nil: strace shows the address.
	show func(b, mem []byte) []byte
}

// load reads the structure at addr: EFAULT.
func (l *layout[T]) load(t *task.Task, addr uint64) (v T, err error) {
	b := t.Scratch[:l.size]
	if n, err := t.Mem().CopyIn(b, addr); n < len(b) {
		return v, efault(err)
	}
	return l.get(b), nil
}

// store writes the structure at addr: EFAULT.
func (l *layout[T]) store(t *task.Task, addr uint64, v T) error {
	b := t.Scratch[:l.size]
	l.put(b, v)
	return copyOut(t, addr, b)
}

// in is the kind of a structure that the call reads.
//
//go:noinline
func in[T any](l *layout[T]) kind[T] {
	return newKind(l.load, memory(l.name, l.size, l.show))
}

// An opt is a structure that may be missing (NULL).
type opt[T any] struct {
	_  incomparable
	v  T
	ok bool
}

// incomparable spares a type the function that compares it.
type incomparable = [0]func()

// inOpt is in for an address that may be NULL.
//
//go:noinline
func inOpt[T any](l *layout[T]) kind[opt[T]] {
	return newKind(l.loadOpt, memory(l.name+" or NULL", l.size, l.show))
}

// loadOpt reads the structure at addr, if that is not NULL.
func (l *layout[T]) loadOpt(t *task.Task, addr uint64) (o opt[T], err error) {
	if addr != 0 {
		o.v, err = l.load(t, addr)
		o.ok = true
	}
	return o, err
}

// A dest is where the call stores a structure. All dests are alike to the compiler, which makes one of generic code
// for them all, and names it by the fields.
type dest[T any] struct {
	_      incomparable
	Addr   uint64
	Layout any // the *layout[T]
}

// put stores v: EFAULT.
func (d dest[T]) put(t *task.Task, v T) error { return d.Layout.(*layout[T]).store(t, d.Addr, v) }

// putOpt stores v unless the address is NULL.
func (d dest[T]) putOpt(t *task.Task, v T) error {
	if d.Addr == 0 {
		return nil
	}
	return d.put(t, v)
}

func (l *layout[T]) at(addr uint64) dest[T] { return dest[T]{Addr: addr, Layout: l} }

// out is the kind of a structure that the call fills.
//
//go:noinline
func out[T any](l *layout[T]) kind[dest[T]] {
	return newKind(func(_ *task.Task, addr uint64) (dest[T], error) { return l.at(addr), nil }, stored(l.name+" out", l.size, l.show))
}

// memory makes the formatter of what lies at the address that the argument is.
//
//go:noinline
func memory(name string, size int, show func(b, mem []byte) []byte) *formatter {
	if show == nil {
		return &formatter{name: name, raw: showAddr}
	}
	return &formatter{name: name, in: func(b []byte, t *task.Task, a *args, i int) []byte {
		mem := make([]byte, size) // the scratch buffer belongs to the call
		if n, _ := t.Mem().CopyIn(mem, a[i]); a[i] == 0 || n < size {
			return showAddr(b, a[i])
		}
		return show(b, mem)
	}}
}

// stored is memory for what the call puts there.
//
//go:noinline
func stored(name string, size int, show func(b, mem []byte) []byte) *formatter {
	f := &formatter{name: name, raw: showAddr}
	if in := memory(name, size, show).in; in != nil {
		f.out = func(b []byte, t *task.Task, a *args, i int, _ uint64) []byte { return in(b, t, a, i) }
	}
	return f
}

// A flagName is a bit and its name.
type flagName struct {
	bit  uint64
	name string
}

// flags is the kind of a set of bits: EINVAL when one is set that known lacks.
//
//go:noinline
func flags(name string, known uint64, names []flagName) kind[uint32] {
	return newKind(
		func(_ *task.Task, v uint64) (uint32, error) {
			if uint64(uint32(v))&^known != 0 {
				return 0, unix.EINVAL
			}
			return uint32(v), nil
		},
		show(name, func(b []byte, v uint64) []byte { return appendFlags(b, uint64(uint32(v)), names) }),
	)
}

//go:noinline
func appendFlags(b []byte, v uint64, names []flagName) []byte {
	if v == 0 {
		return append(b, '0')
	}
	sep := false
	for _, n := range names {
		if n.bit != 0 && v&n.bit == n.bit {
			if sep {
				b = append(b, '|')
			}
			b, sep = append(b, n.name...), true
			v &^= n.bit
		}
	}
	if v != 0 {
		if sep {
			b = append(b, '|')
		}
		b = appendHex(b, v)
	}
	return b
}

// choice is the kind of a number that has a name.
//
//go:noinline
func choice(name string, names []flagName) kind[int32] {
	return aInt.as(show(name, func(b []byte, v uint64) []byte { return appendChoice(b, v, names) }))
}

func appendChoice(b []byte, v uint64, names []flagName) []byte {
	for _, n := range names {
		if n.bit == uint64(uint32(v)) {
			return append(b, n.name...)
		}
	}
	return showInt32(b, v)
}
