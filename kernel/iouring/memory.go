package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/machine"
)

// Where the fields of the rings lie; each head and tail has a line of the processor's cache to itself.
const (
	offSQHead     = 0
	offSQTail     = 64
	offCQHead     = 128
	offCQTail     = 192
	offSQMask     = 256
	offCQMask     = 260
	offSQEntries  = 264
	offCQEntries  = 268
	offSQDropped  = 272
	offSQFlags    = 276
	offCQFlags    = 280
	offCQOverflow = 284
	offCQEs       = 320
)

// Bits of the flags in the rings.
const (
	sqNeedWakeup      = 1 << 0
	sqCQOverflow      = 1 << 1
	sqTaskrun         = 1 << 2
	cqEventfdDisabled = 1 << 0
)

// allocate makes the memory: ENOMEM.
func (r *Ring) allocate(pool *mem.Pool) error {
	r.offArray = offCQEs + r.cqEntries*uint32(r.cqeSize)
	nring, nsqes := pagesFor(uint64(r.offArray)+4*uint64(r.sqEntries)), pagesFor(uint64(r.sqEntries)*r.sqeSize)
	r.rings, r.sqes = make([]machine.Memory, nring), make([]machine.Memory, nsqes)
	if !share.Pages.Take(r.bytes()) {
		return unix.ENOMEM
	}
	r.cache = mem.NewShmem(pool)
	if err := r.fill(pool); err != nil {
		r.cache.Release()
		share.Pages.Give(r.bytes())
		return err
	}
	r.cache.SetCharge(func(n int64) error {
		if n > 0 {
			return mem.ErrBeyondEOF // between the parts
		}
		return nil
	})
	r.put(offSQMask, r.sqEntries-1)
	r.put(offCQMask, r.cqEntries-1)
	r.put(offSQEntries, r.sqEntries)
	r.put(offCQEntries, r.cqEntries)
	return nil
}

func pagesFor(n uint64) uint64 { return (n + machine.PageSize - 1) / machine.PageSize }

// bytes returns how much memory the parts have.
func (r *Ring) bytes() int64 { return int64(len(r.rings)+len(r.sqes)) * machine.PageSize }

// fill puts the parts' pages where they are mapped: ENOMEM.
func (r *Ring) fill(pool *mem.Pool) error {
	if err := r.cache.Truncate(OffSQEs + int64(len(r.sqes))*machine.PageSize); err != nil {
		return err
	}
	if err := r.pages(pool, OffSQRing/machine.PageSize, r.rings); err != nil {
		return err
	}
	if err := r.pages(pool, OffSQEs/machine.PageSize, r.sqes); err != nil {
		return err
	}
	return r.cache.Alias(OffCQRing/machine.PageSize, OffSQRing/machine.PageSize, uint64(len(r.rings)))
}

// pages makes the pages of the cache from first on, one for each of list.
func (r *Ring) pages(pool *mem.Pool, first uint64, list []machine.Memory) error {
	for i := range list {
		f, err := r.cache.Page(first+uint64(i), true)
		if err != nil {
			return err
		}
		list[i] = machine.MemoryOf(pool.Bytes(f))
		pool.Unref(f) // the cache has it
	}
	return nil
}

// get and put access a field of the rings.
func (r *Ring) get(off uint32) uint32 {
	return r.rings[off/machine.PageSize].Load32(uint64(off % machine.PageSize))
}

func (r *Ring) put(off, v uint32) {
	r.rings[off/machine.PageSize].Store32(uint64(off%machine.PageSize), v)
}

// Map implements vfs.FileOps.
func (r *Ring) Map(*vfs.File) *mem.Cache { return r.cache }

// MapSize returns how many bytes a mapping at off may have: EINVAL.
func (r *Ring) MapSize(off uint64) (uint64, error) {
	switch off {
	case OffSQRing, OffCQRing:
		return uint64(len(r.rings)) * machine.PageSize, nil
	case OffSQEs:
		return uint64(len(r.sqes)) * machine.PageSize, nil
	}
	return 0, unix.EINVAL
}
