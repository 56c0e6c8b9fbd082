package chardev

import (
	"gosv/kernel/cred"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/wait"
	"testing"

	"golang.org/x/sys/unix"
)

// stream gives the bytes that were written to it.
type stream struct {
	bytes []byte
	queue wait.Queue
}

func (s *stream) ReadTo(dst uio.Sink) (int64, error) {
	if len(s.bytes) == 0 {
		return 0, unix.EAGAIN
	}
	n, err := dst.Put(s.bytes)
	s.bytes = s.bytes[n:]
	return int64(n), err
}

func (s *stream) WriteFrom(src uio.Source) (int64, error) {
	b := make([]byte, src.Left())
	n, err := src.Take(b)
	s.bytes = append(s.bytes, b[:n]...)
	s.queue.Notify(unix.POLLIN)
	return int64(n), err
}

func (s *stream) Readiness(mask wait.Mask) wait.Mask {
	ready := wait.Mask(unix.POLLOUT)
	if len(s.bytes) > 0 {
		ready |= unix.POLLIN
	}
	return ready & mask
}

func (s *stream) Register(e *wait.Entry)   { s.queue.Add(e) }
func (s *stream) Unregister(e *wait.Entry) { s.queue.Remove(e) }

func write(t *testing.T, f *vfs.File, text string) {
	t.Helper()
	src := uio.Buffer(text)
	if n, err := f.Write(&src); n != int64(len(text)) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
}

func read(t *testing.T, f *vfs.File) string {
	t.Helper()
	b := make([]byte, 100)
	dst := uio.Buffer(b)
	n, err := f.Read(&dst)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

type count int

func (c *count) Ready(*wait.Entry, wait.Mask) { *c++ }

func TestPipe(t *testing.T) {
	s := &stream{}
	in, out := Pipe(s, 1e9, cred.Root(), unix.O_RDONLY), Pipe(s, 1e9, cred.Root(), unix.O_WRONLY)
	var c count
	e := &wait.Entry{Waiter: &c, Events: unix.POLLIN}
	in.Register(e)
	write(t, out, "hello")
	in.Unregister(e)
	write(t, out, " there")
	if c != 1 {
		t.Errorf("%d notifications", c)
	}
	if r := in.Readiness(unix.POLLIN | unix.POLLOUT); r != unix.POLLIN {
		t.Errorf("input is ready for %#x", r)
	}
	if r := out.Readiness(unix.POLLIN | unix.POLLOUT); r != unix.POLLOUT {
		t.Errorf("output is ready for %#x", r)
	}
	again, err := vfs.Reopen(out.Path(), cred.Root(), unix.O_WRONLY) // as through /proc/self/fd/1
	if err != nil {
		t.Fatal(err)
	}
	write(t, again, "!")
	if got := read(t, in); got != "hello there!" {
		t.Errorf("read %q", got)
	}
	dst := uio.Buffer(make([]byte, 1))
	if _, err := in.Read(&dst); err != unix.EAGAIN {
		t.Errorf("Read of nothing: %v", err)
	}
	if _, err := out.Read(&dst); err != unix.EBADF {
		t.Errorf("Read of output: %v", err)
	}
	if _, err := in.Seek(0, unix.SEEK_CUR); err != unix.ESPIPE {
		t.Errorf("Seek: %v", err)
	}
	if _, err := again.Seek(0, unix.SEEK_CUR); err != unix.ESPIPE {
		t.Errorf("Seek: %v", err)
	}
	if _, err := in.Ioctl(&vfs.IoctlArgs{Cmd: unix.TCGETS}); err != unix.ENOTTY {
		t.Errorf("TCGETS: %v", err)
	}
	var st unix.Stat_t
	in.Stat(&st)
	if st.Mode != unix.S_IFIFO|0o600 || st.Mtim.Sec != 1 {
		t.Errorf("mode %o, time %v", st.Mode, st.Mtim)
	}
	for _, f := range []*vfs.File{in, out, again} {
		f.DecRef()
	}
}
