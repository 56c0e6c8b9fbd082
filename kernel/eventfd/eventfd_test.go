package eventfd_test

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/eventfd"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

func write(f *vfs.File, v uint64) error {
	b := uio.Buffer(binary.LittleEndian.AppendUint64(nil, v))
	_, err := f.Write(&b)
	return err
}

func read(f *vfs.File) (uint64, error) {
	buf := make([]byte, 8)
	b := uio.Buffer(buf)
	_, err := f.Read(&b)
	return binary.LittleEndian.Uint64(buf), err
}

func TestCounter(t *testing.T) {
	f := eventfd.New(nil, cred.Root(), 3, 0)
	defer f.DecRef()
	if err := write(f, 4); err != nil {
		t.Error(err)
	}
	if v, err := read(f); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if _, err := read(f); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := write(f, math.MaxUint64); err != unix.EINVAL {
		t.Error(err)
	}
	if err := write(f, math.MaxUint64-1); err != nil {
		t.Error(err)
	}
	if got := f.Readiness(unix.POLLIN | unix.POLLOUT); got != unix.POLLIN {
		t.Errorf("full: %x", got)
	}
	if err := write(f, 1); err != unix.EAGAIN {
		t.Error(err)
	}
	short := uio.Buffer(make([]byte, 7))
	if _, err := f.Read(&short); err != unix.EINVAL {
		t.Error(err)
	}
}

// TestWriteWaits: what does not fit stays in the source, so that the write can be tried again.
func TestWriteWaits(t *testing.T) {
	f := eventfd.New(nil, cred.Root(), 5, 0)
	defer f.DecRef()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], ^uint64(0)-2)
	src := uio.Buffer(b[:])
	if n, err := f.Write(&src); n != 0 || err != unix.EAGAIN || src.Left() != 8 {
		t.Errorf("%d, %v, %d left", n, err, src.Left())
	}
	if v, err := read(f); v != 5 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if n, err := f.Write(&src); n != 8 || err != nil || src.Left() != 0 {
		t.Errorf("%d, %v, %d left", n, err, src.Left())
	}
}

func TestSemaphore(t *testing.T) {
	f := eventfd.New(nil, cred.Root(), 2, unix.EFD_SEMAPHORE)
	defer f.DecRef()
	for range 2 {
		if v, err := read(f); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	}
	if _, err := read(f); err != unix.EAGAIN {
		t.Error(err)
	}
}

// TestTakeAndAdd: all that is added at once is taken, and the sum never passes its limit.
func TestTakeAndAdd(t *testing.T) {
	for name, flags := range map[string]int{"counter": 0, "semaphore": unix.EFD_SEMAPHORE} {
		f := eventfd.New(nil, cred.Root(), 0, flags)
		e := eventfd.Of(f)
		const each = 10000
		var left atomic.Int64
		left.Store(3 * each)
		var all sync.WaitGroup
		for by := range 2 {
			all.Go(func() {
				for range each {
					if by == 0 {
						_ = e.Add(1)
					} else if err := write(f, 2); err != nil {
						t.Error(err)
					}
				}
			})
			all.Go(func() {
				for left.Load() > 0 {
					if v, err := e.Take(); err == nil {
						left.Add(-int64(v))
					}
				}
			})
		}
		all.Wait()
		if v, err := e.Take(); left.Load() != 0 || err != unix.EAGAIN {
			t.Errorf("%s: %d missing, %d (%v) left", name, left.Load(), v, err)
		}
		if err := e.Add(math.MaxUint64); err != unix.EINVAL {
			t.Error(err)
		}
		if e.Add(math.MaxUint64-2) != nil || e.Add(2) != unix.EAGAIN || e.Add(1) != nil || e.Add(1) != unix.EAGAIN {
			t.Error("the limit")
		}
		f.DecRef()
	}
}
