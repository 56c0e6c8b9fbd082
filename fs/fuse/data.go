package fuse

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
	"gosv/machine"
)

// data is memory for the part of a message that is too large for its buffer.
type data struct {
	k      *conn
	frames []machine.Frame
	n      int // bytes
}

// newData returns room for n bytes, with what was there before: only what is written to it, or comes from the server, may be shown. ENOMEM.
func (k *conn) newData(n int) (data, error) {
	d := data{k: k, frames: make([]machine.Frame, (n+machine.PageSize-1)/machine.PageSize), n: n}
	if err := k.pool.AllocRaw(d.frames); err != nil {
		return data{}, err
	}
	return d, nil
}

// run is how many frames follow each other from the i-th on, that one included.
func (d *data) run(i int) int {
	n := 1
	for i+n < len(d.frames) && d.frames[i+n] == d.frames[i]+machine.Frame(n) {
		n++
	}
	return n
}

// each calls do with the parts of n bytes from off on, as long as frames follow each other, until it returns false.
func (d *data) each(off, n int, do func(p []byte) bool) {
	for n > 0 {
		i, in := off/machine.PageSize, off%machine.PageSize
		run := d.run(i)
		m := min(run*machine.PageSize-in, n)
		if !do(d.k.pool.BytesRun(d.frames[i], run)[in : in+m]) {
			return
		}
		off, n = off+m, n-m
	}
}

// dataOf returns data that hold b.
func (k *conn) dataOf(b []byte) (data, error) {
	d, err := k.newData(len(b))
	if err != nil {
		return d, err
	}
	d.each(0, len(b), func(p []byte) bool {
		b = b[copy(p, b):]
		return true
	})
	return d, nil
}

// bytes returns a copy of the first n bytes.
func (d *data) bytes(n int) []byte {
	b := make([]byte, 0, n)
	d.each(0, n, func(p []byte) bool {
		b = append(b, p...)
		return true
	})
	return b
}

func (d *data) free() {
	var t mem.Tally
	for at := 0; at < len(d.frames); {
		run := d.run(at)
		d.k.pool.UnrefRun(d.frames[at], run, &t)
		at += run
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
