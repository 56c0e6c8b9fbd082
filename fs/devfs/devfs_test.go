package devfs_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gosv/fs/devfs"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
	"gosv/kernel/vfs/vfstest"
)

func TestDevices(t *testing.T) {
	tr := vfstest.New(t)
	if err := vfs.Mkdir(tr.Ctx, vfs.Path{}, "/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := vfs.Lookup(tr.Ctx, vfs.Path{}, "/dev", 0)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := devfs.New(tr.NS, dir, devfs.Config{
		Random: func(b []byte) {
			for i := range b {
				b[i] = 7
			}
		},
		Pool: tr.Pool,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path     string
		read     int64
		first    byte
		readErr  error
		write    int64
		writeErr error
	}{
		{"/dev/null", 0, 9, nil, 5, nil},
		{"/dev/zero", 70000, 0, nil, 5, nil},
		{"/dev/full", 70000, 0, nil, 0, unix.ENOSPC},
		{"/dev/random", 70000, 7, nil, 5, nil},
		{"/dev/urandom", 70000, 7, nil, 5, nil},
	} {
		f, err := vfs.Open(tr.Ctx, vfs.Path{}, c.path, unix.O_RDWR, 0)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		buf := make([]byte, 70000)
		buf[0], buf[69999] = 9, 9
		b := uio.Buffer(buf)
		if n, err := f.Read(&b); n != c.read || err != c.readErr || buf[0] != c.first || c.read > 0 && buf[69999] != c.first {
			t.Errorf("%s: read %d, %v", c.path, n, err)
		}
		b = uio.Buffer("hello")
		if n, err := f.Write(&b); n != c.write || err != c.writeErr {
			t.Errorf("%s: wrote %d, %v", c.path, n, err)
		}
		if pos, err := f.Seek(100, unix.SEEK_SET); pos != 0 || err != nil {
			t.Errorf("%s: lseek %d, %v", c.path, pos, err)
		}
		f.DecRef()
	}
	if s, err := vfs.Readlink(tr.Ctx, vfs.Path{}, "/dev/stdin"); s != "/proc/self/fd/0" || err != nil {
		t.Error(s, err)
	}
	if err := dev.Add("a/b/c", unix.S_IFCHR, 99, 1, 0o600, func(*vfs.Context, *vfs.File) (vfs.FileOps, error) { return nil, unix.EBUSY }); err != nil {
		t.Error(err)
	}
	if _, err := vfs.Open(tr.Ctx, vfs.Path{}, "/dev/a/b/c", 0, 0); err != unix.EBUSY {
		t.Error(err)
	}
	if err := vfs.Mknod(tr.Ctx, vfs.Path{}, "/dev/none", unix.S_IFCHR|0o600, unix.Mkdev(98, 0), nil); err != nil {
		t.Error(err)
	}
	if _, err := vfs.Open(tr.Ctx, vfs.Path{}, "/dev/none", 0, 0); err != unix.ENXIO {
		t.Error(err)
	}
}

func TestMappingsOfZeroAreSeparate(t *testing.T) {
	tr := vfstest.New(t)
	if _, err := devfs.New(tr.NS, tr.NS.Root(), devfs.Config{Random: func([]byte) {}, Pool: tr.Pool}); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.Open(tr.Ctx, vfs.Path{}, "/zero", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := f.MapCache(), f.MapCache()
	if a == b {
		t.Error("two mappings share memory")
	}
	p, err := a.Page(1<<30, true)
	if err != nil {
		t.Error(err)
	}
	tr.Pool.Unref(p)
	f.DecRef() // and the page goes (vfstest looks)
}
