package fuse

import (
	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
	"gosv/machine"
)

// pages is the mem.RangeBacking of a regular file.
type pages struct{ c *contents }

// ReadPage implements mem.Backing.
func (p *pages) ReadPage(index uint64, page []byte) error {
	d, err := p.c.k.newData(machine.PageSize)
	if err != nil {
		return err
	}
	defer d.free()
	if err := p.ReadPages(index, d.frames); err != nil {
		return err
	}
	copy(page, p.c.k.pool.Bytes(d.frames[0]))
	return nil
}

// WritePage implements mem.Backing.
func (p *pages) WritePage(index uint64, page []byte) error {
	d, err := p.c.k.dataOf(page)
	if err != nil {
		return err
	}
	defer d.free()
	return p.WritePages(index, d.frames)
}

// ReadPages implements mem.RangeBacking.
func (p *pages) ReadPages(index uint64, frames []machine.Frame) error {
	h := p.c.take((*handle).reads)
	if h == nil {
		return unix.EIO
	}
	defer h.drop()
	for len(frames) > 0 {
		part := frames[:min(len(frames), p.c.k.maxWrite/machine.PageSize)]
		n, err := h.read(part, int64(index)*machine.PageSize, len(part)*machine.PageSize)
		if err != nil {
			return err
		}
		for i := n / machine.PageSize; i < len(part); i++ {
			clear(p.c.k.pool.Bytes(part[i])[max(n-i*machine.PageSize, 0):])
		}
		index += uint64(len(part))
		frames = frames[len(part):]
	}
	return nil
}

// WritePages implements mem.RangeBacking.
func (p *pages) WritePages(index uint64, frames []machine.Frame) error {
	h := p.c.take((*handle).stores)
	if h == nil {
		return unix.EIO
	}
	defer h.drop()
	for len(frames) > 0 {
		part := frames[:min(len(frames), p.c.k.maxWrite/machine.PageSize)]
		off := int64(index) * machine.PageSize
		n := int(min(int64(len(part)*machine.PageSize), p.c.cache.Size()-off))
		if n <= 0 {
			return nil
		}
		got, err := h.write(part, off, n, fuseabi.WriteCache, h.flags)
		if err == nil && got < n {
			err = unix.EIO
		}
		if err != nil {
			return err
		}
		p.c.touched()
		index += uint64(len(part))
		frames = frames[len(part):]
	}
	return nil
}
