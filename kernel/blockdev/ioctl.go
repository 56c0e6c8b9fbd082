package blockdev

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/vfs"
)

// Requests that package unix has not.
const (
	hdioGetGeo = 0x301
)

// put copies a result out: EFAULT.
func put(a *vfs.IoctlArgs, b []byte) error {
	_, err := a.Mem.CopyOut(a.Arg, b)
	return err
}

func put64(a *vfs.IoctlArgs, v uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return put(a, b[:])
}

// Ioctl implements vfs.FileOps: EFAULT, EINVAL, EACCES, EBADF, and ENOTTY for what is not a request to disks.
func (o *file) Ioctl(f *vfs.File, a *vfs.IoctlArgs) (uint64, error) {
	l := o.disk.Limits()
	switch a.Cmd {
	case unix.BLKGETSIZE64:
		return 0, put64(a, uint64(l.Size))
	case unix.BLKGETSIZE:
		return 0, put64(a, uint64(l.Size/block.SectorSize))
	case unix.BLKSSZGET:
		return 0, a.PutInt32(int32(l.BlockSize))
	case unix.BLKPBSZGET:
		return 0, a.PutInt32(int32(l.PhysicalSize))
	case unix.BLKBSZGET:
		return 0, a.PutInt32(vfs.BlockSize)
	case unix.BLKIOMIN:
		return 0, a.PutInt32(int32(l.PhysicalSize))
	case unix.BLKIOOPT:
		return 0, a.PutInt32(int32(l.OptimalSize))
	case unix.BLKALIGNOFF, unix.BLKDISCARDZEROES:
		return 0, a.PutInt32(0)
	case unix.BLKRAGET, unix.BLKFRAGET:
		return 0, put64(a, 2048) // sectors: mem's largest read-ahead
	case unix.BLKSECTGET, unix.BLKROTATIONAL:
		v := uint16(0)
		if a.Cmd == unix.BLKSECTGET {
			v = uint16(min(max(l.MaxBytes, 1<<20)/block.SectorSize, math.MaxUint16))
		} else if l.Rotational {
			v = 1
		}
		return 0, put(a, []byte{byte(v), byte(v >> 8)})
	case unix.BLKROGET:
		ro := int32(0)
		if l.ReadOnly {
			ro = 1
		}
		return 0, a.PutInt32(ro)
	case unix.BLKROSET:
		return 0, o.mark(a)
	case hdioGetGeo:
		return 0, put(a, geometry(o.disk))
	case unix.BLKDISCARD, unix.BLKSECDISCARD, unix.BLKZEROOUT:
		return 0, o.erase(f, a)
	case unix.BLKFLSBUF:
		if !a.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EACCES
		}
		return 0, o.forget()
	case unix.BLKRRPART:
		if !a.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EACCES
		}
		if err := o.flush(); err != nil {
			return 0, err
		}
		return 0, o.files.disks.Rescan(o.disk)
	}
	if l := o.files.loop(o.disk); l != nil {
		return 0, o.files.loopIoctl(l, f, a)
	}
	return 0, unix.ENOTTY
}

// mark is BLKROSET: EACCES, EFAULT.
func (o *file) mark(a *vfs.IoctlArgs) error {
	if !a.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN) {
		return unix.EACCES
	}
	var b [4]byte
	if _, err := a.Mem.CopyIn(b[:], a.Arg); err != nil {
		return err
	}
	o.disk.Mark(binary.LittleEndian.Uint32(b[:]) != 0)
	return nil
}

// erase is BLKDISCARD and BLKZEROOUT.
func (o *file) erase(f *vfs.File, a *vfs.IoctlArgs) error {
	var b [16]byte
	if !f.Writable() {
		return unix.EBADF
	}
	if _, err := a.Mem.CopyIn(b[:], a.Arg); err != nil {
		return err
	}
	off, n := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	size := uint64(o.disk.Size())
	if off > size || n > size-off || n == 0 {
		return unix.EINVAL
	}
	op := block.Discard
	switch a.Cmd {
	case unix.BLKZEROOUT:
		op = block.WriteZeroes
	case unix.BLKSECDISCARD:
		return unix.EOPNOTSUPP
	}
	return o.change(&block.Request{Op: op, Off: int64(off), Len: int64(n), Allocated: true})
}

// geometry is struct hd_geometry with the usual invented heads and sectors.
func geometry(d *block.Disk) []byte {
	const heads, sectors = 255, 63
	b := make([]byte, 16)
	b[0], b[1] = heads, sectors
	cylinders := d.Limits().Size / block.SectorSize / (heads * sectors)
	binary.LittleEndian.PutUint16(b[2:], uint16(min(cylinders, math.MaxUint16)))
	binary.LittleEndian.PutUint64(b[8:], uint64(d.Start/block.SectorSize))
	return b
}
