package blockdev_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/blockdev"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

type world struct {
	*vfstest.Tree
	disks *block.Registry
	files *blockdev.Files
	fds   *vfs.FDTable
}

// memory is a program's, from address 0 on.
type memory []byte

func (m memory) CopyIn(dst []byte, va uint64) (int, error)  { return copy(dst, m[va:]), nil }
func (m memory) CopyOut(va uint64, src []byte) (int, error) { return copy(m[va:], src), nil }

func newWorld(t *testing.T) *world {
	w := &world{Tree: vfstest.New(t), fds: vfs.NewFDTable()}
	var clock atomic.Int64
	w.disks = block.NewRegistry(w.Machine, func() int64 { return clock.Add(1) })
	w.files = blockdev.New(w.disks, w.Pool, func(_ any, fd int) (*vfs.File, error) { return w.fds.Get(fd) })
	return w
}

// add adds a disk with a device file; its cache is given up at the end.
func (w *world) add(t *testing.T, dev block.Device) *block.Disk {
	d := w.disks.Add(block.Virtio, dev)
	w.NS.AddDevice(unix.S_IFBLK, d.Major, d.Minor, w.files.Open(d))
	if err := vfs.Mknod(w.Ctx, vfs.Path{}, "/"+d.Name, unix.S_IFBLK|0o600, unix.Mkdev(d.Major, d.Minor), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.files.Forget(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (w *world) open(t *testing.T, flags int) *vfs.File {
	t.Helper()
	f, err := vfs.Open(w.Ctx, vfs.Path{}, "/vda", flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, f *vfs.File, n int, off int64) []byte {
	t.Helper()
	b := make([]byte, n)
	buf := uio.Buffer(b)
	got, err := f.Pread(&buf, off)
	if err != nil {
		t.Fatal(err)
	}
	return b[:got]
}

func write(t *testing.T, f *vfs.File, b []byte, off int64) {
	t.Helper()
	buf := uio.Buffer(b)
	if n, err := f.Pwrite(&buf, off); err != nil || int(n) != len(b) {
		t.Fatal(n, err)
	}
}

func TestFile(t *testing.T) {
	w := newWorld(t)
	text := make([]byte, 3<<20+512)
	r := rand.NewChaCha8([32]byte{3})
	_, _ = r.Read(text)
	text[510] = 0
	dev := block.NewMemory(bytes.Clone(text), 512)
	w.add(t, dev)
	f := w.open(t, unix.O_RDWR)
	defer f.DecRef()
	if got := read(t, f, len(text)+1000, 0); !bytes.Equal(got, text) {
		t.Fatalf("%d bytes differ", len(got))
	}
	if n := dev.Count(block.Read); n > 20 {
		t.Errorf("%d requests for 3 MiB: no read-ahead", n)
	}
	if pos, err := f.Seek(0, unix.SEEK_END); pos != int64(len(text)) || err != nil {
		t.Error(pos, err)
	}
	change := bytes.Repeat([]byte("change"), 3000)
	write(t, f, change, 777)
	copy(text[777:], change)
	if bytes.Equal(dev.Bytes(), text) {
		t.Error("not cached")
	}
	before := dev.Count(block.Flush)
	if err := f.Sync(); err != nil || !bytes.Equal(dev.Bytes(), text) || dev.Count(block.Flush) != before+1 {
		t.Error("fsync", err)
	}
	// Past the end.
	buf := uio.Buffer(make([]byte, 1000))
	if n, err := f.Pwrite(&buf, int64(len(text))-100); n != 100 || err != nil {
		t.Error(n, err)
	}
	clear(text[len(text)-100:])
	if n, err := f.Pwrite(&buf, int64(len(text))); n != 0 || err != unix.ENOSPC {
		t.Error(n, err)
	}
	// Direct transfers and the cache see each other.
	direct := w.open(t, unix.O_RDWR|unix.O_DIRECT)
	defer direct.DecRef()
	write(t, f, []byte("cached"), 4096)
	copy(text[4096:], "cached")
	if got := read(t, direct, 8192, 4096); !bytes.Equal(got, text[4096:][:8192]) {
		t.Error("a direct read does not see what is cached")
	}
	write(t, direct, bytes.Repeat([]byte("d"), 512), 4608)
	copy(text[4608:], bytes.Repeat([]byte("d"), 512))
	if got := read(t, f, 4096, 4096); !bytes.Equal(got, text[4096:8192]) {
		t.Error("a cached read does not see a direct write")
	}
	buf = uio.Buffer(make([]byte, 511))
	if _, err := direct.Pread(&buf, 0); err != unix.EINVAL {
		t.Error("unaligned:", err)
	}
	if err := f.Allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 8192); err != nil {
		t.Error(err)
	}
	clear(text[:8192])
	if got := read(t, f, len(text), 0); !bytes.Equal(got, text) {
		t.Error("after a hole")
	}
}

func TestIoctl(t *testing.T) {
	w := newWorld(t)
	dev := block.NewMemory(bytes.Repeat([]byte{9}, 1<<20), 4096)
	w.add(t, dev)
	f := w.open(t, unix.O_RDWR)
	defer f.DecRef()
	m := make(memory, 64)
	ioctl := func(cmd uint32) error {
		_, err := f.Ioctl(&vfs.IoctlArgs{Cmd: cmd, Mem: m, Ctx: w.Ctx})
		return err
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		cmd  uint32
		want uint64
	}{{unix.BLKGETSIZE64, 1 << 20}, {unix.BLKGETSIZE, 2048}, {unix.BLKSSZGET, 4096}, {unix.BLKPBSZGET, 4096}, {unix.BLKROGET, 0}, {unix.BLKALIGNOFF, 0}} {
		clear(m)
		if err := ioctl(c.cmd); err != nil || le.Uint64(m) != c.want {
			t.Errorf("%#x: %d, %v", c.cmd, le.Uint64(m), err)
		}
	}
	if err := ioctl(0x301); err != nil || m[0] != 255 || m[1] != 63 {
		t.Error("geometry", err)
	}
	read(t, f, 8192, 0)
	le.PutUint64(m, 4096)
	le.PutUint64(m[8:], 4096)
	for _, cmd := range []uint32{unix.BLKDISCARD, unix.BLKZEROOUT} {
		if err := ioctl(cmd); err != nil {
			t.Error(err)
		}
	}
	if got := read(t, f, 8192, 0); got[0] != 9 || got[4096] != 0 {
		t.Error("discard")
	}
	le.PutUint64(m[8:], 1<<20)
	if err := ioctl(unix.BLKZEROOUT); err != unix.EINVAL {
		t.Error(err)
	}
	if err := ioctl(unix.BLKRRPART); err != nil {
		t.Error(err)
	}
	if err := ioctl(unix.TCGETS); err != unix.ENOTTY {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	w := newWorld(t)
	dev := block.NewMemory(make([]byte, 1<<16), 512)
	dev.SetLimits(func(l *block.Limits) { l.ReadOnly = true })
	d := w.add(t, dev)
	f := w.open(t, unix.O_RDWR)
	b := uio.Buffer("data")
	if _, err := f.Pwrite(&b, 0); err != unix.EPERM {
		t.Error("write:", err)
	}
	f.DecRef()
	f = w.open(t, unix.O_RDONLY|unix.O_EXCL)
	if _, err := vfs.Open(w.Ctx, vfs.Path{}, "/vda", unix.O_EXCL, 0); err != unix.EBUSY {
		t.Error(err)
	}
	w.open(t, unix.O_RDONLY).DecRef()
	f.DecRef()
	if err := d.Claim(t); err != nil {
		t.Error("after close:", err)
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t)
	dev := block.NewMemory(make([]byte, 1<<20), 512)
	w.add(t, dev)
	f := w.open(t, unix.O_RDWR)
	defer f.DecRef()
	dev.SetFault(func(r *block.Request) error {
		if r.Off <= 40960 && r.Off+r.Len > 40960 {
			return unix.EIO
		}
		return nil
	})
	buf := uio.Buffer(make([]byte, 1<<20))
	if n, err := f.Pread(&buf, 0); n == 0 || n > 40960 || err != nil {
		t.Error("up to the bad page:", n, err)
	}
	buf = uio.Buffer(make([]byte, 4096))
	if _, err := f.Pread(&buf, 40960); err != unix.EIO {
		t.Error("bad page:", err)
	}
	if got := read(t, f, 4096, 45056); len(got) != 4096 {
		t.Error("behind the bad page")
	}
	write(t, f, make([]byte, 4096), 40960)
	if err := f.Sync(); err != unix.EIO {
		t.Error("fsync:", err)
	}
	dev.SetFault(nil)
	if err := f.Sync(); err != nil {
		t.Error("fsync again:", err)
	}
}
