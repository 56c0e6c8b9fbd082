package hostfs

import (
	"golang.org/x/sys/unix"

	"gosv/internal/fuseabi"
)

// operations is the table of what the server does.
var operations map[uint32]operation

func init() {
	operations = map[uint32]operation{
		fuseabi.OpInit:          {16, false, (*Server).init},
		fuseabi.OpDestroy:       {0, false, (*Server).destroy},
		fuseabi.OpLookup:        {1, false, (*Server).lookup},
		fuseabi.OpGetattr:       {16, false, (*Server).getattr},
		fuseabi.OpSetattr:       {88, true, (*Server).setattr},
		fuseabi.OpReadlink:      {0, false, (*Server).readlink},
		fuseabi.OpSymlink:       {2, true, (*Server).symlink},
		fuseabi.OpMknod:         {17, true, (*Server).mknod},
		fuseabi.OpMkdir:         {9, true, (*Server).mkdir},
		fuseabi.OpUnlink:        {1, true, func(s *Server, r *request) (*body, error) { return s.unlink(r, 0) }},
		fuseabi.OpRmdir:         {1, true, func(s *Server, r *request) (*body, error) { return s.unlink(r, unix.AT_REMOVEDIR) }},
		fuseabi.OpRename:        {10, true, func(s *Server, r *request) (*body, error) { return s.rename(r, 8, 0) }},
		fuseabi.OpRename2:       {18, true, func(s *Server, r *request) (*body, error) { return s.rename(r, 16, r.u32(8)) }},
		fuseabi.OpLink:          {9, true, (*Server).link},
		fuseabi.OpOpen:          {8, false, (*Server).open},
		fuseabi.OpCreate:        {17, true, (*Server).create},
		fuseabi.OpTmpfile:       {16, true, (*Server).tmpfile},
		fuseabi.OpRead:          {40, false, (*Server).read},
		fuseabi.OpWrite:         {fuseabi.WriteInSize, true, (*Server).write},
		fuseabi.OpStatfs:        {0, false, (*Server).statfs},
		fuseabi.OpRelease:       {24, false, (*Server).release},
		fuseabi.OpReleasedir:    {24, false, (*Server).release},
		fuseabi.OpFlush:         {24, false, func(*Server, *request) (*body, error) { return nil, nil }},
		fuseabi.OpFsync:         {16, false, (*Server).fsync},
		fuseabi.OpFsyncdir:      {16, false, (*Server).fsyncdir},
		fuseabi.OpSyncfs:        {0, false, (*Server).syncfs},
		fuseabi.OpSetxattr:      {9, true, (*Server).setxattr},
		fuseabi.OpGetxattr:      {9, false, (*Server).getxattr},
		fuseabi.OpListxattr:     {8, false, (*Server).listxattr},
		fuseabi.OpRemovexattr:   {1, true, (*Server).removexattr},
		fuseabi.OpOpendir:       {8, false, (*Server).opendir},
		fuseabi.OpReaddir:       {40, false, func(s *Server, r *request) (*body, error) { return s.readdir(r, false) }},
		fuseabi.OpReaddirplus:   {40, false, func(s *Server, r *request) (*body, error) { return s.readdir(r, true) }},
		fuseabi.OpFallocate:     {32, true, (*Server).fallocate},
		fuseabi.OpLseek:         {24, false, (*Server).lseek},
		fuseabi.OpCopyFileRange: {56, true, (*Server).copyFileRange},
	}
}

func (s *Server) destroy(*request) (*body, error) {
	s.reset()
	s.nodes.clear()
	return nil, nil
}

// forget takes lookups away; there is no reply.
func (s *Server) forget(r *request) {
	if r.op == fuseabi.OpForget {
		if len(r.args) >= 8 {
			s.nodes.forget(r.node, r.u64(0))
		}
		return
	}
	if len(r.args) < 8 {
		return
	}
	for i := 8; i+16 <= len(r.args) && uint64(i-8)/16 < uint64(r.u32(0)); i += 16 {
		s.nodes.forget(r.u64(i), r.u64(i+8))
	}
}

// dir returns the directory that a request is about, to be dropped, and the name in it.
func (s *Server) dir(r *request, off int) (*node, string, error) {
	names, err := r.entryNames(off, 1)
	if err != nil {
		return nil, "", err
	}
	n, err := s.nodes.get(r.node)
	switch {
	case err != nil:
		return nil, "", err
	case n.typ != unix.S_IFDIR:
		err = unix.ENOTDIR
	case n.sealed || n == s.root && s.only != "" && names[0] != s.only:
		err = unix.ENOENT
	}
	if err != nil {
		n.drop()
		return nil, "", err
	}
	return n, names[0], nil
}

