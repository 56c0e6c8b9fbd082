package pipe_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/pipe"
	"gosv/kernel/share"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
	"gosv/machine"
)

// somebody is an unprivileged user.
func somebody() *cred.Cred { return &cred.Cred{UID: 1000, EUID: 1000} }

// many makes n pipes, and returns their sizes in pages until the first error. They go with the test.
func many(t *testing.T, ns *vfs.Namespace, c *cred.Cred, n int) (sizes []int, err error) {
	for range n {
		r, w, err := pipe.New(ns, c, 0)
		if err != nil {
			return sizes, err
		}
		t.Cleanup(r.DecRef)
		t.Cleanup(w.DecRef)
		size, _ := pipe.Size(r)
		sizes = append(sizes, size/machine.PageSize)
	}
	return sizes, nil
}

func same(t *testing.T, got []int, want ...int) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("pages %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("pages %v, want %v", got, want)
		}
	}
}

func TestUserPages(t *testing.T) {
	tr := vfstest.New(t)
	soft, hard := pipe.SoftPages.Load(), pipe.HardPages.Load()
	defer func() { pipe.SoftPages.Store(soft); pipe.HardPages.Store(hard) }()
	pipe.SoftPages.Store(33)
	pipe.HardPages.Store(37)
	sizes, err := many(t, tr.NS, somebody(), 9)
	same(t, sizes, 16, 16, 2, 2)
	if err != unix.ENFILE {
		t.Error(err)
	}
	sizes, err = many(t, tr.NS, tr.Ctx.Cred, 4)
	if same(t, sizes, 16, 16, 16, 16); err != nil {
		t.Error(err)
	}
	other := somebody()
	other.UID++
	r, w, err := pipe.New(tr.NS, other, 0)
	if err != nil {
		t.Fatal("another user: ", err)
	}
	defer r.DecRef()
	defer w.DecRef()
	for _, c := range []struct {
		n   int
		who *cred.Cred
		err error
	}{{64 << 10, other, nil}, {256 << 10, other, unix.EPERM}, {256 << 10, tr.Ctx.Cred, nil}, {128 << 10, other, nil}} {
		if _, err := pipe.SetSize(r, c.n, c.who); err != c.err {
			t.Errorf("SetSize(%d): %v, want %v", c.n, err, c.err)
		}
	}
}

func TestMaxSizeIsForNewPipes(t *testing.T) {
	tr := vfstest.New(t)
	before := pipe.MaxSize.Load()
	defer pipe.MaxSize.Store(before)
	pipe.MaxSize.Store(machine.PageSize)
	sizes, _ := many(t, tr.NS, somebody(), 1)
	same(t, sizes, 1)
	sizes, _ = many(t, tr.NS, tr.Ctx.Cred, 1)
	same(t, sizes, 16)
}

// TestShare: all pipes together have a bound, root's too, and give back what they had.
func TestShare(t *testing.T) {
	tr := vfstest.New(t)
	before := share.Pipes.Used()
	share.Pipes.SetMost(before + 40*machine.PageSize)
	defer share.Pipes.SetMost(1 << 62)
	t.Run("pipes", func(t *testing.T) {
		sizes, err := many(t, tr.NS, tr.Ctx.Cred, 99)
		same(t, sizes, 16, 16, 2, 2, 2, 2)
		if err != unix.ENFILE {
			t.Error(err)
		}
	})
	if used := share.Pipes.Used(); used != before {
		t.Errorf("%d bytes stay taken", used-before)
	}
	_, r, w := newPipe(t)
	defer w.DecRef()
	defer r.DecRef()
	for _, c := range []struct {
		n   int
		err error
	}{{1 << 20, unix.ENOMEM}, {128 << 10, nil}, {4096, nil}} {
		if _, err := pipe.SetSize(r, c.n, tr.Ctx.Cred); err != c.err {
			t.Errorf("SetSize(%d): %v", c.n, err)
		}
	}
	if used := share.Pipes.Used(); used != before+machine.PageSize {
		t.Errorf("%d bytes for a page", used-before)
	}
}

// TestFIFOHoldsNothingClosed: a FIFO has a capacity while somebody has it open.
func TestFIFOHoldsNothingClosed(t *testing.T) {
	tr := vfstest.New(t)
	tr.NS.OpenFIFO = pipe.OpenFIFO
	before := share.Pipes.Used()
	if err := vfs.Mknod(tr.Ctx, vfs.Path{}, "/fifo", unix.S_IFIFO|0o600, 0, nil); err != nil {
		t.Fatal(err)
	}
	open := func(flags int) (*vfs.File, error) { return vfs.Open(tr.Ctx, vfs.Path{}, "/fifo", flags, 0) }
	for range 2 {
		if _, err := open(unix.O_WRONLY | unix.O_NONBLOCK); err != unix.ENXIO {
			t.Fatal(err)
		}
		f, err := open(unix.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := pipe.Size(f); n != pipe.DefaultSize || err != nil {
			t.Error(n, err)
		}
		if _, err := pipe.SetSize(f, 4096, tr.Ctx.Cred); err != nil {
			t.Error(err)
		}
		f.DecRef()
		if used := share.Pipes.Used(); used != before {
			t.Fatalf("%d bytes stay taken", used-before)
		}
	}
	share.Pipes.SetMost(before + 1)
	defer share.Pipes.SetMost(1 << 62)
	if _, err := open(unix.O_RDWR); err != unix.ENOMEM {
		t.Error(err)
	}
}
