// Package abi knows how Linux on x86-64 lays out the structures that cross the
// boundary between a program and the kernel.
//
// The structures themselves are those of golang.org/x/sys/unix where that has
// them. For each there are SizeofX, its length in bytes; PutX, which writes it
// into a buffer of at least that length, padding as zeros; and GetX, which
// reads it. Nothing here checks a value: that is its user's business.
//
// Layouts follow include/uapi/linux and arch/x86/include/uapi/asm of Linux 6.1.
package abi

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

var le = binary.LittleEndian

// Errors of the kernel's own, which say how an interrupted call goes on (signal(7)).
// They never reach a program.
const (
	// ERESTARTSYS: again, if the handler has SA_RESTART, else EINTR.
	ERESTARTSYS = unix.Errno(512)
	// ERESTARTNOINTR: always again.
	ERESTARTNOINTR = unix.Errno(513)
	// ERESTARTNOHAND: again when no handler runs, else EINTR.
	ERESTARTNOHAND = unix.Errno(514)
	// ERESTART_RESTARTBLOCK: go on by restart_syscall(2) when no handler runs, else EINTR.
	ERESTART_RESTARTBLOCK = unix.Errno(516)
)

// Limits of arguments (include/uapi/linux/limits.h, binfmts.h, uio.h).
const (
	// MaxRW is MAX_RW_COUNT, the most bytes that one read or write moves.
	MaxRW = 0x7ffff000
	// MaxArgStrlen is MAX_ARG_STRLEN, the length of one argument with its NUL.
	MaxArgStrlen = 32 * 4096
	// MaxIOV is UIO_MAXIOV.
	MaxIOV = 1024
	// PathMax is PATH_MAX, with the NUL.
	PathMax = 4096
	// TaskCommLen is TASK_COMM_LEN, with the NUL.
	TaskCommLen = 16
	// SigSetSize is the size of the kernel's sigset_t in bytes.
	SigSetSize = 8
	// NSIG is the highest signal number.
	NSIG = 64
)

// Every reader and writer cuts b to the size of its structure first: one check then does for all fields.

func put32(b []byte, off int, v uint32) { le.PutUint32(b[off:], v) }
func put64(b []byte, off int, v uint64) { le.PutUint64(b[off:], v) }
func get32(b []byte, off int) uint32    { return le.Uint32(b[off:]) }
func get64(b []byte, off int) uint64    { return le.Uint64(b[off:]) }

// Requests of ioctl(2) for every file (asm-generic/ioctls.h).
const (
	FIONREAD = 0x541b
	FIONBIO  = 0x5421
	FIONCLEX = 0x5450
	FIOCLEX  = 0x5451
	FIOASYNC = 0x5452
	FIOQSIZE = 0x5460
)
