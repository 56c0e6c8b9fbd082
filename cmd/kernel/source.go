package main

import (
	"gosv/kernel/block"
	"gosv/kernel/verity"
	"gosv/machine"
)

// diskImage is a disk that file systems read from at multiples of 512, whatever its blocks are.
type diskImage struct{ *block.Disk }

// ReadAt implements erofs.Image.
func (d diskImage) ReadAt(p []byte, off int64) error {
	mask := int64(d.Limits().BlockSize - 1)
	if (off|int64(len(p)))&mask == 0 {
		return d.Disk.ReadAt(p, off)
	}
	start, end := off&^mask, (off+int64(len(p))+mask)&^mask
	b := make([]byte, end-start)
	err := d.Disk.ReadAt(b, start)
	copy(p, b[off-start:])
	return err
}

// ReadFrames implements erofs.Paged.
func (d diskImage) ReadFrames(off int64, frames []machine.Frame) error {
	data := make([]block.Segment, len(frames))
	for i, f := range frames {
		data[i] = block.Segment{Bytes: d.Frames().Bytes(f, 1), Addr: uint64(f) * machine.PageSize}
	}
	return d.Do(&block.Request{Op: block.Read, Off: off, Len: int64(len(frames)) * machine.PageSize, Data: data})
}

// memoryImage is a diskImage that is used in place, as it lies in memory. The host may change it, so that it is no image for a Merkle tree, whose
// blocks are checked once.
type memoryImage struct{ diskImage }

// Bytes implements erofs.InMemory.
func (m memoryImage) Bytes(off, n int64) ([]byte, error) {
	in := off % machine.PageSize
	pages := (in + n + machine.PageSize - 1) / machine.PageSize
	return m.Frames().Bytes(m.First()+machine.Frame(off/machine.PageSize), int(pages))[in:][:n], nil
}

// Frame implements erofs.InMemory; the frames of a device's memory need no references.
func (m memoryImage) Frame(off int64) machine.Frame {
	return m.First() + machine.Frame(off/machine.PageSize)
}

// verifiedImage is a disk that is checked against a Merkle tree whose blocks are pages.
type verifiedImage struct {
	*verity.Device
	disk diskImage
}

// ReadFrames implements erofs.Paged; frames with anything wrong are cleared.
func (v verifiedImage) ReadFrames(off int64, frames []machine.Frame) error {
	err := v.disk.ReadFrames(off, frames)
	for i, f := range frames {
		if err == nil {
			err = v.Check(v.disk.Frames().Bytes(f, 1), off/machine.PageSize+int64(i))
		}
	}
	if err != nil {
		for _, f := range frames {
			clear(v.disk.Frames().Bytes(f, 1))
		}
	}
	return err
}
