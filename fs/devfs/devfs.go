// Package devfs fills /dev: the memory devices (null(4), random(4), full(4)),
// the links into /proc/self/fd, and whatever devices the drivers add.
//
// The nodes are ordinary device files of any file system that takes them, so
// programs may add and remove some too; what a number stands for is kept by vfs.Namespace.
package devfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
	"gosv/kernel/mem"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"
)

// Config says what the devices need of the kernel.
type Config struct {
	// Random fills b with random bytes that nobody can guess.
	Random func(b []byte)
	// Pool is where mappings of /dev/zero get their pages.
	Pool *mem.Pool
}

// Devices is a /dev.
type Devices struct {
	ns  *vfs.Namespace
	ctx vfs.Context
}

// New fills the directory dir, the root of a file system that is mounted as /dev.
func New(ns *vfs.Namespace, dir vfs.Path, c Config) (*Devices, error) {
	d := &Devices{ns: ns, ctx: vfs.Context{Root: dir, Cwd: dir, Cred: cred.Root()}}
	for _, m := range []struct {
		name  string
		minor uint32
		ops   vfs.FileOps
	}{
		{"null", 3, &null{}},
		{"zero", 5, &zero{pool: c.Pool}},
		{"full", 7, &full{zero{pool: c.Pool}}},
		{"random", 8, &random{fill: c.Random}},
		{"urandom", 9, &random{fill: c.Random}},
	} {
		open := func(_ *vfs.Context, f *vfs.File) (vfs.FileOps, error) {
			f.SetStill()
			return m.ops, nil
		}
		if err := d.Add(m.name, unix.S_IFCHR, 1, m.minor, 0o666, open); err != nil {
			return nil, err
		}
	}
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	} {
		if err := d.Link(l[0], l[1]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Add makes a device file, whose name may have directories in it (they are
// made), and says what its number stands for. typ is S_IFCHR or S_IFBLK. It fails as mknod(2) does.
func (d *Devices) Add(name string, typ, major, minor, mode uint32, open vfs.OpenDevice) error {
	d.ns.AddDevice(typ, major, minor, open)
	for i := range name {
		if name[i] == '/' {
			if err := d.Dir(name[:i], 0o755); err != nil && err != unix.EEXIST {
				return err
			}
		}
	}
	return vfs.Mknod(&d.ctx, vfs.Path{}, name, typ|mode, unix.Mkdev(major, minor), nil)
}

// Remove takes a device file away.
func (d *Devices) Remove(name string) error { return vfs.Unlink(&d.ctx, vfs.Path{}, name) }

// Dir makes a directory.
func (d *Devices) Dir(name string, mode uint32) error {
	return vfs.Mkdir(&d.ctx, vfs.Path{}, name, mode)
}

// Link makes a symbolic link.
func (d *Devices) Link(name, target string) error {
	return vfs.Symlink(&d.ctx, target, vfs.Path{}, name)
}

// null is /dev/null.
type null struct{ vfs.FileDefaults }

func (*null) Read(*vfs.File, uio.Sink, int64) (int64, error) { return 0, nil }

func (*null) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	return int64(src.Left()), nil
}

// zero is /dev/zero.
type zero struct {
	null
	pool *mem.Pool
}

var zeros [16 << 10]byte

func (*zero) Read(_ *vfs.File, dst uio.Sink, _ int64) (n int64, err error) {
	for dst.Left() > 0 && err == nil {
		var m int
		m, err = dst.Put(zeros[:min(len(zeros), dst.Left())])
		n += int64(m)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Map gives each mapping memory of its own.
func (z *zero) Map(f *vfs.File) *mem.Cache {
	c := mem.NewShmem(z.pool)
	c.Truncate(1<<63 - mem.HugeFrames*vfs.BlockSize)
	inode := f.Inode()
	inode.Lock()
	defer inode.Unlock()
	maps, _ := f.Data.(*[]*mem.Cache)
	if maps == nil {
		maps = new([]*mem.Cache)
		f.Data = maps
	}
	*maps = append(*maps, c)
	return c
}

func (*zero) Release(f *vfs.File) {
	if maps, ok := f.Data.(*[]*mem.Cache); ok {
		for _, c := range *maps {
			c.Release()
		}
	}
}

// full is /dev/full.
type full struct{ zero }

func (*full) Write(_ *vfs.File, src uio.Source, _ int64) (int64, error) {
	if src.Left() == 0 {
		return 0, nil
	}
	return 0, unix.ENOSPC
}

func (*full) Map(*vfs.File) *mem.Cache { return nil }

// random is /dev/random and /dev/urandom, which differ in nothing any more (random(4), since Linux 5.6).
type random struct {
	null
	fill func([]byte)
}

func (r *random) Read(_ *vfs.File, dst uio.Sink, _ int64) (n int64, err error) {
	var buf [256]byte
	for dst.Left() > 0 && err == nil {
		b := buf[:min(len(buf), dst.Left())]
		r.fill(b)
		var m int
		m, err = dst.Put(b)
		n += int64(m)
	}
	clear(buf[:])
	if n > 0 {
		err = nil
	}
	return n, err
}

// Write takes what a program wants to be mixed in, and lets it be: the generator needs none.
func (r *random) Write(_ *vfs.File, src uio.Source, _ int64) (n int64, err error) {
	var buf [256]byte
	for src.Left() > 0 && err == nil {
		var m int
		m, err = src.Take(buf[:min(len(buf), src.Left())])
		n += int64(m)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Requests of random(4).
const rndGetEntCnt = 0x80045200

func (*random) Ioctl(_ *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	if a.Cmd != rndGetEntCnt {
		return 0, unix.EINVAL
	}
	return 0, a.PutInt32(256)
}