func (s *Server) lookup(r *request) (*body, error) {
	d, name, err := s.dir(r, 0)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	n, st, err := s.find(d, name)
	if err == unix.ENOENT && s.valid > 0 {
		return &body{bytes: s.putEntry(nil, nil, &unix.Stat_t{})}, nil
	}
	if err != nil {
		return nil, err
	}
	return &body{bytes: s.putEntry(nil, n, st)}, nil
}

// find looks up a name in d, and counts it.
func (s *Server) find(d *node, name string) (*node, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, nil, err
	}
	if n := s.nodes.known(fileKey{st.Dev, st.Ino}); n != nil {
		return n, &st, nil
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(d.fd, name, &how)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	n, err := s.nodes.add(fd, &st, st.Dev != d.key.dev && showsKernel(fd))
	return n, &st, err
}

func (n *node) stat() (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(n.fd, &st)
	return &st, err
}

func (s *Server) getattr(r *request) (*body, error) {
	if r.u32(0)&fuseabi.GetattrFH != 0 {
		if h, err := s.file(r.u64(8)); err == nil {
			defer h.drop()
			var st unix.Stat_t
			if err := unix.Fstat(h.fd, &st); err != nil {
				return nil, err
			}
			return s.attrOut(&st), nil
		}
	}
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	st, err := n.stat()
	if err != nil {
		return nil, err
	}
	return s.attrOut(st), nil
}

func (s *Server) setattr(r *request) (*body, error) {
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	if n.sealed {
		return nil, unix.EPERM
	}
	valid := r.u32(0)
	if valid&fuseabi.FattrMode != 0 {
		if err := n.chmod(r.u32(68)); err != nil {
			return nil, err
		}
	}
	if valid&(fuseabi.FattrUID|fuseabi.FattrGID) != 0 {
		uid, gid := -1, -1
		if valid&fuseabi.FattrUID != 0 {
			uid = int(r.u32(76))
		}
		if valid&fuseabi.FattrGID != 0 {
			gid = int(r.u32(80))
		}
		if err := unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, err
		}
	}
	if valid&fuseabi.FattrSize != 0 {
		if err := s.truncate(n, r, valid); err != nil {
			return nil, err
		}
	}
	if valid&(fuseabi.FattrAtime|fuseabi.FattrMtime) != 0 {
		ts := []unix.Timespec{
			timeFor(valid, fuseabi.FattrAtime, fuseabi.FattrAtimeNow, r.u64(32), r.u32(56)), timeFor(valid, fuseabi.FattrMtime, fuseabi.FattrMtimeNow, r.u64(40), r.u32(60)),
		}
		if err := n.utimes(ts); err != nil {
			return nil, err
		}
	}
	st, err := n.stat()
	if err != nil {
		return nil, err
	}
	return s.attrOut(st), nil
}

func timeFor(valid, set, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(min(nsec, 1e9-1))}
}

func (n *node) chmod(mode uint32) error {
	if n.typ == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Fchmodat(unix.AT_FDCWD, n.path(), mode&0o7777, 0)
}

// utimes sets times. Of a symbolic link, too: what lies behind /proc/self/fd is the link itself.
func (n *node) utimes(ts []unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, n.path(), ts, 0)
}

func (s *Server) truncate(n *node, r *request, valid uint32) error {
	size := int64(r.u64(16))
	if n.typ != unix.S_IFREG || size < 0 {
		return unix.EINVAL
	}
	if valid&fuseabi.FattrFH != 0 {
		if h, err := s.file(r.u64(8)); err == nil {
			defer h.drop()
			return unix.Ftruncate(h.fd, size)
		}
	}
	return unix.Truncate(n.path(), size)
}

func (s *Server) readlink(r *request) (*body, error) {
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	if n.typ != unix.S_IFLNK {
		return nil, unix.EINVAL
	}
	if n.sealed {
		return nil, unix.EACCES
	}
	b := make([]byte, 4096)
	got, err := unix.Readlinkat(n.fd, "", b)
	if err != nil {
		return nil, err
	}
	return &body{bytes: b[:got]}, nil
}

// made finishes a new entry of d: its owner, its mode, and what the guest is told of it. failed undoes it.
func (s *Server) made(r *request, d *node, name string, mode uint32, undo int) (*body, error) {
	n, st, err := s.find(d, name)
	if err == nil {
		if err = s.own(n, st, r, mode); err == nil {
			return &body{bytes: s.putEntry(nil, n, st)}, nil
		}
		s.nodes.forget(n.id, 1)
	}
	_ = unix.Unlinkat(d.fd, name, undo) // err says what went wrong
	return nil, err
}

