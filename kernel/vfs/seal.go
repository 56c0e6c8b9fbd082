package vfs

import "golang.org/x/sys/unix"

// allSeals are the seals of memfd_create(2) that Linux 6.1 has.
const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE

// Seals returns the seals of the file (F_GET_SEALS): EINVAL when it cannot have any.
func (f *File) Seals() (uint32, error) {
	if f.inode.seals.Load()&sealable == 0 {
		return 0, unix.EINVAL
	}
	return f.inode.seals.Load() & allSeals, nil
}

// AddSeals is F_ADD_SEALS: EINVAL, EPERM, EBUSY.
func (f *File) AddSeals(seals uint32) error {
	i := f.inode
	if f.kind&canWrite == 0 {
		return unix.EPERM
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	have := i.seals.Load()
	switch {
	case have&sealable == 0 || seals&^allSeals != 0:
		return unix.EINVAL
	case have&unix.F_SEAL_SEAL != 0:
		return unix.EPERM
	}
	if seals&unix.F_SEAL_WRITE != 0 && have&unix.F_SEAL_WRITE == 0 {
		if err := i.cache.SealWrites(); err != nil {
			return err
		}
	}
	i.seals.Store(have | seals)
	return nil
}

// sealable marks an inode that may have seals.
const sealable = 1 << 31

// MakeSealable lets the inode take seals, seals at once; for memfd_create(2).
func (i *Inode) MakeSealable(seals uint32) { i.seals.Store(sealable | seals) }

// sealed checks a change of n bytes at off against the seals: EPERM.
func (i *Inode) sealed(off, n int64) error {
	s := i.seals.Load()
	if s&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 || s&unix.F_SEAL_GROW != 0 && off+n > i.cache.Size() {
		return unix.EPERM
	}
	return nil
}

// sealedSize checks a new size against the seals: EPERM.
func (i *Inode) sealedSize(size int64) error {
	s, old := i.seals.Load(), i.cache.Size()
	if s&unix.F_SEAL_SHRINK != 0 && size < old || s&unix.F_SEAL_GROW != 0 && size > old {
		return unix.EPERM
	}
	return nil
}
