package erofs

import (
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/machine"
)

// An Image is where a file system lies.
type Image interface {
	// ReadAt fills p with the bytes from off on, both multiples of 512: EIO.
	ReadAt(p []byte, off int64) error
	// Size is the length in bytes.
	Size() int64
}

// InMemory is an Image whose pages can be used where they are.
type InMemory interface {
	Image
	// Bytes returns n bytes at off, which nobody changes: EIO.
	Bytes(off, n int64) ([]byte, error)
	// Frame returns the frame with the page at off with a reference for the caller, NoFrame if there is none: then ReadAt tells why.
	Frame(off int64) machine.Frame
}

// Paged is an Image that can read into pages without a copy.
type Paged interface {
	Image
	// ReadFrames reads pages that follow each other in the image, from off on, a multiple of the page size: EIO.
	ReadFrames(off int64, frames []machine.Frame) error
}

// device is the Backing of the cache of metadata.
type device struct{ Image }

// ReadPage implements mem.Backing.
func (d device) ReadPage(index uint64, page []byte) error {
	off := int64(index) * machine.PageSize
	n := min(d.Size()-off, machine.PageSize)
	clear(page[n:])
	return d.ReadAt(page[:n&^511], off)
}

// WritePage implements mem.Backing; it is never called.
func (device) WritePage(uint64, []byte) error { return unix.EROFS }

// reader reads from an image at any place.
type reader struct {
	image  Image
	memory InMemory   // the image, if it is one
	paged  Paged      // the image, if it is one
	size   int64      // of the file system in bytes
	meta   *mem.Cache // nil for an InMemory
}

func newReader(image Image, pool *mem.Pool) (*reader, error) {
	r := &reader{image: image, size: image.Size() &^ 511}
	if m, ok := image.(InMemory); ok {
		r.memory = m
		return r, nil
	}
	r.paged, _ = image.(Paged)
	r.meta = mem.NewCache(pool, device{image})
	return r, r.meta.Truncate(r.size)
}

// read fills p from off on: EUCLEAN for what is not in the file system, EIO.
func (r *reader) read(p []byte, off int64) error {
	if off < 0 || off > r.size || int64(len(p)) > r.size-off {
		return unix.EUCLEAN
	}
	if r.memory != nil {
		b, err := r.memory.Bytes(off, int64(len(p)))
		copy(p, b)
		return err
	}
	dst := uio.Buffer(p)
	n, err := r.meta.ReadAt(&dst, off)
	if err == nil && n < int64(len(p)) {
		err = unix.EIO
	}
	return err
}

// readData is read for what is not worth keeping: contents of files, which have caches of their own.
func (r *reader) readData(p []byte, off int64) error {
	if r.memory != nil || (off|int64(len(p)))&511 != 0 || int64(len(p)) > math.MaxInt32 {
		return r.read(p, off)
	}
	if off < 0 || off > r.size || int64(len(p)) > r.size-off {
		return unix.EUCLEAN
	}
	return r.image.ReadAt(p, off)
}

// release gives the cache up.
func (r *reader) release() {
	if r.meta != nil {
		r.meta.Release()
	}
}
