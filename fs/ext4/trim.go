package ext4

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/vfs"
)

// fitrim is FITRIM (linux/fs.h), whose argument is struct fstrim_range.
const fitrim = 0xc0185879

// trimIoctl is FITRIM: EPERM, EOPNOTSUPP when the disk cannot discard, EROFS without the journal, EFAULT, and what trimFree gives.
func (fs *fileSystem) trimIoctl(a *vfs.IoctlArgs) error {
	switch {
	case !a.Ctx.Cred.Capable(unix.CAP_SYS_ADMIN):
		return unix.EPERM
	case fs.disk.Limits().MaxDiscard == 0:
		return unix.EOPNOTSUPP
	case fs.compat&compatJournal != 0 && fs.journal == nil:
		return unix.EROFS // what is free may be known to the journal only
	}
	var b [24]byte
	if _, err := a.Mem.CopyIn(b[:], a.Arg); err != nil {
		return err
	}
	n, err := fs.trimFree(le.Uint64(b[:]), le.Uint64(b[8:]), le.Uint64(b[16:]))
	if err != nil {
		return err
	}
	le.PutUint64(b[8:], n)
	_, err = a.Mem.CopyOut(a.Arg, b[:])
	return err
}

// trimFree gives back to the disk what is free in n bytes from start on, in runs of at least least bytes, and the disk's granularity, and returns
// how many bytes that was: EINVAL when nothing can be meant, EIO, EUCLEAN. A group that nothing became free in since it was trimmed is passed over.
func (fs *fileSystem) trimFree(start, n, least uint64) (uint64, error) {
	first, count := start>>fs.blockBits, n>>fs.blockBits
	if least>>fs.blockBits > uint64(fs.blocksGroup) || first >= fs.blocks || count == 0 {
		return 0, unix.EINVAL
	}
	least = max(least, uint64(fs.disk.Limits().DiscardAlign)) >> fs.blockBits
	if least > uint64(fs.blocksGroup) {
		return 0, nil
	}
	if !fs.readOnly.Load() {
		if err := fs.commit(); err != nil { // so that what was freed just now is free
			return 0, err
		}
	}
	end := first + min(count, fs.blocks-first)
	trimmed := uint64(0)
	for first = max(first, fs.firstBlock); first < end; {
		g, at := fs.groupOf(first)
		to := uint32(min(uint64(fs.groupBlocks(g)), uint64(at)+end-first))
		got, err := fs.trimGroup(g, at, to, uint32(max(least, 1)))
		trimmed += uint64(got)
		if err != nil {
			return 0, err
		}
		first += uint64(to - at)
	}
	return trimmed << fs.blockBits, nil
}

// trimGroup discards the free runs of at least least blocks in [at, to) of a group, and returns how many blocks these were.
func (fs *fileSystem) trimGroup(g, at, to, least uint32) (trimmed uint32, err error) {
	whole := at == 0 && to == fs.groupBlocks(g)
	skip := false
	if err := fs.locked(func() error {
		d := &fs.groups[g]
		if skip = d.freeBlocks < least || d.trimmed != 0 && d.trimmed <= least; !skip && whole {
			d.trimmed = least // until something becomes free
		}
		return nil
	}); err != nil || skip {
		return 0, err
	}
	for at < to {
		n := uint32(0)
		err := fs.locked(func() (err error) {
			at, n, err = fs.trimRun(g, at, to, least)
			return err
		})
		if err != nil {
			_ = fs.locked(func() error { fs.groups[g].trimmed = 0; return nil })
			return trimmed, err
		}
		trimmed += n
	}
	return trimmed, nil
}

// trimRun discards the first run that is long enough, and returns where it ends. Nobody can have its blocks meanwhile: fs.mu is held for writing.
func (fs *fileSystem) trimRun(g, at, to, least uint32) (end, n uint32, err error) {
	b, err := fs.blockBitmap(g)
	if err != nil {
		return at, 0, err
	}
	for at < to {
		at, n = freeFrom(b.data, fs.busy[g], at, to, to-at)
		if n >= least {
			return at + n, n, fs.disk.Discard(int64(fs.groupStart(g)+uint64(at))<<fs.blockBits, int64(n)<<fs.blockBits)
		}
		at += max(n, 1)
	}
	return to, 0, nil
}
