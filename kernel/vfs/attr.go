package vfs

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/cred"
)

// maySetAttr checks what every change of attributes needs: EROFS, and EPERM when the file has one of some flags.
func (p Path) maySetAttr(flags uint32) error {
	if p.Mount.Flags()&unix.MS_RDONLY != 0 {
		return unix.EROFS
	}
	if p.Inode().HasFlags(flags) {
		return unix.EPERM
	}
	return p.Inode().ops.MaySetAttr(p.Inode())
}

// Chmod is fchmodat(2) on the file that p leads to: EPERM, EROFS, and EOPNOTSUPP for a symbolic link.
func Chmod(ctx *Context, p Path, mode uint32) error {
	i := p.Inode()
	if i.Type() == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	if err := p.maySetAttr(FlagImmutable | FlagAppend); err != nil {
		return err
	}
	if !i.owns(ctx.Cred) {
		return unix.EPERM
	}
	mode &= 0o7777
	i.mu.Lock()
	defer i.mu.Unlock()
	if !ctx.Cred.InGroup(i.gid.Load()) && !i.capable(ctx.Cred, unix.CAP_FSETID) {
		mode &^= unix.S_ISGID
	}
	if err := i.setAttr(ctx.Cred, &Attr{Valid: AttrMode | AttrCtime, Mode: mode, Ctime: i.fs.now()}); err != nil {
		return err
	}
	p.Dentry.notify(unix.IN_ATTRIB)
	return nil
}

// Chown is fchownat(2) on the file that p leads to; cred.Keep leaves an ID as it is: EPERM, EROFS.
func Chown(ctx *Context, p Path, uid, gid uint32) error {
	i, c := p.Inode(), ctx.Cred
	if err := p.maySetAttr(FlagImmutable | FlagAppend); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	owner := i.uid.Load()
	if !i.capable(c, unix.CAP_CHOWN) {
		switch {
		case uid != cred.Keep && (uid != owner || c.FSUID != owner),
			gid != cred.Keep && (c.FSUID != owner || gid != i.gid.Load() && !c.InGroup(gid)):
			return unix.EPERM
		}
	}
	mode := i.mode.Load()
	if !i.IsDir() {
		mode = i.WithoutPrivileges(c)
	}
	if mode != i.mode.Load() && !i.owns(c) {
		return unix.EPERM
	}
	a := Attr{Valid: AttrCtime, Mode: mode, UID: uid, GID: gid, Ctime: i.fs.now()}
	if uid != cred.Keep {
		a.Valid |= AttrUID
	}
	if gid != cred.Keep {
		a.Valid |= AttrGID
	}
	if mode != i.mode.Load() {
		a.Valid |= AttrMode
	}
	if err := i.setAttr(c, &a); err != nil {
		return err
	}
	p.Dentry.notify(unix.IN_ATTRIB)
	return nil
}

// Utimes is utimensat(2) on the file that p leads to. The Nsec of a time may be UTIME_NOW or
// UTIME_OMIT; nil means now for both. EACCES, EPERM, EINVAL, EROFS.
func Utimes(ctx *Context, p Path, times *[2]unix.Timespec) error {
	i := p.Inode()
	if times == nil {
		times = &[2]unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	}
	now := true
	for _, t := range times {
		if t.Nsec != unix.UTIME_NOW && t.Nsec != unix.UTIME_OMIT && (t.Nsec < 0 || t.Nsec >= 1e9) {
			return unix.EINVAL
		}
		now = now && t.Nsec == unix.UTIME_NOW
	}
	if times[0].Nsec == unix.UTIME_OMIT && times[1].Nsec == unix.UTIME_OMIT {
		return nil
	}
	fixed := uint32(FlagImmutable)
	if !now {
		fixed |= FlagAppend
	}
	if err := p.maySetAttr(fixed); err != nil {
		return err
	}
	if !i.owns(ctx.Cred) {
		if !now {
			return unix.EPERM
		}
		if err := i.Access(ctx.Cred, MayWrite); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	clock := i.fs.now()
	a := Attr{Valid: AttrCtime, Ctime: clock}
	for n, t := range times {
		set, now, at := uint32(AttrAtime), uint32(AttrAtimeNow), &a.Atime
		if n == 1 {
			set, now, at = AttrMtime, AttrMtimeNow, &a.Mtime
		}
		switch t.Nsec {
		case unix.UTIME_OMIT:
		case unix.UTIME_NOW:
			a.Valid |= set | now
			*at = clock
		default:
			a.Valid |= set
			*at = clampTime(t)
		}
	}
	if err := i.setAttr(ctx.Cred, &a); err != nil {
		return err
	}
	switch {
	case times[0].Nsec == unix.UTIME_OMIT:
		p.Dentry.notify(unix.IN_MODIFY)
	case times[1].Nsec == unix.UTIME_OMIT:
		p.Dentry.notify(unix.IN_ACCESS)
	default:
		p.Dentry.notify(unix.IN_ATTRIB)
	}
	return nil
}

// clampTime turns a time into ns, within what 64 bits can say (the years 1678 to 2262).
func clampTime(t unix.Timespec) int64 {
	const most = 1<<63/1_000_000_000 - 1
	return min(max(t.Sec, -most), most)*1e9 + t.Nsec
}

// Truncate is truncate(2): EISDIR, EINVAL, EACCES, EROFS, ETXTBSY, EPERM.
func Truncate(ctx *Context, path string, size int64) error {
	if size < 0 {
		return unix.EINVAL
	}
	p, err := Lookup(ctx, Path{}, path, 0)
	if err != nil {
		return err
	}
	i := p.Inode()
	switch i.Type() {
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFREG:
	default:
		return unix.EINVAL
	}
	if err := i.Access(ctx.Cred, MayWrite); err != nil {
		return err
	}
	if p.Mount.Flags()&unix.MS_RDONLY != 0 {
		return unix.EROFS
	}
	if i.HasFlags(FlagAppend) {
		return unix.EPERM
	}
	if err := i.mayTruncate(); err != nil {
		return err
	}
	if !i.hold() {
		return unix.ENOENT
	}
	defer i.drop()
	if err := i.truncate(ctx.Cred, size); err != nil {
		return err
	}
	p.Dentry.notify(unix.IN_MODIFY)
	return nil
}