// own gives a new file to whom the guest says, as far as the server may, with the mode that it wants.
func (s *Server) own(n *node, st *unix.Stat_t, r *request, mode uint32) error {
	changed := false
	if s.owner && (st.Uid != r.uid || st.Gid != r.gid) {
		if unix.Fchownat(n.fd, "", int(r.uid), int(r.gid), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) == nil { // else it stays the server's
			changed = true
		}
	}
	if n.typ != unix.S_IFLNK && (mode&s.umask != 0 || changed && mode&(unix.S_ISUID|unix.S_ISGID) != 0) {
		if err := n.chmod(mode | st.Mode&unix.S_ISGID); err != nil {
			return err
		}
		changed = true
	}
	if changed {
		return unix.Fstat(n.fd, st)
	}
	return nil
}

func (s *Server) symlink(r *request) (*body, error) {
	names, err := r.names(0, 2)
	if err != nil {
		return nil, err
	}
	d, name, err := s.dir(r, 0)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	if err := unix.Symlinkat(names[1], d.fd, name); err != nil {
		return nil, err
	}
	return s.made(r, d, name, 0, 0)
}

func (s *Server) mknod(r *request) (*body, error) {
	d, name, err := s.dir(r, 16)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	mode := r.u32(0)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return nil, unix.EPERM // a device would be one of the host's
	}
	if err := unix.Mknodat(d.fd, name, mode, 0); err != nil {
		return nil, err
	}
	return s.made(r, d, name, mode&0o7777, 0)
}

func (s *Server) mkdir(r *request) (*body, error) {
	d, name, err := s.dir(r, 8)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	mode := r.u32(0) & 0o7777
	if err := unix.Mkdirat(d.fd, name, mode); err != nil {
		return nil, err
	}
	return s.made(r, d, name, mode, unix.AT_REMOVEDIR)
}

func (s *Server) unlink(r *request, flags int) (*body, error) {
	d, name, err := s.dir(r, 0)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	return nil, unix.Unlinkat(d.fd, name, flags)
}

func (s *Server) rename(r *request, names int, flags uint32) (*body, error) {
	list, err := r.entryNames(names, 2)
	if err != nil {
		return nil, err
	}
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return nil, unix.EINVAL
	}
	from, _, err := s.dir(r, names)
	if err != nil {
		return nil, err
	}
	defer from.drop()
	to, err := s.nodes.get(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer to.drop()
	if to.typ != unix.S_IFDIR || to.sealed {
		return nil, unix.ENOTDIR
	}
	if to == s.root && s.only != "" && list[1] != s.only {
		return nil, unix.EACCES
	}
	if flags == 0 { // file systems of the host may know no flags
		return nil, unix.Renameat(from.fd, list[0], to.fd, list[1])
	}
	return nil, unix.Renameat2(from.fd, list[0], to.fd, list[1], uint(flags))
}

func (s *Server) link(r *request) (*body, error) {
	d, name, err := s.dir(r, 8)
	if err != nil {
		return nil, err
	}
	defer d.drop()
	n, err := s.nodes.get(r.u64(0))
	if err != nil {
		return nil, err
	}
	defer n.drop()
	if n.typ == unix.S_IFDIR || n.sealed {
		return nil, unix.EPERM
	}
	if err := unix.Linkat(unix.AT_FDCWD, n.path(), d.fd, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return nil, err
	}
	m, st, err := s.find(d, name)
	if err != nil {
		return nil, err
	}
	return &body{bytes: s.putEntry(nil, m, st)}, nil
}

func (s *Server) statfs(r *request) (*body, error) {
	n, err := s.nodes.get(r.node)
	if err != nil {
		return nil, err
	}
	defer n.drop()
	var st unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &st); err != nil {
		return nil, err
	}
	var b []byte
	for _, v := range []uint64{st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree} {
		b = le.AppendUint64(b, v)
	}
	for _, v := range []int64{st.Bsize, st.Namelen, st.Frsize} {
		b = le.AppendUint32(b, uint32(v))
	}
	return &body{bytes: append(b, make([]byte, 28)...)}, nil
}

func (s *Server) syncfs(*request) (*body, error) {
	if s.readOnly {
		return nil, nil
	}
	return nil, unix.Syncfs(s.rootFD)
}
