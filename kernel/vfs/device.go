package vfs

import "golang.org/x/sys/unix"

// OpenDevice returns the operations of a newly opened device file, which ctx opens.
type OpenDevice func(ctx *Context, f *File) (FileOps, error)

type deviceKey struct {
	typ  uint32 // S_IFCHR or S_IFBLK
	rdev uint64
}

// AddDevice says what device files of a type (S_IFCHR or S_IFBLK) and number stand for.
func (ns *Namespace) AddDevice(typ, major, minor uint32, open OpenDevice) {
	ns.mu.Lock()
	ns.devices[deviceKey{typ, unix.Mkdev(major, minor)}] = open
	ns.mu.Unlock()
}

// openDevice opens the device that f's inode stands for: EACCES on a mount
// without devices, ENXIO when there is no such device.
func (ns *Namespace) openDevice(ctx *Context, f *File) (FileOps, error) {
	if f.path.Mount.Flags()&unix.MS_NODEV != 0 || f.inode.fs.Owner != nil {
		return nil, unix.EACCES
	}
	ns.mu.RLock()
	open := ns.devices[deviceKey{f.inode.Type(), f.inode.Rdev}]
	ns.mu.RUnlock()
	if open == nil {
		return nil, unix.ENXIO
	}
	return open(ctx, f)
}
