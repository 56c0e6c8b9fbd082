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
	// Left returns how many more bytes fit.
	Left() int
}

// A Source gives bytes: the origin of a write.
type Source interface {
	// Take fills p as far as there are bytes and returns how many; the error
	// is EFAULT when the origin cannot be read.
	Take(p []byte) (int, error)
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

// WordSink and WordSource are Sinks and Sources that have a quick way for a word, without a buffer for it.
type (
	WordSink   interface{ PutWord(v uint64) error }
	WordSource interface{ TakeWord() (uint64, error) }
)

// PutWord puts the 8 bytes of v, lowest first, into s: EFAULT when it does not take them all.
func PutWord(s Sink, v uint64) error {
	if w, ok := s.(WordSink); ok {
		return w.PutWord(v)
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if n, err := s.Put(b[:]); err != nil || n < len(b) {
		return unix.EFAULT
	}
	return nil
}

// TakeWord takes 8 bytes, lowest first, from s: EFAULT when there are less.
func TakeWord(s Source) (uint64, error) {
	if w, ok := s.(WordSource); ok {
		return w.TakeWord()
	}
	var b [8]byte
	if n, err := s.Take(b[:]); err != nil || n < len(b) {
		return 0, unix.EFAULT
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Left implements Sink and Source.
func (b *Buffer) Left() int { return len(*b) }
