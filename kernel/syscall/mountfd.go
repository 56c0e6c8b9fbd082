package syscall

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
	"gosv/kernel/vfs"
)

// Mounts by descriptors: fsopen(2) and its kin (Linux's Documentation/filesystems/mount_api.rst), and pivot_root(2).

func mountFDRows(r *table) {
	const late = "an option that the type does not know is refused by FSCONFIG_CMD_CREATE"
	r.set(unix.SYS_FSOPEN, call2("fsopen", aPath, flags("flags", unix.FSOPEN_CLOEXEC, []flagName{{unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC"}}), sysFsopen))
	r.set(unix.SYS_FSPICK, call3("fspick", aDirFD, aPath, flags("flags", 1<<32-1, fspickNames), sysFspick))
	r.set(unix.SYS_FSCONFIG, call5("fsconfig", aFD, choice("command", fsconfigNames), aAddr, aAddr, aInt, sysFsconfig).partly(late+"; no types take binary values, paths or descriptors"))
	r.set(unix.SYS_FSMOUNT, call3("fsmount", aFD, flags("flags", unix.FSMOUNT_CLOEXEC, []flagName{{unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"}}), flags("attributes", 1<<32-1, mountAttrNames), sysFsmount))
	r.set(unix.SYS_OPEN_TREE, call3("open_tree", aDirFD, aPath, flags("flags", 1<<32-1, openTreeNames), sysOpenTree))
	r.set(unix.SYS_MOVE_MOUNT, call5("move_mount", aDirFD, aPath, aDirFD, aPath, flags("flags", 1<<32-1, moveMountNames), sysMoveMount).partly("no MOVE_MOUNT_SET_GROUP"))
	r.set(unix.SYS_MOUNT_SETATTR, call5("mount_setattr", aDirFD, aPath, flags("flags", 1<<32-1, setattrNames), aAddr, aSize, sysMountSetattr).partly("no ID-mapped mounts"))
	r.set(unix.SYS_PIVOT_ROOT, call2("pivot_root", aPath, aPath, sysPivotRoot))
}

const (
	atRecursive  = 0x8000 // AT_RECURSIVE
	attrAtime    = unix.MOUNT_ATTR__ATIME
	attrNoFollow = unix.MOUNT_ATTR_NOSYMFOLLOW
)

var (
	fspickNames = []flagName{{unix.FSPICK_CLOEXEC, "FSPICK_CLOEXEC"}, {unix.FSPICK_SYMLINK_NOFOLLOW, "FSPICK_SYMLINK_NOFOLLOW"},
		{unix.FSPICK_NO_AUTOMOUNT, "FSPICK_NO_AUTOMOUNT"}, {unix.FSPICK_EMPTY_PATH, "FSPICK_EMPTY_PATH"}}
	fsconfigNames = []flagName{{unix.FSCONFIG_SET_FLAG, "FSCONFIG_SET_FLAG"}, {unix.FSCONFIG_SET_STRING, "FSCONFIG_SET_STRING"},
		{unix.FSCONFIG_SET_BINARY, "FSCONFIG_SET_BINARY"}, {unix.FSCONFIG_SET_PATH, "FSCONFIG_SET_PATH"}, {unix.FSCONFIG_SET_PATH_EMPTY, "FSCONFIG_SET_PATH_EMPTY"},
		{unix.FSCONFIG_SET_FD, "FSCONFIG_SET_FD"}, {unix.FSCONFIG_CMD_CREATE, "FSCONFIG_CMD_CREATE"}, {unix.FSCONFIG_CMD_RECONFIGURE, "FSCONFIG_CMD_RECONFIGURE"}}
	mountAttrNames = []flagName{{unix.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"}, {unix.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"},
		{unix.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"}, {unix.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"}, {unix.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"},
		{unix.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"}, {unix.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"}}
	openTreeNames = []flagName{{unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}, {unix.OPEN_TREE_CLOEXEC, "OPEN_TREE_CLOEXEC"}, {atRecursive, "AT_RECURSIVE"},
		{unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}, {unix.AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"}, {unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}}
	moveMountNames = []flagName{{unix.MOVE_MOUNT_F_SYMLINKS, "MOVE_MOUNT_F_SYMLINKS"}, {unix.MOVE_MOUNT_F_AUTOMOUNTS, "MOVE_MOUNT_F_AUTOMOUNTS"},
		{unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH"}, {unix.MOVE_MOUNT_T_SYMLINKS, "MOVE_MOUNT_T_SYMLINKS"},
		{unix.MOVE_MOUNT_T_AUTOMOUNTS, "MOVE_MOUNT_T_AUTOMOUNTS"}, {unix.MOVE_MOUNT_T_EMPTY_PATH, "MOVE_MOUNT_T_EMPTY_PATH"}}
	setattrNames = []flagName{{atRecursive, "AT_RECURSIVE"}, {unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}, {unix.AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"},
		{unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}}
)

// attrFlags are the MOUNT_ATTR_ and MS_ flags that mean the same.
var attrFlags = [...]struct{ attr, flag uint64 }{
	{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY}, {unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID}, {unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
	{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC}, {unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME}, {attrNoFollow, unix.MS_NOSYMFOLLOW},
}

// mountFlags turns MOUNT_ATTR_ flags, but for those of access times, into MS_ flags: EINVAL.
func mountFlags(attr uint64) (flags uint64, err error) {
	for _, f := range attrFlags {
		if attr&f.attr != 0 {
			attr &^= f.attr
			flags |= f.flag
		}
	}
	if attr != 0 {
		return 0, unix.EINVAL
	}
	return flags, nil
}

// atimeFlags is mountFlags for those of access times: EINVAL.
func atimeFlags(attr uint64) (uint64, error) {
	switch attr & attrAtime {
	case unix.MOUNT_ATTR_RELATIME:
		return unix.MS_RELATIME, nil
	case unix.MOUNT_ATTR_NOATIME:
		return unix.MS_NOATIME, nil
	case unix.MOUNT_ATTR_STRICTATIME:
		return unix.MS_STRICTATIME, nil
	}
	return 0, unix.EINVAL
}

// lookupAt finds what dirfd and name lead to, with the flags of vfs.Lookup; the result's file is to be let go.
func lookupAt(t *task.Task, dirfd int32, name string, flags int) (place, error) {
	if name == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return place{}, unix.ENOENT
	}
	p, err := at(t, dirfd, name)
	if err != nil {
		return p, err
	}
	if p.Path, err = vfs.Lookup(view(t), p.Path, name, flags); err != nil {
		p.done()
	}
	return p, err
}

// cloexec is O_CLOEXEC when any is set.
func cloexec(any uint32) int {
	if any != 0 {
		return unix.O_CLOEXEC
	}
	return 0
}

func sysFsopen(t *task.Task, typ string, flags uint32) (uint64, error) {
	f, err := vfs.NewFSContext(view(t), typ)
	if err != nil {
		return 0, err
	}
	return install(t, f, cloexec(flags))
}

func sysFspick(t *task.Task, dirfd int32, name string, flags uint32) (uint64, error) {
	if flags&^(unix.FSPICK_CLOEXEC|unix.FSPICK_SYMLINK_NOFOLLOW|unix.FSPICK_NO_AUTOMOUNT|unix.FSPICK_EMPTY_PATH) != 0 {
		return 0, unix.EINVAL
	}
	how := 0
	if flags&unix.FSPICK_SYMLINK_NOFOLLOW != 0 {
		how |= unix.AT_SYMLINK_NOFOLLOW
	}
	if flags&unix.FSPICK_EMPTY_PATH != 0 {
		how |= unix.AT_EMPTY_PATH
	}
	p, err := lookupAt(t, dirfd, name, how)
	if err != nil {
		return 0, err
	}
	defer p.done()
	f, err := vfs.PickFS(view(t), p.Path)
	if err != nil {
		return 0, err
	}
	return install(t, f, cloexec(flags&unix.FSPICK_CLOEXEC))
}

// contextOf returns the context that a descriptor stands for, and its file, to be let go: EBADF, EINVAL.
func contextOf(t *task.Task, fd int32) (*vfs.FSContext, *vfs.File, error) {
	f, err := file(t, fd)
	if err != nil {
		return nil, nil, err
	}
	c, err := vfs.FSContextOf(f)
	if err != nil {
		f.DecRef()
	}
	return c, f, err
}

// maxKey is the longest key or value, with its NUL.
const maxKey = 256

func sysFsconfig(t *task.Task, fd, cmd int32, key, value uint64, aux int32) (uint64, error) {
	valid := fd >= 0
	switch cmd {
	case unix.FSCONFIG_SET_FLAG:
		valid = valid && key != 0 && value == 0 && aux == 0
	case unix.FSCONFIG_SET_STRING:
		valid = valid && key != 0 && value != 0 && aux == 0
	case unix.FSCONFIG_SET_BINARY:
		valid = valid && key != 0 && value != 0 && aux > 0 && aux <= 1<<20
	case unix.FSCONFIG_SET_PATH, unix.FSCONFIG_SET_PATH_EMPTY:
		valid = valid && key != 0 && value != 0 && (aux == unix.AT_FDCWD || aux >= 0)
	case unix.FSCONFIG_SET_FD:
		valid = valid && key != 0 && value == 0 && aux >= 0
	case unix.FSCONFIG_CMD_CREATE, unix.FSCONFIG_CMD_RECONFIGURE:
		valid = valid && key == 0 && value == 0 && aux == 0
	default:
		return 0, unix.EOPNOTSUPP
	}
	if !valid {
		return 0, unix.EINVAL
	}
	c, f, err := contextOf(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	switch cmd {
	case unix.FSCONFIG_CMD_CREATE:
		return done(c.Create(view(t)))
	case unix.FSCONFIG_CMD_RECONFIGURE:
		return done(c.Reconfigure(view(t)))
	}
	name, err := configString(t, key)
	if err != nil {
		return 0, err
	}
	switch cmd {
	case unix.FSCONFIG_SET_FLAG:
		return done(c.SetOption(name, "", false))
	case unix.FSCONFIG_SET_STRING:
		v, err := configString(t, value)
		if err != nil {
			return 0, err
		}
		return done(c.SetOption(name, v, true))
	}
	return 0, unix.EINVAL // no type here takes such a value
}

func configString(t *task.Task, addr uint64) (string, error) {
	s, err := readString(t, addr, maxKey)
	if err == errTooLong {
		return "", unix.EINVAL
	}
	return s, err
}

func sysFsmount(t *task.Task, fd int32, flags, attr uint32) (uint64, error) {
	set, err := mountFlags(uint64(attr) &^ attrAtime)
	if err != nil {
		return 0, err
	}
	atime, err := atimeFlags(uint64(attr))
	if err != nil {
		return 0, err
	}
	c, f, err := contextOf(t, fd)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	m, err := c.Mount(view(t), set|atime)
	if err != nil {
		return 0, err
	}
	return install(t, m, cloexec(flags))
}

func sysOpenTree(t *task.Task, dirfd int32, name string, flags uint32) (uint64, error) {
	const clone = unix.OPEN_TREE_CLONE
	if flags&^(clone|unix.OPEN_TREE_CLOEXEC|atRecursive|unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW) != 0 || flags&(clone|atRecursive) == atRecursive {
		return 0, unix.EINVAL
	}
	if flags&clone != 0 && !vfs.MayMount(view(t)) {
		return 0, unix.EPERM
	}
	p, err := lookupAt(t, dirfd, name, int(flags)&(unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		return 0, err
	}
	defer p.done()
	var f *vfs.File
	if flags&clone != 0 {
		f, err = vfs.CloneTree(view(t), p.Path, flags&atRecursive != 0)
	} else {
		f, err = vfs.OpenPath(view(t), p.Path)
	}
	if err != nil {
		return 0, err
	}
	return install(t, f, cloexec(flags&unix.OPEN_TREE_CLOEXEC))
}

func sysMoveMount(t *task.Task, fromFD int32, from string, toFD int32, to string, flags uint32) (uint64, error) {
	const known = unix.MOVE_MOUNT_F_SYMLINKS | unix.MOVE_MOUNT_F_AUTOMOUNTS | unix.MOVE_MOUNT_F_EMPTY_PATH |
		unix.MOVE_MOUNT_T_SYMLINKS | unix.MOVE_MOUNT_T_AUTOMOUNTS | unix.MOVE_MOUNT_T_EMPTY_PATH
	if !vfs.MayMount(view(t)) {
		return 0, unix.EPERM
	}
	if flags&^known != 0 {
		return 0, unix.EINVAL
	}
	how := func(symlinks, empty uint32) (f int) {
		if flags&symlinks == 0 {
			f |= unix.AT_SYMLINK_NOFOLLOW
		}
		if flags&empty != 0 {
			f |= unix.AT_EMPTY_PATH
		}
		return f
	}
	src, err := lookupAt(t, fromFD, from, how(unix.MOVE_MOUNT_F_SYMLINKS, unix.MOVE_MOUNT_F_EMPTY_PATH))
	if err != nil {
		return 0, err
	}
	defer src.done()
	dst, err := lookupAt(t, toFD, to, how(unix.MOVE_MOUNT_T_SYMLINKS, unix.MOVE_MOUNT_T_EMPTY_PATH))
	if err != nil {
		return 0, err
	}
	defer dst.done()
	return done(vfs.MoveMount(view(t), src.Path, dst.Path))
}

// sizeofMountAttr is MOUNT_ATTR_SIZE_VER0.
const sizeofMountAttr = 32

// sysMountSetattr is mount_setattr(2): struct mount_attr has what to set, what to clear, the propagation and a user namespace.
func sysMountSetattr(t *task.Task, dirfd int32, name string, flags uint32, addr, size uint64) (uint64, error) {
	if flags&^(atRecursive|unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_SYMLINK_NOFOLLOW) != 0 {
		return 0, unix.EINVAL
	}
	switch {
	case size > 4096:
		return 0, unix.E2BIG
	case size < sizeofMountAttr:
		return 0, unix.EINVAL
	case !vfs.MayMount(view(t)):
		return 0, unix.EPERM
	}
	var b [sizeofMountAttr]byte
	if err := extensible(t, b[:], addr, size); err != nil {
		return 0, err
	}
	set, clear, propagation, userNS := le.Uint64(b[:]), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	if set == 0 && clear == 0 && propagation == 0 {
		return 0, nil
	}
	c, err := attrChange(set, clear, propagation, userNS)
	if err != nil {
		return 0, err
	}
	p, err := lookupAt(t, dirfd, name, int(flags)&(unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		return 0, err
	}
	defer p.done()
	c.Recursive = flags&atRecursive != 0
	return done(vfs.ChangeMount(view(t), p.Path, c))
}

// attrChange checks the fields of struct mount_attr: EINVAL.
func attrChange(set, clear, propagation, userNS uint64) (c vfs.MountChange, err error) {
	switch propagation {
	case 0, unix.MS_PRIVATE, unix.MS_SLAVE, unix.MS_SHARED, unix.MS_UNBINDABLE:
		c.Propagation = propagation
	default:
		return c, unix.EINVAL
	}
	if userNS > 1<<31-1 {
		return c, unix.EINVAL
	}
	if c.Set, err = mountFlags(set &^ attrAtime); err != nil {
		return c, err
	}
	if c.Clear, err = mountFlags(clear &^ attrAtime); err != nil {
		return c, err
	}
	switch clear & attrAtime {
	case attrAtime:
		c.Clear |= unix.MS_RELATIME | unix.MS_NOATIME | unix.MS_STRICTATIME
		atime, err := atimeFlags(set)
		c.Set |= atime
		return c, err
	case 0:
		if set&attrAtime == 0 {
			return c, nil
		}
	}
	return c, unix.EINVAL // the mode of access times is changed as a whole
}

func sysPivotRoot(t *task.Task, next, put string) (uint64, error) {
	if !vfs.MayMount(view(t)) {
		return 0, unix.EPERM
	}
	ctx := view(t)
	n, err := vfs.Lookup(ctx, vfs.Path{}, next, 0)
	if err != nil {
		return 0, err
	}
	p, err := vfs.Lookup(ctx, vfs.Path{}, put, 0)
	if err != nil {
		return 0, err
	}
	if err := vfs.PivotRoot(ctx, n, p); err != nil {
		return 0, err
	}
	for _, o := range t.Kernel().Processes() {
		for _, th := range o.Threads() {
			th.ReplaceRoot(ctx.Root, n)
		}
	}
	return 0, nil
}
