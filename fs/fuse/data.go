package fuse

import (
	"golang.org/x/sys/unix"

	"gosv/machine"
)

// data is memory for the part of a message that is too large for its buffer.
type data struct {
	k      *conn
	frames []machine.Frame
	n      int // bytes
}

// newData returns room for n bytes, zeros; ENOMEM.
func (k *conn) newData(n int) (d data, err error) {
	d = data{k: k, n: n}
	for range (n + machine.PageSize - 1) / machine.PageSize {
		f, err := k.pool.Alloc()
		if err != nil {
			d.free()
			return d, err
		}
		d.frames = append(d.frames, f)
	}
	return d, nil
}

// dataOf returns data that hold b.
func (k *conn) dataOf(b []byte) (data, error) {
	d, err := k.newData(len(b))
	if err != nil {
		return d, err
	}
	for i, f := range d.frames {
		copy(k.pool.Bytes(f), b[i*machine.PageSize:])
	}
	return d, nil
}

// bytes returns a copy of the first n bytes.
func (d *data) bytes(n int) []byte {
	b := make([]byte, 0, n)
	for _, f := range d.frames {
		b = append(b, d.k.pool.Bytes(f)[:min(n-len(b), machine.PageSize)]...)
	}
	return b
}

func (d *data) free() {
	for _, f := range d.frames {
		d.k.pool.Unref(f)
	}
	d.frames = nil
}

// variable makes a request whose reply is up to most bytes, and returns them.
func (k *conn) variable(op uint32, node uint64, who caller, args []byte, most int) ([]byte, error) {
	d, err := k.newData(most)
	if err != nil {
		return nil, err
	}
	defer d.free()
	n, err := k.callData(op, node, who, args, nil, d.frames, 0, d.n, false)
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, unix.EIO
	}
	return d.bytes(n), nil
}
