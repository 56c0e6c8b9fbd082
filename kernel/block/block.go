// Package block is the layer of block devices: what a driver of disks does (Device), one disk or partition with a
// name, bounds, statistics and claims (Disk), and the registry of them.
//
// A Device may be stacked: partitions, loop devices and verified devices are Devices over others. Everything here moves
// whole logical blocks between a device and memory that the device can reach; caching is for those above.
//
// Do blocks the calling goroutine until the device has answered, uninterruptibly, as Linux does; many
// goroutines may call it at once, and their requests run side by side in any order. Whoever needs an order
// waits for the first request before the second. A completed Write is durable after a Flush that began later, or at once with
// Request.Durable.
//
// Lock order: Registry.mu → Disk.mu. Neither is held while a device works.
package block

import (
	"golang.org/x/sys/unix"

	"gosv/machine"
)

// SectorSize is the unit of sizes and offsets that people see (/sys/block/*/size), in bytes.
const SectorSize = 512

// An Op is what a request asks for.
type Op uint8

// The operations.
const (
	Read Op = iota
	Write
	Flush       // makes completed writes durable
	Discard     // the contents are not needed any more; what is read afterwards is undefined
	WriteZeroes // the range reads as zeros afterwards
)

// A Segment is physically contiguous memory.
type Segment struct {
	Bytes []byte
	Addr  uint64 // physical address of Bytes; a multiple of 4
}

// A Request asks a device for one operation. The device does not keep it.
type Request struct {
	Op Op
	// Off and Len are in bytes, multiples of the logical block size; Len is the sum of the segments
	// of a Read or Write. Both are 0 for a Flush.
	Off, Len int64
	// Data is what is read into, or written. The length of each segment is a multiple of the logical block size.
	Data []Segment
	// Durable makes a Write durable before it is complete (FUA).
	Durable bool
	// Allocated keeps WriteZeroes from giving space back.
	Allocated bool
}

// Limits describes a device. It does not change.
type Limits struct {
	Size         int64 // bytes, a multiple of BlockSize
	BlockSize    int   // logical block, a power of two from 512 to 4096
	PhysicalSize int   // physical block, a power of two, at least BlockSize
	OptimalSize  int   // the transfer that suits best, in bytes; 0: not known
	MaxBytes     int64 // most that one Read or Write moves; 0: no limit
	MaxSegments  int   // most segments of one request; 0: no limit
	MaxDiscard   int64 // most bytes of one Discard; 0: it is not supported
	DiscardAlign int64 // granularity of discard in bytes
	MaxZeroes    int64 // most bytes of one WriteZeroes; 0: it is not supported
	ReadOnly     bool
	Cached       bool // the device has a volatile write cache
	Rotational   bool
	Queues       int // how many requests' queues it has
}

// A Device is a disk, or a layer that looks like one.
type Device interface {
	Limits() Limits
	// Do carries a request out: EIO; EOPNOTSUPP for what Limits says is not supported; ENOSPC; EROFS. The request is
	// within all limits.
	Do(r *Request) error
}

// InMemory is a Device whose contents are memory that is there for good, so that what does not change can be used in place.
type InMemory interface {
	Device
	// First is the frame with the first page.
	First() machine.Frame
}

// check verifies that r is a request that a device with limits l takes: EINVAL, EROFS, EIO beyond the end, EOPNOTSUPP.
func (l *Limits) check(r *Request) error {
	if r.Op == Flush {
		return nil
	}
	mask := int64(l.BlockSize - 1)
	switch {
	case r.Off < 0 || r.Len <= 0 || (r.Off|r.Len)&mask != 0:
		return unix.EINVAL
	case r.Off > l.Size || r.Len > l.Size-r.Off:
		return unix.EIO
	case r.Op != Read && l.ReadOnly:
		return unix.EROFS
	case r.Op == Discard && l.MaxDiscard == 0:
		return unix.EOPNOTSUPP
	}
	return nil
}
