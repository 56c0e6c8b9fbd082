package pipe_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/pipe"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/kernel/wait"
)

func newPipe(t testing.TB) (*vfstest.Tree, *vfs.File, *vfs.File) {
	tr := vfstest.New(t)
	tr.NS.OpenFIFO = pipe.OpenFIFO
	r, w, err := pipe.New(tr.NS, tr.Ctx.Cred, unix.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	return tr, r, w
}

func write(f *vfs.File, s string) (int64, error) {
	b := uio.Buffer(s)
	return f.Write(&b)
}

func read(f *vfs.File, n int) (string, error) {
	buf := make([]byte, n)
	b := uio.Buffer(buf)
	m, err := f.Read(&b)
	return string(buf[:m]), err
}

func TestBytesComeOutInOrder(t *testing.T) {
	_, r, w := newPipe(t)
	defer r.DecRef()
	defer w.DecRef()
	var sent, got bytes.Buffer
	for i := range 5000 {
		s := strings.Repeat(string(rune('a'+i%26)), 1+i*37%6000)
		n, err := write(w, s)
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		if n != 0 && n != int64(len(s)) && len(s) <= pipe.Buf {
			t.Fatalf("%d of an atomic write of %d", n, len(s))
		}
		sent.WriteString(s[:n])
		for err != nil || i%3 == 0 {
			b, rerr := read(r, 1+i*91%9000)
			got.WriteString(b)
			if err = nil; rerr != nil {
				break
			}
		}
	}
	for {
		b, err := read(r, 1<<16)
		if err == unix.EAGAIN {
			break
		}
		got.WriteString(b)
	}
	if !bytes.Equal(sent.Bytes(), got.Bytes()) {
		t.Errorf("%d bytes went in, %d came out", sent.Len(), got.Len())
	}
}

func TestCapacity(t *testing.T) {
	tr, r, w := newPipe(t)
	defer r.DecRef()
	defer w.DecRef()
	if n, err := write(w, strings.Repeat("x", 100000)); n != pipe.DefaultSize || err != nil {
		t.Errorf("filled with %d, %v", n, err)
	}
	if _, err := write(w, "x"); err != unix.EAGAIN {
		t.Error(err)
	}
	if w.Readiness(unix.POLLOUT) != 0 || r.Readiness(unix.POLLIN) != unix.POLLIN {
		t.Error("readiness of a full pipe")
	}
	read(r, 4095)
	if _, err := write(w, "xy"); err != unix.EAGAIN {
		t.Error("an atomic write fits where there is no page free")
	}
	read(r, 1)
	if n, err := write(w, strings.Repeat("y", 4096)); n != 4096 || err != nil {
		t.Errorf("one page: %d, %v", n, err)
	}
	for _, c := range []struct {
		n, got     int
		privileged bool
		err        error
	}{
		{4096, 0, false, unix.EBUSY}, {65537, 131072, false, nil}, {2 << 20, 0, false, unix.EPERM}, {2 << 20, 2 << 20, true, nil},
		{-1, 0, true, unix.EINVAL}, {1, 0, true, unix.EBUSY},
	} {
		who := tr.Ctx.Cred
		if !c.privileged {
			who = somebody()
		}
		if got, err := pipe.SetSize(r, c.n, who); got != c.got || err != c.err {
			t.Errorf("SetSize(%d): %d, %v", c.n, got, err)
		}
	}
	if n, _ := pipe.Size(w); n != 2<<20 {
		t.Errorf("size %d", n)
	}
	if got, _ := read(r, 1<<20); len(got) != pipe.DefaultSize || got[len(got)-1] != 'y' || got[0] != 'x' {
		t.Errorf("%d bytes after the change of size", len(got))
	}
	if n, err := pipe.SetSize(r, 1, somebody()); n != 4096 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestEnds(t *testing.T) {
	_, r, w := newPipe(t)
	if _, err := read(r, 1); err != unix.EAGAIN {
		t.Error(err)
	}
	write(w, "last")
	w.DecRef()
	if got := r.Readiness(unix.POLLIN); got != unix.POLLIN|unix.POLLHUP {
		t.Errorf("readiness %x", got)
	}
	if s, err := read(r, 10); s != "last" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	if s, err := read(r, 10); s != "" || err != nil {
		t.Errorf("no end: %q, %v", s, err)
	}
	r.DecRef()
	_, r, w = newPipe(t)
	r.DecRef()
	if _, err := write(w, "x"); err != unix.EPIPE {
		t.Error(err)
	}
	if w.Readiness(0) != unix.POLLERR {
		t.Error("no POLLERR")
	}
	if _, err := w.Seek(0, 0); err != unix.ESPIPE {
		t.Error(err)
	}
	if _, err := read(w, 1); err != unix.EBADF {
		t.Error(err)
	}
	if !strings.HasPrefix(w.MapName(), "pipe:[") {
		t.Error(w.MapName())
	}
	w.DecRef()
}

func TestFIFO(t *testing.T) {
	tr, r, w := newPipe(t)
	r.DecRef()
	w.DecRef()
	if err := vfs.Mknod(tr.Ctx, vfs.Path{}, "/f", unix.S_IFIFO|0o600, 0, nil); err != nil {
		t.Fatal(err)
	}
	open := func(flags int) *vfs.File {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/f", flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, err := vfs.Open(tr.Ctx, vfs.Path{}, "/f", unix.O_WRONLY|unix.O_NONBLOCK, 0); err != unix.ENXIO {
		t.Error(err)
	}
	r = open(unix.O_RDONLY)
	if r.Opened() {
		t.Error("open without a writer is complete")
	}
	w = open(unix.O_WRONLY)
	if !r.Opened() || !w.Opened() {
		t.Error("both open, but not complete")
	}
	late := open(unix.O_RDONLY)
	w.DecRef()
	if got := late.Readiness(unix.POLLIN); got != unix.POLLHUP {
		t.Errorf("reader that opened beside a writer, after it: readiness %x", got)
	}
	late.DecRef()
	if !r.Opened() {
		t.Error("a writer that came and went does not count")
	}
	r.DecRef()
	n := open(unix.O_RDONLY | unix.O_NONBLOCK)
	if !n.Opened() || n.Readiness(unix.POLLIN) != 0 {
		t.Error("nonblocking reader: HUP before any writer")
	}
	if s, err := read(n, 1); s != "" || err != nil {
		t.Error("read without writers does not give the end", err)
	}
	b := open(unix.O_RDWR)
	if !b.Opened() {
		t.Error("O_RDWR waits")
	}
	write(b, "abc")
	if s, _ := read(n, 2); s != "ab" {
		t.Error(s)
	}
	b.DecRef()
	n.DecRef()
	n = open(unix.O_RDONLY | unix.O_NONBLOCK)
	if s, _ := read(n, 2); s != "" {
		t.Error("what nobody had open was kept")
	}
	n.DecRef()
}

type waker chan struct{}

func (w waker) Ready(*wait.Entry, wait.Mask) {
	select {
	case w <- struct{}{}:
	default:
	}
}

// TestBlockingPattern passes bytes between goroutines that wait as system calls do.
func TestBlockingPattern(t *testing.T) {
	_, r, w := newPipe(t)
	const total = 300_000
	retry := func(f *vfs.File, mask wait.Mask, try func() error) {
		wake := make(waker, 1)
		e := wait.Entry{Waiter: wake, Events: mask}
		f.Register(&e)
		for try() == unix.EAGAIN {
			<-wake
		}
		f.Unregister(&e)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer w.DecRef()
		for sent := 0; sent < total; {
			b := uio.Buffer(bytes.Repeat([]byte{byte(sent)}, min(total-sent, 1+sent%7000)))
			for len(b) > 0 {
				retry(w, unix.POLLOUT, func() error {
					n, err := w.Write(&b)
					sent += int(n)
					return err
				})
			}
		}
	})
	got := 0
	for end := false; !end; {
		retry(r, unix.POLLIN, func() error {
			s, err := read(r, 5000)
			got += len(s)
			end = err == nil && s == ""
			return err
		})
	}
	wg.Wait()
	r.DecRef()
	if got != total {
		t.Errorf("%d of %d bytes", got, total)
	}
}

func BenchmarkPingPong(b *testing.B) {
	_, r, w := newPipe(b)
	buf := make([]byte, 1)
	for b.Loop() {
		out := uio.Buffer(buf)
		w.Write(&out)
		in := uio.Buffer(buf)
		r.Read(&in)
	}
	r.DecRef()
	w.DecRef()
}
