// Package uio moves bytes between an object of the kernel and whoever asked
// for them, a program's memory or a kernel buffer, without a copy in between.
package uio

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A Sink takes bytes: the destination of a read. A Sink in a program's memory
// may fault, so an object must not hold a lock that its page-fault path takes.
type Sink interface {
	// Put appends p as far as there is room and returns how much was taken; the
	// error is EFAULT when the destination cannot be written.
	Put(p []byte) (int, error)
	// PutWord appends the 8 bytes of v, lowest first: EFAULT when not all fit or can be written.
	PutWord(v uint64) error
	// Left returns how many more bytes fit.
	Left() int
}

// A Source gives bytes: the origin of a write.
type Source interface {
	// Take fills p as far as there are bytes and returns how many; the error
	// is EFAULT when the origin cannot be read.
	Take(p []byte) (int, error)
	// TakeWord takes 8 bytes, lowest first, if the number is at most most, and returns it in any case: EFAULT when there are
	// less, or not all can be read.
	TakeWord(most uint64) (uint64, error)
	// Left returns how many more bytes there are.
	Left() int
}

// Buffer is a Sink and a Source in kernel memory: the bytes not yet written or read.
type Buffer []byte

// Put implements Sink.
func (b *Buffer) Put(p []byte) (int, error) {
	n := copy(*b, p)
	*b = (*b)[n:]
	return n, nil
}

// Take implements Source.
func (b *Buffer) Take(p []byte) (int, error) {
	n := copy(p, *b)
	*b = (*b)[n:]
	return n, nil
}

// PutWord implements Sink.
func (b *Buffer) PutWord(v uint64) error { return WordTo(b, v) }

// TakeWord implements Source.
func (b *Buffer) TakeWord(most uint64) (uint64, error) {
	rest := *b
	v, err := WordFrom(&rest)
	if err == nil && v <= most {
		*b = rest
	}
	return v, err
}

// WordTo is a PutWord for Sinks that have no quicker way than Put.
func WordTo(s Sink, v uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if n, err := s.Put(b[:]); err != nil || n < len(b) {
		return unix.EFAULT
	}
	return nil
}

// WordFrom takes 8 bytes, lowest first: EFAULT when there are less.
func WordFrom(s Source) (uint64, error) {
	var b [8]byte
	if n, err := s.Take(b[:]); err != nil || n < len(b) {
		return 0, unix.EFAULT
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Left implements Sink and Source.
func (b *Buffer) Left() int { return len(*b) }
