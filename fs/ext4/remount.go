package ext4

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// Remount implements vfs.Remounter.
func (fs *fileSystem) Remount(r *vfs.MountRequest) error {
	o, err := parseOptions(r)
	switch {
	case err != nil:
		return err
	case o.noload:
		return r.Fail(unix.EINVAL, "noload is for mounting")
	case r.ReadOnly() && !fs.readOnly.Load():
		err = fs.freeze(r)
	case !r.ReadOnly() && fs.readOnly.Load():
		err = fs.thaw(r)
	}
	if err == nil && r.Options != "" {
		fs.setDiscards(o.discard)
	}
	return err
}

// freeze makes the file system read-only, with everything in its place and a clean mark, as after an unmount: EBUSY, EIO.
func (fs *fileSystem) freeze(r *vfs.MountRequest) error {
	fs.mu.RLock()
	open := len(fs.orphans)
	fs.mu.RUnlock()
	if fs.failure() != nil {
		fs.markErrors()
		fs.readOnly.Store(true)
		return nil
	}
	if open > 0 {
		return r.Fail(unix.EBUSY, "deleted files are still open")
	}
	if err := fs.Sync(); err != nil {
		return err
	}
	if err := fs.tidy(); err != nil {
		return fs.fail(err)
	}
	fs.readOnly.Store(true)
	return nil
}

// thaw makes the file system one that can be written: EROFS, EACCES, EIO.
func (fs *fileSystem) thaw(r *vfs.MountRequest) error {
	switch {
	case fs.failure() != nil:
		return r.Fail(unix.EROFS, "there was a fault: it must be unmounted, and checked by e2fsck")
	case fs.disk.Limits().ReadOnly:
		return r.Fail(unix.EACCES, "the disk is read-only")
	case fs.compat&compatJournal != 0 && fs.journal == nil:
		return r.Fail(unix.EROFS, "it was mounted without its journal")
	}
	if err := fs.checkWritable(r); err != nil {
		return err
	}
	fs.mu.Lock()
	fs.done = false
	fs.mu.Unlock()
	fs.readOnly.Store(false)
	err := fs.start(r)
	if err != nil {
		fs.readOnly.Store(true)
	}
	return err
}

// setDiscards says whether blocks that are free again are given back to the disk.
func (fs *fileSystem) setDiscards(on bool) {
	if on && fs.disk.Limits().MaxDiscard == 0 {
		fs.problem("discard has no effect: the disk does not know it")
		on = false
	}
	fs.committing.Lock()
	fs.discards = on
	fs.committing.Unlock()
}

// discard gives blocks back to the disk that a transaction, which is durable, has freed. They cannot be had again yet. fs.committing is held.
func (fs *fileSystem) discard(freed []run) {
	for i := 0; i < len(freed) && fs.discards; {
		r := freed[i]
		for i++; i < len(freed) && freed[i].block == r.block+uint64(r.n) && r.n < 1<<30; i++ {
			r.n += freed[i].n
		}
		if err := fs.disk.Discard(int64(r.block)<<fs.blockBits, int64(r.n)<<fs.blockBits); err != nil {
			fs.problem("no blocks are discarded any more: " + err.Error())
			fs.discards = false
		}
	}
}
