// Package chardev makes open files of the byte streams that drivers offer: the
// program's standard input, output and error. They are no terminals: isatty(3)
// is false, as in a container without one.
//
// Pipe makes a file that looks like the end of a pipe(7) to the program, which is what a container's
// standard streams are; Open serves a character device.
package chardev

import (
	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"

	"golang.org/x/sys/unix"
)

// A Stream is a byte stream to the host, as console.Port and uart.Port are.
type Stream interface {
	ReadTo(dst uio.Sink) (int64, error)
	WriteFrom(src uio.Source) (int64, error)
	Readiness(mask wait.Mask) wait.Mask
	Register(e *wait.Entry)
	Unregister(e *wait.Entry)
}

// Open makes the files of a device that is s.
func Open(s Stream) vfs.OpenDevice {
	return func(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
		f.SetStream()
		return Ops(s), nil
	}
}

// Pipe returns an open file that is s, with an inode of its own of type S_IFIFO; it can be opened
// again through /proc/self/fd. now is the inode's time in nanoseconds since 1970, flags as in open(2).
func Pipe(s Stream, now int64, c *cred.Cred, flags int) *vfs.File {
	d := vfs.NewNameless("pipe", unix.S_IFIFO|0o600, now, c, reopener{s})
	return vfs.OpenNameless(d, Ops(s), c, flags)
}

// reopener serves open(2) of /proc/self/fd/1 and the like.
type reopener struct{ s Stream }

func (r reopener) Reopen(f *vfs.File) (vfs.FileOps, error) {
	f.SetStream()
	return Ops(r.s), nil
}

// Ops returns the operations of an open file that is s. Its File must be a stream.
func Ops(s Stream) vfs.FileOps { return &file{s: s} }

type file struct {
	vfs.FileDefaults
	s Stream
}

func (c *file) Read(_ *vfs.File, dst uio.Sink, _ int64) (int64, error) { return c.s.ReadTo(dst) }

func (c *file) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	return c.s.WriteFrom(src)
}

func (c *file) Poll(f *vfs.File, mask wait.Mask) wait.Mask {
	if !f.Readable() {
		mask &^= unix.POLLIN | unix.EPOLLRDNORM
	}
	if !f.Writable() {
		mask &^= unix.POLLOUT | unix.EPOLLWRNORM
	}
	ready := c.s.Readiness(mask)
	if ready&unix.POLLHUP != 0 && !f.Readable() {
		ready = ready&^unix.POLLHUP | unix.POLLERR // as at the end of a pipe that nobody reads
	}
	return ready
}

func (c *file) Register(_ *vfs.File, e *wait.Entry)   { c.s.Register(e) }
func (c *file) Unregister(_ *vfs.File, e *wait.Entry) { c.s.Unregister(e) }
